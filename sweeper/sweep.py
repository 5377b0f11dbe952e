"""Launches: the agenda goes to the ledger, its packs to a launcher, and the rest is reading.

Resuming, running again and growing a grid are the same thing.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa

from sweeper import parts
from sweeper.agenda import Agenda, Counts, agenda
from sweeper.compaction import compact, sweep_out
from sweeper.errors import StoreError
from sweeper.files import Files
from sweeper.grid import Grid
from sweeper.launch import Launcher, PackTask, run_inline
from sweeper.ledger import META, Ledger, Record, first_record
from sweeper.provenance import provenance
from sweeper.sink import STOP, stop_requested
from sweeper.store import driving, is_fresh, join, open_sweep, read_lease


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a launch stands.

    Attributes:
        trials: Trials this launch has to train.
        ended: Those that ended.
        failed: Those of them that failed.
        packs: Packs to run.
        running: Packs at work.
    """

    trials: int
    ended: int
    failed: int
    packs: int
    running: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a launch ended.

    Attributes:
        counts: The trials of the grid after it.
        stopped: It was asked to stop before all was done.
    """

    counts: Counts
    stopped: bool

    @property
    def exit_code(self) -> int:
        """0 done, 3 some trials failed, 4 work remains."""
        if self.counts.new:
            return 4
        return 3 if self.counts.failed else 0


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch whose packs are in the ledger and whose tasks can be run.

    Attributes:
        ledger: The sweep's ledger.
        launch_id: The launch.
        tasks: One a pack.
        counts: The trials before it.
        trials: Trials that the tasks train.
    """

    ledger: Ledger
    launch_id: str
    tasks: list[PackTask]
    counts: Counts
    trials: int

    def progress(self, ledger: Ledger) -> Progress:
        """Return where the launch stands, by a ledger of the caller's own."""
        ledger.refresh()
        mine = {task.pack_id for task in self.tasks}
        packs = [p for p in ledger.state.packs.values() if p.id in mine or set(p.parents) & mine]
        ended = 0
        failed = sum(pack.failed for pack in packs if not pack.void)
        for pack in packs:
            for attempt, part in pack.ends:
                if pack.attempts[attempt - 1].record["launch_id"] == self.launch_id:
                    cutoff = pack.cutoff(attempt)
                    if cutoff is None or part.min_step <= cutoff:
                        ended += part.rows
        running = sum(
            p.open and bool(p.attempts) and p.attempts[-1].record["launch_id"] == self.launch_id
            for p in packs
        )
        return Progress(self.trials, min(ended, self.trials), failed, len(self.tasks), running)


def begin(grid: Grid, ledger: Ledger, plan: Agenda, launch_id: str, *, device: str) -> Launched:
    """Write the launch and its packs to the ledger; return the tasks."""
    files = ledger.files
    listed = _write_plan(ledger, plan, launch_id)
    if plan.void:
        ledger.append({"kind": "void", "pack_ids": plan.void, "why": plan.damage})
    ledger.append(
        {
            "kind": "launch",
            "launch_id": launch_id,
            "at": time.time(),
            "plan": listed,
            "trainable": grid.file.trainable,
            "steps": grid.steps,
            "grid": grid.text,
            "criteria": {t: c.model_dump() for t, c in grid.criteria.items()},
            "stop": grid.file.stop.model_dump(),
            "checkpoint": grid.file.checkpoint.model_dump(),
            "resources": grid.file.resources.model_dump(),
            "seeds": grid.seeds,
            "axes": grid.axes,
            "provenance": provenance(),
        }
    )
    if plan.packs:
        path = f"packs/{launch_id}.parquet"
        entry = parts.write(files, path, pa.concat_tables(plan.packs.values()), steps=None)
        packs = [
            {"id": i, "size": t.num_rows, "parents": plan.parents[i]} for i, t in plan.packs.items()
        ]
        ledger.append({"kind": "packs", "launch_id": launch_id, "packs": packs,
                       "path": path, "sha256": entry["sha256"]})  # fmt: skip
    threads = max(1, int(grid.file.resources.cpu))
    tasks = [
        PackTask(files.uri, launch_id, i, device, threads) for i in (*plan.restored, *plan.packs)
    ]
    return Launched(ledger, launch_id, tasks, plan.counts, plan.counts.new)


