"""Intervals of pooled fits beside hand formulas, and how often they hold the true value."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from sweeper.analysis.fit.aft import Floats, Regression
from sweeper.analysis.fit.interval import (
    EQUAL_SEEDS,
    FEW_TIMES,
    GRID,
    NOT_DETERMINED,
    ONE_LEFT_OUT,
    ONE_SEED,
    Interval,
    PooledFit,
)

Seeds = NDArray[np.int64]


def sweep(
    n_seeds: int,
    *,
    sigma: float,
    seed: int = 0,
    intercepts: float = 0.0,
    slopes: float = 0.0,
    values: int = 8,
) -> tuple[Floats, Floats, Seeds]:
    """Return x, ``ln t = 7 + a_g + (1 + s_g) x + noise`` and the seeds, seed by seed."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.linspace(-2, 2, values), n_seeds)
    seeds = np.repeat(np.arange(n_seeds), values)
    slope = 1 + slopes * rng.standard_normal(n_seeds)[seeds]
    aside = intercepts * rng.standard_normal(n_seeds)[seeds]
    return x, 7 + aside + slope * x + sigma * rng.standard_normal(len(x)), seeds


def gridded(y: Floats, width: float, horizon: float = np.inf) -> tuple[Floats, Floats]:
    """Return the ends of times that are read off a grid up to a horizon."""
    low = np.floor(y / width) * width
    late = low + width > horizon
    last = np.floor(horizon / width) * width if np.isfinite(horizon) else np.inf
    return np.where(late, last, low), np.where(late, np.inf, low + width)


def line(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x])


def both(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def jackknife(low: Floats, high: Floats, design: Floats, seeds: Seeds, column: int) -> Floats:
    """Return the two ends at 95 %, from fits without each seed."""
    best = Regression(low, high, design).fit()
    assert best is not None
    groups = np.unique(seeds)
    off = []
    for group in groups:
        kept = seeds != group
        fit = Regression(low[kept], high[kept], design[kept]).fit()
        assert fit is not None
        off.append(fit[column] - best[column])
    n = len(groups)
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * np.sum(np.square(off)))
    return np.array([best[column] - half, best[column] + half])


def profile(low: Floats, high: Floats, x: Floats) -> Floats:
    """Return the two ends of the slope at 95 %, by a likelihood and searches of SciPy's own."""

    def loss(a: float, k: float, log_sigma: float) -> float:
        z_low, z_high = ((v - a - k * x) / np.exp(log_sigma) for v in (low, high))
        flip = z_low > 0
        small, large = np.where(flip, -z_high, z_low), np.where(flip, -z_low, z_high)
        tail = stats.norm.logcdf(large)
        return -float(np.sum(tail + np.log1p(-np.exp(stats.norm.logcdf(small) - tail))))

    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000, "maxfev": 4000}

    def held(k: float) -> float:
        middle = np.where(np.isfinite(high), (low + np.where(np.isfinite(high), high, 0)) / 2, low)
        start = [np.median(middle - k * x), np.log(np.std(middle - k * x) + 0.01)]
        found = optimize.minimize(
            lambda p: loss(p[0], k, p[1]), start, method="Nelder-Mead", options=options
        )
        return float(found.fun)

    best = Regression(low, high, line(x)).fit()
    assert best is not None
    top = loss(best[0], best[1], float(np.log(best[2])))
    n = int(np.sum(np.isfinite(high)))
    cut = n * np.log(1 + stats.t.ppf(0.975, n - 2) ** 2 / (n - 2))
    return np.array(
        [
            best[1]
            + side * optimize.brentq(lambda d: 2 * (held(best[1] + side * d) - top) - cut, 0, 3)  # noqa: B023
            for side in (-1, 1)
        ]
    )


def test_the_interval_of_a_mean_over_seeds_is_students() -> None:
    y = np.random.default_rng(0).normal(3, 2, 7)
    fit = PooledFit(Regression(y, y, np.ones((7, 1))), np.arange(7))
    ends = both(fit.interval(0, 0.9))
    expected = stats.t.interval(0.9, 6, loc=np.mean(y), scale=stats.sem(y))
    assert ends == pytest.approx(expected, rel=1e-5)
    assert fit.interval(0, 0.9).note is None


def test_without_censoring_it_is_the_jackknife_of_least_squares() -> None:
    x, y, seeds = sweep(5, sigma=0.3, intercepts=0.5, slopes=0.1)
    slopes = [np.polyfit(x[seeds != g], y[seeds != g], 1)[0] for g in range(5)]
    slope = np.polyfit(x, y, 1)[0]
    half = 2.7764451 * np.sqrt(4 / 5 * np.sum((np.array(slopes) - slope) ** 2))  # t(4)
    fit = PooledFit(Regression(y, y, line(x)), seeds)
    assert both(fit.interval(1, 0.95)) == pytest.approx([slope - half, slope + half], rel=1e-5)
    assert fit.interval(1, 0.95).note is None
    low, high = both(fit.interval(1, 0.99))
    assert high - low == pytest.approx(2 * half * stats.t.ppf(0.995, 4) / 2.7764451, rel=1e-4)


