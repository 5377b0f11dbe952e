"""Exclusion rules: which cells they remove, and the texts that are no rule."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sweeper.grid import exclusion
from sweeper.grid.exclusion import parse, spread
from sweeper.grid.subgrid import Axis, Subgrid
from sweeper.sql import QueryError

TYPES = {
    "task.N": pa.int64(),
    "task.n": pa.int64(),
    "model.Depth": pa.int64(),
    "regularizer.name": pa.string(),
}
GRIDS = [
    Subgrid(
        {"regularizer.name": "l1", "task.n": 9},
        (Axis(("model.Depth",), ((1,), (2,))), Axis(("task.N",), ((10,), (20,), (30,)))),
    ),
    Subgrid({"regularizer.name": "none", "task.N": 20, "task.n": 9}, ()),
]


def removed(text: str) -> list[list[bool]]:
    """Return for each of `GRIDS` which cells the rule removes."""
    masks = parse(text, TYPES).removed(GRIDS, TYPES)
    return [spread(mask, grid).tolist() for mask, grid in zip(masks, GRIDS, strict=True)]


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("task.N >= 20", "011011", "1"),
        ("task.n = 9", "111111", "1"),
        ("model.depth = 2 and task.N = 10", "000100", "0"),
        ("regularizer.name = 'none'", "000000", "1"),
        ("task.N / model.Depth < 11 -- small", "100110", "0"),
    ],
)
@pytest.mark.parametrize("chunk", [2, 1 << 17])
def test_a_rule_removes_the_cells_that_meet_it(
    monkeypatch: pytest.MonkeyPatch, text: str, first: str, second: str, chunk: int
) -> None:
    monkeypatch.setattr(exclusion, "CHUNK", chunk)
    assert removed(text) == [[c == "1" for c in first], [c == "1" for c in second]]


def test_a_rule_is_evaluated_once_per_combination_of_the_axes_that_it_reads() -> None:
    rule = parse("task.N > 10", TYPES)
    assert rule.paths == ("task.N",)
    assert rule.condition == "c0 > 10"
    assert [mask.shape for mask in rule.removed(GRIDS, TYPES)] == [(1, 3), ()]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("task.M > 1", "no field is called 'task.M'. Did you mean 'task.N'?"),
        ("Task.n = 1", "no field is called 'Task.n'. Did you mean 'task.n'?"),  # or task.N
        ("banana = 1", "no field is called 'banana'."),
        ("max(task.N) > 1", "a rule reads the fields of one cell: no aggregates."),
        ("task.N > (select 1)", "a rule reads the fields of one cell: no select, over or *."),
        ("task.N > 1), (task.n > 1", "a rule is one condition."),
    ],
)
def test_a_text_that_is_no_rule_is_refused(text: str, reason: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text, TYPES)
    assert caught.value.reason == reason
