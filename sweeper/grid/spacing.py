"""The ways to write the values of an axis: a list, logspace, linspace, range."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

MAX_AXIS = 1_000_000
"""The most values of an axis."""


class Strict(BaseModel):
    """A frozen mapping of the grid file without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Ends = Annotated[list[float], Field(min_length=3, max_length=3)]


class LogSpace(Strict):
    """Values spaced evenly in logarithm, both end points included: [first, last, count]."""

    logspace: Ends

    def count(self) -> int:
        """Return the number of values, at least 1.

        Raises:
            ValueError: The axis has no values, or too many.
        """
        first, last, count = _ends(self.logspace)
        if first <= 0 or last <= 0:
            raise ValueError("logspace needs end points above 0. Use linspace")
        return count

    def values(self) -> list[float]:
        """Return the values. The end points are exactly those of the file."""
        first, last, _ = self.logspace
        return _pinned(np.geomspace(first, last, self.count()), first, last)

    def extremes(self) -> list[float]:
        """Return the end points."""
        return self.logspace[:2]


class LinSpace(Strict):
    """Evenly spaced values, both end points included: [first, last, count]."""

    linspace: Ends

    def count(self) -> int:
        """Return the number of values, at least 1.

        Raises:
            ValueError: The axis has no values, or too many.
        """
        return _ends(self.linspace)[2]

    def values(self) -> list[float]:
        """Return the values. The end points are exactly those of the file."""
        first, last, _ = self.linspace
        return _pinned(np.linspace(first, last, self.count()), first, last)

    def extremes(self) -> list[float]:
        """Return the end points."""
        return self.linspace[:2]


class Range(Strict):
    """Half-open range as Python's: [start, stop] or [start, stop, step]."""

    range: Annotated[list[float], Field(min_length=2, max_length=3)]

    def count(self) -> int:
        """Return the number of values, at least 1.

        Raises:
            ValueError: The axis has no values, or too many.
        """
        start, stop, step = (*self.range, 1)[:3]
        if step == 0:
            raise ValueError("range needs a step other than 0")
        length = (stop - start) / step
        if length > MAX_AXIS:
            raise ValueError(f"{length:,.0f} values; an axis has at most {MAX_AXIS:,}. Take fewer")
        count = max(0, ceil(float(f"{length:.12g}")))  # 1.1 / 0.1 is meant to be 11
        if count == 0:
            raise ValueError("the range is empty. Give it at least one value")
        return count

    def values(self) -> list[float]:
        """Return the values, as whole numbers if all of them are whole."""
        start, _, step = (*self.range, 1)[:3]
        return _whole([float(f"{start + i * step:.12g}") for i in range(self.count())])

    def extremes(self) -> list[float]:
        """Return the first value."""
        return self.range[:1]


def _ends(given: list[float]) -> tuple[float, float, int]:
    first, last, count = given
    if count != int(count) or count < 1:
        raise ValueError(f"the count is {count}; it must be a whole number from 1")
    if count > MAX_AXIS:
        raise ValueError(f"{int(count):,} values; an axis has at most {MAX_AXIS:,}. Take fewer")
    if count == 1 and first != last:
        raise ValueError("one value can't include two end points. Write a list of one value")
    return first, last, int(count)


def _pinned(values: NDArray[np.float64], first: float, last: float) -> list[float]:
    # 12 digits: 0.30000000000000004 means 0.3, and ids must not depend on rounding errors
    rounded = [float(f"{v:.12g}") for v in values]
    rounded[0], rounded[-1] = first, last
    return _whole(rounded)


def _whole(values: list[float]) -> list[float]:
    """Return `values` as ints if all of them are whole; a field of floats takes ints as well."""
    return [int(v) for v in values] if all(float(v).is_integer() for v in values) else values


AXIS_KINDS = ("logspace", "linspace", "range")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return next((k for k in AXIS_KINDS if k in value), "logspace")
    if isinstance(value, LogSpace | LinSpace | Range):
        return type(value).__name__.lower()
    return "list"


AxisValues = Annotated[
    Annotated[list[Any], Tag("list"), Field(min_length=1)]
    | Annotated[LogSpace, Tag("logspace")]
    | Annotated[LinSpace, Tag("linspace")]
    | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]