def test_the_covariance_is_that_of_the_fits_without_each_seed() -> None:
    x, y, seeds = sweep(4, sigma=0.3, intercepts=0.5, slopes=0.1)
    without = np.array([np.polyfit(x[seeds != g], y[seeds != g], 1)[::-1] for g in range(4)])
    off = without - np.polyfit(x, y, 1)[::-1]
    found = PooledFit(Regression(y, y, line(x)), seeds).covariance()
    assert found[:2, :2] == pytest.approx(3 / 4 * off.T @ off, rel=1e-4)


def test_an_interval_that_rests_on_one_seed_is_students_for_exact_times() -> None:
    """Nothing is known of the other seed: without the first one there is no fit."""
    x, y, seeds = sweep(2, sigma=0.3)
    low, high = np.where(seeds == 0, y, -np.inf), np.where(seeds == 0, y, np.inf)
    interval = PooledFit(Regression(low, high, line(x)), seeds).interval(1, 0.95)
    by_scipy = stats.linregress(x[seeds == 0], y[seeds == 0])
    half = stats.t.ppf(0.975, 6) * by_scipy.stderr
    assert interval.note == ONE_LEFT_OUT
    assert both(interval) == pytest.approx(
        [by_scipy.slope - half, by_scipy.slope + half], abs=2e-3 * half
    )


@pytest.mark.parametrize("per_decade", [10, 50, 1000])
@pytest.mark.parametrize("phase", [0.1, 0.45, 0.8])
def test_six_identical_seeds_give_the_lines_that_meet_all_intervals(
    per_decade: int, phase: float
) -> None:
    """Not a point: the slope is known as well as the grid tells it, and the true one is 1."""
    width = np.log(10) / per_decade
    x = np.linspace(-2, 2, 8)
    low, high = gridded(7 + x + phase * width, width)
    ends = []
    for sign in (1, -1):  # the least and the largest slope of a line through all intervals
        above, below = np.column_stack([line(x), -line(x)]).reshape(8, 2, 2).transpose(1, 0, 2)
        found = optimize.linprog(
            [0, sign],
            A_ub=np.vstack([above, below]),
            b_ub=np.concatenate([high, -low]),
            bounds=[(None, None)] * 2,
        )
        ends.append(found.x[1])
    regression = Regression(np.tile(low, 6), np.tile(high, 6), line(np.tile(x, 6)))
    interval = PooledFit(regression, np.repeat(np.arange(6), 8)).interval(1, 0.95)
    assert interval.note == GRID
    assert both(interval) == pytest.approx(ends, abs=0.05 * (ends[1] - ends[0]))
    assert interval.low < 1 < interval.high  # type: ignore[operator]
    assert ends[1] - ends[0] > 0.05 * width


@pytest.mark.parametrize(
    ("sigma", "width", "horizon", "n_seeds", "seed", "note"),
    [
        (0.05, 0.3, np.inf, 5, 3, "below half"),
        (0.2, 0.3, np.inf, 5, 3, "below"),
        (0.2, 0.3, 7.5, 3, 3, "below"),
        (0.4, 0.05, 5.7, 6, 3, "few"),  # two seeds of six
        (0.4, 0.05, 5.6, 6, 6, "few"),  # three
        (0.4, 0.05, 7.0, 6, 3, None),
    ],
)
def test_seeds_and_likelihood_are_joined_where_the_grid_or_few_times_hide_the_scatter(
    sigma: float, width: float, horizon: float, n_seeds: int, seed: int, note: str | None
) -> None:
    x, y, seeds = sweep(n_seeds, sigma=sigma, slopes=0.05, seed=seed)
    low, high = gridded(y, width, horizon)
    regression = Regression(low, high, line(x))
    fit = PooledFit(regression, seeds)
    assert fit.best is not None
    value, found = fit.best[1], float(fit.best[2])
    known = [len(np.unique(x[(seeds == g) & np.isfinite(high)])) >= 2 for g in range(n_seeds)]
    by_seeds = jackknife(low, high, line(x), seeds, 1)
    by_likelihood = profile(low, high, x)
    if note == "below half":
        assert found < width / 2
        expected = value + np.hypot(by_seeds - value, by_likelihood - value) * [-1, 1]
    elif note == "below":
        assert width / 2 <= found < width
        expected = np.array(
            [min(by_seeds[0], by_likelihood[0]), max(by_seeds[1], by_likelihood[1])]
        )
    elif note == "few":
        assert found >= width
        assert 2 * sum(known) <= n_seeds
        expected = np.array(
            [min(by_seeds[0], by_likelihood[0]), max(by_seeds[1], by_likelihood[1])]
        )
    else:
        assert found >= width
        assert 2 * sum(known) > n_seeds
        expected = by_seeds
    interval = fit.interval(1, 0.95)
    assert interval.note == {None: None, "few": FEW_TIMES}.get(note, GRID)
    wide = expected[1] - expected[0]
    assert both(interval) == pytest.approx(expected, abs=5e-3 * wide)
    others = [by_seeds, by_likelihood, expected]
    assert max(abs(a - b).max() for a, b in pairwise(others)) > 0.02 * wide  # they differ


