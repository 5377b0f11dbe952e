"""One pass over a file reports its shape and its meaning, and no echo of either."""

from __future__ import annotations

import time

import pytest

from sweeper.compile.compile import read_grid
from sweeper.errors import ConfigError
from sweeper.grid.document import parse
from tests.strategies import grid_of
from tests.test_gridfile import load

HEAD = "name: g\nfixed: {task: {name: sparse_recovery}, steps: 10}\n"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_grid(parse(text, "g"), load)
    return caught.value.problems


@pytest.mark.parametrize(
    ("grid", "mistake"),
    [
        (
            "{product: {regularizer.name: [], regularizer.strength: [1]}}",
            "g:3:36: regularizer.name = [] needs at least one value.",
        ),
        (
            "{product: {regularizer.name: [l1], regularizer.strength: 5}}",
            "g:3:64: regularizer.strength = 5 must be a list of values, or logspace, linspace or "
            "range. To fix it at one value, move it to fixed.",
        ),
        (
            "{product: {regularizer.name: [l1, l2_s], regularizer.strength: [1]}}",
            "g:3:41: regularizer.name = 'l2_s' is unknown. Did you mean 'l2_sq'?",
        ),
        (
            "{product: {selection: [uniform], selection.tau: [0]}}",
            "g:3:18: selection is a part, not a value. Sweep one of its fields: selection.name.",
        ),
        ("5", "g:3:7: grid = 5 must be a mapping, e.g. product: {model.depth: [1, 2]}."),
    ],
)
def test_a_mistake_has_no_echo(grid: str, mistake: str) -> None:
    assert mistakes(HEAD + f"grid: {grid}\n") == [mistake]


@pytest.mark.parametrize(
    "p",
    [
        "fixed: {task.p: x, steps: 10}\ngrid: {product: {",
        "fixed: {steps: 10}\ngrid: {product: {task.p: [x, 17], ",
    ],
)
def test_a_value_that_two_subgrids_share_is_refused_once_and_breaks_no_constraint(p: str) -> None:
    text = f"name: g\n{p}task.name: [modular_arithmetic], model.name: [mlp, transformer]}}}}\n"
    (message,) = mistakes(text)
    assert message.endswith("task.p = 'x' must be a whole number.")


def test_a_refused_fixed_has_no_echo() -> None:
    assert mistakes("name: g\nfixed: 5\ngrid: {product: {model.depth: [1]}}\n") == [
        "g:2:8: fixed = 5 must be a mapping of names to values, e.g. fixed: {steps: 1000}."
    ]


def test_a_refused_criterion_has_no_echo() -> None:
    assert mistakes(HEAD + "criterion: 5\n") == [
        "g:3:12: criterion = 5 must be a mapping, "
        "e.g. criterion: {metric: acc, train: 0.99, test: 0.99}."
    ]


def test_a_broken_constraint_stands_at_the_value_that_breaks_it() -> None:
    grid = "grid:\n  product:\n    task.n: [100, 4]\n    task.s: [3,\n      5]\n"
    assert mistakes(HEAD + grid) == [
        "g:7:7: task.n = 4, task.s = 5: a vector has at most n nonzeros. "
        "Lower task.s or raise task.n."
    ]


def test_a_field_that_applies_to_one_of_the_names_may_be_fixed() -> None:
    text = HEAD.replace("steps", "regularizer.strength: 0.5, steps")
    grid = grid_of(text + "grid: {product: {regularizer.name: [l1, none]}}\n")
    assert [t.values.get("regularizer.strength") for t in grid.trials()] == [0.5, None]


def test_a_criterion_can_be_given_for_each_task() -> None:
    grid = grid_of(
        "name: g\nfixed: {steps: 1}\ngrid: {product: {task.name: [sparse_recovery, "
        "modular_arithmetic]}}\ncriterion: {sparse_recovery: {metric: loss, train: 1, test: 2}}\n"
    )
    assert {task: c.metric for task, c in grid.criteria.items()} == {
        "sparse_recovery": "loss",
        "modular_arithmetic": "acc",
    }


def test_a_huge_grid_is_refused_before_it_is_enumerated() -> None:
    axes = ", ".join(
        f"{path}: {{linspace: [0.1, 0.9, 1000000]}}"
        for path in ("optimizer.lr", "selection.tau", "model.init_scale")
    )
    start = time.process_time()
    assert mistakes(HEAD + f"grid: {{product: {{{axes}}}}}\n") == [
        "g:3:7: the block has 1,000,000,000,000,000,000 cells; at most 20,000,000 are allowed. "
        "Use fewer values, or split the sweep."
    ]
    assert time.process_time() - start < 1


def test_too_many_combinations_of_names_are_refused() -> None:
    names = ", ".join(["none"] * 10_001)
    assert mistakes(HEAD + f"grid: {{product: {{regularizer.name: [{names}]}}}}\n") == [
        "g:3:7: the block has more than 10,000 combinations of names. Split the sweep."
    ]
