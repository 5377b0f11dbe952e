"""Refinement: new cells where neighbouring cells of a phase diagram disagree.

`sweeper.refine.mesh` decides where, from what is known; here what is known is read off the views,
and what is proposed is trained, round after round. Nothing is remembered in between: a refinement
that was killed, or is given a larger budget, goes on from the cells that are in the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from math import log10
from typing import Any

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.diagrams.provenance import counted
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.views import open_views
from sweeper.compile import loading
from sweeper.config.decoding import trials_of
from sweeper.config.fields import Scalar, chosen_leaves
from sweeper.config.resolve import broken
from sweeper.config.trial import Trial
from sweeper.engine.driver import Driver, Launched, Runner, drive
from sweeper.engine.planner import Agenda, agenda
from sweeper.errors import UsageError, did_you_mean
from sweeper.grid.grid import Grid, columns
from sweeper.refine.mesh import FINE, Mark, Point, Scale, ends, propose
from sweeper.store import lease as store
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.packs import pack_rows
from sweeper.store.schema import ENDED

STEEP = log10(2)
"""Neighbours whose delays differ by more than this factor, as a logarithm, disagree."""

LEVELS = 3
"""Halvings of the grid's own spacing, unless asked for more: 8 x 8 cells become 57 x 57."""

VALUES = ("phase", "delay")

UNDECIDED = 0.75
"""Cells at the boundary whose seeds agree less than this get more seeds."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the diagram.

    Attributes:
        values: Its resolved config, flat.
        mark: What is known of it; None where nothing is, or the condition leaves it out.
        seeds: Seeds that it has.
        owed: Those of them that an earlier refinement planned and that haven't ended.
    """

    values: Mapping[str, Scalar]
    mark: Mark | None
    seeds: frozenset[int]
    owed: tuple[int, ...]


Panel = Mapping[Point, Cell]
"""The cells that differ in the two axes only, by their places on the mesh."""


