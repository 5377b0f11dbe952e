"""Sweeps: what a grid wants, minus what the store has, is what is trained.

Resuming, running again and growing a grid are the same thing. Open packs of an earlier launch
are taken up as they were; trials that need more steps go on from their final checkpoints; all
others make new packs.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from sweeper import parts, trainable
from sweeper.compaction import compact, sweep_out
from sweeper.config import build
from sweeper.criterion import Criterion
from sweeper.errors import UsageError
from sweeper.files import Files
from sweeper.grid import Grid
from sweeper.launch import (
    Launcher,
    PackTask,
    ended_trials,
    listing,
    open_packs,
    pack_rows,
    trials_of,
)
from sweeper.ledger import META, Ledger, Record
from sweeper.packing import auto_size, pack_id, pack_order, static_groups
from sweeper.provenance import provenance
from sweeper.sink import STOP, stop_requested
from sweeper.store import driving, is_fresh, join, open_sweep, read_lease

MEMORY_SHARE = 0.5
"""Share of the machine's memory that all packs together may plan with."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Trials of a grid by what became of them; `new` have to be trained still."""

    trials: int
    done: int
    new: int
    failed: int


@dataclass(slots=True)
class Agenda:
    """What a launch has to do.

    Attributes:
        counts: The trials.
        restored: Open packs of an earlier launch that are taken up again.
        packs: New packs: the rows of their listing.
        parents: New pack to the packs that it carries on.
        void: Packs that are damaged; their trials are trained again.
        damage: What is wrong with them.
        table: The plan: all trials of the grid, with their configs.
        workers: Packs that can run at the same time.
    """

    counts: Counts
    table: pa.Table
    workers: int = 1
    restored: list[str] = field(default_factory=list)
    packs: dict[str, pa.Table] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def n_packs(self) -> int:
        """Packs to run."""
        return len(self.restored) + len(self.packs)


def agenda(grid: Grid, ledger: Ledger | None, *, workers: int) -> Agenda:
    """Return what is to be done for `grid` beyond what `ledger` holds.

    Args:
        grid: What is wanted.
        ledger: What there is; None for an empty store.
        workers: Packs that can run at the same time.

    Raises:
        UsageError: The logged steps differ from the store's, or trials should go on whose
            final checkpoints weren't kept.
    """
    table = grid.table()
    if ledger is None:
        plan = Agenda(Counts(table.num_rows, 0, table.num_rows, 0), table, workers)
        _new_packs(grid, plan, table, [None] * table.num_rows, workers)
        return plan
    _check_log(grid, ledger)
    damage, void = _damage(ledger)
    ends = _latest(ended_trials(ledger), void)
    status = _status(grid, ledger, table, ends, void)
    open_ = [i for i in open_packs(ledger.state) if i not in void]
    in_open = set(pack_rows(ledger, open_)["trial_id"].to_pylist()) if open_ else set()
    ids = table["trial_id"].to_pylist()
    fresh = np.array(
        [s in ("new", "longer") and i not in in_open for i, s in zip(ids, status, strict=True)],
        dtype=bool,
    )
    wanted = {i for i, s in zip(ids, status, strict=True) if s in ("new", "longer")}
    tally = Counter(status)
    plan = Agenda(
        Counts(len(ids), tally["done"], tally["new"] + tally["longer"], tally["failed"]),
        table, workers, void=sorted(void), damage=damage,
    )  # fmt: skip
    if open_:
        rows = pack_rows(ledger, open_)
        keep = pc.is_in(rows["trial_id"], pa.array(sorted(wanted), pa.string()))
        having = set(rows.filter(keep)["pack_id"].to_pylist())
        plan.restored = [i for i in open_ if i in having]
    starts = [
        _start(ledger, ends[i]) if s == "longer" else None
        for i, s, f in zip(ids, status, fresh, strict=True)
        if f
    ]
    _new_packs(grid, plan, table.filter(pa.array(fresh)), starts, workers)
    return plan


