"""Figures of values and axes that no scale holds: 0 beside powers of ten, infinity, 1e306."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sweeper.analysis.diagrams.phase import Axis, DiagramCell, Kind, PhaseDiagram
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot import draw_phase
from sweeper.analysis.plot.paint import BEYOND, PHASES, Paint
from sweeper.analysis.plot.phases import _axis_label, _edges, _tick_labels
from sweeper.criterion import Phase

ABOVE, BELOW, NEITHER = BEYOND


def diagram(
    values: list[Any], phases: list[str | None] | None = None, *, kind: Kind = "number"
) -> PhaseDiagram:
    """Return a diagram with the `values` from left to right, twice."""
    xs, ys = range(len(values)), (0, 1)
    cells = tuple(
        DiagramCell(
            x, y, None, values[x], None, None, None, False, (phases or [None] * 99)[x], 1.0, 1, 0.0
        )
        for x, y in product(xs, ys)
    )
    x, y = (Axis.of(name, column) for name, column in (("x", xs), ("y", ys)))
    return PhaseDiagram(x, y, None, "value", kind, cells)


def texts(shown: PhaseDiagram, tmp_path: Path) -> set[str]:
    """Return the texts in the figure of `shown`."""
    file = tmp_path / "figure.svg"
    draw_phase(shown, file, Provenance("x", "none", None, False, 1, 1, 1))
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text()))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1e-6, 1e-4, 1e-3, 1e-2], ["0", "1e-6", "1e-4", "1e-3", "1e-2"]),
        ([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"]),
        ([-1e-1, -1e-3, 0, 1e-3, 1e-1], ["-0.1", "-0.001", "0", "0.001", "0.1"]),
        ([0.1, 10.0, 1e30], ["1e-1", "1e1", "1e30"]),
        ([1, 2, 3, 1000], ["1", "2", "3", "1000"]),
        ([0, 5e-324, 1], ["0", "4.94e-324", "1e0"]),
        ([0.0, 1e300, 1e308], ["0", "1e300", "1e308"]),
    ],
)
def test_values_that_no_scale_keeps_apart_get_equal_columns(
    values: list[float], labels: list[str]
) -> None:
    axis = Axis.of("strength", values)
    assert axis.even
    edges, middles = _edges(axis)
    assert middles.tolist() == list(range(len(values)))
    assert np.diff(edges).tolist() == [1.0] * len(values)
    assert _tick_labels(axis) == labels
    assert _axis_label(axis) == "strength (not to scale)"


@pytest.mark.parametrize(
    "values",
    [
        [0, 1e-3],
        [0, 0.1, 0.2, 0.4],
        [0, 1, 2, 4, 8],
        [1e-6, 1e-4, 1e-3, 1e-2],
        [1e-3, 1e-2, 1e-1],
        [10, 20, 30, 100],
    ],
)
def test_values_that_a_scale_keeps_apart_stay_on_it(values: list[float]) -> None:
    axis = Axis.of("strength", values)
    assert not axis.even
    assert _edges(axis)[1].tolist() == values
    assert _axis_label(axis) == "strength"


def test_names_have_equal_columns_without_a_remark() -> None:
    assert Axis.of("name", ["a", "b"]).even
    assert _axis_label(Axis.of("name", ["a", "b"])) == "name"


def test_what_a_refinement_put_beside_zero_stands_between_its_lines() -> None:
    lines = (0, 1e-6, 1e-4, 1e-3)
    axis = Axis("strength", (0, 5e-7, 1e-6, 1e-4, 3.25e-4, 1e-3), lines)
    assert axis.even
    assert _edges(axis)[1].tolist() == [0, 0.5, 1, 2, 2.25, 3]


@pytest.mark.parametrize(
    ("value", "phase", "name"),
    [
        (1e306, "diverged", "diverged"),
        (math.inf, "diverged", "diverged"),
        (math.nan, "diverged", "diverged"),
        (1e306, "memorization", ABOVE),
        (math.inf, None, ABOVE),
        (-math.inf, None, BELOW),
        (-1.7e308, "grokking", BELOW),
        (math.nan, None, NEITHER),
        (10**40 * 10**70, None, ABOVE),
    ],
)
def test_a_value_beyond_any_scale_has_a_sign_and_leaves_the_scale_to_the_others(
    value: float, phase: str | None, name: str, tmp_path: Path
) -> None:
    shown = diagram([1.0, 2.0, value], [None, None, phase])
    paint = Paint(shown)
    assert paint.norm is not None
    assert (paint.norm.vmin, paint.norm.vmax) == (1.0, 2.0)
    cell = shown.panel()[2, 0]
    assert paint.colour(cell) == (BEYOND | {"diverged": PHASES[Phase.DIVERGED]})[name]
    assert [handle.get_label() for handle in paint.handles()] == [name]
    assert name in texts(shown, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        [1e306, 1e306, 1e306],
        [math.nan] * 3,
        [-math.inf, 0.0, math.inf],
        [-1e100, 1e100, 0.0],
        [1e-300, 1e100, 1.0],
        [5e-324, 1e-323, 1e-322],
        [0.0, 0.0, 0.0],
        [1e100, 1e100, 1e100],
        [2**63 - 1, -(2**63), 0],
        [1e15, 1e15 + 0.125, 1e15 + 0.25],
        [-5e-324, 0.0, 5e-324],
    ],
    ids=str,
)
def test_any_values_are_drawn(values: list[float], tmp_path: Path) -> None:
    assert "value" in texts(diagram(values), tmp_path) | {"value"}
    ElementTree.parse(tmp_path / "figure.svg")


@pytest.mark.parametrize("end", [0, 1e-308, 1e308, -1e308])
@pytest.mark.parametrize("values", [(1e-3, 1e-2, 1e-1), (1, 2), (1.0,)])
def test_any_axis_is_drawn(values: tuple[float, ...], end: float, tmp_path: Path) -> None:
    axis = Axis.of("a.b", [*values, end])
    y = Axis.of("c.d", [0, 1])
    cells = tuple(
        DiagramCell(v, w, None, 5, None, None, None, False, None, 1.0, 1, 0.0)
        for v, w in product(axis.values, y.values)
    )
    shown = PhaseDiagram(axis, y, None, "delay", "steps", cells)
    label = "a.b (not to scale)" if axis.even else "a.b"
    assert label in texts(shown, tmp_path)
    turned = PhaseDiagram(
        y,
        axis,
        None,
        "delay",
        "steps",
        tuple(
            DiagramCell(w, v, None, 5, None, None, None, False, None, 1.0, 1, 0.0)
            for v, w in product(axis.values, y.values)
        ),
    )
    assert label in texts(turned, tmp_path)
