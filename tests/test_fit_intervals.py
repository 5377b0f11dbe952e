"""Intervals of fitted laws: how they are made, said and drawn."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sweeper.analysis.fit.aft import Regression
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.fit.interval import GRID, ONE_LEFT_OUT
from tests.stores import Made
from tests.test_fit import fitted, make, noisy, printed


@pytest.fixture(scope="module")
def noisy_store(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("noisy"))


def test_the_table_says_what_was_left_out_and_what_is_unbounded(tmp_path: Path) -> None:
    def one_seed(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 5, noisy(lr, strength, 0)[1] if seed == 0 else math.inf

    ends = {"adamw-0.1-0.001-0": "diverged"}
    made = make(tmp_path, one_seed, seeds=(0, 1), ends=ends)
    found = fitted(made, by="optimizer.name")
    slope, prefactor = found.groups[0].slope, found.groups[0].prefactor
    assert slope.note == ONE_LEFT_OUT  # the other seed is known by bounds only
    assert slope.low < 1 < slope.high  # type: ignore[operator]
    assert (prefactor.low, prefactor.high, prefactor.note) == (None, None, ONE_LEFT_OUT)
    text = printed(found)
    assert "left out: 1 diverged." in text
    assert f"{slope.low:#.4g} to {slope.high:#.4g} (rests on one seed)" in text
    assert f"C where k = 1 {prefactor.value:#.4g} rests on one seed" in text
    assert (
        "optimizer.name = adamw: rests on one seed: without one of the seeds the number can't be "
        "fitted. A prefactor then has no interval, an exponent the likelihood's, which takes "
        "trials of one seed for independent." in text
    )
    assert found.rows()[0]["left_out"] == {"diverged": 1}
    assert found.rows()[0]["slope"]["note"] == "rests on one seed"
    assert found.method == "95 % intervals: jackknife over seeds and likelihood (rests on one seed)"


def test_what_is_not_determined_is_called_so(noisy_store: Made) -> None:
    found = fitted(noisy_store, where="regularizer.strength = 1e-3")
    text = printed(found)
    assert "exponent of regularizer.strength -1 - not determined" in text
    (row,) = found.rows()
    assert row["exponents"]["regularizer.strength"] == {
        "claimed": -1,
        "value": None,
        "low": None,
        "high": None,
        "note": "not determined",
    }
    text = printed(fitted(noisy_store, where="seed = 0"))
    assert "one seed: no interval." in text
    assert "to" not in re.findall(r"k in t2 = C \* law\^k 1 \S+ (\S+ \S+)", text)[0].split()


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.4, 2.0, "0.4 to 2.0"), (0.4, None, "> 0.4"), (None, 2.0, "< 2.0"), (None, None, "")],
)
def test_an_interval_with_one_end_says_that_one(
    low: float | None, high: float | None, words: str
) -> None:
    assert Estimate(1.0, 1.1, low, high).between(str) == words


def test_seeds_that_scatter_less_than_the_grid_are_not_exact(tmp_path: Path) -> None:
    """Identical seeds at 10 logged steps per decade: the slope is known as the grid tells it."""

    def same(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 5, 0.011 / (lr * strength)

    found = fitted(make(tmp_path, same, per_decade=10))
    (group,) = found.groups
    assert group.sample.n_seeds == 6
    for estimate in (group.slope, *group.exponents.values()):
        assert estimate.note == GRID
        assert estimate.claimed is not None
        assert estimate.low < estimate.claimed < estimate.high  # type: ignore[operator]
        assert 0.01 < estimate.high - estimate.low < 0.3  # type: ignore[operator]
    assert group.prefactor.low < 0.011 < group.prefactor.high  # type: ignore[operator]
    assert group.covariance is None
    assert f"{group.slope.low:#.4g} to {group.slope.high:#.4g} (grid)" in printed(found)
    assert group.notes == (
        "grid: the scatter is below the spacing of the logged steps, which hides how seeds differ. "
        "The interval joins the scatter between seeds with the likelihood.",
    )


def test_the_band_is_the_jackknife_of_the_line(noisy_store: Made) -> None:
    (group,) = fitted(noisy_store).groups
    sample = group.sample

    def line(kept: np.ndarray, at: np.ndarray) -> np.ndarray:
        design = np.column_stack([np.ones(kept.sum()), sample.log_law[kept]])
        found = Regression(sample.low[kept], sample.high[kept], design).fit()
        assert found is not None
        return found[0] + found[1] * at  # type: ignore[no-any-return]

    at = np.array([sample.log_law.min(), 9.0, sample.log_law.max()])
    whole = line(np.ones(sample.size, dtype=bool), at)
    off = [line(sample.seeds != seed, at) - whole for seed in range(6)]
    expected = stats.t.ppf(0.95, 5) * np.sqrt(5 / 6 * np.sum(np.square(off), axis=0))
    assert group.half_band(at, 0.9) == pytest.approx(expected, rel=1e-3)
    half = stats.t.ppf(0.975, 5) * math.sqrt(group.covariance[1, 1])  # type: ignore[index]
    assert group.slope.high - group.slope.value == pytest.approx(half)  # type: ignore[operator]
    assert fitted(noisy_store).method == "95 % intervals: jackknife over seeds"
