"""What a store holds: logged steps and columns that never change."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sweeper.store.schema import METRICS, empty, finite_or_null, logged_steps, metric_names

DENSITIES = st.integers(1, 100)
HORIZONS = st.integers(0, 10**6)


def test_logged_steps_are_pinned() -> None:
    assert logged_steps(2, 100) == (0, 1, 3, 10, 32, 100)
    assert logged_steps(50, 10) == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert len(logged_steps(50, 200_000)) == 221


@given(DENSITIES, HORIZONS, HORIZONS)
def test_a_longer_horizon_only_adds_steps_behind(density: int, a: int, b: int) -> None:
    short, long = sorted((a, b))
    assert logged_steps(density, short) == tuple(
        step for step in logged_steps(density, long) if step <= short
    )


@given(DENSITIES, HORIZONS)
def test_logged_steps_ascend_from_zero(density: int, horizon: int) -> None:
    steps = logged_steps(density, horizon)
    assert steps[0] == 0
    assert list(steps) == sorted(set(steps))
    assert steps[-1] <= horizon


def test_metrics_of_criteria_have_a_train_and_a_test_column() -> None:
    assert metric_names(["margin"]) == ["loss", "acc", "error", "margin"]
    for name in metric_names():
        assert {f"train_{name}", f"test_{name}"} <= METRICS.keys()


def test_what_is_not_finite_is_stored_as_null() -> None:
    assert finite_or_null([1.0, math.nan, math.inf, -math.inf]).to_pylist() == [1.0, *[None] * 3]


def test_a_table_without_rows_has_its_columns() -> None:
    assert empty(METRICS).column_names == list(METRICS)