@dataclass(frozen=True, slots=True)
class Refined:
    """How a refinement ended.

    Attributes:
        trials: Trials that it trained.
        cells: Cells that it added, or that an earlier one had planned.
        rounds: How many it took.
        failed: Those of its trials that failed.
        settled: Whether nothing is left to refine at this depth.
        unfinished: Whether it was stopped early.
    """

    trials: int = 0
    cells: int = 0
    rounds: int = 0
    failed: int = 0
    settled: bool = False
    unfinished: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 3 some trials failed, 4 work remains."""
        return 4 if self.unfinished else 3 if self.failed else 0


@dataclass(frozen=True)
class Diagram:
    """What is refined: two axes of a grid, and what makes neighbours disagree.

    Attributes:
        grid: The grid as it was launched last.
        x: The horizontal axis.
        y: The vertical axis.
        value: ``phase`` or ``delay``.
        condition: SQL over `cells`: which of them; None for all.
        levels: Halvings of the grid's own spacing.
    """

    grid: Grid
    x: Scale
    y: Scale
    value: str
    condition: str | None
    levels: int

    @property
    def steep(self) -> float | None:
        """What `sweeper.refine.mesh.propose` calls steep."""
        return STEEP if self.value == "delay" else None


def diagram(
    where: str,
    name: str,
    *,
    x: str,
    y: str,
    value: str = "phase",
    condition: str | None = None,
    levels: int = LEVELS,
) -> Diagram:
    """Return what `refine` is to refine.

    Raises:
        UsageError: An axis is unknown, isn't numeric or has one value; the value is neither
            phase nor delay; or the condition means nothing.
        StoreError: There is no such sweep, or nothing of it was launched yet.
    """
    if value not in VALUES:
        raise UsageError(f"--value {value}: refinement follows {' or '.join(VALUES)}.")
    if x == y:
        raise UsageError(f"x and y must differ: {x}.")
    ledger = store.open_sweep(where, name)
    grid = loading.stored_grid(ledger)
    found = Diagram(grid, _scale(grid, "x", x), _scale(grid, "y", y), value, condition, levels)
    if not any(map(_marks, panels(found, ledger))):
        raise UsageError(f"{name}: none of the cells has a result yet. Launch its grid to the end.")
    return found


def _scale(grid: Grid, role: str, path: str) -> Scale:
    known = columns(grid.config).names[3:]
    if path not in known:
        raise UsageError(f"{role}: no axis {path!r}. {did_you_mean(path, known)}")
    axis = Axis.of(path, grid.axis_values(path))
    if len(axis.values) < 2:
        axes = ", ".join(grid.axes) or "none"
        raise UsageError(f"{role}: {path} has no two values in the grid. Its axes: {axes}.")
    if axis.categorical:
        values = ", ".join(map(axis.label, axis.values[:6]))
        raise UsageError(
            f"{role}: {path} isn't numeric ({values}), so there is nothing in between. "
            "Choose a numeric axis."
        )
    whole = columns(grid.config).field(path).type == pa.int64()
    return Scale(path, tuple(axis.values), log=axis.log, whole=whole)


def refine(
    wanted: Diagram,
    where: str,
    runner: Runner,
    budget: int,
    *,
    announce: Callable[[Agenda], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Refined:
    """Add cells where neighbours disagree, until they don't or `budget` new trials are spent.

    Args:
        wanted: What to refine.
        where: URI of the store.
        runner: Runs the packs.
        budget: Most trials to train.
        announce: Called with what each round is to train.
        started: Called once a round's packs are in the ledger.

    Raises:
        BusyError: Another driver is at work on this sweep.
        StoreError: The store can't be read or written.
    """
    with drive(wanted.grid, where, runner) as driver:
        return _Rounds(wanted, driver, budget, announce, started).run()


@dataclass(slots=True)
class _Rounds:
    wanted: Diagram
    driver: Driver
    left: int
    announce: Callable[[Agenda], None]
    started: Callable[[Launched], None]
    so_far: Refined = field(default_factory=Refined)

    def run(self) -> Refined:
        grid = self.wanted.grid
        while not self.so_far.unfinished:
            wanted = self.next(panels(self.wanted, self.driver.ledger))
            trials, cost = self.affordable(wanted) if wanted else ([], 0)
            if not trials:
                return replace(self.so_far, settled=not wanted)
            outcome = self.driver.train(
                grid,
                _table(grid, trials),
                adds="refine",
                announce=self.announce,
                started=self.started,
            )
            self.left -= cost
            self.so_far = Refined(
                trials=self.so_far.trials + cost - outcome.counts.new,
                cells=self.so_far.cells + len({t.cell_id for t in trials if t.seed in grid.seeds}),
                rounds=self.so_far.rounds + 1,
                failed=self.so_far.failed + outcome.counts.failed,
                unfinished=outcome.counts.new > 0 or self.driver.stopped,
            )
        return self.so_far

    def next(self, found: Sequence[Panel]) -> list[list[Trial]]:
        """Return the trials of the next round, cell by cell; none if nothing is left to refine.

        A round that was cut short comes first: what follows from it depends on all of it.
        """
        grid, cells = self.wanted.grid, [cell for panel in found for cell in panel.values()]
        if owed := [_trials(grid, cell.values, cell.owed) for cell in cells if cell.owed]:
            return owed
        levels = [level for panel in found for level in self.between(panel)[:1]]
        fresh = [trials for cells in zip_longest(*levels) for trials in cells if trials]
        return fresh or [trials for panel in found for trials in self.undecided(panel)]

    def affordable(self, wanted: Sequence[list[Trial]]) -> tuple[list[Trial], int]:
        """Return the trials of as many whole cells, in order, as the budget pays for; the cost.

        What the store holds already costs nothing.
        """
        grid, ledger = self.wanted.grid, self.driver.ledger
        table = _table(grid, [t for trials in wanted for t in trials])
        plan = agenda(grid, ledger, workers=self.driver.runner.workers, table=table)
        new = {i for listed in plan.packs.values() for i in listed["trial_id"].to_pylist()}
        ended = set(ended_trials(ledger)["trial_id"].to_pylist())
        new |= {*pack_rows(ledger, plan.restored)["trial_id"].to_pylist()} - ended
        taken: list[Trial] = []
        cost = 0
        for trials in wanted:
            price = sum(t.id in new for t in trials)
            if cost + price > self.left:
                break
            taken, cost = taken + trials, cost + price
        return taken, cost

    def between(self, panel: Panel) -> list[list[list[Trial]]]:
        """Return the trials of each new cell of a panel, level by level, none without any."""
        wanted = self.wanted
        levels = propose(
            _marks(panel), wanted.x, wanted.y, finest=FINE >> wanted.levels, steep=wanted.steep
        )
        made = [[t for place in level if (t := self.cell(panel, place))] for level in levels]
        return [level for level in made if level]

    def cell(self, panel: Panel, place: Point) -> list[Trial]:
        """Return the trials of the new cell at `place`; none where there is one or can't be."""
        grid, wanted = self.wanted.grid, self.wanted
        if place in panel:
            return []
        like = next(iter(panel.values())).values
        values = dict(like)
        for scale, position in ((wanted.x, place[0]), (wanted.y, place[1])):
            value, refusal = chosen_leaves(grid.config, like)[scale.name].check(
                scale.value(position)
            )
            if refusal is not None:
                return []
            values[scale.name] = value
        if any(broken(grid.config, values)) or excluded(grid, values):
            return []
        return _trials(grid, values, grid.seeds)

    def undecided(self, panel: Panel) -> list[list[Trial]]:
        """Return more seeds for the cells at the boundary whose seeds disagree."""
        seeds = self.wanted.grid.seeds
        more = range(max(seeds) + 1, max(seeds) + 1 + len(seeds))
        marks = _marks(panel)
        return [
            _trials(self.wanted.grid, panel[place].values, more)
            for place in ends(marks, self.wanted.steep)
            if marks[place].split and panel[place].seeds <= set(seeds)
        ]