def _write_plan(ledger: Ledger, plan: Agenda, launch_id: str) -> Record:
    """Return the entry of the plan's file; one that an earlier launch wrote serves again."""
    digest = sha256("\n".join(plan.table["trial_id"].to_pylist()).encode()).hexdigest()[:24]
    for record in reversed(ledger.state.launches.values()):
        entry: Record = record["plan"]
        if digest in entry["path"] and parts.corrupt(ledger.files, entry) is None:
            return entry
    return parts.write(ledger.files, f"plans/{digest}-{launch_id}.parquet", plan.table, steps=None)


def launch(
    grid: Grid,
    store: str,
    launcher: Launcher,
    *,
    workers: int,
    device: str = "cpu",
    announce: Callable[[Agenda], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Train every trial of `grid` that `store` doesn't hold yet.

    Args:
        grid: What is wanted.
        store: URI of the store; made if it isn't there.
        launcher: Runs the packs.
        workers: Packs that can run at the same time.
        device: Torch's name of the device.
        announce: Called with what is to be done, before anything is written; may raise.
        started: Called once the packs are in the ledger.

    Raises:
        BusyError: Another driver is at work on this sweep.
        StoreError: The store can't be read or written.
    """
    uri = join(store, grid.name)
    plan: Agenda | None = None
    if peek(uri) is None:  # what can go wrong goes wrong before a folder is made
        plan = agenda(grid, None, workers=workers)
        announce(plan)
    launch_id = f"{int(time.time()):x}-{secrets.token_hex(4)}"
    files = Files.at(uri, create=True)
    with driving(files, launch_id):
        log = grid.file.log.points_per_decade
        ledger = Ledger.create(files, {"name": grid.name, "points_per_decade": log})
        if plan is None or ledger.number:
            plan = agenda(grid, ledger, workers=workers)
            announce(plan)
        begun = begin(grid, ledger, plan, launch_id, device=device)
        started(begun)
        if begun.tasks:
            launcher(begun.tasks)
        ledger.refresh()
        compact(ledger)
        sweep_out(ledger)
        after = agenda(grid, ledger, workers=workers)
        return Outcome(after.counts, stop_requested(files, launch_id))


def launch_inline(
    grid: Grid,
    where: str,
    *,
    announce: Callable[[Agenda], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Launch `grid` into the store `where` in this process, one pack after the other."""
    return launch(
        grid, where, run_inline, workers=1, device=device(grid),
        announce=announce, started=started,
    )  # fmt: skip


def device(grid: Grid) -> str:
    """Return the device that the grid's resources ask for."""
    return "cuda" if grid.file.resources.gpu > 0 else "cpu"


def peek(uri: str) -> Ledger | None:
    """Return the ledger of the sweep at `uri`, or None where there is none yet."""
    if "://" not in uri and not os.path.isdir(uri):  # noqa: PTH112
        return None
    files = Files.at(uri)
    if files.size(META) is None:
        if files.size(first_record()) is None:
            return None
        raise StoreError(
            f"{files.location(META)}: missing, though the sweep has a log. Restore it from a "
            "backup: it holds the sweep's format, name and points_per_decade."
        )
    return Ledger.open(files)


def request_stop(files: Files, launch_id: str) -> None:
    """Ask the running packs of a launch to save and end."""
    files.write(f"{STOP}/{launch_id}", b"")


def stop(where: str, name: str) -> str:
    """Ask the launch at work on the sweep `name` to drain; return what was done."""
    ledger = open_sweep(where, name)
    lease = read_lease(ledger.files)
    if lease is None or not is_fresh(lease):
        return f"no launch is at work on {name}"
    request_stop(ledger.files, lease["launch_id"])
    return f"process {lease['pid']} on {lease['host']} drains: packs save and end"


def retry(where: str, name: str) -> int:
    """Make the failed trials of the sweep `name` new again; return how many there were."""
    ledger = open_sweep(where, name)
    failed = [p for p in ledger.state.packs.values() if p.failed and not p.void]
    if failed:
        ledger.append({"kind": "void", "pack_ids": [p.id for p in failed], "why": ["retry"]})
    return sum(p.failed for p in failed)
