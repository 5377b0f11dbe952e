"""The phase diagram of a refinement: its cells by their positions on the mesh."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from typing import Any

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.diagrams.paths import choices, unknown
from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.views import open_views
from sweeper.compile import loading
from sweeper.config.decoding import trials_of
from sweeper.config.fields import Scalar
from sweeper.config.trial import Trial
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid, columns
from sweeper.refine.mesh import FINE, Mark, Point, Scale
from sweeper.store import lease
from sweeper.store.ledger import Ledger
from sweeper.store.schema import ENDED

STEEP = log10(2)
"""Largest difference of the logarithms (base 10) of delays at which neighbours agree."""

LEVELS = 3
"""Default number of halvings of the grid's spacing: 8 x 8 cells become 57 x 57."""

VALUES = ("phase", "delay")

UNDECIDED = 0.75
"""Least share of agreeing seeds: a boundary cell with a smaller one gets more seeds."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the diagram.

    Attributes:
        values: Its resolved config, flat.
        mark: Its known result; None if there is none, or the condition excludes the cell.
        seeds: Its seeds.
        owed: The seeds that an earlier refinement planned and that haven't ended.
    """

    values: Mapping[str, Scalar]
    mark: Mark | None
    seeds: frozenset[int]
    owed: tuple[int, ...]


Panel = Mapping[Point, Cell]
"""The cells that differ only in the two axes, by position."""


@dataclass(frozen=True)
class Diagram:
    """A diagram to refine: two axes of a grid, and the rule by which neighbours disagree.

    Attributes:
        grid: The grid of the last launch.
        x: The horizontal axis.
        y: The vertical axis.
        value: ``phase`` or ``delay``.
        condition: SQL over `cells` that selects cells; None for all.
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
        """The argument `steep` of `sweeper.refine.mesh.propose`."""
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
    """Return the diagram that `refine` works on.

    Raises:
        UsageError: An axis is unknown, isn't numeric or has one value; the value is neither
            phase nor delay; or the condition is wrong.
        StoreError: There is no such sweep, or it was never launched.
    """
    if value not in VALUES:
        raise UsageError(f"--value {value}: can't be refined. Choose {' or '.join(VALUES)}.")
    if x == y:
        raise UsageError(f"x and y are both {x}. Choose two different axes.")
    ledger = lease.open_sweep(where, name)
    grid = loading.stored_grid(ledger).named(name)
    wanted = Diagram(grid, _scale(grid, "x", x), _scale(grid, "y", y), value, condition, levels)
    if not any(map(marks_of, panels(wanted, ledger))):
        raise UsageError(f"{name}: none of the cells has a result yet. Launch its grid to the end.")
    return wanted


def _scale(grid: Grid, role: str, path: str) -> Scale:
    known = columns(grid.config).names[3:]
    if path not in known:
        raise unknown(role, path, known, _varying(grid))
    axis = Axis.of(path, grid.axis_values(path))
    if len(axis.values) < 2:
        varying = _varying(grid)
        raise UsageError(
            f"{role}: {path} has fewer than two values in the grid. {choices(varying)}"
        )
    if axis.categorical:
        values = ", ".join(map(axis.label, axis.values[:6]))
        raise UsageError(
            f"{role}: {path} isn't numeric ({values}), so no value lies between two others. "
            "Choose a numeric axis."
        )
    whole = columns(grid.config).field(path).type == pa.int64()
    return Scale(path, tuple(axis.values), log=axis.log, whole=whole)


def _varying(grid: Grid) -> list[str]:
    """Return the axes that have several values."""
    return [axis for axis in grid.axes if len(grid.axis_values(axis)) > 1]


def panels(wanted: Diagram, ledger: Ledger) -> list[Panel]:
    """Return the cells of a diagram, one panel per set of values of the other axes.

    Raises:
        UsageError: The condition is wrong, or it matches no cell.
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
    groups: dict[Any, dict[Point, Cell]] = defaultdict(dict)
    axes = {wanted.x.name, wanted.y.name}
    for trial in _first_trials(wanted.grid, ledger):
        x, y = (_position(scale, trial.values) for scale in (wanted.x, wanted.y))
        if x is None or y is None:
            continue
        row, ended = cells[trial.cell_id], seeds[trial.cell_id]
        planned = wanted.grid.seeds if x % FINE == y % FINE == 0 else ()  # by the grid itself
        owed = tuple(seed for seed, over in ended.items() if not over and seed not in planned)
        rest = frozenset((p, v) for p, v in trial.values.items() if p not in axes)
        groups[rest][x, y] = Cell(
            trial.values,
            _mark(row, wanted.value) if row["chosen"] else None,
            frozenset(ended),
            owed if row["chosen"] else (),
        )
    return [groups[rest] for rest in sorted(groups, key=lambda rest: sorted(map(str, rest)))]


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


def marks_of(panel: Panel) -> dict[Point, Mark]:
    """Return the marks of the cells of a panel that have one."""
    return {place: cell.mark for place, cell in panel.items() if cell.mark is not None}


def _mark(row: Mapping[str, Any], value: str) -> Mark | None:
    """Return the known result of a cell; None if there is none."""
    if row["phase"] is None:
        return None
    split = row["agreement"] < UNDECIDED
    if value == "phase":
        return Mark(row["phase"], None, split)
    if row["delay"] is not None:
        return Mark("delay", log10(max(1, row["delay"])), split)
    return Mark("censored" if row["delay_bound"] is not None else row["phase"], None, split)
