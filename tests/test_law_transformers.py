"""Doctored rows turn the verdicts of the laws of transformers; rows as claimed make them hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sweeper.analysis.laws import transformers as laws
from sweeper.analysis.laws.claim import Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, UnmeasuredError

HOLDS, PART, NOT = Verdict.CONFIRMED, Verdict.IN_PART, Verdict.NOT_REPRODUCED
Rows = list[dict[str, Any]]


class Told(Evidence):
    """Evidence that answers every query with the rows it was told."""

    def __init__(self, rows: Rows) -> None:
        super().__init__({})
        self._told = rows

    def rows(self, query: str, sweep: str | None = None) -> Rows:
        return self._told


def sphere(near: Sequence[float | None], far: float = 4.0, free: float = 20.0) -> Told:
    """Return rows with these ratios t2 / t1 at scale 0.8 (None: never) and at scale 1."""
    ratios = [(False, 1.0, free)] * 3 + [(True, 1.0, far)] * 3
    rows = [(s, scale, r) for s, scale, r in ratios] + [(True, 0.8, r) for r in near]
    return Told(
        [
            {
                "sphere": s,
                "scale": scale,
                "seed": i % 3,
                "t1": 100,
                "t2": None if r is None else 100 * r,
                "ratio": 9.0 if r is None else r,
            }
            for i, (s, scale, r) in enumerate(rows)
        ]
    )


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (sphere([1.2, None, 1.9]), Verdict.DEPENDS),
        (sphere([1.2, 1.5, 1.9]), PART),
        (sphere([1.2, None, None]), NOT),
        (sphere([2.1, None, 2.5]), NOT),
        (sphere([1.2, None, 3.1]), NOT),
        (sphere([1.2, None, 2.5]), Verdict.DEPENDS),
        (sphere([1.2, 1.2, 1.2], free=7.0), NOT),
        (sphere([1.2, 1.2, 1.2], far=25.0), PART),
    ],
)
def test_law_25(found: Told, wanted: Verdict) -> None:
    assert laws.measure_sphere(found).verdict is wanted


def curve(l2: Sequence[float], med: Sequence[float] = (1, 2, 1.5, 1.2)) -> Told:
    """Return the curves of two seeds at steps 0, 100, 500 and 1000 = t2."""
    return Told(
        [
            {
                "seed": seed,
                "step": step,
                "train_acc": 1.0,
                "test_acc": 0.5,
                "l2": a,
                "med": m,
                "t1": 100,
                "t2": 1000,
            }
            for seed in (0, 1)
            for step, a, m in zip((0, 100, 500, 1000), l2, med, strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("l2", "wanted"),
    [
        ((23, 30.6, 28, 23), HOLDS),
        ((13, 20, 18, 13), PART),
        ((23, 30.6, 30, 29), NOT),
        ((23, 25, 24, 20), NOT),
        ((23, 21, 18, 15), NOT),
    ],
)
def test_law_26(l2: Sequence[float], wanted: Verdict) -> None:
    assert laws.measure_norm(curve(l2)).verdict is wanted


@pytest.mark.parametrize(
    ("l2", "med", "wanted"),
    [
        ((23, 30, 29, 28), (1, 2, 1.5, 1.7), Verdict.DEPENDS),
        ((23, 30, 29, 28), (1, 2, 1.5, 1.2), Verdict.DEPENDS),
        ((23, 30, 12, 10), (1, 2, 1.5, 1.7), PART),
        ((23, 30, 29, 28), (1, 2, 1.5, 1.9), PART),
        ((23, 30, 29, 28), (1, 2, 1.9, 1.95), NOT),
    ],
)
def test_law_of_neighbours(l2: Sequence[float], med: Sequence[float], wanted: Verdict) -> None:
    assert laws.measure_med(curve(l2, med)).verdict is wanted


def shares(times: dict[float, float | None]) -> Told:
    return Told(
        [
            {"fraction": f, "trials": 3, "generalized": 3 if t else 0, "t2": t}
            for f, t in times.items()
        ]
    )


@pytest.mark.parametrize(
    ("near", "far", "wanted"),
    [(1.45, 1.1, HOLDS), (1.45, 1.4, PART), (1.2, 1.05, NOT), (1.8, 1.1, NOT)],
)
def test_law_of_a_percent(near: float, far: float, wanted: Verdict) -> None:
    times: dict[float, float | None] = {0.14: None}
    times |= {round(0.2 - 0.01 * k, 2): 1000 * near**k for k in (2, 1, 0)}
    times |= {round(0.2 + 0.01 * k, 2): 1000 * far**-k for k in (4, 10)}
    measured: Measured = laws.measure_percent(shares(times))
    assert measured.verdict is wanted
    assert measured.values["near"].value == pytest.approx(near - 1)
    assert measured.values["far"].value == pytest.approx(far - 1)


def test_a_percent_needs_five_fractions() -> None:
    with pytest.raises(UnmeasuredError, match="fewer than five fractions"):
        laws.measure_percent(shares({0.1: None, 0.2: 900.0, 0.3: 100.0, 0.4: 50.0, 0.5: 40.0}))


def tables(critical: dict[int, float]) -> Told:
    """Return rows in which a share is enough from `critical` on."""
    grid = np.round(np.geomspace(0.05, 0.9, 40), 4)
    return Told(
        [
            {"p": p, "fraction": float(f), "enough": f >= c}
            for p, c in critical.items()
            for f in grid
        ]
    )


@pytest.mark.parametrize(
    ("critical", "wanted"),
    [
        ({p: 2.5 * np.log(p) / p for p in (13, 19, 29, 43)}, HOLDS),
        ({13: 0.5, 19: 0.48, 29: 0.42, 43: 0.4}, PART),
        ({13: 0.3, 19: 0.3, 29: 0.3, 43: 0.3}, NOT),
        ({13: 0.3, 19: 0.4, 29: 0.5, 43: 0.6}, NOT),
    ],
)
def test_law_of_the_critical_share(critical: dict[int, float], wanted: Verdict) -> None:
    assert laws.measure_threshold(tables(critical)).verdict is wanted


def test_a_share_that_is_never_or_always_enough_isnt_measured() -> None:
    with pytest.raises(UnmeasuredError, match="fewer than two moduli"):
        laws.measure_threshold(tables({13: 0.01, 19: 2.0, 29: 0.3}))


def test_the_pictures_are_drawn_of_the_same_rows() -> None:
    assert len(laws.picture_norm(curve((23, 30, 28, 23))).panels) == 1
    assert len(laws.picture_med(curve((23, 30, 28, 23))).panels) == 2
    assert len(laws.picture_sphere(curve((23, 30, 28, 23))).panels) == 3
    assert len(laws.picture_threshold(tables({13: 0.3, 29: 0.2})).panels) == 1
    told = shares({0.18: None, 0.2: 9e2, 0.22: 5e2, 0.24: 4e2, 0.3: 3e2, 0.4: 2e2})
    assert len(laws.picture_percent(told).panels) == 1
