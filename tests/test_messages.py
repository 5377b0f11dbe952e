"""The wording of messages: values as in YAML, durations, the requirements behind pydantic's errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from sweeper.cli import options
from sweeper.config.messages import STORE, described, duration, quoted, requirement, store_option


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (1e-05, "1e-05"),
        ("no", "'no'"),
        ((0.9, None), "[0.9, null]"),
        ({"name": "l1", "on": False}, "{name: 'l1', on: false}"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 56 + "..."),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16..."),
    ],
)
def test_a_value_is_quoted_as_in_yaml_and_cut(value: object, shown: str) -> None:
    assert quoted(value) == shown
    assert len(quoted(value)) <= 60


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (10, "10 s"),
        (89.9, "90 s"),
        (90, "1.5 min"),
        (5399, "90.0 min"),
        (5400, "1.5 h"),
        (129_600, "1.5 d"),
    ],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Annotated[float, Field(gt=0.0)], 0.0, "must be above 0."),
        (Annotated[float, Field(le=0.5)], 1.0, "must be at most 0.5."),
        (int, "a", "must be a whole number."),
        (float, float("inf"), "isn't finite. Write a finite number."),
        (Literal["a", "b"], "c", "must be 'a' or 'b'."),
        (Annotated[list[int], Field(min_length=1)], [], "needs at least one value."),
        (Annotated[list[int], Field(min_length=2)], [1], "has too few values: it takes 2."),
        (Annotated[list[int], Field(max_length=2)], [1] * 3, "has too many values: it takes 2."),
        (Annotated[str, Field(pattern="^a$")], "b", "String should match pattern '^a$'."),
    ],
)
def test_a_requirement_completes_a_sentence(annotation: Any, value: object, text: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(
        annotation, config={"strict": True, "allow_inf_nan": False}
    )
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value)
    assert requirement(caught.value.errors()[0]) == text


def test_an_error_of_foreign_code_is_described_with_its_line() -> None:
    with pytest.raises(SyntaxError) as unread:
        compile("x = (", "mine.py", "exec")
    assert described(unread.value) == "SyntaxError: '(' was never closed (mine.py:1)"
    with pytest.raises(ValueError, match="no") as raised:
        raise ValueError("no\n  room")
    line = raised.traceback[-1].lineno + 1
    assert described(raised.value) == f"ValueError: no room ({__file__}:{line})"


def test_a_command_for_the_user_names_a_store_that_it_would_not_find(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert STORE == options.STORE
    monkeypatch.delenv("SWEEPER_STORE", raising=False)
    assert store_option("sweeps") == ""
    assert store_option("my store") == " --store 'my store'"
    monkeypatch.setenv("SWEEPER_STORE", "my store")
    assert store_option("my store") == ""
    assert store_option("sweeps") == " --store sweeps"
