"""Censored regression beside lifelines, and beside what bends the slope."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from lifelines import LogNormalAFTFitter
from scipy import optimize, stats

from sweeper.analysis.fit.aft import Floats, Regression


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
    """Two steps per decade: the logged step is late by half a gap on average."""
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


def test_the_likelihood_is_that_of_normal_noise_and_its_profile_has_its_top_at_the_estimate() -> (
    None
):
    x, y, _ = drawn(40, seed=2)
    low, high = gridded(y, 0.7, 5.0)
    regression = Regression(low, high, design(x))
    best = regression.fit()
    assert best is not None

    def by_scipy(a: float, k: float, sigma: float) -> float:
        ends = (stats.norm.cdf(v, a + k * x, sigma) for v in (low, high))
        return float(np.sum(np.log(-np.subtract(*ends))))

    other = np.array([0.5, 2.2, 0.8])
    gain = regression.log_likelihood(best) - regression.log_likelihood(other)
    assert gain == pytest.approx(by_scipy(*best) - by_scipy(*other), rel=1e-6)
    top = regression.log_likelihood(best)
    for column in (0, 1):
        assert regression.profile(column, best[column]) == pytest.approx(top, abs=1e-3)
        for off in (-0.5, 0.3):
            held = float(best[column]) + off

            def loss(point: Floats, column: int = column, held: float = held) -> float:
                a, k = np.insert(point[:1], column, held)
                return -by_scipy(a, k, np.exp(point[1]))

            start = [best[1 - column], np.log(best[2])]
            largest = -optimize.minimize(loss, start, method="Nelder-Mead").fun
            drop = regression.profile(column, held) - top
            assert drop == pytest.approx(largest - by_scipy(*best), abs=2e-3)
            assert drop < -0.1


def test_a_profile_of_exact_times_has_least_squares_for_its_parabola() -> None:
    """2 (top - profile) is n ln(RSS(k) / RSS), whatever the unit of x."""
    x, y, _ = drawn(30, seed=6)
    for unit in (1.0, 1e4):
        regression = Regression(y, y, design(unit * x))
        best = regression.fit()
        assert best is not None
        rest = float(np.sum((y - best[0] - best[1] * unit * x) ** 2))
        for k in (1.7, 2.4):
            offset = y - k * x
            held = float(np.sum((offset - offset.mean()) ** 2))
            drop = regression.log_likelihood(best) - regression.profile(1, k / unit)
            assert 2 * drop == pytest.approx(30 * np.log(held / rest), rel=1e-3)


def test_the_spacing_is_the_width_of_the_known_times() -> None:
    low = np.array([0.0, 1.0, 2.0, 3.0, -np.inf])
    high = np.array([0.9, 1.2, 2.1, np.inf, 4.0])
    assert Regression(low, high, np.ones((5, 1))).spacing == pytest.approx(0.2)
    assert Regression(low[:4], low[:4], np.ones((4, 1))).spacing == 0
    assert Regression(low[3:], high[3:], np.ones((2, 1))).spacing == 0
