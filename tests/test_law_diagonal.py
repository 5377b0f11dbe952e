"""Doctored rows turn the verdicts of the laws of diagonal networks and of basis pursuit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.analysis.laws import diagonal
from sweeper.analysis.laws.claim import Measured, Verdict
from sweeper.analysis.laws.evidence import UnmeasuredError
from tests.test_law_verdicts import Rows, Told

HOLDS, PART, NOT = Verdict.CONFIRMED, Verdict.IN_PART, Verdict.NOT_REPRODUCED
DECAYS = (0.0, 1e-4, 3e-4, 1e-3)


def ends(**changed: dict[float, float | None] | float | None) -> Told:
    """Rows of `diagonal.SLOW` as claimed but for what is `changed`, for all decays or for some."""
    rows: Rows = []
    for seed in (0, 1):
        for decay in DECAYS:
            none = decay == 0
            row: dict[str, Any] = {
                "seed": seed,
                "decay": decay,
                "plateau": 2.0,
                "final": 2.0 if none else 20 * decay,
                "half": None if none else 0.5 * (1 + seed),
                "tenth": None if none else 2.0 * (1 + seed),
                "balance": 1.5 if none else 1.001,
                "excess": 3.0 if none else 1 - 20 * decay,
            }
            for name, value in changed.items():
                if isinstance(value, dict):
                    row[name] = value.get(decay, row[name])
                elif not none:
                    row[name] = value
            rows.append(row)
    return Told((diagonal.SLOW, rows))


def verdict(measured: Measured) -> Verdict:
    return measured.verdict


def test_rows_as_claimed_hold() -> None:
    for measure in (
        diagonal.measure_collapse,
        diagonal.measure_limits,
        diagonal.measure_balance,
        diagonal.measure_pursuit,
    ):
        assert verdict(measure(ends())) is HOLDS, measure(ends()).missed
    width = diagonal.measure_width(ends())
    assert verdict(width) is Verdict.DEPENDS, width.missed


def test_a_time_that_isnt_slow_time_is_no_collapse() -> None:
    # decay * time grows with the decay, as a time that doesn't depend on it does
    assert verdict(diagonal.measure_collapse(ends(half={1e-3: 0.8}))) is NOT
    assert verdict(diagonal.measure_collapse(ends(tenth={1e-3: 3.0}))) is PART
    with pytest.raises(UnmeasuredError, match="didn't fall to a tenth"):
        diagonal.measure_collapse(ends(tenth={1e-4: None}))


def test_limits_that_commute_or_a_plateau_that_moves_are_noticed() -> None:
    assert verdict(diagonal.measure_limits(ends(final={0.0: 0.003}))) is NOT
    assert verdict(diagonal.measure_limits(ends(final={0.0: 1.0}))) is PART


def test_factors_out_of_balance_are_noticed() -> None:
    assert verdict(diagonal.measure_balance(ends(balance=1.01))) is NOT


def test_a_limit_point_beside_basis_pursuit_is_noticed() -> None:
    assert verdict(diagonal.measure_pursuit(ends(excess=1.1))) is NOT
    assert verdict(diagonal.measure_pursuit(ends(excess=1.009))) is PART


def test_a_sudden_or_changing_fall_is_noticed() -> None:
    assert verdict(diagonal.measure_width(ends(tenth=0.55))) is NOT
    assert verdict(diagonal.measure_width(ends(tenth={1e-3: 3.0}))) is PART
    assert verdict(diagonal.measure_width(ends(half=0.5, tenth=1.5))) is PART


def pursuits(needed: dict[float, list[int]]) -> Told:
    """Rows of `diagonal.NEEDED`: by tau, N_min for s = 10, 20, 30."""
    rows = [
        {"tau": tau, "s": 10 * (i + 1), "failed": N - 10, "most": 100}
        for tau, all_s in needed.items()
        for i, N in enumerate(all_s)
    ]
    return Told((diagonal.NEEDED, rows))


@pytest.mark.parametrize(
    ("needed", "wanted"),
    [
        ({0: [40, 50, 60], 0.5: [60, 60, 80], 1: [100, 100, 100]}, HOLDS),
        ({0: [40, 60, 50], 0.5: [60, 60, 80], 1: [100, 100, 100]}, NOT),
        ({0: [40, 50, 60], 0.5: [60, 60, 50], 1: [100, 100, 100]}, NOT),
        ({0: [40, 50, 60], 0.5: [30, 60, 80], 1: [100, 100, 100]}, PART),
        ({0: [40, 50, 60], 0.5: [60, 60, 80], 1: [90, 100, 100]}, PART),
        ({0: [100] * 3, 0.5: [100] * 3, 1: [100] * 3}, PART),
    ],
)
def test_what_basis_pursuit_needs(needed: dict[float, list[int]], wanted: Verdict) -> None:
    assert verdict(diagonal.measure_needed(pursuits(needed))) is wanted


def test_signals_that_are_never_recovered_leave_it_unmeasured() -> None:
    with pytest.raises(UnmeasuredError, match="aren't recovered from n measurements"):
        diagonal.measure_needed(pursuits({0: [40], 1: [110]}))
    assert np.isnan(diagonal.needed(pursuits({0: [110]}))["needed"]).all()
