"""Cells that mean the same are kept once, whichever block or subgrid they come from."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sweeper.config.fields import Scalar
from sweeper.grid import dedupe as module
from sweeper.grid.dedupe import cell_codes, dedupe
from sweeper.grid.subgrid import Axis, Subgrid


def axis(path: str, *values: Scalar) -> Axis:
    return Axis((path,), tuple((value,) for value in values))


def kept(*subgrids: Subgrid) -> list[list[bool]]:
    """Which cells of each subgrid deduplication keeps."""
    keep = [np.ones(subgrid.size, dtype=bool) for subgrid in subgrids]
    dedupe(subgrids, keep)
    return [mask.tolist() for mask in keep]


def test_the_first_of_two_equal_cells_is_kept() -> None:
    assert kept(Subgrid({"task.name": "t"}, (axis("a", 1, 2, 1),))) == [[True, True, False]]


def test_an_axis_of_one_subgrid_may_be_a_constant_of_another() -> None:
    first = Subgrid({"task.name": "t", "b": 5}, (axis("a", 1, 2),))
    second = Subgrid({"task.name": "t", "a": 2}, (axis("b", 5, 6),))
    assert kept(first, second) == [[True, True], [False, True]]


def test_cells_of_different_names_are_never_equal() -> None:
    one, two = (Subgrid({"task.name": n}, (axis("a", 1),)) for n in ("s", "t"))
    assert kept(one, two) == [[True], [True]]


def test_an_excluded_cell_does_not_remove_its_duplicate() -> None:
    subgrid = Subgrid({"task.name": "t"}, (axis("a", 1, 1),))
    keep = [np.array([False, True])]
    dedupe([subgrid], keep)
    assert keep[0].tolist() == [False, True]


@pytest.mark.parametrize("most", [2, 7, 2**62])
def test_codes_are_equal_exactly_where_cells_are(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CODES", most)  # below it, codes are numbered anew
    values = [(1, 2, 1), (None, 0.5), ("x", "y", "x")]
    subgrid = Subgrid({}, tuple(axis(p, *v) for p, v in zip("abc", values, strict=True)))
    (codes,) = cell_codes([subgrid])
    cells = list(product(*values))
    for i, j in product(range(len(cells)), repeat=2):
        assert (codes[i] == codes[j]) == (cells[i] == cells[j])
