"""How often intervals of simulated sweeps hold the true value; `benchmarks/coverage.py` is longer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import DESIGNS, NOISE, Setting, drawn, few, read_off, simulate

NOMINAL = 0.95

MIXED = (
    Setting("slope", 3, 50, 0.15, 0.0, 0.0, 0.0),
    Setting("slope", 10, 50, 0.5, 0.5, 0.3, 0.05),
    Setting("slope", 5, 10, 0.02, 0.5, 0.0, 0.0),  # every seed is rounded alike
    Setting("slope", 3, 10, 0.02, 0.0, 0.0, 0.05),  # and the seeds differ besides
    Setting("slope", 3, 50, 0.15, 0.8, 0.0, 0.0),  # few times
    Setting("crossed", 5, 10, 1.0, 0.2, 0.3, 0.05, noise="gumbel"),
    Setting("correlated", 3, 50, 0.15, 0.5, 0.0, 0.0, noise="t3"),
    Setting("prefactor", 5, 50, 0.15, 0.5, 0.3, 0.05),
)


def least(sets: int, nominal: float = NOMINAL) -> float:
    """Return what so many intervals hold but once in a thousand times."""
    return float(stats.binom.ppf(1e-3, sets, nominal))


@pytest.mark.parametrize("setting", MIXED, ids=str)
def test_intervals_hold_the_true_value(setting: Setting) -> None:
    for covered in simulate(setting, 50):
        assert covered.two_sided >= 50
        assert covered.held >= least(covered.two_sided)


def test_the_percentile_bootstrap_does_not() -> None:
    """What was in its place: 3 seeds, 8 strengths, no censoring; a coarse grid."""
    for setting in (MIXED[0], MIXED[3]):
        (covered,) = simulate(setting, 50, "bootstrap")
        assert covered.held < least(covered.two_sided)


@pytest.mark.long
@pytest.mark.parametrize("setting", few(), ids=str)
def test_intervals_of_more_sweeps_hold_the_true_value(setting: Setting) -> None:
    for covered in simulate(setting, 400):
        assert covered.held >= least(covered.two_sided)
        if setting.sigma >= 2 * np.log(10) / setting.density:
            assert covered.held <= stats.binom.ppf(1 - 1e-3, covered.two_sided, NOMINAL)


def test_a_time_lies_between_its_logged_steps() -> None:
    rng = np.random.default_rng(0)
    times = rng.uniform(0.5, 9, 500)
    for density, phase in ((10, 0.3), (50, 0.0), (3, 0.99)):
        low, high = read_off(times, density, 8.0, phase)
        steps = np.exp(np.unique(np.concatenate([low, high[np.isfinite(high)]])))
        assert steps == pytest.approx(np.round(steps))
        assert (low < times).all()
        assert (times <= high).all()
        assert (np.isinf(high) == (times > low.max())).all()
        assert low.max() <= 8.0
        coarse = (low > np.log(100)) & np.isfinite(high)
        assert (high - low)[coarse] == pytest.approx(np.log(10) / density, rel=0.2)


@pytest.mark.parametrize("noise", NOISE)
def test_noise_has_mean_0_and_deviation_1(noise: str) -> None:
    values = NOISE[noise](np.random.default_rng(0), (400_000,))
    assert np.mean(values) == pytest.approx(0, abs=0.01)
    assert np.std(values) == pytest.approx(1, abs=0.03)


def test_seeds_differ_in_intercept_and_slope_as_the_setting_says() -> None:
    setting = Setting("slope", 4, 10, 0.1, 0.0, 0.3, 0.05)
    times = drawn(setting, 5000, np.random.default_rng(0))
    x = DESIGNS["slope"]()[:, 0]
    slopes, middles = np.polyfit(x, times.reshape(-1, len(x)).T, 1)
    residual = times.reshape(-1, len(x)) - slopes[:, None] * x - middles[:, None]
    assert np.sqrt(np.sum(residual**2) / (len(residual) * (len(x) - 2))) == pytest.approx(
        0.1, rel=0.02
    )
    assert (np.mean(slopes), np.std(slopes)) == pytest.approx(
        (1, np.hypot(0.05, 0.1 / np.sqrt(np.sum(x**2)))), rel=0.03
    )
    assert np.std(middles) == pytest.approx(np.hypot(0.3, 0.1 / np.sqrt(len(x))), rel=0.03)
