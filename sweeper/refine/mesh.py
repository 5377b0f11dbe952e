"""The mesh between the lines of a grid: the points where a phase diagram needs more cells.

Squares whose cells disagree are halved, level by level, along the whole boundary between phases.
On the last level, only the edges that the boundary crosses are halved. The next points depend on
the known cells alone; no other state is kept.

Positions are whole numbers: line i of the grid is at ``i * FINE``. Halfway between two neighbours
means halfway in their values, or on a log axis in the logarithms of their values.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log

import numpy as np
from numpy.typing import NDArray

FINE = 1024
"""Positions from one line of the grid to the next: at most ten halvings."""

Point = tuple[int, int]
"""Positions on the two axes, (x, y)."""

Edge = tuple[Point, Point]


@dataclass(frozen=True)
class Scale:
    """The lines of the grid along one axis, and the positions in between.

    Attributes:
        name: The dotted name of the axis.
        base: The grid's own values, at least two, ascending; their spacing may vary.
        log: Whether values between two lines are spaced evenly in their logarithm.
        whole: Whether values must be whole numbers; then neighbours aren't halved any more.
    """

    name: str
    base: tuple[float | int, ...]
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        """Check the properties that every method relies on."""
        if len(self.base) < 2 or any(a >= b for a, b in pairwise(self.base)):
            raise ValueError(f"{self.name}: {self.base} must be two or more values, ascending.")
        if self.log and self.base[0] <= 0:
            raise ValueError(f"{self.name}: {self.base[0]} must be above 0 on a log axis.")
        if self.whole and any(v != int(v) for v in self.base):
            raise ValueError(f"{self.name}: {self.base} must be whole numbers.")

    @property
    def end(self) -> int:
        """The position of the last line."""
        return (len(self.base) - 1) * FINE

    def value(self, position: int) -> float | int:
        """Return the value at `position`, to 12 digits; on the grid's lines exactly its own.

        Raises:
            ValueError: The position is outside of the grid.
        """
        if not 0 <= position <= self.end:
            raise ValueError(f"{self.name}: position {position} is outside of 0 to {self.end}.")
        line, rest = divmod(position, FINE)
        if rest == 0:
            return self.base[line]
        low, high, share = self.base[line], self.base[line + 1], rest / FINE
        if self.log:
            between = exp((1 - share) * log(low) + share * log(high))
        else:
            between = (1 - share) * low + share * high
        between = min(max(float(f"{between:.12g}"), low), high)
        return round(between) if self.whole else between

    def position(self, value: float) -> int | None:
        """Return the position of `value`; None if the mesh has no such value."""
        if not self.base[0] <= value <= self.base[-1]:
            return None
        line = min(bisect_right(self.base, value), len(self.base) - 1) - 1
        low, high = self.base[line], self.base[line + 1]
        share = log(value / low) / log(high / low) if self.log else (value - low) / (high - low)
        near = line * FINE + round(share * FINE)
        around = (near, near - 1, near + 1)
        return next((p for p in around if 0 <= p <= self.end and self.value(p) == value), None)

    def middle(self, low: int, high: int) -> int | None:
        """Return the position halfway between two; None if no other value lies between them."""
        # the position of the value there, so that each value has one position
        middle = self.position(self.value((low + high) // 2))
        return middle if middle is not None and low < middle < high else None

    def lines(self, level: int) -> list[int]:
        """Return the positions of all lines after `level` halvings, ascending."""
        lines = [line * FINE for line in range(len(self.base))]
        for _ in range(level):
            halves = (self.middle(*gap) for gap in pairwise(lines))
            lines = sorted({*lines, *(m for m in halves if m is not None)})
        return lines


@dataclass(frozen=True, slots=True)
class Mark:
    """The known result at a point.

    Attributes:
        label: The phase of most seeds, or whether the delay is censored.
        value: Logarithm (base 10) of the delay; None if it is censored or not refined by.
        split: Whether the seeds disagree.
    """

    label: str
    value: float | None = None
    split: bool = False

    def unlike(self, other: Mark, steep: float | None = None) -> bool:
        """Return whether the labels differ, or the values by more than `steep`."""
        if self.label != other.label:
            return True
        if steep is None or self.value is None or other.value is None:
            return False
        return abs(self.value - other.value) > steep


def propose(
    marks: Mapping[Point, Mark], x: Scale, y: Scale, *, finest: int, steep: float | None = None
) -> list[list[Point]]:
    """Return the points to evaluate next, level by level, the coarsest first.

    The first points of a level are spread over the whole boundary, so a caller with a small budget
    may take any number of them. Points without a mark are proposed again.

    Args:
        marks: The known results by position; results off the lines of the mesh are ignored.
        x: The horizontal axis.
        y: The vertical axis.
        finest: Positions between two lines of the last level: FINE, divided by 2 per halving.
        steep: Largest difference of values that agree; None if only labels count.

    Returns:
        The points of each level that has some; empty once all neighbours agree or are `finest`
        apart.

    Raises:
        ValueError: `finest` isn't from 1 to FINE.
    """
    if not 1 <= finest <= FINE:
        raise ValueError(f"finest = {finest} must be from 1 to {FINE}.")
    torn = _torn(marks, steep)
    last = (FINE // finest).bit_length() - 2
    levels = []
    for level in range(last + 1):
        mesh = _Mesh(x, y, x.lines(level), y.lines(level))
        wanted = set(mesh.halves(torn))
        if level < last:
            wanted |= {point for square in mesh.squares(torn, marks.keys()) for point in square}
        if fresh := sorted(wanted - marks.keys()):
            levels.append(_spread(fresh, [p for p in sorted(marks) if not mesh.crossing(p)]))
    return levels


def ends(marks: Mapping[Point, Mark], steep: float | None = None) -> list[Point]:
    """Return the points at the boundary: those that disagree with a neighbour, in order."""
    near = [edge for edge in _torn(marks, steep) if _length(edge) <= FINE]
    return sorted({point for edge in near for point in edge})


@dataclass(frozen=True, slots=True)
class _Mesh:
    """The lines of one level."""

    x: Scale
    y: Scale
    columns: Sequence[int]
    rows: Sequence[int]

    def crossing(self, point: Point) -> bool:
        """Return whether two lines cross at `point`."""
        return _on(self.columns, point[0]) and _on(self.rows, point[1])

    def halves(self, edges: Sequence[Edge]) -> Iterator[Point]:
        """Yield the middles of those edges that go from one crossing to the next."""
        for low, high in edges:
            if not (self.crossing(low) and self.crossing(high)):
                continue
            if low[1] == high[1] and len(_gaps(self.columns, low[0], high[0])) == 1:
                middle = self.x.middle(low[0], high[0])
                yield from [] if middle is None else [(middle, low[1])]
            if low[0] == high[0] and len(_gaps(self.rows, low[1], high[1])) == 1:
                middle = self.y.middle(low[1], high[1])
                yield from [] if middle is None else [(low[0], middle)]

    def squares(self, edges: Sequence[Edge], known: Set[Point]) -> Iterator[list[Point]]:
        """Yield the corners, middles and centre of each square that holds one of `edges`.

        A square with an unknown corner is skipped: the grid has a hole there.
        """
        places = {
            (i, j)
            for low, high in edges
            for i in _gaps(self.columns, low[0], high[0])
            for j in _gaps(self.rows, low[1], high[1])
        }
        for i, j in places:
            sides = self.columns[i : i + 2], self.rows[j : j + 2]
            if all((x, y) in known for x in sides[0] for y in sides[1]):
                middles = self.x.middle(*sides[0]), self.y.middle(*sides[1])
                xs, ys = ([*s, m] for s, m in zip(sides, middles, strict=True))
                yield [(x, y) for x in xs for y in ys if x is not None and y is not None]


def _on(lines: Sequence[int], position: int) -> bool:
    place = bisect_left(lines, position)
    return place < len(lines) and lines[place] == position


def _gaps(lines: Sequence[int], low: int, high: int) -> range:
    """Return the gaps between `lines` that hold both positions, ends included."""
    first = max(bisect_left(lines, high) - 1, 0)
    last = min(bisect_right(lines, low) - 1, len(lines) - 2)
    return range(first, last + 1)


def _torn(marks: Mapping[Point, Mark], steep: float | None) -> list[Edge]:
    """Return the edges between neighbours on a line that disagree, at any distance."""
    ups = pairwise(sorted(marks))
    acrosses = pairwise(sorted(marks, key=lambda point: (point[1], point[0])))
    edges = [(a, b) for a, b in ups if a[0] == b[0]] + [(a, b) for a, b in acrosses if a[1] == b[1]]
    return [(a, b) for a, b in edges if marks[a].unlike(marks[b], steep)]


def _length(edge: Edge) -> int:
    (x_low, y_low), (x_high, y_high) = edge
    return x_high - x_low + y_high - y_low


def _spread(points: Sequence[Point], taken: Sequence[Point]) -> list[Point]:
    """Return `points` reordered: each is the furthest from `taken` and from those before it."""
    places = np.array(points, dtype=np.float64)
    apart = np.full(len(points), np.inf)
    for point in taken:
        np.minimum(apart, _squared(places, point), out=apart)
    order = []
    for _ in points:
        furthest = int(np.argmax(apart))
        order.append(points[furthest])
        np.minimum(apart, _squared(places, points[furthest]), out=apart)
        apart[furthest] = -1  # taken
    return order


def _squared(places: NDArray[np.float64], point: Point) -> NDArray[np.float64]:
    """Return the squared distances of `places`, one per row, from `point`."""
    return np.square(places[:, 0] - point[0]) + np.square(places[:, 1] - point[1])
