"""Censored regression beside lifelines, and beside what bends the slope."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from lifelines import LogNormalAFTFitter
from scipy import optimize, stats

from sweeper.analysis.fit.aft import Floats, Regression, bootstrap, draw_seeds, interval


def design(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x])


def drawn(
    n: int, *, seed: int, sigma: float = 0.6, cap: float = 5.0
) -> tuple[Floats, Floats, Floats]:
    """Return x, ln t of the law ``ln t = 1 + 2 x + noise``, and it with `cap` as horizon."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 3, n)
    y = 1 + 2 * x + rng.normal(0, sigma, n)
    return x, y, np.minimum(y, cap)


def right(y: Floats, cap: float = 5.0) -> tuple[Floats, Floats]:
    """Return the ends of exact times that a horizon censors."""
    return np.minimum(y, cap), np.where(y < cap, y, np.inf)


def gridded(y: Floats, width: float, cap: float) -> tuple[Floats, Floats]:
    """Return the ends of times that are read off a log grid up to a horizon."""
    low = np.floor(y / width) * width
    return np.minimum(low, cap), np.where(low + width <= cap + 1e-9, low + width, np.inf)


def of_lifelines(low: Floats, high: Floats, x: Floats, **options: str) -> Floats:
    frame = pd.DataFrame({"x": x, "low": np.exp(low), "high": np.exp(high)})
    fitter = LogNormalAFTFitter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options:
            fitter.fit_interval_censoring(frame, "low", "high")
        else:
            frame["event"] = np.isfinite(high)
            fitter.fit(frame.drop(columns="high"), "low", "event")
    mu = fitter.params_["mu_"]
    return np.array([mu["Intercept"], mu["x"], np.exp(fitter.params_["sigma_"]["Intercept"])])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cap", [9.0, 5.0, 2.5])
def test_right_censored_times_are_fitted_as_by_lifelines(seed: int, cap: float) -> None:
    x, y, _ = drawn(60, seed=seed)
    low, high = right(y, cap)
    found = Regression(low, high, design(x)).fit()
    assert found == pytest.approx(of_lifelines(low, high, x), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [0.2, 1.5])
def test_times_between_two_steps_are_fitted_as_by_lifelines(seed: int, width: float) -> None:
    x, y, _ = drawn(80, seed=seed)
    low, high = gridded(y, width, 5.0)
    found = Regression(low, high, design(x)).fit()
    assert found == pytest.approx(of_lifelines(low, high, x, interval="yes"), abs=1e-3)


def test_early_late_and_exact_times_are_taken_together_as_by_scipy() -> None:
    y = np.random.default_rng(0).normal(3, 2, 80)
    low, high = gridded(y, 0.7, 5.0)
    low[:10], high[:10] = -np.inf, np.ceil(y[:10])
    low[10:20] = high[10:20] = y[10:20]
    data = stats.CensoredData(
        uncensored=y[10:20],
        left=high[:10],
        right=low[20:][np.isinf(high[20:])],
        interval=np.column_stack([low, high])[20:][np.isfinite(high[20:])],
    )
    found = Regression(low, high, np.ones((80, 1))).fit()
    assert found == pytest.approx(stats.norm.fit(data), abs=1e-3)


def test_the_slope_and_the_curvature_of_the_likelihood_are_its_derivatives() -> None:
    x, y, _ = drawn(40, seed=0)
    low, high = gridded(y, 0.7, 5.0)
    low[:5], high[:5] = -np.inf, y[:5]
    low[5:10] = high[5:10] = y[5:10]
    regression = Regression(low, high, design(x))
    weights = np.linspace(0.5, 3, 40)
    for point in ([0.1, 0.4, 1.3], [-3.0, 6.0, 9.0], [30.0, -40.0, 3.0]):
        at = np.array(point)
        _, slope, bend = regression._loss(at, weights)
        loss = optimize.approx_fprime(at, lambda p: regression._loss(p, weights)[0], 1e-7)
        assert slope == pytest.approx(loss, rel=2e-4, abs=1e-6)
        curved = optimize.approx_fprime(at, lambda p: regression._loss(p, weights)[1], 1e-7)
        assert bend == pytest.approx(curved, rel=1e-3, abs=1e-4)


def test_weights_count_like_repeated_times() -> None:
    x, y, _ = drawn(30, seed=3)
    low, high = right(y)
    weights = np.random.default_rng(0).integers(0, 4, 30)
    repeated = np.repeat(np.arange(30), weights)
    once = Regression(low, high, design(x)).fit(weights.astype(np.float64))
    again = Regression(low[repeated], high[repeated], design(x[repeated])).fit()
    assert once == pytest.approx(again, abs=1e-5)


def test_neither_the_unit_of_the_times_nor_the_design_counts() -> None:
    x, y, _ = drawn(50, seed=4)
    low, high = gridded(y, 0.5, 5.0)
    a, b, sigma = Regression(low, high, design(x)).fit()  # type: ignore[misc]
    moved = Regression(low + 40, high + 40, design(1e-4 * x - 7)).fit()
    assert moved == pytest.approx([a + 40 + 7e4 * b, 1e4 * b, sigma], rel=1e-5)


def test_leaving_censored_times_out_or_capping_them_bends_the_slope() -> None:
    """Half of the times are censored, most of them at large x; the true slope is 2."""
    slopes: dict[str, list[float]] = {"ours": [], "dropped": [], "capped": []}
    for seed in range(40):
        x, y, capped = drawn(60, seed=seed)
        seen = y < 5
        fit = Regression(*right(y), design(x)).fit()
        assert fit is not None
        slopes["ours"].append(fit[1])
        slopes["dropped"].append(np.polyfit(x[seen], y[seen], 1)[0])
        slopes["capped"].append(np.polyfit(x, capped, 1)[0])
    means = {name: float(np.mean(values)) for name, values in slopes.items()}
    error = float(np.std(slopes["ours"])) / 40**0.5
    assert means["ours"] == pytest.approx(2, abs=3 * error)
    assert error < 0.03
    assert means["dropped"] < 1.85
    assert means["capped"] < 1.5


