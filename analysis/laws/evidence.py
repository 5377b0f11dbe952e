"""The rows by which a law is decided: the views of its sweeps, opened together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper import sql
from sweeper.analysis.fit.fit import Estimate, Fit, fit_law
from sweeper.analysis.fit.law import Law
from sweeper.analysis.views.medians import rank
from sweeper.errors import SweeperError

Floats = NDArray[np.float64]


class UnmeasuredError(SweeperError):
    """The rows lack the events by which a law is measured: the claim isn't reproduced."""


class Evidence:
    """Views of the sweeps of one law, by the names of their grids."""

    def __init__(self, views: Mapping[str, sql.Connection]) -> None:
        """Take open views; a method without a given sweep reads the first."""
        self._views = dict(views)

    def rows(self, query: str, sweep: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of a query over trials, metrics, delays and cells.

        Raises:
            UnmeasuredError: There is none.
        """
        rows: list[dict[str, Any]] = sql.query(self._of(sweep), query).to_pylist()
        if not rows:
            raise UnmeasuredError("no trial of the grid has what the law is measured by")
        return rows

    def columns(
        self, query: str, sweep: str | None = None, *, nulls: Sequence[str] = ()
    ) -> dict[str, NDArray[Any]]:
        """Return the columns of a query as arrays; null is NaN in columns of `nulls`.

        Raises:
            UnmeasuredError: There is no row, or another column has a null: a step wasn't
                reached, a metric isn't there.
        """
        rows = self.rows(query, sweep)
        for name in rows[0].keys() - set(nulls):
            missing = sum(row[name] is None for row in rows)
            if missing:
                raise UnmeasuredError(f"{name} is missing in {missing} of {len(rows)} rows")
        return {
            name: np.array([np.nan if row[name] is None else row[name] for row in rows])
            for name in rows[0]
        }

    def fit(
        self, law: str, sweep: str | None = None, *, where: str | None = None, by: str | None = None
    ) -> Fit:
        """Return a power law fitted to the sweep, as `sweeper fit` does it."""
        return fit_law(self._of(sweep), Law.parse(law), where=where, by=by)

    def views(self) -> Iterable[tuple[str, sql.Connection]]:
        """Return the sweeps with their views."""
        return self._views.items()

    def _of(self, sweep: str | None) -> sql.Connection:
        return self._views[next(iter(self._views)) if sweep is None else sweep]


def median_of(values: Iterable[float], claimed: float | None = None) -> Estimate:
    """Return the median of `values`, one per seed, with its interval.

    The interval is made of order statistics, see `sweeper.analysis.views.medians.rank`: with fewer
    than six seeds it is their range, whose level is below 95 %. One seed has no interval.
    """
    data = np.asarray(list(values), dtype=np.float64)
    if not data.size or np.isnan(data).any():
        raise UnmeasuredError(f"{int(np.isnan(data).sum())} of {data.size} values are missing")
    r, _ = rank(data.size)
    low, high = (None, None) if data.size == 1 else np.sort(data)[[r - 1, data.size - r]].tolist()
    return Estimate(claimed, float(np.median(data)), low, high)


def said(estimate: Estimate, digits: int = 3) -> str:
    """Return a number with its interval, e.g. ``-0.998 (-1.000 to -0.996)``."""
    if estimate.value is None:
        return "-"
    text = f"{estimate.value:.{digits}g}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({estimate.low:.{digits}g} to {estimate.high:.{digits}g})"


def span(values: Iterable[float], digits: int = 3) -> str:
    """Return the range of `values`, e.g. ``0.61 to 1.73``, or one number where they agree."""
    data = [float(v) for v in values]
    low, high = f"{min(data):.{digits}g}", f"{max(data):.{digits}g}"
    return low if low == high else f"{low} to {high}"


def near(values: Iterable[float], claimed: float, off: float) -> bool:
    """Return whether every one of `values` is within `off` of `claimed`."""
    return all(abs(v - claimed) <= off for v in values)


def slope(x: Floats, y: Floats) -> float:
    """Return the least-squares slope of ln y over ln x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def middle(values: Iterable[float]) -> tuple[float, float, float]:
    """Return median, least and largest of `values`, as `Estimate` takes them."""
    data = np.asarray(list(values), dtype=np.float64)
    return float(np.median(data)), float(data.min()), float(data.max())
