"""Doctored rows turn the verdicts of the laws of film reviews and molecules."""

from __future__ import annotations

import pytest

from sweeper.analysis.laws import language_molecules as laws
from sweeper.analysis.laws.claim import Verdict
from sweeper.analysis.laws.evidence import UnmeasuredError
from tests.test_law_verdicts import Rows, Told

HOLDS, PART, NOT = Verdict.CONFIRMED, Verdict.IN_PART, Verdict.NOT_REPRODUCED

Times = tuple[int | None, int | None]


def told(query: str, large: Times, small: Times, alpha: float, **more: float) -> Told:
    """Rows of two seeds of two initial norms that memorize and generalize at some steps."""
    rows: Rows = [
        {
            "seed": seed,
            "alpha": norm,
            "t1": t1,
            "t2": t2,
            "last_step": 30_000,
            "low": 0.08,
            "early": 0.52,
            "late": 0.52 + gain,
        }
        for seed in range(2)
        for norm, (t1, t2), gain in (
            (alpha, large, more.get("gain", 0.12)),
            (1.0, small, more.get("small_gain", 0.01)),
        )
    ]
    return Told((query, rows))


@pytest.mark.parametrize(
    ("large", "more", "wanted"),
    [
        ((150, 700), {}, HOLDS),
        ((150, 700), {"gain": 0.07}, NOT),
        ((150, 299), {}, PART),
        ((150, None), {}, PART),
        ((None, 700), {}, PART),
        ((150, 700), {"small_gain": 0.04}, PART),
    ],
)
def test_reviews_grok_from_a_large_norm_alone(
    large: Times, more: dict[str, float], wanted: Verdict
) -> None:
    measured = laws.measure_reviews(told(laws.REVIEW_TIMES, large, (90, 95), 6.0, **more))
    assert measured.verdict is wanted, measured
    assert ("never" in measured.text) == (None in large)


@pytest.mark.parametrize(
    ("large", "small", "wanted"),
    [
        ((6000, 9000), (90, 60), HOLDS),
        ((6000, None), (90, 60), PART),
        ((6000, 9000), (20, 60), PART),
        ((300, 590), (90, 60), NOT),
        ((6000, 9000), (90, None), NOT),
    ],
)
def test_molecules_wait_for_a_large_norm(large: Times, small: Times, wanted: Verdict) -> None:
    measured = laws.measure_molecules(told(laws.MOLECULE_TIMES, large, small, 3.0))
    assert measured.verdict is wanted, measured


@pytest.mark.parametrize(("missing", "wanted"), [(0, HOLDS), (1, HOLDS), (2, PART)])
def test_most_seeds_of_the_large_norm_must_generalize(missing: int, wanted: Verdict) -> None:
    rows: Rows = [
        {"seed": seed, "alpha": alpha, "t1": t1, "t2": t2, "last_step": 30_000, "low": 0.08}
        for seed in range(3)
        for alpha, t1, t2 in ((3.0, 6000, None if seed < missing else 9000), (1.0, 90, 60))
    ]
    assert laws.measure_molecules(Told((laws.MOLECULE_TIMES, rows))).verdict is wanted


def test_one_norm_alone_leaves_both_unmeasured() -> None:
    for query, measure in (
        (laws.REVIEW_TIMES, laws.measure_reviews),
        (laws.MOLECULE_TIMES, laws.measure_molecules),
    ):
        with pytest.raises(UnmeasuredError, match="a large and the default initial norm"):
            measure(told(query, (1, 2), (1, 2), 1.0))