def test_a_coarse_grid_moves_the_prefactor_unless_its_steps_are_known() -> None:
    """Two steps a decade: the logged step is late by half a gap on average."""
    width = np.log(10) / 2
    ours, logged = [], []
    for seed in range(30):
        x, y, _ = drawn(80, seed=seed, sigma=0.3)
        low, high = gridded(y, width, 6.0)
        fit = Regression(low, high, design(x)).fit()
        step = np.where(np.isfinite(high), high, low)
        naive = Regression(step, high, design(x)).fit()  # the logged step taken for the time
        assert fit is not None
        assert naive is not None
        ours.append(fit)
        logged.append(naive)
    assert np.mean(ours, axis=0) == pytest.approx([1, 2, 0.3], abs=0.03)
    assert np.mean(logged, axis=0)[0] > 1 + 0.3 * width
    assert np.mean(logged, axis=0)[2] > 0.4


@pytest.mark.parametrize("width", [0.01, 0.5])
def test_a_line_through_all_intervals_lies_in_their_middle(width: float) -> None:
    x = np.linspace(0, 3, 13)
    y = 1 + 2 * x
    found = Regression(y - width / 2, y + width / 2, design(x)).fit()
    assert found is not None
    assert found[:2] == pytest.approx([1, 2], abs=1e-4 * width)
    assert found[2] < width / 3


def test_exact_times_on_a_line_have_next_to_no_scatter() -> None:
    x = np.linspace(0, 3, 13)
    found = Regression(1 + 2 * x, 1 + 2 * x, design(x)).fit()
    assert found == pytest.approx([1, 2, 0], abs=1e-3)


@pytest.mark.parametrize(
    "seen",
    [
        np.zeros(12, dtype=bool),  # bounds only
        np.arange(12) < 3,  # times at one value of x, bounds at the others
    ],
    ids=["none", "one value"],
)
def test_bounds_alone_determine_no_line(seen: np.ndarray) -> None:
    x = np.repeat([0.0, 1.0, 2.0, 3.0], 3)
    y = 1 + 2 * x + np.tile([0, 0.1, 0.2], 4)
    regression = Regression(y, np.where(seen, y, np.inf), design(x))
    assert regression.fit() is None
    early = Regression(np.full(12, -np.inf), y, design(x))
    assert early.fit() is None


def test_the_bootstrap_draws_whole_seeds() -> None:
    x, y, _ = drawn(24, seed=5)
    seeds = np.tile([0, 1, 2], 8)
    regression = Regression(*right(y), design(x))
    draws = np.array([[1, 1, 1], [2, 0, 1], [1, 1, 1]])
    found = bootstrap(regression, seeds, draws)
    twice = np.concatenate([np.flatnonzero(seeds != 1), np.flatnonzero(seeds == 0)])
    by_hand = Regression(*right(y[twice]), design(x[twice])).fit()
    assert found[1] == pytest.approx(by_hand, abs=1e-4)
    assert found[0].tolist() == found[2].tolist()
    assert found[0] == pytest.approx(regression.fit(), abs=1e-5)


def test_seeds_that_cannot_be_fitted_leave_a_gap() -> None:
    x = np.array([0.0, 1.0, 0.0, 1.0])
    low = np.array([0.0, 1.0, 0.0, 1.0])
    high = np.array([0.5, 1.5, np.inf, np.inf])
    found = bootstrap(
        Regression(low, high, design(x)), np.array([0, 0, 1, 1]), np.array([[2, 0], [0, 2]])
    )
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_resampled_seeds_keep_their_number() -> None:
    draws = draw_seeds(4, 500, np.random.default_rng(0))
    assert draws.shape == (500, 4)
    assert (draws.sum(axis=1) == 4).all()
    assert draws.mean(axis=0) == pytest.approx([1] * 4, abs=0.15)
    assert draw_seeds(1, 500, np.random.default_rng(0)).shape == (0, 1)


@pytest.mark.long
def test_the_interval_covers_where_seeds_differ_in_their_slope_and_trials_alone_do_not() -> None:
    """Ten seeds, each with a slope of its own around 2; trials as if independent mislead."""
    covered = {"seeds": 0, "trials": 0}
    repeats = 60
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        seeds = np.repeat(np.arange(10), 8)
        x = np.tile(np.linspace(0, 3, 8), 10)
        y = 1 + rng.normal(2, 0.4, 10)[seeds] * x + rng.normal(0, 0.2, 80)
        for name, places in (("seeds", seeds), ("trials", np.arange(80))):
            regression = Regression(*right(y), design(x))
            draws = draw_seeds(places[-1] + 1, 60, np.random.default_rng(repeat))
            low, high = interval(bootstrap(regression, places, draws)[:, 1], 0.9)
            assert low is not None
            assert high is not None
            covered[name] += low <= 2 <= high
    assert covered["seeds"] >= 0.75 * repeats
    assert covered["trials"] <= 0.65 * repeats


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (list(range(101)), (6, 94)),
        ([*range(93), *[np.nan] * 8], (None, None)),
        ([*range(98), *[np.nan] * 3], (3, 94)),
        ([], (None, None)),
    ],
)
def test_a_resample_without_a_fit_counts_as_the_worst_for_either_end(
    draws: list[float], expected: tuple[float | None, float | None]
) -> None:
    assert interval(np.array(draws, dtype=np.float64), 0.87) == expected
