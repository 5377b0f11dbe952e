"""Phase diagrams: the cells of a sweep over two axes of its grid.

Every cell stays what it is: a censored one carries the bound that its median is known to exceed,
one without a result is missing, and seeds are never mixed with another axis unseen.

References:
    [Liu22] Liu et al., Towards Understanding Grokking, 2022. https://arxiv.org/abs/2205.10343
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweeper import sql
from sweeper.analysis.diagrams.export import flat, writing
from sweeper.analysis.diagrams.paths import check_path, choices
from sweeper.analysis.diagrams.summary import sql_of
from sweeper.analysis.views.medians import interval_words
from sweeper.errors import UsageError

STEPS = ("delay", "t1", "t2")
"""Values that are optimizer steps and can be censored."""

FIRST_COUNT = "n_seeds"
"""The column of `cells` behind the config."""

UNEVEN = 12
"""Times by which the widest column of an axis may exceed the narrowest one."""

SMALLEST, LARGEST = 1e-150, 1e150
"""Between these, the borders of columns and the ticks of a scale don't overflow."""

SHOWN = 6
"""Values of an axis that a message lists at most."""

Kind = Literal["steps", "phase", "number", "category"]


@dataclass(frozen=True)
class Axis:
    """A dotted name with the values it takes, ascending; null comes last.

    Attributes:
        name: The path within the config.
        values: Each once.
        lines: The numbers that the grid itself has, where a refinement put others in between.
    """

    name: str
    values: tuple[Any, ...]
    lines: tuple[Any, ...] = ()

    @classmethod
    def of(cls, name: str, column: Iterable[Any]) -> Axis:
        """Return the axis `name` with the distinct values of `column`."""
        distinct = {_hashable(value) for value in column}
        return cls(name, tuple(sorted(distinct, key=_order)))

    @cached_property
    def categorical(self) -> bool:
        """Whether the values are names rather than numbers."""
        return any(isinstance(v, bool) or not isinstance(v, int | float) for v in self.values)

    @cached_property
    def log(self) -> bool:
        """Whether the values are spaced evenly in their logarithm, more or less."""
        if self.categorical or len(self.values) < 2 or min(self.values) <= 0:
            return False
        values = np.array(self.lines or self.values, dtype=np.float64)
        if len(values) == 2:
            return bool(values[1] >= 10 * values[0])
        in_log, in_line = (_unevenness(v) for v in (np.log(values), values))
        return in_log < 0.02 or (values[-1] >= 50 * values[0] and in_log < in_line)

    @cached_property
    def even(self) -> bool:
        """Whether the values get equal columns: names, and numbers that no scale keeps apart.

        Such numbers are 0 beside powers of ten, and an outlier beside neighbours.
        """
        if self.categorical or len(self.values) < 2:
            return self.categorical
        values = np.array(self.lines or self.values, dtype=np.float64)
        if not SMALLEST < np.abs(values).max() < LARGEST or (self.log and values[0] < SMALLEST):
            return True
        gaps = np.diff(np.log(values) if self.log else values)
        return bool(gaps.max() > UNEVEN * gaps.min())

    def index(self, value: Any) -> int:
        """Return the place of `value`."""
        return self._places[_hashable(value)]

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {value: place for place, value in enumerate(self.values)}

    def label(self, value: Any) -> str:
        """Return `value` as it stands in YAML."""
        if value is None:
            return "null"
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, int | float) else str(value)


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value


def _order(value: Any) -> tuple[int, Any]:
    if value is None:
        return 2, 0
    return (1, value) if isinstance(value, str) else (0, value)


def _unevenness(values: np.ndarray) -> float:
    gaps = np.diff(values / np.abs(values).max())
    return float(np.std(gaps) / np.mean(gaps))


@dataclass(frozen=True, slots=True)
class DiagramCell:
    """One cell of a phase diagram.

    Attributes:
        x: Value on the horizontal axis.
        y: Value on the vertical axis.
        facet: Value of the facet; None without one.
        value: What is shown; None where there is nothing to show. With `censored` the largest
            number that it is known to exceed.
        low: Lower end of the interval; None: unbounded, or not known for this value.
        high: Upper end, likewise.
        level: Confidence level of the interval; None without one.
        censored: Whether only a bound of the median is known.
        phase: What more than half of the seeds are, else split; None before that is known.
        agreement: Share of the seeds in the most frequent phase; None before any has one.
        n_seeds: Trials.
        censored_share: Censored delays over all delays; None without any.
    """

    x: Any
    y: Any
    facet: Any
    value: Any
    low: float | None
    high: float | None
    level: float | None
    censored: bool
    phase: str | None
    agreement: float | None
    n_seeds: int
    censored_share: float | None