def _check_log(grid: Grid, ledger: Ledger) -> None:
    stored = ledger.meta["points_per_decade"]
    asked = grid.file.log.points_per_decade
    if stored != asked:
        raise UsageError(
            f"log.points_per_decade = {asked}, but the sweep {grid.name!r} is logged with {stored}. "
            f"It is fixed per sweep: write {stored}, or choose another name."
        )


def _damage(ledger: Ledger) -> tuple[list[str], set[str]]:
    """Return what is wrong with listed files, and the packs that have to be trained again."""
    state = ledger.state
    messages: list[str] = []
    void: set[str] = set()
    for pack in state.packs.values():
        listed = [part for _, part in (*pack.parts, *pack.ends)]
        found = [m for part in listed if not pack.void and (m := parts.damaged(ledger.files, part))]
        messages += found
        if found:
            void.add(pack.id)
    for part in state.compacted:
        if message := parts.damaged(ledger.files, part):
            messages.append(message)
            void |= state.compacted_by[part.path]
    for part in state.compacted:  # a compacted file goes as a whole
        if void & state.compacted_by[part.path]:
            void |= state.compacted_by[part.path]
    grown = True
    while grown:  # what went on from a damaged pack goes with it
        heirs = {p.id for p in state.packs.values() if void & set(p.parents)} - void
        grown = bool(heirs)
        void |= heirs
    return messages, void


def _latest(ends: pa.Table, void: set[str]) -> dict[str, Record]:
    """Return for each trial the end after its most steps, as the row of `ended_trials`."""
    found: dict[str, Record] = {}
    for row in ends.to_pylist():
        if row["pack_id"] in void:
            continue
        before = found.get(row["trial_id"])
        if before is None or row["steps"] >= before["steps"]:
            found[row["trial_id"]] = row
    return found


def _status(
    grid: Grid, ledger: Ledger, table: pa.Table, ends: dict[str, Record], void: set[str]
) -> list[str]:
    """Return for each trial: done, failed, new, or longer (it goes on from its end)."""
    ids = table["trial_id"].to_pylist()
    lead = next(iter(grid.config.parts), None)
    tasks = table[f"{lead}.name"].to_pylist() if lead else [""] * len(ids)
    short = {
        i for i in ids
        if (end := ends.get(i)) is not None
        and end["status"] in ("generalized", "censored") and end["steps"] < grid.steps
    }  # fmt: skip
    stops = grid.file.stop.after_generalization
    reached = (
        _reached(grid, ledger, dict(zip(ids, tasks, strict=True)), short, void) if stops else set()
    )
    found = []
    for trial_id in ids:
        end = ends.get(trial_id)
        if end is None:
            found.append("new")
        elif end["status"] == "failed":
            found.append("failed")
        else:
            found.append("longer" if trial_id in short and trial_id not in reached else "done")
    return found


def _reached(
    grid: Grid, ledger: Ledger, tasks: dict[str, str], short: set[str], void: set[str]
) -> set[str]:
    """Return those of the trials `short` of the horizon that have both t1 and t2.

    Trusts the recorded status where the criterion is the one they were trained under.
    """
    if not short:
        return set()
    now = {task: c.model_dump() for task, c in grid.criteria.items()}
    launch = ledger.state.launch
    if launch is not None and all(
        record["criteria"].get(task) == c
        for record in ledger.state.launches.values()
        for task, c in now.items()
    ):
        return {
            i
            for i, end in _latest(ended_trials(ledger), void).items()
            if i in short and end["status"] == "generalized"
        }
    return reached(ledger, {i: grid.criteria[tasks[i]] for i in short})


def reached(ledger: Ledger, criteria: dict[str, Criterion]) -> set[str]:
    """Return the trials whose stored metrics reach both thresholds of their criterion."""
    wanted = pa.array(sorted(criteria), pa.string())
    train: set[str] = set()
    test: set[str] = set()
    for part, cutoff in ledger.state.parts():
        rows = parts.read(ledger.files, part)
        rows = rows.filter(pc.is_in(rows["trial_id"], wanted))
        if cutoff is not None:
            rows = rows.filter(pc.less_equal(rows["step"], cutoff))
        ids = np.array(rows["trial_id"].to_pylist(), dtype=object)
        for criterion in set(criteria.values()):
            mine = np.array([criteria[i] == criterion for i in ids], dtype=bool)
            for side, holds, found in (
                ("train", criterion.train_holds, train), ("test", criterion.test_holds, test)
            ):  # fmt: skip
                values = rows[f"{side}_{criterion.metric}"].to_numpy(zero_copy_only=False)
                found |= set(ids[holds(values) & mine])
    return train & test


