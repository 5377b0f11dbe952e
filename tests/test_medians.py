"""Medians of times that are known to lie between two steps, or to exceed one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweeper import sql
from sweeper.analysis.views.medians import LEVEL, Medians, add_functions, medians, rank

INF, NAN = math.inf, math.nan

known = st.tuples(st.integers(1, 10**6), st.integers(0, 10**5)).map(
    lambda x: (float(x[0]), math.sqrt(x[0] * (x[0] + x[1])), float(x[0] + x[1]))
)
unknown = st.integers(0, 10**6).map(lambda x: (float(x), NAN, INF))
never = st.just((INF, NAN, INF))
seeds = st.lists(known | unknown | never, min_size=1, max_size=12)


def of(*ends: tuple[float, float, float]) -> Medians:
    return medians(*np.array(ends, dtype=float).T)


def at(*times: float) -> Medians:
    return of(*((t, t, t) for t in times))


@pytest.mark.parametrize(
    ("times", "median"),
    [
        ((7,), 7),
        ((3, 100, 5), 5),
        ((10, 1000), 100),
        ((1, 10, 1000, 10**6), 100),
        ((0, 0), 0),
        ((0, 100), 10),  # 0 counts as one step beside a larger time
        ((0.2, 0.5, 0.7), 0.5),
    ],
)
def test_the_estimate_is_the_geometric_mean_of_the_middle_times(
    times: tuple[float, ...], median: float
) -> None:
    for order in itertools.permutations(times):
        found = at(*order)
        assert found.median == pytest.approx(median)
        assert math.isnan(found.bound)


@pytest.mark.parametrize(
    ("ends", "median", "bound"),
    [
        ([(5, 6, 7), (100, NAN, INF)], NAN, math.sqrt(600)),
        ([(5, 6, 7), (5, 6, 7), (100, NAN, INF)], 6, NAN),
        ([(5, 6, 7), (100, NAN, INF), (100, NAN, INF)], NAN, 100),
        ([(0, NAN, INF), (0, NAN, INF), (5, 6, 7)], NAN, 0),
        # a time that is known to exceed 2 only may be the smallest or the largest
        ([(2, NAN, INF), (9, 10, 11), (999, 1000, 1001)], math.sqrt(10 * 1000), NAN),
        ([(INF, NAN, INF), (INF, NAN, INF), (5, 6, 7)], NAN, NAN),
        ([(INF, NAN, INF), (5, 6, 7), (5, 6, 7)], 6, NAN),
    ],
)
def test_times_that_arent_known_stand_as_what_they_are(
    ends: list[tuple[float, float, float]], median: float, bound: float
) -> None:
    found = of(*ends)
    assert found.median == pytest.approx(median, nan_ok=True)
    assert found.bound == pytest.approx(bound, nan_ok=True)


@given(seeds, st.lists(st.floats(0, 10**6), min_size=12, max_size=12))
def test_the_estimate_exceeds_its_bound_whatever_became_of_the_unknown(
    ends: list[tuple[float, float, float]], more: list[float]
) -> None:
    found = of(*ends)
    assert math.isnan(found.median) or math.isnan(found.bound)
    times = [
        low + extra if math.isnan(value) else value
        for (low, value, _), extra in zip(ends, more, strict=False)
    ]
    truth = at(*times).median
    if not math.isnan(found.bound):
        assert truth >= found.bound * (1 - 1e-12)
    elif not math.isnan(found.median) and not any(math.isnan(v) for _, v, _ in ends):
        assert truth == found.median


@given(seeds, st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_the_interval_holds_the_sample_median_wherever_the_times_lie(
    ends: list[tuple[float, float, float]], shares: list[float]
) -> None:
    """The r-th smallest and the r-th largest time lie within it, so the middle one does."""
    found = of(*ends)
    far = [(low, min(high, max(low, 1) * 10)) for low, _, high in ends]
    times = sorted(
        INF if low == INF else low + s * (high - low)
        for (low, high), s in zip(far, shares, strict=False)
    )
    r, level = rank(len(ends))
    assert found.level == level
    if len(ends) == 1:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        return
    tiny = 1e-9 * 10**7
    assert math.isnan(found.low) or found.low <= times[r - 1] + tiny
    assert math.isnan(found.high) or found.high >= times[-r] - tiny


@pytest.mark.parametrize("n", range(1, 41))
def test_the_level_of_an_interval_is_that_of_the_sign_test(n: int) -> None:
    r, level = rank(n)
    assert level == pytest.approx(1 - 2 * stats.binom.cdf(r - 1, n, 0.5), abs=1e-12)
    assert (level >= LEVEL) == (n >= 6)
    assert n < 6 or 1 - 2 * stats.binom.cdf(r, n, 0.5) < LEVEL
    assert n >= 6 or r == 1


@pytest.mark.parametrize(
    ("n", "r", "percent"),
    [(2, 1, 50), (3, 1, 75), (5, 1, 93.75), (6, 1, 96.875), (9, 2, 96.1), (20, 6, 95.9)],
)
def test_the_level_with_few_seeds_is_below_95_percent(n: int, r: int, percent: float) -> None:
    found, level = rank(n)
    assert (found, round(level, 3)) == (r, round(percent / 100, 3))


@pytest.mark.parametrize("n", [3, 5, 8, 10])
@pytest.mark.parametrize("scatter", [0.05, 0.5])
@pytest.mark.parametrize("ratio", [10**0.1, 10**0.02])
def test_the_interval_covers_at_its_level(n: int, scatter: float, ratio: float) -> None:
    """Log-normal times on a log grid of random phase; some are censored."""
    rng = np.random.default_rng([n, int(100 * scatter), int(1000 * ratio)])
    sets = 4000
    log = np.log(1000) + scatter * rng.standard_normal((sets, n))
    phase = rng.random((sets, 1)) * np.log(ratio)
    low = np.exp(np.floor((log - phase) / np.log(ratio)) * np.log(ratio) + phase)
    high = low * ratio
    horizon = np.exp(np.log(1000) + scatter * 0.8)
    censored = low > horizon
    value = np.where(censored, NAN, np.sqrt(low * high))
    found = medians(low, value, np.where(censored, INF, high))
    above = ~(found.low > 1000)
    covered = above & ~(found.high < 1000)
    level = rank(n)[1]
    assert covered.mean() >= level - 3 * math.sqrt(level * (1 - level) / sets)
    assert abs(np.log(np.nanmedian(found.median) / 1000)) < 0.03 + 0.1 * scatter


@given(st.lists(st.lists(known | unknown | never, max_size=5), max_size=12))
def test_sql_finds_the_same_for_all_cells_at_once(
    cells: list[list[tuple[float, float, float]]],
) -> None:
    with sql.connect() as connection:
        add_functions(connection)
        connection.execute(
            "create table seeds (cell bigint, low double, value double, high double)"
        )
        rows = [
            (c, *(None if not math.isfinite(x) else x for x in end))
            for c, cell in enumerate(cells)
            for end in cell
        ]
        if rows:
            connection.executemany("insert into seeds values (?, ?, ?, ?)", rows)
        found = connection.execute(
            "select cell, unnest(seeds_median(list({'low': low, 'value': value, 'high': high}))) "
            "from seeds group by cell order by cell"
        ).fetchall()
    filled = [(c, cell) for c, cell in enumerate(cells) if cell]
    assert len(found) == len(filled)
    for (place, cell), (number, *row) in zip(filled, found, strict=True):
        assert place == number
        expected = of(*cell)
        names = ("median", "low", "high", "level", "bound")
        for name, value in zip(names, row, strict=True):
            one = float(getattr(expected, name))
            assert value is None if math.isnan(one) else value == pytest.approx(one, rel=1e-15)