@dataclass(frozen=True)
class PhaseDiagram:
    """Cells over two axes, in small multiples over a third if `facet` is given.

    Attributes:
        x: The horizontal axis.
        y: The vertical axis.
        facet: The axis of the small multiples.
        value: What is shown: delay, t1, t2, phase, or an SQL expression over `cells`.
        kind: What sort of value that is.
        cells: Those there are; a place without one is missing.
        refined: Whether the places between the grid's lines have cells only where neighbours
            disagree.
    """

    x: Axis
    y: Axis
    facet: Axis | None
    value: str
    kind: Kind
    cells: tuple[DiagramCell, ...]
    refined: bool = False

    @property
    def facets(self) -> tuple[Any, ...]:
        """The values of the facet, or a single None."""
        return self.facet.values if self.facet else (None,)

    def panel(self, facet: Any = None) -> dict[tuple[int, int], DiagramCell]:
        """Return the cells of one facet by their places on the axes (x, y)."""
        return {(self.x.index(c.x), self.y.index(c.y)): c for c in self.cells if c.facet == facet}

    @property
    def intervals(self) -> str | None:
        """What the intervals of the values are, in words; None without any."""
        levels = {c.n_seeds: c.level for c in self.cells if c.level is not None}
        if not levels:
            return None
        said = [interval_words(n, levels[n]) for n in sorted(levels)[:: max(1, len(levels) - 1)]]
        return "Medians over seeds. Interval: " + " to ".join(said)

    def table(self) -> pa.Table:
        """Return one row per cell: the axes by their names, then the fields of `DiagramCell`."""
        names = {"x": self.x.name, "y": self.y.name}
        if self.facet:
            names["facet"] = self.facet.name
        kept = [f.name for f in fields(DiagramCell) if self.facet or f.name != "facet"]
        rows = [asdict(cell) for cell in self.cells]
        columns = {names.get(f, f): pa.array([row[f] for row in rows], _TYPES.get(f)) for f in kept}
        return pa.table(columns)

    def export(self, path: Path) -> None:
        """Write `table` to `path`, as CSV or Parquet by its suffix.

        Raises:
            UsageError: Another suffix, or the file can't be written.
        """
        if path.suffix not in (".csv", ".parquet"):
            raise UsageError(f"{path}: a table is written as .csv or .parquet.")
        table = self.table()
        with writing(path) as file:
            if path.suffix == ".csv":
                pa.csv.write_csv(flat(table), file)
            else:
                pq.write_table(table, file)


_TYPES = {
    "low": pa.float64(),
    "high": pa.float64(),
    "level": pa.float64(),
    "censored": pa.bool_(),
    "phase": pa.string(),
    "agreement": pa.float64(),
    "n_seeds": pa.int64(),
    "censored_share": pa.float64(),
}


def phase_diagram(
    connection: sql.Connection,
    x: str,
    y: str,
    *,
    value: str = "delay",
    facet: str | None = None,
    where: str | None = None,
) -> PhaseDiagram:
    """Return the phase diagram of the cells over two axes.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        x: Dotted name of the horizontal axis.
        y: Dotted name of the vertical axis.
        value: delay, t1, t2, phase, a metric's extreme (`sweeper.analysis.diagrams.summary`), or
        an SQL
            expression over `cells`.
        facet: Dotted name of the axis of small multiples.
        where: SQL condition over `cells`: which to take.

    Raises:
        UsageError: An axis is unknown or has one value only, no cell is left, or several cells
            fall on one place, because yet another axis varies.
    """
    paths = config_paths(connection)
    given = {"x": x, "y": y, **({"facet": facet} if facet else {})}
    for role, name in given.items():
        check_path(connection, role, name, paths)
    if len(set(given.values())) < len(given):
        raise UsageError(f"x, y and facet must differ: {', '.join(given.values())}.")
    table = _select(connection, paths, value, where)
    axes = {p: Axis.of(p, _distinct(table[p])) for p in paths}
    varying = [p for p, axis in axes.items() if len(axis.values) > 1]
    for role, name in given.items():
        if name not in varying:
            only = axes[name].label(axes[name].values[0])
            raise UsageError(
                f"{role}: {name} = {only} in {_every(table.num_rows)}. {choices(varying)}"
            )
    _check_one_a_place(table, list(given.values()), [axes[p] for p in varying])
    facets = table[facet].to_pylist() if facet else [None] * table.num_rows
    rows = zip(
        *([_hashable(v) for v in table[given[name]].to_pylist()] for name in ("x", "y")),
        map(_hashable, facets),
        *(table[f"diagram.{name}"].to_pylist() for name in ("value", *_TYPES)),
        strict=True,
    )
    return PhaseDiagram(
        axes[x],
        axes[y],
        axes[facet] if facet else None,
        value,
        _kind(value, table.schema.field("diagram.value").type),
        tuple(DiagramCell(*row) for row in rows),
    )


