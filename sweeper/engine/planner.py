"""The plan of a launch: the trials of a grid that aren't in the store yet, grouped into packs.

Open packs of an earlier launch are continued as they are. Trials that need more steps continue from
their final checkpoints. All other trials go into new packs.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper import trainable
from sweeper.config.decoding import trials_of
from sweeper.config.fields import Config, build
from sweeper.engine.anew import DONE, FAILED, LONGER, NEW, anew
from sweeper.engine.own_code import changed_packs
from sweeper.engine.resources import local_memory
from sweeper.engine.starts import Starts, starts_of
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid
from sweeper.packing import auto_size, pack_id, pack_order, static_groups
from sweeper.store.ledger import DAMAGED, Ledger
from sweeper.store.packs import open_packs, pack_rows, pack_table
from sweeper.store.scan import ScanResult, damaged_checkpoints, reached, scan
from sweeper.trainable import Trainable

MEMORY_SHARE = 0.5
"""Share of a node's memory that all packs that run there together may use."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of trials of a grid by state; the `new` ones are left to train."""

    trials: int
    done: int
    new: int
    failed: int


@dataclass(slots=True)
class Plan:
    """The plan of a launch.

    Attributes:
        counts: The trials of the grid by state.
        restored: Open packs of an earlier launch, which are continued.
        packs: Id of a new pack to its rows in the listing of packs.
        parents: Id of a new pack to the packs from whose checkpoints it continues.
        trains: Id of a continued pack to the number of its trials that are trained.
        starts: Pack to the step from which its trials continue; the others begin at step 0.
        void: Damaged packs, whose trials are trained again.
        damage: One message per damaged file.
        table: All trials of the grid, with their configs.
        workers: Number of packs that run at the same time.
        memory: Bytes that one pack may use; None for an equal share of this machine's.
        hidden: Number of stored trials that the views won't show after the launch.
        outdated: Number of trials that count as done though other code or data trained them.
    """

    counts: Counts
    table: pa.Table
    workers: int = 1
    memory: int | None = None
    hidden: int = 0
    outdated: int = 0
    restored: list[str] = field(default_factory=list)
    packs: dict[str, pa.Table] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)
    trains: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def n_packs(self) -> int:
        """Number of packs to run."""
        return len(self.restored) + len(self.packs)


