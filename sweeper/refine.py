"""Refinement: new cells where neighbouring cells of a phase diagram disagree.

`sweeper.mesh` decides where, from what is known; here what is known is read off the views, and
what is proposed is trained, round after round. Nothing is remembered in between: a refinement
that was killed, or is given a larger budget, goes on from the cells that are in the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import log10
from typing import Any

import pyarrow as pa

from analysis import snapshot
from analysis.phase import Axis
from analysis.views import open_views
from sweeper import loading, sql, store
from sweeper.agenda import Agenda
from sweeper.config import Scalar, chosen_leaves
from sweeper.driver import Driver, Launched, Outcome, Runner, drive
from sweeper.errors import UsageError, did_you_mean
from sweeper.grid import Grid, columns
from sweeper.launch import trials_of
from sweeper.ledger import Ledger
from sweeper.mesh import FINE, Mark, Point, Scale, ends, propose
from sweeper.resolved import broken
from sweeper.trial import Trial

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
        mark: What is known of it.
        seeds: Seeds that it has.
    """

    values: Mapping[str, Scalar]
    mark: Mark
    seeds: frozenset[int]


@dataclass(frozen=True, slots=True)
class Panel:
    """The cells that differ in the two axes only, by their places on the mesh."""

    cells: Mapping[Point, Cell]


@dataclass(frozen=True, slots=True)
class Refined:
    """How a refinement ended.

    Attributes:
        trials: Trials that it trained.
        cells: Cells that it added.
        rounds: How many it took.
        settled: Whether nothing is left to refine at this depth.
        outcome: Of the last round; None without any.
    """

    trials: int
    cells: int
    rounds: int
    settled: bool
    outcome: Outcome | None

    @property
    def unfinished(self) -> bool:
        """Whether the last round was cut short."""
        return self.outcome is not None and self.outcome.counts.new > 0

    @property
    def exit_code(self) -> int:
        """0 done, 3 some trials failed, 4 work remains."""
        return 0 if self.outcome is None else self.outcome.exit_code


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
    panels(found, ledger)
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
    trials: int = 0
    cells: set[str] = field(default_factory=set)
    rounds: int = 0

    def run(self) -> Refined:
        grid, outcome, settled = self.wanted.grid, None, False
        while self.left > 0:
            trials, settled = self.next()
            if not trials:
                break
            table = _table(grid, trials)
            outcome = self.driver.train(
                grid, table, adds="refine", announce=self.announce, started=self.started
            )
            self.rounds += 1
            self.trials += len(trials)
            self.left -= len(trials)
            self.cells |= {t.cell_id for t in trials}
            if outcome.counts.new or self.driver.stopped:
                break
        return Refined(self.trials, len(self.cells), self.rounds, settled, outcome)

    def next(self) -> tuple[list[Trial], bool]:
        """Return the trials of the next round; and whether nothing is left to refine."""
        found = panels(self.wanted, self.driver.ledger)
        levels = [level for panel in found for level in self.between(panel)[:1]]
        fresh = [trials for cells in zip_longest(*levels) for trials in cells if trials]
        if not fresh:
            fresh = [trials for panel in found for trials in self.undecided(panel)]
        return _affordable(fresh, self.left), not fresh

    def between(self, panel: Panel) -> list[list[list[Trial]]]:
        """Return the trials of each new cell of a panel, level by level, none without any."""
        wanted = self.wanted
        marks = {place: cell.mark for place, cell in panel.cells.items()}
        steep = STEEP if wanted.value == "delay" else None
        levels = propose(marks, wanted.x, wanted.y, finest=FINE >> wanted.levels, steep=steep)
        made = [[t for place in level if (t := self.cell(panel, place))] for level in levels]
        return [level for level in made if level]

    def cell(self, panel: Panel, place: Point) -> list[Trial]:
        """Return the trials of the new cell at `place`; none where there can't be one."""
        grid, wanted = self.wanted.grid, self.wanted
        like = next(iter(panel.cells.values())).values
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
        return [
            _trials(self.wanted.grid, panel.cells[place].values, more)
            for place in ends({p: c.mark for p, c in panel.cells.items()})
            if panel.cells[place].mark.split and panel.cells[place].seeds <= set(seeds)
        ]


def panels(wanted: Diagram, ledger: Ledger) -> list[Panel]:
    """Return the cells of a diagram that stand on its mesh, those that differ otherwise apart.

    Raises:
        UsageError: The condition means nothing, or no cell is left.
    """
    where = f" where ({wanted.condition})" if wanted.condition else ""
    text = f"select cell_id, phase, agreement, delay, delay_bound from cells{where}"
    sql.check_read_only(text)
    with open_views(ledger) as views:
        cells = {row["cell_id"]: row for row in sql.query(views, text).to_pylist()}
        seeds = sql.query(views, "select cell_id, list(seed) as seeds from trials group by all")
    if not cells:
        raise UsageError(f"no cell matches {wanted.condition!r}. Loosen it.")
    had = {row["cell_id"]: frozenset(row["seeds"]) for row in seeds.to_pylist()}
    found: dict[Any, dict[Point, Cell]] = defaultdict(dict)
    for trial in _first_trials(wanted.grid, ledger, cells.keys()):
        mark = _mark(cells[trial.cell_id], wanted.value)
        x, y = (_position(scale, trial.values) for scale in (wanted.x, wanted.y))
        if mark is not None and x is not None and y is not None:
            axes = {wanted.x.name, wanted.y.name}
            rest = frozenset((p, v) for p, v in trial.values.items() if p not in axes)
            found[rest][x, y] = Cell(trial.values, mark, had[trial.cell_id])
    return [
        Panel(cells)
        for _, cells in sorted(found.items(), key=lambda item: sorted(map(str, item[0])))
    ]


def _first_trials(grid: Grid, ledger: Ledger, cells: Collection[str]) -> list[Trial]:
    """Return one trial of each of the `cells`, in the order of the plan."""
    plan = snapshot.plan(ledger, snapshot.launches(ledger, everything=False))
    first: dict[str, int] = {}
    for row, cell_id in enumerate(plan["cell_id"].to_pylist()):
        first.setdefault(cell_id, row)
    rows = [row for cell_id, row in first.items() if cell_id in cells]
    return trials_of(grid.config, plan.take(pa.array(rows, pa.int64())))


def _position(scale: Scale, values: Mapping[str, Scalar]) -> int | None:
    value = values.get(scale.name)
    return scale.position(value) if isinstance(value, int | float) else None


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
    text = f"{refined.cells} cells, {refined.trials} trials in {refined.rounds} rounds; "
    if refined.unfinished:
        return text + "stopped early: refine again to go on"
    if refined.settled:
        return text + "neighbours agree, or are as close as --levels allows"
    return text + "the budget is spent: neighbours disagree still"


def _affordable(fresh: Sequence[list[Trial]], budget: int) -> list[Trial]:
    """Return the trials of as many whole cells, in order, as `budget` pays for."""
    taken: list[Trial] = []
    for trials in fresh:
        if len(taken) + len(trials) > budget:
            break
        taken += trials
    return taken


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
