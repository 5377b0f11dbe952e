"""Doctored rows turn the verdict of the law of images."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.analysis.laws import images
from sweeper.analysis.laws.claim import Verdict
from sweeper.analysis.laws.evidence import UnmeasuredError
from tests.test_law_verdicts import Rows, Told

HOLDS, PART, NOT = Verdict.CONFIRMED, Verdict.IN_PART, Verdict.NOT_REPRODUCED


def told(slow: float = 3.0, t1: int = 900, small: int = 40, seeds: int = 3) -> Told:
    """Rows as claimed: t2 = 2900 at decay 0.3, `slow` times that at 0.1."""
    rows: Rows = []
    for seed in range(seeds):
        more = 10 * seed
        for alpha, decay, t2 in (
            (1.0, 0.3, small),
            (8.0, 0.1, round(slow * (2900 + more))),
            (8.0, 0.3, 2900 + more),
        ):
            found: dict[str, Any] = {"seed": seed, "alpha": alpha, "decay": decay}
            rows.append(found | {"t1": t1 if alpha > 1 else 30, "t2": t2})
    return Told((images.TIMES, rows))


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, HOLDS),
        ({"seeds": 1}, HOLDS),
        ({"slow": 2.52}, HOLDS),
        ({"slow": 2.4}, NOT),
        ({"slow": 1.0}, NOT),
        ({"slow": 3.6}, NOT),
        ({"t1": 2600}, PART),
        ({"small": 900}, PART),
    ],
)
def test_the_delay_goes_as_one_over_the_decay(changed: dict[str, Any], wanted: Verdict) -> None:
    measured = images.measure(told(**changed))
    assert measured.verdict is wanted, measured
    assert f"{changed.get('slow', 3.0):.3g}" in measured.text


def test_a_seed_that_lacks_a_decay_leaves_it_unmeasured() -> None:
    rows = told().rows(images.TIMES)
    with pytest.raises(UnmeasuredError, match="different seeds"):
        images.measure(Told((images.TIMES, rows[:-1])))