def panels(wanted: Diagram, ledger: Ledger) -> list[Panel]:
    """Return the cells of a diagram that stand on its mesh, those that differ otherwise apart.

    Raises:
        UsageError: The condition means nothing, or no cell is left.
    """
    condition = f"coalesce(({wanted.condition}), false)" if wanted.condition else "true"
    text = f"select cell_id, phase, agreement, delay, delay_bound, {condition} as chosen from cells"
    sql.check_read_only(text)
    with open_views(ledger) as views:
        cells = {row["cell_id"]: row for row in sql.query(views, text).to_pylist()}
        stands = sql.query(views, "select cell_id, seed, status from trials order by all")
    if not any(row["chosen"] for row in cells.values()):
        raise UsageError(f"no cell matches {wanted.condition!r}. Loosen it.")
    seeds: dict[str, dict[int, bool]] = defaultdict(dict)
    for row in stands.to_pylist():
        seeds[row["cell_id"]][row["seed"]] = row["status"] in ENDED
    found: dict[Any, dict[Point, Cell]] = defaultdict(dict)
    axes = {wanted.x.name, wanted.y.name}
    for trial in _first_trials(wanted.grid, ledger):
        x, y = (_position(scale, trial.values) for scale in (wanted.x, wanted.y))
        if x is None or y is None:
            continue
        row, ended = cells[trial.cell_id], seeds[trial.cell_id]
        planned = wanted.grid.seeds if x % FINE == y % FINE == 0 else ()  # by the grid itself
        owed = tuple(seed for seed, over in ended.items() if not over and seed not in planned)
        rest = frozenset((p, v) for p, v in trial.values.items() if p not in axes)
        found[rest][x, y] = Cell(
            trial.values,
            _mark(row, wanted.value) if row["chosen"] else None,
            frozenset(ended),
            owed if row["chosen"] else (),
        )
    return [found[rest] for rest in sorted(found, key=lambda rest: sorted(map(str, rest)))]


def _first_trials(grid: Grid, ledger: Ledger) -> list[Trial]:
    """Return one trial of each cell, in the order of the plan."""
    plan = snapshot.plan(ledger, snapshot.launches(ledger, everything=False))
    first: dict[str, int] = {}
    for row, cell_id in enumerate(plan["cell_id"].to_pylist()):
        first.setdefault(cell_id, row)
    return trials_of(grid.config, plan.take(pa.array(first.values(), pa.int64())))


def _position(scale: Scale, values: Mapping[str, Scalar]) -> int | None:
    value = values.get(scale.name)
    return scale.position(value) if isinstance(value, int | float) else None


def _marks(panel: Panel) -> dict[Point, Mark]:
    return {place: cell.mark for place, cell in panel.items() if cell.mark is not None}


def _mark(row: Mapping[str, Any], value: str) -> Mark | None:
    """Return what is known of a cell; None where nothing is."""
    if row["phase"] is None:
        return None
    split = row["agreement"] < UNDECIDED
    if value == "phase":
        return Mark(row["phase"], None, split)
    if row["delay"] is not None:
        return Mark("delay", log10(max(1, row["delay"])), split)
    return Mark("censored" if row["delay_bound"] is not None else row["phase"], None, split)


def sentence(refined: Refined) -> str:
    """Return how a refinement ended, in words."""
    cells, trials = counted(refined.cells, "cell"), counted(refined.trials, "trial")
    text = f"{cells}, {trials} in {counted(refined.rounds, 'round')}; "
    if refined.unfinished:
        return text + "stopped early: refine again to go on"
    if refined.settled:
        return text + "neighbours agree, or are as close as --levels allows"
    return text + "the budget is spent: neighbours disagree still"


def excluded(grid: Grid, values: Mapping[str, Scalar]) -> bool:
    """Return whether a rule under `exclude` removes the cell with these values."""
    types = columns(grid.config)
    return any(
        rule.holds([pa.array([values.get(p)], types.field(p).type) for p in rule.paths])[0]
        for rule in grid.rules
    )


def _trials(grid: Grid, values: Mapping[str, Scalar], seeds: Iterable[int]) -> list[Trial]:
    name = grid.file.trainable
    return [Trial.of(grid.config, values, seed, trainable=name) for seed in seeds]


def _table(grid: Grid, trials: Sequence[Trial]) -> pa.Table:
    """Return trials in the columns of `Grid.table`."""
    schema = columns(grid.config)
    data: dict[str, list[Any]] = {
        "trial_id": [t.id for t in trials],
        "cell_id": [t.cell_id for t in trials],
        "seed": [t.seed for t in trials],
    }
    data |= {name: [t.values.get(name) for t in trials] for name in schema.names[3:]}
    return pa.table(data, schema=schema)
