"""What a grid wants, minus what the store has: the agenda of a launch.

Open packs of an earlier launch are taken up as they were; trials that need more steps go on from
their final checkpoints; all others make new packs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from sweeper import parts, trainable
from sweeper.config import Config, build
from sweeper.criterion import Criterion
from sweeper.errors import UsageError
from sweeper.grid import Grid
from sweeper.ledger import Ledger, Record
from sweeper.packing import auto_size, pack_id, pack_order, static_groups
from sweeper.trainable import Trainable
from sweeper.worker import ended_trials, listing, open_packs, pack_rows, trials_of

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


def agenda(
    grid: Grid, ledger: Ledger | None, *, workers: int, table: pa.Table | None = None
) -> Agenda:
    """Return what is to be done for `grid` beyond what `ledger` holds.

    Args:
        grid: What is wanted.
        ledger: What there is; None for an empty store.
        workers: Packs that can run at the same time.
        table: The wanted trials, where they aren't those of the grid: columns of `Grid.table`.

    Raises:
        UsageError: The logged steps differ from the store's, or trials should go on whose
            final checkpoints weren't kept.
    """
    table = grid.table() if table is None else table
    if ledger is None:
        plan = Agenda(Counts(table.num_rows, 0, table.num_rows, 0), table, workers)
        _new_packs(grid, plan, table, [None] * table.num_rows, workers)
        return plan
    _check_log(grid, ledger)
    damage, void = _damage(ledger)
    ends = _latest(ended_trials(ledger, without=void))
    status = _status(grid, ledger, table, ends)
    open_ = [i for i in open_packs(ledger.state) if i not in void]
    listed = pack_rows(ledger, open_)
    in_open = set(listed["trial_id"].to_pylist())
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
    keep = pc.is_in(listed["trial_id"], pa.array(sorted(wanted), pa.string()))
    having = set(listed.filter(keep)["pack_id"].to_pylist())
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
            f"log.points_per_decade = {asked}, but the sweep {grid.name!r} is logged with "
            f"{stored}. "
            f"It is fixed per sweep: write {stored}, or choose another name."
        )


def _damage(ledger: Ledger) -> tuple[list[str], set[str]]:
    """Return what is wrong with listed files, and the packs that have to be trained again.

    Every file is read and its checksum proven: a launch builds on them.
    """
    state = ledger.state
    messages: list[str] = []
    void: set[str] = set()
    lists = {path: parts.corrupt(ledger.files, {"path": path, "sha256": sha})
             for path, sha in state.files.items()
             if any(p.path == path and not p.void for p in state.packs.values())}  # fmt: skip
    messages += [message for message in lists.values() if message]
    for pack in state.packs.values():
        if pack.void:
            continue
        listed = [part for _, part in (*pack.parts, *pack.ends)]
        found = [m for part in listed if (m := parts.corrupt(ledger.files, part))]
        messages += found
        if found or lists[pack.path]:
            void.add(pack.id)
    for part in state.compacted:
        if message := parts.corrupt(ledger.files, part):
            messages.append(message)
            void |= state.compacted_by[part.path]
    grown = True
    while grown:  # what went on from a damaged pack, or shares a file with it, goes with it
        before = len(void)
        void |= {p.id for p in state.packs.values() if void & set(p.parents)}
        for part in state.compacted:
            if void & state.compacted_by[part.path]:
                void |= state.compacted_by[part.path]
        grown = len(void) > before
    return messages, {i for i in void if not state.packs[i].void}


def _latest(ends: pa.Table) -> dict[str, Record]:
    """Return for each trial the end after its most steps, as the row of `ended_trials`."""
    found: dict[str, Record] = {}
    for row in ends.to_pylist():
        before = found.get(row["trial_id"])
        if before is None or row["steps"] >= before["steps"]:
            found[row["trial_id"]] = row
    return found


def _status(grid: Grid, ledger: Ledger, table: pa.Table, ends: dict[str, Record]) -> list[str]:
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
        _reached(grid, ledger, dict(zip(ids, tasks, strict=True)), {i: ends[i] for i in short})
        if stops
        else set()
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
    grid: Grid, ledger: Ledger, tasks: dict[str, str], short: dict[str, Record]
) -> set[str]:
    """Return those of the trials that ended `short` of the horizon that have both t1 and t2.

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
        return {i for i, end in short.items() if end["status"] == "generalized"}
    return reached(ledger, {i: grid.criteria[tasks[i]] for i in short})


def reached(ledger: Ledger, criteria: dict[str, Criterion]) -> set[str]:
    """Return the trials whose stored metrics reach both thresholds of their criterion.

    None under a rule that takes whole curves: nothing stops by it.
    """
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


def pack_size(grid: Grid, module: Trainable, config: Config, n: int, workers: int) -> int:
    """Return how many of `n` trials of one static group make a pack."""
    asked = grid.file.resources.pack
    if isinstance(asked, int):
        return asked
    return auto_size(
        n,
        workers=workers,
        per_trial=module.memory_bytes(config),
        budget=int(psutil.virtual_memory().total * MEMORY_SHARE / max(1, workers)),
        most=module.useful_size(config),
    )


def _new_packs(
    grid: Grid, plan: Agenda, table: pa.Table, starts: Sequence[Any], workers: int
) -> None:
    """Group the trials of `table` into packs and add them to `plan`."""
    if table.num_rows == 0:
        return
    module = trainable.load(grid.file.trainable)
    group = static_groups(grid.config, table)
    steps = np.array([s[1] if s else -1 for s in starts], dtype=np.int64)
    salt = f"{time.time_ns()}" if any(starts) or plan.void else ""
    sizes: dict[int, int] = {}
    for g, step in sorted({(int(g), int(s)) for g, s in zip(group, steps, strict=True)}):
        members = np.flatnonzero((group == g) & (steps == step))
        rows = table.take(pa.array(members))
        order = pack_order(grid.config, rows)
        if g not in sizes:
            config = build(grid.config, trials_of(grid.config, rows.slice(0, 1))[0].values)
            sizes[g] = pack_size(grid, module, config, int((group == g).sum()), workers)
        ids = rows["trial_id"].take(pa.array(order)).to_pylist()
        for a in range(0, len(ids), sizes[g]):
            chosen = ids[a : a + sizes[g]]
            own = [starts[members[order[k]]] for k in range(a, a + len(chosen))]
            name = pack_id(chosen, salt=salt)
            plan.packs[name] = listing(name, chosen, [s[0] if s else None for s in own])
            plan.parents[name] = sorted({s[2] for s in own if s})
