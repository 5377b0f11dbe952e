from __future__ import annotations

import math
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times
from scipy import stats

from sweeper import sql
from sweeper.analysis.views.kaplan_meier import (
    LEVEL,
    Median,
    add_functions,
    decode,
    encode,
    median,
    survival,
)

seeds = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=12)


@given(seeds)
def test_the_median_is_that_of_lifelines(pairs: list[tuple[int, bool]]) -> None:
    times, censored = [t for t, _ in pairs], [c for _, c in pairs]
    found = median(times, censored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = KaplanMeierFitter().fit(times, [not c for c in censored])
        band = median_survival_times(fit.confidence_interval_)
    share = fit.survival_function_.iloc[:, 0]
    if (abs(share - 0.5) < 1e-9).any():
        return  # lifelines' products of ratios miss one half by rounding
    assert found.median == _finite(fit.median_survival_time_)
    undefined = share.index[share < 1e-12]  # its band has width 0 there, ours is undefined
    for ours, theirs in zip((found.low, found.high), band.to_numpy()[0], strict=True):
        if len(undefined) and theirs >= undefined[0]:
            assert ours is None
        else:
            assert ours == _finite(theirs)


@given(st.lists(seeds, min_size=1, max_size=8))
def test_medians_and_intervals_of_many_cells_are_those_of_scipy(
    cells: list[list[tuple[int, bool]]],
) -> None:
    codes = pa.array([[2 * t + x for t, x in cell] for cell in cells], pa.list_(pa.int64()))
    for cell, found in zip(cells, survival(codes).to_pylist(), strict=True):
        times = np.array([t for t, _ in cell], dtype=np.float64)
        censored = np.array([x for _, x in cell])
        if censored.all():
            assert (found["median"], found["low"], found["high"]) == (None, None, None)
            continue
        data = stats.CensoredData(uncensored=times[~censored], right=times[censored])
        sf = stats.ecdf(data).sf
        with warnings.catch_warnings():  # the band is undefined where S is 0
            warnings.simplefilter("ignore", RuntimeWarning)
            band = sf.confidence_interval(LEVEL, method="log-log")
        for name, share in (("median", sf), ("low", band.low), ("high", band.high)):
            below = share.quantiles[share.probabilities <= 0.5 + 1e-12]
            assert found[name] == (int(below[0]) if below.size else None)


def _finite(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


@given(seeds, st.lists(st.integers(0, 30), min_size=12, max_size=12))
def test_the_median_exceeds_its_bound_whatever_became_of_the_censored(
    pairs: list[tuple[int, bool]], more: list[int]
) -> None:
    found = median([t for t, _ in pairs], [c for _, c in pairs])
    assert (found.bound is None) == (found.median is not None)
    truth = [t + (1 + m if c else 0) for (t, c), m in zip(pairs, more, strict=False)]
    if found.bound is not None:
        assert sorted(truth)[(len(truth) - 1) // 2] > found.bound


@pytest.mark.parametrize(
    ("times", "censored", "expected"),
    [
        ([], [], Median(None, None, None, None)),
        ([7], [False], Median(7, None, None, None)),
        ([7], [True], Median(None, None, None, 7)),
        ([10, 10, 10, 10, 1000], [True] * 5, Median(None, None, None, 10)),
        ([5, 5, 9], [True, False, True], Median(None, None, None, 5)),
        ([1, 2, 3, 4], [False] * 4, Median(2, 1, None, None)),
    ],
)
def test_a_median_that_isnt_reached_has_a_bound_instead(
    times: list[int], censored: list[bool], expected: Median
) -> None:
    found = median(times, censored)
    assert (found.median, found.bound) == (expected.median, expected.bound)


@given(st.lists(st.one_of(st.none(), seeds), max_size=20))
def test_cells_taken_together_are_as_each_alone(cells: list[list[tuple[int, bool]] | None]) -> None:
    codes = [None if c is None else [2 * t + x for t, x in c] for c in cells]
    found = survival(pa.array(codes, pa.list_(pa.int64()))).to_pylist()
    for cell, row in zip(cells, found, strict=True):
        assert Median(**row) == median([t for t, _ in cell or []], [x for _, x in cell or []])


def test_the_order_of_the_seeds_doesnt_count() -> None:
    rng = np.random.default_rng(0)
    times, censored = rng.integers(0, 10**12, 9), rng.random(9) < 0.3
    order = rng.permutation(9)
    shuffled = median(times[order].tolist(), censored[order].tolist())
    assert shuffled == median(times.tolist(), censored.tolist())


@given(st.lists(st.tuples(st.integers(0, 10**15), st.booleans()), min_size=1))
def test_time_codes_are_read_back_and_sort_events_before_censorings(
    pairs: list[tuple[int, bool]],
) -> None:
    times, censored = np.array([t for t, _ in pairs]), np.array([c for _, c in pairs])
    codes = encode(times, censored)
    read_times, read_censored = decode(codes)
    assert (read_times.tolist(), read_censored.tolist()) == (times.tolist(), censored.tolist())
    order = np.argsort(codes, kind="stable")
    assert [pairs[k] for k in order] == sorted(pairs)


@pytest.mark.parametrize(("time", "censored"), [(0, False), (0, True), (7, False), (10**15, True)])
def test_the_time_code_of_sql_is_that_of_python(time: int, censored: bool) -> None:
    with sql.connect() as connection:
        add_functions(connection)
        rows = connection.execute("select time_code(?, ?)", [time, censored]).fetchall()
        assert rows == [(encode(time, censored),)]
        assert connection.sql("select time_code(null, true), time_code(1, null)").fetchall() == [
            (None, None)
        ]
