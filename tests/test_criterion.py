"""Memorization, generalization, delay and phase have one definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeper.criterion import (
    HELD,
    RULES,
    THRESHOLDS,
    Bracket,
    Criterion,
    Phase,
    delay,
    first_step,
    phase,
)

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
    assert delay(t1, Bracket(t2, 100 if t2 is None else None)) == expected


def test_a_delay_of_which_nothing_is_known_exceeds_0() -> None:
    assert delay(10, Bracket(None, None)) == delay(10, Bracket(None, 5)) == (0, True)


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


@pytest.mark.parametrize(
    "change",
    [
        {"gap": 0},
        {"rule": "first"},
        {"metric": "A b"},
        {"x": 1},
        {"train": None},
        {"rule": "argmin"},
        {"rule": "relative", "test": 1.5},
        {"metric": "error", "rule": "relative"},
        {"rule": "stable_final", "train": None},
        {"hold": 0},
        {"hold": 1.5},
        {"floor": 0.5},
        {"rule": "argmin", "train": None, "test": None, "hold": 2},
        {"rule": "argmin", "train": None, "test": None, "floor": 0},
        {"rule": "argmin", "train": None, "test": None, "floor": 1.5},
    ],
)
def test_a_criterion_is_checked(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Criterion.model_validate({"metric": "acc", "train": 0.9, "test": 0.9, **change})


def by(rule: str, metric: str = "error", test: float = 1.5) -> Criterion:
    """Return a criterion whose t2 is read by `rule`."""
    given: dict[str, object] = {"metric": metric, "rule": rule}
    thresholds = {"train": 1.0, "test": test} if rule in THRESHOLDS else {}
    return Criterion.model_validate(given | thresholds)


@pytest.mark.parametrize("rule", RULES)
def test_a_criterion_survives_the_ledger(rule: str) -> None:
    criterion = by(rule)
    recorded = criterion.model_dump()
    assert recorded.keys() == {"metric", "train", "test", "rule", "gap", "hold", "floor"}
    assert Criterion(**recorded) == criterion


@pytest.mark.parametrize(
    ("criterion", "values", "t2"),
    [
        (by("argmin"), [9, 4, 1, 1, 2], 2),
        (by("argmin"), [9, 4, np.nan, 1, 2], 3),
        (by("argmin"), [9, 4, 3, 2, 1], None),  # it was still improving
        (by("argmin"), [9, 4, 3, 2, np.inf], None),
        (by("argmin"), [1, 1, 1], None),  # it never moved
        (by("argmin"), [1, 0.75, 0.75], None),  # it learned too little to be good
        (by("argmin"), [1, 0.5, 0.5], 1),
        (by("argmin"), [np.nan, 1, 0.5, 0.5], 2),
        (by("argmin"), [0, 0, 0], 0),  # it was perfect from the start
        (by("argmin"), [1], None),
        (by("argmin"), [], None),
        (by("argmin", "acc"), [0, 0.5, 1, 0.5, 1], 2),
        (by("argmin", "acc"), [0, 0.5, 0.5, 0.25, 1], None),
        (by("relative"), [9, 4, 1.5, 1, 2], 2),
        (by("relative"), [9, 4, np.nextafter(1.5, 2), 1, 2], 3),
        (by("relative"), [9, 4, 1.5, 1.25, 1], None),  # so was it
        (by("relative"), [9, 4, 0, 0], 2),
        (by("relative"), [9, -1, 2], None),  # half as much again of less than nothing
        (by("relative", "acc", 0.5), [0, 0.5, 1, 1], 1),
        (by("stable_final"), [9, 1, 1, 1, 1, 1], 1),
        (by("stable_final"), [9, 1, 9, 1.04, 0.96, 1, 1, 1], 3),
        (by("stable_final"), [9, 1, 9, 1.06, 0.96, 1, 1, 1], None),  # not twice near it in time
        (by("stable_final"), [9, 1.06, 0.96, 0.96, 1, 1, 1], 2),
        (by("stable_final"), [1, 1, 1, 1, 1], None),  # it never moved
        (by("stable_final"), [2, 1, 1, 1, 1, 1], 1),  # just long enough, and good enough
        (by("stable_final"), [9, 9, 1, 1, 1], None),  # near nothing but itself
        (by("stable_final"), [1, 1, 1, 1], None),  # too short
        (by("stable_final"), [9, 0, np.nan, 0, 0, 0, 0], 1),
        (by("stable_final"), [-9, -1, -1, -1, -1, -1], None),  # it got worse
        (by("stable_final"), [9, -1, -1, -1, -1, -1], 1),
        (by("stable_final", "acc"), [0, 0.5, 1, 1, 1, 1, 1], 2),
    ],
)
def test_a_rule_finds_a_step_only_where_the_curve_shows_it(
    criterion: Criterion, values: list[float], t2: int | None
) -> None:
    steps = np.arange(len(values)) ** 2
    expected = None if t2 is None else t2**2
    assert criterion.t2(steps, np.array(values)) == expected
    if criterion.rule != "relative":
        assert criterion.t1(steps, np.array(values)) == expected


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"threshold"}))
def test_no_value_alone_tells_that_a_rule_for_whole_curves_holds(rule: str) -> None:
    criterion = by(rule)
    assert criterion.whole
    assert not criterion.train_holds(np.zeros(3)).any()
    assert not criterion.test_holds(np.zeros(3)).any()


CURVES = st.lists(st.just(0.0) | st.floats(1e-290, 10) | st.just(np.nan), max_size=12).map(np.array)


@given(CURVES)
def test_one_times_the_best_is_the_best(values: np.ndarray) -> None:
    steps = np.arange(len(values))
    assert by("relative").t1(steps, values) == by("argmin").t1(steps, values)


@given(CURVES, st.floats(1e-3, 1e3), st.sampled_from(["argmin", "relative"]))
def test_rules_for_whole_curves_know_no_scale(values: np.ndarray, by_: float, rule: str) -> None:
    power = 2.0 ** round(np.log2(by_))  # exact
    steps = np.arange(len(values))
    assert by(rule).t2(steps, values * power) == by(rule).t2(steps, values)


def holding(hold: int, **more: object) -> Criterion:
    given = {"metric": "acc", "train": 0.5, "test": 0.9, "hold": hold, **more}
    return Criterion.model_validate(given)


@pytest.mark.parametrize(
    ("values", "hold", "bracket"),
    [
        ([0, 1, 0, 1, 1, 0, 1, 1, 1], 1, (1, 0)),
        ([0, 1, 0, 1, 1, 0, 1, 1, 1], 2, (3, 2)),
        ([0, 1, 0, 1, 1, 0, 1, 1, 1], 3, (6, 5)),
        ([0, 1, 0, 1, 1, 0, 1, 1, 1], 4, (None, 5)),  # the last run may go on
        ([0, 1, np.nan, 1, 0], 2, (1, 0)),
        ([0, np.nan, np.nan, 1], 1, (3, 0)),
        ([np.nan, 1], 1, (1, None)),
        ([0, 0, np.nan], 1, (None, 1)),
        ([1, 1], 2, (0, None)),
        ([1], 2, (None, None)),
        ([], 2, (None, None)),
        ([np.nan], 1, (None, None)),
    ],
)
def test_the_first_of_several_steps_in_a_row_counts(
    values: list[float], hold: int, bracket: tuple[int | None, int | None]
) -> None:
    steps = np.arange(len(values))
    assert holding(hold).test_bracket(steps, np.array(values)) == bracket


def test_a_step_that_has_to_hold_stops_no_trial() -> None:
    assert holding(1).stops
    assert not holding(2).stops
    assert not holding(2).test_holds(np.ones(3)).any()
    assert not any(by(rule).stops for rule in set(RULES) - {"threshold"})


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"threshold"}))
def test_a_trial_that_learns_nothing_reaches_nothing(rule: str) -> None:
    steps = np.arange(10)
    still = 1 + 1e-3 * np.sin(steps)
    criterion = by(rule)
    assert criterion.test_bracket(steps, still) == (None, 9)
    if rule != "stable_final":  # its final value is worse than the first
        assert criterion.model_copy(update={"floor": 1.0}).t2(steps, still) is not None
    if rule in HELD:
        assert by(rule, "acc", 0.9).t2(steps, 1 - still) is None
