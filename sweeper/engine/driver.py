"""The driver of a sweep: it writes the plan to the ledger and gives the packs to a runner.

A grid is one launch. A search and a refinement train in rounds, each planned from the rows of the
rounds before. The command holds the sweep for all of its rounds. Each round is a launch of its own
that adds trials to the views.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

import pyarrow as pa

from sweeper.config.messages import counted
from sweeper.engine.forecast import PackProgress
from sweeper.engine.own_code import pack_up, try_first, users_own
from sweeper.engine.planner import Counts, Plan, counts, plan_launch
from sweeper.engine.provenance import provenance
from sweeper.engine.resources import check_gpu, device
from sweeper.engine.task import Launcher, PackTask
from sweeper.engine.worker import run_inline
from sweeper.errors import UsageError, WorkerError
from sweeper.grid.grid import Grid
from sweeper.store import tables
from sweeper.store.compaction import compact, sweep_out
from sweeper.store.files import Files
from sweeper.store.lease import Lease, driving, join
from sweeper.store.ledger import DAMAGED, Ledger
from sweeper.store.records import Record
from sweeper.store.sink import flush_s, stop_requested
from sweeper.store.state import PackState
from sweeper.store.visible import beside, hidden_by

Adds = Literal["search", "refine", "extend"]
"""The commands whose launches add trials to those of a grid."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a launch.

    Attributes:
        trials: Number of trials that this launch trains.
        ended: Number of those that have ended.
        failed: Number of those that have failed.
        packs: Number of packs to run.
        running: Number of packs that are running.
        each: The progress of each pack, and of the packs that it was split into.
    """

    trials: int
    ended: int
    failed: int
    packs: int
    running: int
    each: tuple[PackProgress, ...] = ()

    @property
    def steps(self) -> int:
        """Trial-steps that are done. A trial that has ended has all of its steps behind it."""
        return sum(pack.steps for pack in self.each)

    @property
    def of_steps(self) -> int:
        """Trial-steps of all trials up to the horizon."""
        return sum(pack.of for pack in self.each)

    @property
    def packs_over(self) -> int:
        """Number of packs without work left; a pack that was split is over once its parts are."""
        return self.packs - min(self.packs, sum(not pack.over for pack in self.each))

    @classmethod
    def total(cls, every: Sequence[Progress]) -> Progress:
        """Return the progress of several launches together."""
        return cls(
            trials=sum(one.trials for one in every),
            ended=sum(one.ended for one in every),
            failed=sum(one.failed for one in every),
            packs=sum(one.packs for one in every),
            running=sum(one.running for one in every),
            each=tuple(pack for one in every for pack in one.each),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a launch.

    Attributes:
        counts: The trials of the grid by status, after the launch.
        stopped: Whether it was asked to stop before all trials had ended.
        hidden: Number of stored trials that the views don't show after the launch.
    """

    counts: Counts
    stopped: bool
    hidden: int = 0

    @property
    def exit_code(self) -> int:
        """0 if all trials are done, 3 if some failed, 4 if some are left to train."""
        if self.counts.new:
            return 4
        return 3 if self.counts.failed else 0


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch that has been written to the ledger.

    Attributes:
        ledger: The sweep's ledger.
        launch_id: Id of the launch.
        tasks: One task per pack.
        counts: The trials of the grid by status, before the launch.
        trials: Number of trials that the tasks train.
        steps: The horizon.
        trains: Pack to the number of its trials that the launch trains.
        starts: Pack to the step from which it is trained; the others are trained from step 0.
    """

    ledger: Ledger
    launch_id: str
    tasks: list[PackTask]
    counts: Counts
    trials: int
    steps: int = 0
    trains: Mapping[str, int] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)

    def progress(self, ledger: Ledger) -> Progress:
        """Return the progress of the launch, read through the caller's own `ledger`."""
        ledger.refresh()
        packs = self._packs(ledger)
        ended = sum(self._ended(pack) for pack in packs)
        failed = sum(pack.failed for pack in packs if not pack.void and self._has_last(pack))
        running = sum(pack.open and self._has_last(pack) for pack in packs)
        return Progress(
            self.trials,
            min(ended, self.trials),
            failed,
            len(self.tasks),
            running,
            self._each(packs, ledger.meta["points_per_decade"]),
        )

    def _each(self, packs: Sequence[PackState], points_per_decade: int) -> tuple[PackProgress, ...]:
        """Return the progress of each pack, from the ledger's state: no file is read."""
        starts = dict(self.starts)
        spacing = 10 ** (1 / points_per_decade) - 1
        each = []
        for pack in packs:  # a pack comes after its parents
            first = starts.get(pack.id)
            if first is None:
                first = next((starts[i] for i in pack.parents if i in starts), 0)
                starts[pack.id] = first
            ended = self._ended(pack)
            split = pack.split_at is not None
            trials = ended if split else self.trains.get(pack.id, pack.size)
            step = max(first, pack.last_step)
            gap = max(1, round(step * spacing))
            each.append(
                PackProgress(
                    pack.id,
                    trials,
                    min(ended, trials),
                    min(step, self.steps),
                    first,
                    self.steps,
                    gap,
                    begun=self._has_last(pack),
                    over=not pack.open,
                )
            )
        return tuple(each)

    def _packs(self, ledger: Ledger) -> list[PackState]:
        """Return the packs of the tasks, and the packs that these were split into."""
        family = {task.pack_id for task in self.tasks}
        packs = []
        for pack in ledger.state.ordered:  # a pack comes after its parents
            if pack.id in family or not family.isdisjoint(pack.parents):
                family.add(pack.id)
                packs.append(pack)
        return packs

    def _ended(self, pack: PackState) -> int:
        """Return the number of trials of the pack that ended in attempts of this launch."""
        ended = 0
        for attempt, part in pack.ends:
            if pack.attempts[attempt - 1].record["launch_id"] == self.launch_id:
                cutoff = pack.cutoff(attempt)
                if cutoff is None or part.min_step <= cutoff:
                    ended += part.rows
        return ended

    def _has_last(self, pack: PackState) -> bool:
        """Return whether the last attempt at the pack belongs to this launch."""
        return bool(pack.attempts) and pack.attempts[-1].record["launch_id"] == self.launch_id


