"""Doctored rows turn the verdicts of the laws of the penalized MLP and of the toy addition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws import mlp_penalties, toy
from sweeper.analysis.laws.claim import Verdict
from tests.test_law_verdicts import Rows, Told

HOLDS, PART, NOT = Verdict.CONFIRMED, Verdict.IN_PART, Verdict.NOT_REPRODUCED


def norms(l2: list[float], l1: list[float]) -> Told:
    """Rows of `mlp_penalties.AFTER` whose norms change by these factors."""
    rows: Rows = [
        {
            "strength": 1e-4,
            "seed": i,
            "l2_then": 20.0,
            "l2_end": 20.0 * a,
            "l1_then": 400.0,
            "l1_end": 400.0 * b,
        }
        for i, (a, b) in enumerate(zip(l2, l1, strict=True))
    ]
    return Told((mlp_penalties.AFTER, rows))


@pytest.mark.parametrize(
    ("l2", "l1", "wanted"),
    [
        ([1.1, 1.2, 0.95], [0.9, 0.8, 0.9], Verdict.DEPENDS),
        ([1.1, 1.2, 1.05], [0.9, 0.8, 0.9], PART),
        ([0.9, 1.2, 0.95], [0.9, 0.8, 0.9], PART),
        ([1.1, 1.2, 0.95], [0.9, 1.1, 0.9], NOT),
    ],
)
def test_the_l1_norm_falls_and_the_l2_norm_rises_with_the_seed(
    l2: list[float], l1: list[float], wanted: Verdict
) -> None:
    assert mlp_penalties.measure_norms(norms(l2, l1)).verdict is wanted


class Fitted(Told):
    """Rows, and the exponents that a fit gives: penalty to that of the strength."""

    def __init__(self, exponents: dict[str, float], times: dict[str, list[float]]) -> None:
        rows: Rows = [
            {"penalty": penalty, "strength": 1e-4 * 3**i, "t2": t2}
            for penalty, column in times.items()
            for i, t2 in enumerate(column)
        ]
        super().__init__((mlp_penalties.TIMES, rows))
        self._exponents = exponents

    def fit(self, law: str, sweep: str | None = None, **how: Any) -> Any:
        (value,) = (e for name, e in self._exponents.items() if f"'{name}'" in how["where"])
        slope = Estimate(None, -value, -value - 0.1, -value + 0.1)
        return SimpleNamespace(groups=[SimpleNamespace(slope=slope)])


FALLS = [900.0, 500.0, 300.0]


@pytest.mark.parametrize(
    ("l2", "l1", "times", "wanted"),
    [
        (-0.6, -0.5, FALLS, HOLDS),
        (-1.1, -0.5, FALLS, NOT),
        (0.1, -0.5, FALLS, NOT),
        (-0.6, -1.3, FALLS, PART),
        (-0.6, -0.5, [900.0, 300.0, 500.0], PART),
    ],
)
def test_exponents_have_to_be_between_minus_one_and_none(
    l2: float, l1: float, times: list[float], wanted: Verdict
) -> None:
    found = Fitted(
        {"l2_sq": l2, "nuclear": -0.3, "l1": l1}, {"l2_sq": FALLS, "nuclear": FALLS, "l1": times}
    )
    measured = mlp_penalties.measure_exponents(found)
    assert measured.verdict is wanted
    assert measured.values["l1"].value == l1
    assert measured.values["l1"].low == pytest.approx(l1 - 0.1)


def plane(fitted: list[int], general: list[int]) -> Told:
    """Rows of `toy.LOSSES`: of 10 trials each with 25, 35, 45 pairs so many are so."""
    rows: Rows = [
        {
            "N": N,
            "w": 1.0 + i,
            "m": 0.1,
            "seed": 0,
            "train": 0.75 - N / 100,
            "fitted": i < fits,
            "general": i < generalizes,
        }
        for N, fits, generalizes in zip((25, 35, 45), fitted, general, strict=True)
        for i in range(10)
    ]
    return Told((toy.LOSSES, rows))


@pytest.mark.parametrize(
    ("general", "wanted"), [([2, 4, 6], HOLDS), ([2, 6, 4], PART), ([4, 4, 6], NOT)]
)
def test_the_region_that_generalizes_has_to_grow_with_the_data(
    general: list[int], wanted: Verdict
) -> None:
    assert toy.measure_region(plane([5, 5, 5], general)).verdict is wanted


@pytest.mark.parametrize(("fitted", "wanted"), [([8, 6, 3], HOLDS), ([8, 6, 6], NOT)])
def test_the_region_that_is_fitted_has_to_recede(fitted: list[int], wanted: Verdict) -> None:
    assert toy.measure_fitted(plane(fitted, [5, 5, 5])).verdict is wanted


def test_figures_are_drawn_from_the_same_rows() -> None:
    shares, losses = toy.picture_plane(plane([8, 6, 3], [2, 4, 6])).panels
    assert [list(s.y) for s in shares.series[1::2]] == [[0.8, 0.6, 0.3], [0.2, 0.4, 0.6]]
    assert [list(s.y) for s in losses.series[::2]] == [[0.5] * 10, [0.4] * 10, [0.3] * 10]
