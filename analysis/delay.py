"""Medians over seeds with honest censoring, after Kaplan and Meier.

A seed that ended before it generalized isn't a seed without delay: its delay is known to exceed
what was seen, and it is counted as such. The survival function S(t) is the share of seeds whose
time exceeds t; its median is the smallest t with S(t) <= 1/2.

SciPy computes S and its confidence interval. Both depend only on the order of events and
censorings, never on the times themselves, so that a handful of patterns serves 10^6 cells.

References:
    [KM58] Kaplan and Meier, Nonparametric Estimation from Incomplete Observations, 1958.
    [BC82] Brookmeyer and Crowley, A Confidence Interval for the Median Survival Time, 1982.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
"""Confidence level of the interval of a median."""

FIELDS = ("median", "low", "high", "bound")

SURVIVAL = "struct(median bigint, low bigint, high bigint, bound bigint)"
"""SQL type of what `survival` returns."""

_NONE = -1


@dataclass(frozen=True, slots=True)
class Median:
    """The Kaplan-Meier median of some times, in the unit of the times.

    Attributes:
        median: Smallest time t with S(t) <= 1/2; None when S stays above 1/2.
        low: Lower end of its 95 % interval: where the lower band of S is first at or below 1/2.
            The bands are log-log transformed [BC82]; None: unbounded.
        high: Upper end, likewise with the upper band.
        bound: Largest of the times that the median is known to exceed, whatever became of the
            censored ones; None unless `median` is.
    """

    median: int | None
    low: int | None
    high: int | None
    bound: int | None


def median(times: Sequence[int], censored: Sequence[bool]) -> Median:
    """Return the Kaplan-Meier median of `times` [KM58].

    Args:
        times: Nonnegative; an event's time, or the time that a censored one exceeds.
        censored: For each time whether it is only known to be exceeded.
    """
    codes = [2 * t + bool(c) for t, c in zip(times, censored, strict=True)]
    if not codes:
        return Median(None, None, None, None)
    found = survival(pa.array([codes], pa.list_(pa.int64())))[0].as_py()
    return Median(**found)


def survival(codes: pa.Array | pa.ChunkedArray) -> pa.StructArray:
    """Return `Median` of every list of `codes`, as the struct `SURVIVAL`.

    Args:
        codes: For each cell a list with ``2 * time + censored`` for each seed; null where no
            seed has a time. So coded, events sort before censorings at the same time: those
            count as at risk.
    """
    lists = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    starts = np.cumsum(sizes) - sizes
    out = np.full((len(lists), len(FIELDS)), _NONE, dtype=np.int64)
    for size in np.unique(sizes[sizes > 0]):
        rows = np.flatnonzero(sizes == size)
        ordered = np.sort(flat[starts[rows][:, None] + np.arange(size)], axis=1)
        positions = _positions(ordered)
        times = np.take_along_axis(ordered // 2, np.maximum(positions, 0), axis=1)
        out[rows] = np.where(positions == _NONE, _NONE, times)
    columns = [pa.array(c, mask=c == _NONE) for c in np.ascontiguousarray(out.T)]
    return pa.StructArray.from_arrays(columns, names=list(FIELDS))


def _positions(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row of sorted codes the places of the `FIELDS` in it; -1 for none."""
    fresh = np.ones(ordered.shape, dtype=np.uint8)
    fresh[:, 1:] = np.diff(ordered // 2, axis=1) > 0
    patterns = 2 * fresh + (ordered % 2).astype(np.uint8)
    distinct, which = np.unique(patterns, axis=0, return_inverse=True)
    found = np.array([_places(row.tobytes()) for row in distinct], dtype=np.int64)
    return found[which.reshape(-1)]


@lru_cache(maxsize=1 << 16)
def _places(pattern: bytes) -> tuple[int, int, int, int]:
    """Return the places of the `FIELDS` among times that are sorted, events first.

    Args:
        pattern: For each time 2 if it differs from the one before, plus 1 if it is censored.
    """
    marks = np.frombuffer(pattern, dtype=np.uint8)
    ranks = np.cumsum(marks // 2).astype(np.float64)
    censored = marks % 2 == 1
    if censored.all():
        return _NONE, _NONE, _NONE, _bound(ranks, censored)
    data = stats.CensoredData(uncensored=ranks[~censored], right=ranks[censored])
    sf = stats.ecdf(data).sf
    with warnings.catch_warnings():  # the band is undefined, hence unbounded, where S is 0
        warnings.simplefilter("ignore", RuntimeWarning)
        band = sf.confidence_interval(LEVEL, method="log-log")
    middle, low, high = (
        _first(f.quantiles, f.probabilities, ranks) for f in (sf, band.low, band.high)
    )
    return middle, low, high, _bound(ranks, censored) if middle == _NONE else _NONE


def _first(
    times: NDArray[np.float64], shares: NDArray[np.float64], ranks: NDArray[np.float64]
) -> int:
    half = np.flatnonzero(shares <= 0.5 + 1e-12)  # S is a product of ratios: allow for rounding
    return int(np.searchsorted(ranks, times[half[0]])) if half.size else _NONE


def _bound(ranks: NDArray[np.float64], censored: NDArray[np.bool_]) -> int:
    """Return the place of the largest time that the median certainly exceeds.

    The median is the k-th smallest time, k = ceil(n / 2), and no censored one can become
    smaller: it exceeds the k-th time if that is censored, else the largest one below.
    """
    middle = (len(ranks) - 1) // 2
    if not censored[middle]:
        middle = int(np.searchsorted(ranks, ranks[middle])) - 1
    return middle