@dataclass(frozen=True, slots=True)
class Runner:
    """The workers that run packs.

    Attributes:
        launcher: Runs the packs.
        workers: Number of packs that run at the same time.
        device: The device, by its name in torch.
        memory: Bytes that one pack may use where it runs; None for a share of this machine's.
    """

    launcher: Launcher
    workers: int
    device: str = "cpu"
    memory: int | None = None


def inline(grid: Grid) -> Runner:
    """Return the runner that trains in this process, one pack after the other.

    Raises:
        UsageError: The grid asks for a GPU, and this machine has none, or it sets a timeout.
    """
    check_gpu(grid)
    timeout = grid.file.resources.timeout
    if timeout is not None:
        raise UsageError(
            f"resources.timeout = {timeout:g}: with --inline a trial that hangs can't be ended, "
            "because the launch itself trains it. Leave out --inline or resources.timeout."
        )
    return Runner(run_inline, 1, device(grid))


def new_id() -> str:
    """Return the id of a new launch: its time and random digits."""
    return f"{int(time.time()):x}-{secrets.token_hex(4)}"


class Driver:
    """Trains trials of one sweep, in one round or several. `drive` makes it.

    Attributes:
        ledger: The sweep's ledger.
        runner: Runs the packs.
    """

    def __init__(self, ledger: Ledger, runner: Runner, lease: Lease) -> None:
        self.ledger = ledger
        self.runner = runner
        self._lease = lease
        self._fresh = True

    @property
    def stopped(self) -> bool:
        """Whether the last round was asked to stop, while it ran or later."""
        return stop_requested(self.ledger.files, self._lease.launch_id)

    def train(
        self,
        grid: Grid,
        table: pa.Table | None = None,
        *,
        adds: Adds | None = None,
        plan: Plan | None = None,
        rerun: bool = False,
        announce: Callable[[Plan], None] = lambda _: None,
        started: Callable[[Launched], None] = lambda _: None,
    ) -> Outcome:
        """Train the wanted trials that aren't in the store yet.

        Args:
            grid: The grid. Its settings hold for all trials.
            table: The wanted trials in the columns of `Grid.table`; None for those of the grid.
            adds: The command that adds the trials of `table`; None for the grid itself.
            plan: The plan, if the caller has already made and announced it.
            rerun: Whether trials that other code of the user's has trained are trained again.
            announce: Called with the plan before anything is written; may raise.
            started: Called once the packs are in the ledger.

        Raises:
            UsageError: Trials can't be continued, see `sweeper.engine.planner.plan_launch`.
            StoreError: The store can't be read or written.
            WorkerError: A worker failed, and trials are left to train.
        """
        ledger, runner = self.ledger, self.runner
        ledger.refresh()
        hidden = 0
        if plan is None:
            plan = plan_launch(
                grid, ledger, workers=runner.workers, memory=runner.memory, table=table, rerun=rerun
            )
            plan.damage += [
                f"{ledger.files.location(path)}: damaged, and no whole record followed. It counts "
                f"as absent, and was moved to {DAMAGED}/."
                for path in ledger.moved
            ]
            ledger.moved.clear()
            hidden = hidden_by(ledger, plan.table, adds)
            plan.hidden = hidden if adds is None else 0  # what is added hides nothing more
            announce(plan)
            if self._fresh:
                try_first(grid, plan)
        if self._fresh:
            self._fresh = False
        else:
            self._lease.hold(new_id())
        begun = begin(grid, ledger, plan, self._lease.launch_id, device=runner.device, adds=adds)
        started(begun)
        failure: WorkerError | None = None
        if begun.tasks:
            try:
                runner.launcher(begun.tasks)
            except WorkerError as error:
                failure = error
        ledger.refresh()
        compact(ledger)
        sweep_out(ledger)
        ledger.save_snapshot()
        after = counts(grid, ledger, plan.table) if begun.tasks else plan.counts
        if failure is not None and after.new:
            are = "is" if after.new == 1 else "are"
            left = f"{after.new} of {counted(after.trials, 'trial')} {are} left to train"
            raise WorkerError(f"{failure} {left}: fix the cause and launch again.")
        return Outcome(after, self.stopped, hidden)


