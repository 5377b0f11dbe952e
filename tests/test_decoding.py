"""Trials decoded from the rows of a plan."""

from __future__ import annotations

import pytest

from sweeper.config.decoding import trials_of
from sweeper.trainables.config import GrokkingConfig
from tests.strategies import grid_of

GRID = """
name: g
fixed: {steps: 10}
grid: {product: {task.name: [modular_arithmetic], optimizer.lr: [0.1, 0.2]}}
"""


@pytest.mark.parametrize(
    "younger",
    ["optimizer.constant_norm", "optimizer.betas", "task.data_seed", "selection.fraction"],
)
def test_a_field_that_is_younger_than_the_plan_has_its_default(younger: str) -> None:
    plan = grid_of(GRID).table()
    before = trials_of(GrokkingConfig, plan)
    assert len(before) == 2
    assert trials_of(GrokkingConfig, plan.drop_columns([younger])) == before