def _start(ledger: Ledger, end: Record) -> tuple[str, int, str]:
    """Return (checkpoint, steps, pack) that a trial goes on from."""
    pack = ledger.state.packs[end["pack_id"]]
    keep = ledger.state.launches[pack.attempts[-1].record["launch_id"]]["checkpoint"]["keep"]
    if (
        pack.checkpoint is None
        or keep == "none"
        or (keep == "censored" and end["status"] != "censored")
    ):
        raise UsageError(
            f"trial {end['trial_id']} should go on from step {end['steps']}, but its final "
            f"checkpoint wasn't kept (checkpoint.keep: {keep}). Launch under another name."
        )
    return pack.checkpoint["path"], end["steps"], pack.id


def _new_packs(
    grid: Grid, plan: Agenda, table: pa.Table, starts: Sequence[Any], workers: int
) -> None:
    """Group the trials of `table` into packs and add them to `plan`."""
    if table.num_rows == 0:
        return
    module = trainable.load(grid.file.trainable)
    group = static_groups(grid.config, table)
    steps = np.array([s[1] if s else -1 for s in starts], dtype=np.int64)
    budget = int(psutil.virtual_memory().total * MEMORY_SHARE / max(1, workers))
    salt = f"{time.time_ns()}" if any(starts) or plan.void else ""
    sizes: dict[int, int] = {}
    for g, step in sorted({(int(g), int(s)) for g, s in zip(group, steps, strict=True)}):
        members = np.flatnonzero((group == g) & (steps == step))
        rows = table.take(pa.array(members))
        order = pack_order(grid.config, rows)
        if g not in sizes:
            config = build(grid.config, trials_of(grid.config, rows.slice(0, 1))[0].values)
            asked = grid.file.resources.pack
            sizes[g] = asked if isinstance(asked, int) else auto_size(
                int((group == g).sum()), workers=workers,
                per_trial=module.memory_bytes(config), budget=budget,
                most=module.useful_size(config),
            )  # fmt: skip
        ids = rows["trial_id"].take(pa.array(order)).to_pylist()
        for a in range(0, len(ids), sizes[g]):
            chosen = ids[a : a + sizes[g]]
            own = [starts[members[order[k]]] for k in range(a, a + len(chosen))]
            name = pack_id(chosen, salt=salt)
            plan.packs[name] = listing(name, chosen, [s[0] if s else None for s in own])
            plan.parents[name] = sorted({s[2] for s in own if s})


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
    digest = sha256("\n".join(plan.table["trial_id"].to_pylist()).encode()).hexdigest()[:24]
    listed = next(
        (
            r["plan"]
            for r in ledger.state.launches.values()
            if r["plan"]["path"] == f"plans/{digest}.parquet"
        ),
        None,
    ) or parts.write(files, f"plans/{digest}.parquet", plan.table, steps=None)
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
            "axes": axes(grid),
            "provenance": provenance(),
        }  # fmt: skip
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


def axes(grid: Grid) -> list[str]:
    """Return the paths that differ between cells of `grid`, sorted."""
    found = {p for slab in grid.slabs for axis in slab.axes for p in axis.paths}
    every = {p for slab in grid.slabs for p in slab.constants}
    for path in every - found:
        if len({slab.constants.get(path) for slab in grid.slabs}) > 1:
            found.add(path)
    return sorted(found)


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


def peek(uri: str) -> Ledger | None:
    """Return the ledger of the sweep at `uri`, or None where there is none yet."""
    if "://" not in uri and not os.path.isdir(uri):  # noqa: PTH112
        return None
    files = Files.at(uri)
    return Ledger.open(files) if files.size(META) is not None else None


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