def _distinct(column: pa.ChunkedArray) -> list[Any]:
    """Return the distinct values of a column; of lists, more than those maybe."""
    if column.null_count == len(column):
        return [None] * min(1, len(column))
    found: list[Any] = (column if pa.types.is_nested(column.type) else column.unique()).to_pylist()
    return found


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return for each row a number that tells its value from others, from 0; null is one, too."""
    if pa.types.is_nested(column.type):
        column = pa.chunked_array([pa.array(map(str, column.to_pylist()), pa.string())])
    coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    found: NDArray[np.int64] = coded.indices.to_numpy().astype(np.int64)
    return found


def config_paths(connection: sql.Connection) -> dict[str, str]:
    """Return the dotted names that `cells` has, each with its SQL."""
    schema = sql.query(connection, "select * from cells limit 0").schema
    config = schema.names[1 : schema.names.index(FIRST_COUNT)]
    return {
        ".".join(path): ".".join(sql.identifier(step) for step in path)
        for name in config
        for path in _leaves(schema.field(name))
    }


def _leaves(field: pa.Field) -> list[tuple[str, ...]]:
    if not pa.types.is_struct(field.type):
        return [(field.name,)]
    return [(field.name, *rest) for child in field.type for rest in _leaves(child)]


def _select(
    connection: sql.Connection, paths: Mapping[str, str], value: str, where: str | None
) -> pa.Table:
    low = high = level = "null::double"
    censored, shown = "false", sql_of(connection, value)
    _check_value(connection, value, shown)
    if value in STEPS:
        shown = f"coalesce({value}, {value}_bound)"
        censored = f"({value} is null and {value}_bound is not null)"
    if value == "delay":
        low, high, level = "delay_low::double", "delay_high::double", "delay_level"
    columns = [f"{text} as {sql.identifier(path)}" for path, text in paths.items()]
    columns += [
        f'{text} as "diagram.{name}"'
        for name, text in {
            "value": shown,
            "low": low,
            "high": high,
            "level": level,
            "censored": censored,
            "phase": "phase",
            "agreement": "agreement",
            "n_seeds": "n_seeds",
            "censored_share": "censored_share",
        }.items()
    ]
    clause = sql.where_clause(connection, where)
    text = f"select {', '.join(columns)} from cells{clause}"
    sql.check_read_only(text, connection)
    table = sql.query(connection, text)
    if table.num_rows == 0:
        remedy = f"no cell matches {where!r}. Loosen it." if where else "the sweep has no cells."
        raise UsageError(remedy)
    return table


def _check_value(connection: sql.Connection, value: str, expression: str) -> None:
    """Check that the SQL `expression` of what is shown has one value per cell.

    Raises:
        UsageError: It has several values per cell, or it isn't an expression.
    """
    text = f"select ({expression}\n) as x, n_seeds from cells limit 0"
    try:
        sql.check_read_only(text, connection)
        single = sql.query(connection, text).column_names == ["x", "n_seeds"]
    except sql.QueryError as error:
        if "GROUP BY" not in error.reason:
            raise
        single = False
    if not single or re.search(r"(?i)\bunnest\s*\(", value):
        raise UsageError(
            f"value {value!r}: not one value per cell. Write an expression over the columns of one "
            "cell, without aggregates and *, e.g. delay / t1."
        )


def _kind(value: str, column: pa.DataType) -> Kind:
    if value in STEPS:
        return "steps"
    if value == "phase":
        return "phase"
    numeric = pa.types.is_integer(column) or pa.types.is_floating(column)
    return "number" if numeric or pa.types.is_decimal(column) else "category"


def _every(n: int) -> str:
    return "the only cell" if n == 1 else f"all {n} cells"


def _check_one_a_place(table: pa.Table, taken: list[str], varying: Sequence[Axis]) -> None:
    """Check that no two cells share a place of the diagram.

    Raises:
        UsageError: Some do; names the axes that tell them apart.
    """
    place = np.zeros(table.num_rows, dtype=np.int64)
    for name in taken:
        codes = _codes(table[name])
        place = np.unique(place * (codes.max() + 1) + codes, return_inverse=True)[1]
    counts = np.bincount(place)
    if counts.max() == 1:
        return
    crowded = counts[place] > 1
    left = []
    for axis in (a for a in varying if a.name not in taken):
        codes = _codes(table[axis.name])
        pairs = np.unique(np.stack([place, codes], axis=1)[crowded], axis=0)
        if len(pairs) > len(np.unique(pairs[:, 0])):
            left.append(axis)
    left.sort(key=lambda axis: -len(axis.values))
    listed = "; ".join(f"{axis.name}: {_listed(axis)}" for axis in left)
    example = f"{left[0].name} = {_quoted(left[0])}" if left else ""
    raise UsageError(
        f"{counts[place[crowded]][0]} cells fall on one place, because more than "
        f"{', '.join(taken)} varies: {listed}. Add --facet {left[0].name if left else 'AXIS'}, "
        f'or choose one value, e.g. --where "{example}".'
    )


def _listed(axis: Axis) -> str:
    shown = ", ".join(axis.label(v) for v in axis.values[:SHOWN])
    return shown + (f", ... ({len(axis.values)} values)" if len(axis.values) > SHOWN else "")


def _quoted(axis: Axis) -> str:
    value = axis.values[0]
    return sql.literal(value) if isinstance(value, str) else axis.label(value)
