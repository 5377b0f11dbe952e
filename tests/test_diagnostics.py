"""Mistakes of a grid file as data: no reader has to match their text."""

from __future__ import annotations

import pytest

from sweeper.compile.axes import read_blocks
from sweeper.compile.blocks import compile_blocks
from sweeper.compile.cell_checks import check_criteria, check_metrics, read_rules
from sweeper.compile.diagnostics import Diagnostics
from sweeper.compile.fixed import read_fixed
from sweeper.compile.search_checks import check_search
from sweeper.config.diagnostic import Kind
from sweeper.grid.document import parse
from sweeper.grid.shape import check_shape
from sweeper.trainables.config import GrokkingConfig

HEAD = "name: g\nfixed: {task: {name: sparse_recovery}, steps: 10}\n"


def visited(text: str) -> Diagnostics:
    """Return the mistakes of a file after one pass over it."""
    document = parse(text, "g")
    file, refused = check_shape(document)
    assert file is not None
    diagnostics = Diagnostics(document, file, GrokkingConfig, refused)
    fixed = read_fixed(diagnostics)
    cells = compile_blocks(diagnostics, fixed, read_blocks(diagnostics, fixed))
    search = check_search(diagnostics, fixed, cells.subgrids)
    read_rules(diagnostics, cells.subgrids)
    check_criteria(diagnostics, cells.subgrids, search.leads)
    check_metrics(diagnostics)
    return diagnostics


@pytest.mark.parametrize(
    ("text", "kind", "path", "value"),
    [
        ("seeds: 0\n", Kind.INVALID, "seeds", 0),
        ("seeds: [1, 1]\n", Kind.DUPLICATE, "seeds", 1),
        ("stop: {early: true}\n", Kind.UNKNOWN, "stop.early", "early"),
        ("steps: 5\n", Kind.MISPLACED, "steps", "steps"),
        ("log: {metrics: [nothing]}\n", Kind.UNKNOWN, "log.metrics", "nothing"),
        ("exclude: task.N = 1\n", Kind.INVALID, "exclude", "task.N = 1"),
        ("grid: {product: {task.N: [1, x]}}\n", Kind.INVALID, "task.N", "x"),
        ("grid: {product: {task.M: [1, 2]}}\n", Kind.UNKNOWN, "task.M", None),
        ("grid: {product: {steps: [1, 2]}}\n", Kind.MISPLACED, "steps", None),
        ("grid: {product: {regularizer.name: [l1]}}\n", Kind.MISSING, "regularizer.strength", None),
        (
            "criterion: {metric: lost, train: 1, test: 1}\n",
            Kind.UNKNOWN,
            "criterion.metric",
            "lost",
        ),
        (
            "search: {objective: t2, sampler: grid, space: {selection.tau: {uniform: [0, 1]}}}\n",
            Kind.CONFLICT,
            "search.sampler",
            "grid",
        ),
    ],
)
def test_a_mistake_has_a_kind_a_path_and_a_value(
    text: str, kind: Kind, path: str, value: object
) -> None:
    (mistake,) = visited(HEAD + text).every
    assert (mistake.kind, mistake.path, mistake.value) == (kind, path, value)
    assert mistake.place.line == 3
    assert mistake.message.endswith((".", "?"))


def test_the_same_mistake_counts_once_at_a_place() -> None:
    diagnostics = visited(HEAD + "seeds: 0\n")
    (mistake,) = diagnostics.every
    diagnostics.add(mistake)
    diagnostics.add(mistake.at(diagnostics.document.place("name")))
    assert len(diagnostics.every) == 2


def test_a_refused_axis_leaves_its_path_unreadable_and_a_refused_grid_leaves_all() -> None:
    axis = visited(HEAD + "grid: {product: {task.N: 5}}\n")
    assert axis.unreadable == {"task.N"}
    assert not axis.incomplete
    whole = visited(HEAD + "grid: 5\n")
    assert whole.unreadable == set(GrokkingConfig.parts)
    assert whole.incomplete


def test_a_misspelt_key_is_not_missing_as_well() -> None:
    _, (mistake,) = check_shape(parse(HEAD.replace("name: g", "nam: g"), "g"))
    assert (mistake.kind, mistake.path) == (Kind.UNKNOWN, "nam")
    _, mistakes = check_shape(parse(HEAD.replace("name: g", "other: g"), "g"))
    assert {m.kind for m in mistakes} == {Kind.MISSING, Kind.UNKNOWN}
