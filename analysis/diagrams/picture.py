"""What a law's figure shows, as data: panels of points, lines and bars.

`sweeper.analysis.plot` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[Any]

Kind = Literal["points", "bounds", "line", "dashed", "step", "bars", "band"]
"""How a series is drawn: discs, open triangles that point up (values known to be exceeded), a
line, a dashed line, a staircase, bars, or an area between `low` and `high`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Some values of one kind.

    Attributes:
        x: Where they stand; for bars in a panel with `names` their places 0, 1, ...
        y: The values; of a band, its middle, which isn't drawn.
        kind: How they are drawn.
        label: Their name in the legend; None: not in the legend.
        low: Lower ends of their intervals.
        high: Upper ends.
        colour: Number of the colour, equal for things that belong together; None for ink,
            the colour of claims.
    """

    x: Values
    y: Values
    kind: Kind = "points"
    label: str | None = None
    low: Values | None = None
    high: Values | None = None
    colour: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        series: What it shows; later ones lie on top.
        log_x: Whether x is logarithmic.
        log_y: Whether y is logarithmic.
        names: Names of the places 0, 1, ... on x, for bars and other things without a number.
        title: Said above; empty for nothing.
        level: Heights at which a thin line crosses the whole panel, e.g. a claimed value.
    """

    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    names: Sequence[str] = ()
    title: str = ""
    level: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of one law: panels from left to right, with one legend for all."""

    panels: Sequence[Panel]


def series_by(
    rows: Mapping[str, NDArray[Any]],
    by: str,
    x: str,
    y: str,
    *,
    kind: Kind = "points",
    label: str | None = None,
    first: int = 0,
) -> list[Series]:
    """Return one series for each value of the column `by`, in the order of the values.

    Args:
        rows: Columns, each ``[n]``.
        by: The column that tells them apart; its values choose the colours.
        x: Column.
        y: Column; places where it is NaN are left out.
        kind: How they are drawn.
        label: What the value stands for, e.g. ``seed``; None leaves them out of the legend, an
            empty string names the value alone.
        first: Number of the first colour.
    """
    found = []
    for colour, value in enumerate(np.unique(rows[by]), start=first):
        mine = (rows[by] == value) & ~np.isnan(rows[y])
        shown = f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
        said = None if label is None else f"{label} {shown}".strip()
        found.append(Series(x=rows[x][mine], y=rows[y][mine], kind=kind, label=said, colour=colour))
    return found
