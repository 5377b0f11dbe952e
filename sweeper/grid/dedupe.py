"""Deduplication of cells, without a hash per cell.

Two cells are duplicates if all their resolved values are equal. Cells with different names never
are, nor are two cells of one subgrid whose axes have no value twice. All others are compared by
an integer code per cell, in which each combination of values has its own code.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from sweeper.config.fields import Scalar
from sweeper.grid.subgrid import Subgrid

MAX_CODES = 2**62
"""Number of codes that fit into 64 bits, with room to spare."""


def dedupe(subgrids: Sequence[Subgrid], keep: Sequence[NDArray[np.bool_]]) -> None:
    """Unset every cell in `keep` that is a duplicate of an earlier kept one.

    Args:
        subgrids: The cells.
        keep: One mask per subgrid, one entry per cell; changed in place.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, subgrid in enumerate(subgrids):
        names = tuple((p, v) for p, v in sorted(subgrid.constants.items()) if p.endswith(".name"))
        groups.setdefault(names, []).append(i)
    for members in groups.values():
        mine = [subgrids[i] for i in members]
        if not _distinct(mine):
            _dedupe(mine, [keep[i] for i in members])


def _distinct(subgrids: Sequence[Subgrid]) -> bool:
    """Return whether no two cells of `subgrids` can be duplicates, by a cheap sufficient test."""
    if not all(subgrid.distinct for subgrid in subgrids):
        return False
    everywhere = set.intersection(*(set(subgrid.constants) for subgrid in subgrids))
    return len(subgrids) == 1 or any(
        len({subgrid.constants[path] for subgrid in subgrids}) == len(subgrids)
        for path in everywhere
    )


def _dedupe(subgrids: Sequence[Subgrid], keep: Sequence[NDArray[np.bool_]]) -> None:
    kept = np.flatnonzero(np.concatenate(keep))
    codes = np.concatenate(cell_codes(subgrids))[kept]
    first = np.unique(codes, return_index=True)[1]
    unique = np.zeros(sum(subgrid.size for subgrid in subgrids), dtype=bool)
    unique[kept[first]] = True
    start = 0
    for mask in keep:
        mask &= unique[start : start + len(mask)]
        start += len(mask)


def cell_codes(subgrids: Sequence[Subgrid]) -> list[NDArray[np.int64]]:
    """Return one code per cell of each subgrid, equal where the cells are duplicates."""
    totals = [np.zeros(subgrid.size, dtype=np.int64) for subgrid in subgrids]
    ends = np.cumsum([subgrid.size for subgrid in subgrids])[:-1]
    size = 1
    for path in _varying(subgrids):
        codes: dict[Scalar, int] = {}
        columns = [_column(subgrid, path, codes) for subgrid in subgrids]
        if size * len(codes) >= MAX_CODES:
            distinct, inverse = np.unique(np.concatenate(totals), return_inverse=True)
            totals = np.split(inverse.astype(np.int64), ends)
            size = len(distinct)
        totals = [
            (total.reshape(subgrid.shape) * len(codes) + column).reshape(subgrid.size)
            for total, column, subgrid in zip(totals, columns, subgrids, strict=True)
        ]
        size *= len(codes)
    return totals


def _varying(subgrids: Sequence[Subgrid]) -> list[str]:
    """Return the paths that differ between some cells of `subgrids`."""
    axes = {path for subgrid in subgrids for axis in subgrid.axes for path in axis.paths}
    constant = {path for subgrid in subgrids for path in subgrid.constants}
    return sorted(axes | {p for p in constant if len({s.constants.get(p) for s in subgrids}) > 1})


def _column(subgrid: Subgrid, path: str, codes: dict[Scalar, int]) -> NDArray[np.int64]:
    """Return the code of each value at `path`, in a shape that broadcasts to the subgrid's."""
    for position, axis in enumerate(subgrid.axes):
        if path in axis.paths:
            column = [codes.setdefault(value, len(codes)) for value in axis.column(path)]
            shape = [1] * len(subgrid.axes)
            shape[position] = len(column)
            return np.array(column, dtype=np.int64).reshape(shape)
    return np.array(codes.setdefault(subgrid.constants[path], len(codes)), dtype=np.int64)
