"""Configs are resolved to flat values: names chosen, defaults filled in, every value checked."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from pydantic import Field

from sweeper.config.fields import (
    BATCHED,
    Config,
    Scalar,
    Section,
    all_leaves,
    arrow_kind,
    known_paths,
    marks,
)
from sweeper.config.resolve import broken, resolve, unknown_path
from sweeper.trainables.config import GrokkingConfig
from tests.strategies import GIVEN, Flat, values_of


class _Task(Section):
    name: Literal["t"] = "t"
    size: Annotated[int, Field(ge=1)] = 3
    rate: Annotated[Annotated[float, Field(gt=0)], BATCHED] = 0.5
    pair: tuple[float, float] = (0.0, 1.0)
    flag: bool = False


class _Config(Config):
    parts: ClassVar[Any] = {"task": {"t": _Task}}
    names: ClassVar[Any] = {"task": "t"}
    task: _Task


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("task.size", 4, 4),
        ("task.size", 4.0, 4),
        ("task.rate", 2, 2.0),
        ("task.rate", 1e-3, 1e-3),
        ("task.pair", [1, 2], (1.0, 2.0)),
        ("task.pair", [-0.0, 1], (0.0, 1.0)),
        ("task.flag", True, True),
    ],
)
def test_a_value_becomes_the_type_of_its_field(path: str, value: object, expected: Scalar) -> None:
    found = resolve(_Config, {path: value})
    assert found.problems == []
    assert repr(found.values[path]) == repr(expected)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("task.size", True, "task.size = true must be a whole number."),
        ("task.size", "4", "task.size = '4' must be a whole number."),
        ("task.size", 1.5, "task.size = 1.5 must be a whole number."),
        ("task.size", None, "task.size = null must be a whole number."),
        ("task.size", 0, "task.size = 0 must be at least 1."),
        ("task.size", 2**63, "task.size = 9223372036854775808 must be below 2^63."),
        ("task.size", 1e300, "task.size = 1e+300 must be below 2^63."),
        ("task.rate", 0, "task.rate = 0 must be above 0."),
        ("task.rate", float("nan"), "task.rate = nan isn't finite. Write a finite number."),
        ("task.rate", float("inf"), "task.rate = inf isn't finite. Write a finite number."),
        ("task.rate", True, "task.rate = true must be a number."),
        ("task.rate", "low", "task.rate = 'low' must be a number."),
        (
            "task.rate",
            [1],
            "task.rate = [1] must be a number. To sweep it, make it an axis of grid.",
        ),
        ("task.rate", {"a": 1}, "task.rate = {a: 1} must be a number."),
        ("task.pair", [1], "task.pair = [1] has too few values."),
        ("task.pair", [1, 2, 3], "task.pair = [1, 2, 3] has too many values: it takes 2."),
        ("task.pair", [1, "x"], "task.pair = [1, 'x'] has item 2 = 'x', which must be a number."),
        ("task.pair", 1, "task.pair = 1 must be a list."),
        ("task.flag", 1, "task.flag = 1 must be true or false."),
        ("task.sise", 1, "task has no field 'sise'. Did you mean 'size'?"),
        ("tusk.size", 1, "unknown key 'tusk.size'. Did you mean 'task'?"),
        ("task.name", "u", "task.name = 'u' is unknown. Known: t."),
        ("task.name", 1, "task.name = 1 is unknown. Known: t."),
    ],
)
def test_an_unusable_value_is_named_with_its_remedy(path: str, value: object, message: str) -> None:
    problems = resolve(_Config, {path: value}).problems
    assert [(p.path, p.message) for p in problems] == [(path, message)]


def problems(given: dict[str, Any], unknown: frozenset[str] = frozenset()) -> list[str]:
    return [p.message for p in resolve(GrokkingConfig, given, unknown).problems]


def test_a_name_follows_from_the_fields_that_are_given() -> None:
    values = values_of({"task.name": "sparse_recovery", "selection.tau": 0.5})
    assert values["selection.name"] == "coherent"
    assert problems({"task.name": "sparse_recovery", "regularizer.strength": 0.1}) == [
        "regularizer.name is missing. Choose one of: l1, l2_sq, l2_fro, group."
    ]


def test_without_a_task_nothing_else_is_called_missing() -> None:
    (problem,) = problems({"model.depth": 2, "regularizer.strength": 1.0})
    assert problem.startswith("task.name is missing. Choose one of: sparse_recovery, modular_arit")
    assert "teacher_student" in problem


def test_what_could_not_be_read_is_not_called_missing() -> None:
    given = {"task.name": "sparse_recovery", "regularizer.name": "l1"}
    assert problems(given) == ["regularizer.strength is missing: 'l1' needs it. Add it."]
    assert problems(given, frozenset({"regularizer.strength"})) == []
    assert problems({"model.depth": 1}, frozenset({"task"})) == []


def test_a_field_of_another_name_is_dropped_and_said_to_be() -> None:
    given = {"task.name": "sparse_recovery", "regularizer.name": "none", "regularizer.strength": 1}
    assert resolve(GrokkingConfig, given).dropped == ["regularizer.strength"]


def test_a_broken_constraint_shows_what_it_read() -> None:
    values = resolve(GrokkingConfig, {"task.name": "modular_arithmetic", "task.p": 24}).values
    assert [message for _, message in broken(GrokkingConfig, values)] == [
        "task.p = 24: p must be a prime, e.g. 23, 59, 97 or 113."
    ]


@settings(deadline=None)
@given(GIVEN)
def test_a_resolved_config_resolves_to_itself(given: Flat) -> None:
    values = values_of(given)
    assert values_of(values) == values
    assert set(values) <= set(known_paths(GrokkingConfig))


def test_every_field_can_be_stored_and_has_a_mark_or_none() -> None:
    for path, leaf in all_leaves(GrokkingConfig).items():
        assert arrow_kind(leaf.annotation) in {"bool", "int", "float", "str", "vector"}
        assert path in marks(GrokkingConfig)
    with pytest.raises(TypeError, match="can't be stored"):
        arrow_kind(dict[str, int])


def test_every_default_is_a_value_its_field_takes() -> None:
    for leaf in all_leaves(GrokkingConfig).values():
        if not leaf.required:
            assert leaf.check(leaf.default) == (leaf.default, None), leaf.path
    for section in GrokkingConfig.parts["task"].values():
        for path, value in section.defaults.items():
            if not path.endswith(".name"):
                assert all_leaves(GrokkingConfig)[path].check(value) == (value, None)


def test_a_field_without_its_part_names_the_part() -> None:
    unknown = unknown_path(GrokkingConfig, "lr")
    assert unknown.message == "unknown key 'lr'. Did you mean 'optimizer.lr'?"