def plan_launch(
    grid: Grid,
    ledger: Ledger | None,
    *,
    workers: int,
    memory: int | None = None,
    table: pa.Table | None = None,
    rerun: bool = False,
) -> Plan:
    """Return the plan of a launch of `grid`: the trials that `ledger` doesn't have.

    Args:
        grid: The grid to train.
        ledger: The ledger of the sweep; None for an empty store.
        workers: Number of packs that run at the same time.
        memory: Bytes that one pack may use where it runs; None for an equal share of this
            machine's.
        table: The trials to train, in the columns of `Grid.table`; None for those of the grid.
        rerun: Whether trials that other code of the user's has trained are trained again.

    Raises:
        UsageError: The logged steps differ from the store's, or a trial has to continue from a
            final checkpoint that wasn't kept.
    """
    table = grid.table() if table is None else table
    if ledger is None:
        plan = Plan(Counts(table.num_rows, 0, table.num_rows, 0), table, workers, memory)
        _new_packs(grid, plan, np.arange(table.num_rows), None)
        return plan
    _check_log(grid, ledger)
    files = scan(ledger)
    unusable: dict[str, str] = {}
    checked: set[str] = set()
    while True:
        todo = _compare(grid, ledger, table, workers, files.result(unusable), rerun=rerun)
        needed = _needed(ledger, todo)
        damaged = damaged_checkpoints(ledger, sorted(needed - checked))
        if not damaged:
            break
        checked |= needed
        unusable |= damaged  # trials that would go on from there are new again
    starts = starts_of(ledger, todo.ends, todo.longer) if todo.longer.any() else None
    todo.plan.memory = memory
    _new_packs(grid, todo.plan, todo.rows, starts, ledger.state.packs.keys() | ledger.state.voided)
    todo.plan.damage += [
        f"{ledger.files.location(path)}: damaged, and no whole record follows. It counts as "
        f"absent, and a launch moves it to {DAMAGED}/."
        for path in ledger.torn
    ]
    todo.plan.damage += [
        f"{ledger.files.location(path)}: damaged, or of another attempt. It counts as absent: the "
        "pack continues from the records before."
        for path in ledger.skipped
    ]
    return todo.plan


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A grid compared with a store.

    Attributes:
        plan: The plan, without its new packs.
        rows: Rows of the plan's table that need new packs.
        longer: For each of `rows`, whether the trial goes on from an earlier end.
        ends: The ends that the longer trials go on from, in the order of `rows`.
    """

    plan: Plan
    rows: NDArray[np.int64]
    longer: NDArray[np.bool_]
    ends: pa.Table


def _compare(
    grid: Grid, ledger: Ledger, table: pa.Table, workers: int, stored: ScanResult, *, rerun: bool
) -> _Comparison:
    """Return the difference between the trials of `table` and those that are `stored`."""
    status, last = _status(grid, ledger, table, stored.ends)
    again, outdated = anew(grid, ledger, table, stored.ends, status, last, rerun=rerun)
    plan = Plan(
        _counts(status),
        table,
        workers,
        outdated=outdated,
        void=sorted(stored.void | again),
        damage=list(stored.damage),
    )
    wanted = (status == NEW) | (status == LONGER)
    open_ = [i for i in open_packs(ledger.state) if i not in stored.void]
    if rerun:
        changed = changed_packs(grid, ledger, open_)
        plan.void = sorted({*plan.void, *changed})
        open_ = [i for i in open_ if i not in changed]
    if open_:
        listed = pack_rows(ledger, open_)
        ids = table["trial_id"]
        keep = pc.is_in(listed["trial_id"], ids.filter(pa.array(wanted)))
        wanted_in = listed["pack_id"].filter(keep).value_counts().to_pylist()
        plan.trains = {pack["values"]: pack["counts"] for pack in wanted_in}
        plan.restored = [i for i in open_ if i in plan.trains]
        plan.starts |= _continued(ledger, plan.restored, listed)
        wanted &= ~pc.is_in(ids, listed["trial_id"]).to_numpy()
    rows = np.flatnonzero(wanted)
    longer = status[rows] == LONGER
    return _Comparison(plan, rows, longer, stored.ends.take(pa.array(last[rows[longer]])))


def _continued(ledger: Ledger, packs: Sequence[str], listed: pa.Table) -> dict[str, int]:
    """Return pack to the step from which it continues, for those of `packs` that don't begin at 0.

    Args:
        ledger: The sweep's ledger.
        packs: Open packs of earlier launches.
        listed: Their rows in the listing of packs.
    """
    saved = {i: pack.checkpoint for i, pack in ledger.state.packs.items() if pack.checkpoint}
    steps = {entry["path"]: entry["step"] for entry in saved.values()}
    others = listed.filter(pc.is_valid(listed["start"]))
    first = others.group_by("pack_id", use_threads=False).aggregate([("start", "first")])
    paths = dict(zip(*(first[c].to_pylist() for c in ("pack_id", "start_first")), strict=True))
    begun = {i: steps.get(path, 0) for i, path in paths.items()}
    begun |= {i: entry["step"] for i, entry in saved.items()}
    return {i: begun[i] for i in packs if begun.get(i)}


def _needed(ledger: Ledger, todo: _Comparison) -> set[str]:
    """Return the packs whose checkpoints the plan goes on from."""
    begun = [ledger.state.packs[i] for i in todo.plan.restored]
    parents = {parent for p in begun if p.checkpoint is None for parent in p.parents}
    return {*todo.plan.restored, *todo.ends["pack_id"].unique().to_pylist(), *parents}


def counts(grid: Grid, ledger: Ledger, table: pa.Table) -> Counts:
    """Return the trials of `table` by their state in the store, as `plan_launch` counts them.

    Trusts the checksums of the metrics: for the moment after a launch.
    """
    return _counts(_status(grid, ledger, table, scan(ledger, proven=False).result().ends)[0])


def _counts(status: NDArray[np.int8]) -> Counts:
    new, longer, done, failed = (int(n) for n in np.bincount(status, minlength=4))
    return Counts(len(status), done, new + longer, failed)


def _check_log(grid: Grid, ledger: Ledger) -> None:
    stored = ledger.meta["points_per_decade"]
    asked = grid.file.log.points_per_decade
    if stored != asked:
        raise UsageError(
            f"log.points_per_decade = {asked}, but the sweep {grid.name!r} is logged with "
            f"{stored}. "
            f"It is fixed per sweep: write {stored}, or choose another name."
        )


def _status(
    grid: Grid, ledger: Ledger, table: pa.Table, ends: pa.Table
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return for each trial one of NEW, LONGER, DONE, FAILED, and the row of its last end.

    The last end is the one after most steps, of equal ones the later; -1 for none.
    """
    last = _last(table["trial_id"], ends)
    ended = np.flatnonzero(last >= 0)
    mine = ends.select(["status", "steps"]).take(pa.array(last[ended]))
    how = mine["status"]
    status = np.full(table.num_rows, NEW, dtype=np.int8)
    status[ended] = np.where(pc.equal(how, "failed").to_numpy(), FAILED, DONE)
    can_go_on = pc.is_in(how, pa.array(["generalized", "censored"])).to_numpy()
    short = np.flatnonzero(can_go_on & (mine["steps"].to_numpy() < grid.steps))
    if len(short):
        stopped = _reached(grid, ledger, table.take(pa.array(ended[short])), how.take(short))
        status[ended[short[~stopped]]] = LONGER
    return status, last


