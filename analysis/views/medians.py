"""Medians over seeds whose times are known to lie between two logged steps, or to exceed one.

Sorted ends bracket sorted times: the r-th smallest of n times is at least the r-th smallest of
their lower ends and at most the r-th smallest of their upper ends. So order statistics of the ends
give an interval that covers the median of any distribution, under any censoring. How often it does
depends on n alone: with r = 1 the range of three seeds covers it in 75 % of cases. Below six seeds
there is no 95 % interval of a median [DN03].

All cells with the same number of seeds are computed at once: 10^6 cells take a second.

References:
    [DN03] David and Nagaraja, Order Statistics, 3rd edition, 2003, section 7.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper import sql

LEVEL = 0.95
"""Confidence level that the interval of a median has where there are enough seeds."""

Floats = NDArray[np.float64]

_SEED = "struct(low double, value double, high double)"

_FIELDS = {
    "median": "double",
    "low": "double",
    "high": "double",
    "level": "double",
    "bound": "double",
}
DELAY_LOW = (
    "case when d.phase = 'diverged' then null when d.t1 is null then 0 "
    "when d.censored then d.delay else greatest(0, coalesce(d.t2_lower, 0) - d.t1) end"
)
"""SQL of what the delay of a seed is at least, over a row d of `delays`; null: it never comes."""

_RESULT = f"struct({', '.join(f'{name} {kind}' for name, kind in _FIELDS.items())})"


@dataclass(frozen=True, slots=True)
class Medians:
    """The medians of some cells, each over the same number of seeds; ``[...]`` arrays.

    Attributes:
        median: The estimate: the geometric mean of the two middle times (the middle one, if the
            number of seeds is odd). NaN where the larger of them isn't known.
        low: Lower end of the interval; NaN with one seed, or where there is none.
        high: Upper end; NaN with one seed, or where the interval is unbounded.
        bound: A number that the estimate exceeds whatever the unknown times are, where `median` is
            NaN; NaN where there is none.
        level: Confidence level of the interval; below `LEVEL` with fewer than six seeds, 0 with
            one.
    """

    median: Floats
    low: Floats
    high: Floats
    bound: Floats
    level: float


@cache
def rank(n: int) -> tuple[int, float]:
    """Return which order statistics bound the median of `n` times, and how often.

    Returns:
        (r, level): the r-th smallest and the r-th largest time; the largest r whose level is at
        least `LEVEL`, else 1. The level is 1 - 2 P(Bin(n, 1/2) <= r - 1).
    """
    outside, r = 2 * 0.5**n, 1
    while (more := outside + 2 * math.comb(n, r) * 0.5**n) <= 1 - LEVEL:
        outside, r = more, r + 1
    return r, max(0.0, 1 - outside)


def interval_words(n: int, level: float) -> str:
    """Return the kind of the interval of a median of `n` seeds, e.g. ``range of 3 seeds, 75 %``."""
    share = f"{100 * level:.3g} %"
    return f"range of {n} seeds, {share}" if rank(n)[0] == 1 else f"{share} of {n} seeds"


def medians(low: Floats, value: Floats, high: Floats) -> Medians:
    """Return the medians over the last axis.

    Args:
        low: What each time exceeds, in any unit; at least 0, infinite where it is known never to
            come. ``[..., n]``
        value: The best single number for each time, within its ends; NaN where only `low` is
            known.
        high: What each time is at most; infinite where that isn't known.
    """
    n = low.shape[-1]
    least, most = np.where(np.isnan(value), low, value), np.where(np.isnan(value), np.inf, value)
    a, b = (n - 1) // 2, n // 2
    least, most, low, high = (np.sort(x, axis=-1) for x in (least, most, low, high))
    known = np.isfinite(most[..., b])
    bound = _mean(least[..., a], least[..., b])
    estimate = _mean(bound, _mean(most[..., a], most[..., b]))
    r, level = rank(n)
    lower, upper = low[..., r - 1], high[..., n - r]
    return Medians(
        np.where(known, estimate, np.nan),
        np.where(np.isfinite(lower) & (n > 1), lower, np.nan),
        np.where(np.isfinite(upper) & (n > 1), upper, np.nan),
        np.where(~known & np.isfinite(bound), bound, np.nan),
        level,
    )


def _mean(a: Floats, b: Floats) -> Floats:
    """Return the geometric mean; a number below 1 counts as 1 beside one that is larger."""
    mean = np.sqrt(np.maximum(a, 1)) * np.sqrt(np.maximum(b, 1))
    return np.asarray(np.where(a == b, a, mean))


def add_functions(connection: sql.Connection) -> None:
    """Let SQL on `connection` call ``middle(lower, step)`` and ``seeds_median(seeds)``.

    The middle of the interval between two logged steps is their geometric mean; without a lower
    step, and where that is 0, it is the upper one.

    The argument of `seeds_median` is a list of structs (low, value, high), see `medians`; null is
    NaN for a value and infinity for an upper end. Its result is a struct with the attributes of
    `Medians`.

    Args:
        connection: Not locked yet.
    """
    connection.execute(
        "create macro middle(lower, step) as if(lower > 0, sqrt(lower * step::double), step)"
    )
    sql.add_function(connection, "seeds_median", _of_lists, takes=f"{_SEED}[]", returns=_RESULT)


def _of_lists(cells: pa.Array | pa.ChunkedArray) -> pa.StructArray:
    """Return the `Medians` of each list of seeds; all null for an empty list."""
    lists = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    flat = lists.flatten()
    ends: list[Floats] = [
        flat.field(name).fill_null(missing).to_numpy(zero_copy_only=False)
        for name, missing in (("low", math.inf), ("value", math.nan), ("high", math.inf))
    ]
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    starts = np.cumsum(sizes) - sizes
    out: dict[str, Floats] = {name: np.full(len(lists), np.nan) for name in _FIELDS}
    for size in np.unique(sizes[sizes > 0]):
        rows = np.flatnonzero(sizes == size)
        found: Any = medians(*(end[starts[rows][:, None] + np.arange(size)] for end in ends))
        for name in _FIELDS:
            out[name][rows] = getattr(found, name)
    return pa.StructArray.from_arrays(
        [pa.array(column, from_pandas=True) for column in out.values()], names=list(out)
    )
