"""Memorization, generalization, delay and phase have one definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeper.criterion import Criterion, Phase, delay, first_step, phase

STEPS = st.none() | st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("metric", "holds"),
    [("acc", [False, True, True, False, False]), ("error", [True, True, False, False, False])],
)
def test_a_threshold_is_reached_at_equality_and_never_by_nan(
    metric: str, holds: list[bool]
) -> None:
    criterion = Criterion(metric=metric, train=0.5, test=0.5)
    values = np.array([0.25, 0.5, 0.75, np.nan, np.inf])
    assert criterion.train_holds(values).tolist() == holds
    assert criterion.test_holds(values).tolist() == holds


def test_the_first_step_that_holds_counts() -> None:
    steps = np.array([0, 1, 10, 100])
    assert first_step(steps, np.array([False, True, False, True])) == 1
    assert first_step(steps, np.zeros(4, dtype=bool)) is None


@pytest.mark.parametrize(
    ("t1", "t2", "expected"),
    [
        (10, 30, (20, False)),
        (30, 10, (0, False)),
        (10, 10, (0, False)),
        (10, None, (90, True)),
        (None, 10, None),
        (None, None, None),
    ],
)
def test_a_delay_is_never_negative_and_a_missing_end_is_censored(
    t1: int | None, t2: int | None, expected: tuple[int, bool] | None
) -> None:
    assert delay(t1, t2, 100) == expected


@pytest.mark.parametrize(
    ("t1", "t2", "expected"),
    [
        (None, None, Phase.CONFUSION),
        (None, 5, Phase.GENERALIZED_ONLY),
        (5, None, Phase.MEMORIZATION),
        (5, 1004, Phase.COMPREHENSION),
        (5, 1005, Phase.GROKKING),
    ],
)
def test_a_phase_follows_from_both_steps(t1: int | None, t2: int | None, expected: Phase) -> None:
    assert phase(t1, t2, diverged=False, gap=1000) is expected


@given(STEPS, STEPS)
def test_a_diverged_trial_is_nothing_else(t1: int | None, t2: int | None) -> None:
    assert phase(t1, t2, diverged=True, gap=1) is Phase.DIVERGED


@pytest.mark.parametrize("change", [{"gap": 0}, {"rule": "first"}, {"metric": "A b"}, {"x": 1}])
def test_a_criterion_is_checked(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Criterion.model_validate({"metric": "acc", "train": 0.9, "test": 0.9, **change})