def _last(ids: pa.ChunkedArray, ends: pa.Table) -> NDArray[np.int64]:
    """Return for each trial the row of `ends` after its most steps, the later of equal ones."""
    if not ends.num_rows:
        return np.full(len(ids), -1, dtype=np.int64)
    wanted = ids.combine_chunks().dictionary_encode()  # a trial may be asked for twice
    at = pc.index_in(ends["trial_id"], wanted.dictionary).fill_null(-1).to_numpy()
    rows = np.flatnonzero(at >= 0)
    rows = rows[np.argsort(ends["steps"].to_numpy()[rows], kind="stable")]
    rows = rows[np.argsort(at[rows], kind="stable")]
    final = np.append(at[rows][1:] != at[rows][:-1], True)[: len(rows)]
    last = np.full(len(wanted.dictionary), -1, dtype=np.int64)
    last[at[rows[final]]] = rows[final]
    return cast("NDArray[np.int64]", last[wanted.indices.to_numpy()])


def _reached(
    grid: Grid, ledger: Ledger, table: pa.Table, how: pa.ChunkedArray
) -> NDArray[np.bool_]:
    """Return which trials, which ended short of the horizon, have stopped for good.

    They did where the grid stops trials that have both t1 and t2. Trusts the recorded status,
    `how`, where the criterion is the one they were trained under.
    """
    if not grid.file.stop.after_generalization:
        return np.zeros(table.num_rows, dtype=bool)
    now = {task: c.model_dump() for task, c in grid.criteria.items()}
    if ledger.state.launch is not None and all(
        record["criteria"].get(task) == c
        for record in ledger.state.launches.values()
        for task, c in now.items()
    ):
        return cast("NDArray[np.bool_]", pc.equal(how, "generalized").to_numpy())
    lead = next(iter(grid.config.parts), None)
    known = grid.criteria
    if lead is None:
        return reached(ledger, table["trial_id"], [known[""]], np.zeros(len(how), dtype=np.int64))
    tasks = table[f"{lead}.name"].combine_chunks().dictionary_encode()
    criteria = [known[task] for task in tasks.dictionary.to_pylist()]
    return reached(ledger, table["trial_id"], criteria, tasks.indices.to_numpy())