def test_one_seed_has_a_value_and_no_interval() -> None:
    x, y, seeds = sweep(1, sigma=0.2)
    fit = PooledFit(Regression(y, y, line(x)), seeds)
    assert fit.best is not None
    assert fit.interval(1, 0.95) == Interval(None, None, ONE_SEED)


def test_seeds_with_the_same_times_are_one_seed_where_the_law_does_not_hold() -> None:
    """A bent line that all seeds share: not a slope without an error."""
    x = np.linspace(-2, 2, 8)
    low, high = gridded(7 + x + 0.2 * x**2, 0.05)
    seeds = np.repeat(np.arange(6), 8)
    many = (np.tile(low, 6), np.tile(high, 6), line(np.tile(x, 6)))
    fit = PooledFit(Regression(*many), seeds)
    assert fit.best is not None
    assert fit.best[2] > 0.05
    assert fit.interval(1, 0.95) == Interval(None, None, EQUAL_SEEDS)
    many[1][:4] += 0.05  # one seed is known less well
    interval = PooledFit(Regression(*many), seeds).interval(1, 0.95)
    assert interval.note is None
    assert both(interval)[0] < both(interval)[1]


def test_where_there_is_no_fit_nothing_is_determined() -> None:
    x, y, seeds = sweep(3, sigma=0.2)
    fit = PooledFit(Regression(y, np.full(len(y), np.inf), line(x)), seeds)
    assert fit.best is None
    assert fit.interval(1, 0.95) == Interval(None, None, NOT_DETERMINED)


def test_the_unit_of_the_paths_does_not_matter() -> None:
    x, y, seeds = sweep(3, sigma=0.05, slopes=0.1)
    low, high = gridded(y, 0.3)
    one, other = (
        both(PooledFit(Regression(low, high, line(unit * x)), seeds).interval(1, 0.95))
        for unit in (1.0, 1e-3)
    )
    assert other == pytest.approx(np.array(one) * 1e3, rel=2e-3)


def test_each_of_two_correlated_exponents_is_the_jackknife_of_least_squares() -> None:
    x, y, seeds = sweep(6, sigma=0.3, intercepts=0.2)
    other = x + np.random.default_rng(1).normal(0, 0.5, len(x))
    design = np.column_stack([np.ones(len(x)), x, other])
    y = y - 2 * other
    best, *without = (
        np.linalg.lstsq(design[kept], y[kept], rcond=None)[0]
        for kept in (np.ones(len(x), dtype=bool), *(seeds != g for g in range(6)))
    )
    fit = PooledFit(Regression(y, y, design), seeds)
    for column in (0, 1, 2):
        off = [b[column] - best[column] for b in without]
        half = stats.t.ppf(0.975, 5) * np.sqrt(5 / 6 * np.sum(np.square(off)))
        expected = [best[column] - half, best[column] + half]
        assert both(fit.interval(column, 0.95)) == pytest.approx(expected, rel=1e-4)


def test_two_exponents_on_a_grid_have_a_profile_each() -> None:
    """The second exponent of times without scatter: where lines meet all intervals."""
    x = np.array([(a, b) for a in (-1.0, 0.0, 1.0) for b in (-1.5, -0.5, 0.5, 1.5)])
    low, high = gridded(7 + x[:, 0] - x[:, 1] + 0.05, 0.23)
    design = np.column_stack([np.ones(12), x])
    ends = [
        optimize.linprog(
            [0, 0, sign],
            A_ub=np.vstack([design, -design]),
            b_ub=np.concatenate([high, -low]),
            bounds=[(None, None)] * 3,
        ).x[2]
        for sign in (1, -1)
    ]
    many = 6
    regression = Regression(np.tile(low, many), np.tile(high, many), np.tile(design, (many, 1)))
    interval = PooledFit(regression, np.repeat(np.arange(many), 12)).interval(2, 0.95)
    assert both(interval) == pytest.approx(ends, abs=0.05 * (ends[1] - ends[0]))
    assert interval.low < -1 < interval.high  # type: ignore[operator]