@contextmanager
def drive(grid: Grid, where: str, runner: Runner, known: Ledger | None = None) -> Iterator[Driver]:
    """Yield the only driver of the sweep of `grid` in the store `where`.

    Args:
        grid: Names the sweep.
        where: URI of the store.
        runner: Runs the packs.
        known: The sweep's ledger, if the caller has just read it.

    Raises:
        BusyError: Another driver is running this sweep.
        StoreError: The store can't be read or written.
    """
    files = Files.at(join(where, grid.name), create=True)
    log = grid.file.log.points_per_decade
    born = {"name": grid.name, "points_per_decade": log, "uid": secrets.token_hex(8)}
    ledger = known if known and known.is_current() else Ledger.create(files, born)
    with driving(ledger, new_id()) as lease:
        yield Driver(ledger, runner, lease)


def begin(
    grid: Grid, ledger: Ledger, plan: Plan, launch_id: str, *, device: str, adds: Adds | None = None
) -> Launched:
    """Write the launch and its packs to the ledger; return the tasks."""
    files = ledger.files
    pack_up(grid, files)
    listed = _write_plan(ledger, plan, launch_id)
    if plan.void:
        ledger.append({"kind": "void", "pack_ids": plan.void, "why": plan.damage})
    ledger.append(
        {
            "kind": "launch",
            "launch_id": launch_id,
            "at": time.time(),
            "plan": listed,
            "adds": adds,
            "beside": beside(ledger, plan.table, adds),
            "trainable": grid.file.trainable,
            **users_own(grid, plan.table),
            "steps": grid.steps,
            "grid": grid.text,
            "overrides": list(grid.overrides),
            "criteria": {t: c.model_dump() for t, c in grid.criteria.items()},
            "metrics": grid.file.log.metrics,
            "stop": grid.file.stop.model_dump(),
            "checkpoint": grid.file.checkpoint.model_dump(),
            "resources": grid.file.resources.model_dump(),
            "flush_s": flush_s(files, plan.workers),
            "seeds": grid.seeds,
            "axes": grid.axes,
            "provenance": provenance(),
        }
    )
    if plan.packs:
        path = f"packs/{launch_id}.parquet"
        listing = pa.concat_tables(plan.packs.values())
        entry = tables.write(files, path, listing, steps=None)
        packs = [
            {"id": i, "size": t.num_rows, "parents": plan.parents[i]} for i, t in plan.packs.items()
        ]
        ledger.append(
            {
                "kind": "packs",
                "launch_id": launch_id,
                "packs": packs,
                "starts": ledger.state.checkpoints(listing["start"].drop_null().to_pylist()),
                "path": path,
                "sha256": entry["sha256"],
            }
        )
    threads = max(1, int(grid.file.resources.cpu))
    tasks = [
        PackTask(
            files.uri,
            launch_id,
            i,
            device,
            threads,
            grid.file.resources.timeout,
            ledger.state.split_from(i),
        )
        for i in (*plan.restored, *plan.packs)
    ]
    return Launched(
        ledger,
        launch_id,
        tasks,
        plan.counts,
        plan.counts.new,
        grid.steps,
        plan.trains | {i: t.num_rows for i, t in plan.packs.items()},
        plan.starts,
    )


def _write_plan(ledger: Ledger, plan: Plan, launch_id: str) -> Record:
    """Return the entry of the plan's file; reuse the file if an earlier launch wrote the same."""
    digest = _digest(plan.table["trial_id"])
    for record in reversed(ledger.state.launches.values()):
        entry: Record = record["plan"]
        if digest in entry["path"] and tables.corrupt(ledger.files, entry) is None:
            return entry
    return tables.write(ledger.files, f"plans/{digest}-{launch_id}.parquet", plan.table, steps=None)


def _digest(ids: pa.ChunkedArray) -> str:
    """Return a hash of the trials' ids, one per line, which names the file of their plan."""
    hashed = sha256()
    before = b""
    for chunk in ids.chunks:  # one chunk at a time: a Python object per id takes much memory
        if len(chunk):
            hashed.update(before + "\n".join(chunk.to_pylist()).encode())
            before = b"\n"
    return hashed.hexdigest()[:24]