def pack_size(
    grid: Grid, module: Trainable, config: Config, n: int, workers: int, memory: int
) -> int:
    """Return the number of trials per pack, for a static group of `n` trials.

    Args:
        grid: Its `resources.pack` is the size, unless it is `auto`.
        module: The trainable.
        config: A config of the group.
        n: Number of trials of the group.
        workers: Number of packs that run at the same time, on all nodes together.
        memory: Bytes that each pack may use of the node where it runs.
    """
    asked = grid.file.resources.pack
    if getattr(module, "single", False):
        return 1
    if isinstance(asked, int):
        return asked
    return auto_size(
        n,
        workers=workers,
        per_trial=module.memory_bytes(config),
        budget=int(memory * MEMORY_SHARE),
        most=module.useful_size(config),
    )


def _new_packs(
    grid: Grid,
    plan: Plan,
    fresh: NDArray[np.int64],
    starts: Starts | None,
    known: Collection[str] = (),
) -> None:
    """Group the `fresh` trials of the plan's table into packs and add them to it.

    No new pack has the id of one of the `known` packs.
    """
    if not len(fresh):
        return
    module = trainable.load(grid.file.trainable, grid.config.code)
    memory = local_memory(grid, plan.workers) if plan.memory is None else plan.memory
    table = plan.table.select(
        [n for n in plan.table.column_names if plan.table[n].null_count < plan.table.num_rows]
    )  # columns of nulls distinguish no trials
    table = table if len(fresh) == table.num_rows else table.take(pa.array(fresh))
    group = static_groups(grid.config, table)
    key = group
    if starts is not None:
        several, step = np.unique(starts.steps, return_inverse=True)
        key = group * len(several) + step
    order = pack_order(grid.config, table, key)
    trials_in = np.bincount(group)
    sizes: dict[int, int] = {}
    bounds: list[tuple[int, int]] = []
    at = 0
    for first, n in zip(*np.unique(key, return_index=True, return_counts=True)[1:], strict=True):
        g = int(group[first])
        if g not in sizes:
            row = plan.table.slice(int(fresh[first]), 1)
            config = build(grid.config, trials_of(grid.config, row)[0].values)
            n_group = int(trials_in[g])
            sizes[g] = pack_size(grid, module, config, n_group, plan.workers, memory)
        bounds += [(a, min(sizes[g], at + int(n) - a)) for a in range(at, at + int(n), sizes[g])]
        at += int(n)
    ids = table["trial_id"].combine_chunks().take(pa.array(order))
    members = [ids.slice(a, n).to_pylist() for a, n in bounds]
    names = [pack_id(trials) for trials in members]
    if not set(known).isdisjoint(names) or starts is not None:
        salt = f"{time.time_ns()}"
        names = [pack_id(trials, salt=salt) for trials in members]
    _list(plan, ids, bounds, order, starts, names)


def _list(
    plan: Plan,
    ids: pa.Array,
    bounds: Sequence[tuple[int, int]],
    order: NDArray[np.int64],
    starts: Starts | None,
    names: Sequence[str],
) -> None:
    """Add packs to the plan: of `ids`, for each of `bounds` (first, number) one."""
    paths, packs = pa.nulls(len(ids), pa.string()), None
    if starts is not None:
        taken = pa.array(order)
        paths, packs = starts.paths.take(taken), starts.packs.take(taken)
    table = pack_table(names, [n for _, n in bounds], ids, paths)
    for name, (a, n) in zip(names, bounds, strict=True):
        plan.packs[name] = table.slice(a, n)
        mine = packs.slice(a, n).unique().to_pylist() if packs is not None else []
        plan.parents[name] = sorted(p for p in mine if p is not None)
        if starts is not None and starts.steps[order[a]] >= 0:
            plan.starts[name] = int(starts.steps[order[a]])
