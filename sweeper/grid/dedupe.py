"""Cells that mean the same: found without hashing one of them.

Two cells mean the same if all their resolved values are equal. Cells with different names
never do, and neither do two cells of one slab whose axes have no value twice; what is left is
compared by numbers, one for each combination of values.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from sweeper.config.fields import Scalar
from sweeper.grid.subgrid import Slab

ROOM = 2**62
"""Combinations that fit into one number."""


def collapse(slabs: Sequence[Slab], keep: Sequence[NDArray[np.bool_]]) -> None:
    """Unset in `keep` (a mask a slab) every cell that means the same as an earlier kept one."""
    groups: dict[Hashable, list[int]] = {}
    for i, slab in enumerate(slabs):
        names = tuple((p, v) for p, v in sorted(slab.constants.items()) if p.endswith(".name"))
        groups.setdefault(names, []).append(i)
    for members in groups.values():
        mine = [slabs[i] for i in members]
        if not _distinct(mine):
            _collapse(mine, [keep[i] for i in members])


def _distinct(slabs: Sequence[Slab]) -> bool:
    """Return whether it is plain to see that no two cells of `slabs` can mean the same."""
    if not all(slab.distinct for slab in slabs):
        return False
    everywhere = set.intersection(*(set(slab.constants) for slab in slabs))
    return len(slabs) == 1 or any(
        len({slab.constants[path] for slab in slabs}) == len(slabs) for path in everywhere
    )


def _collapse(slabs: Sequence[Slab], keep: Sequence[NDArray[np.bool_]]) -> None:
    kept = np.flatnonzero(np.concatenate(keep))
    numbers = np.concatenate(_numbers(slabs))[kept]
    first = np.unique(numbers, return_index=True)[1]
    unique = np.zeros(sum(slab.size for slab in slabs), dtype=bool)
    unique[kept[first]] = True
    start = 0
    for mask in keep:
        mask &= unique[start : start + len(mask)]
        start += len(mask)


def _numbers(slabs: Sequence[Slab]) -> list[NDArray[np.int64]]:
    """Return for each cell of each slab a number, equal where the cells mean the same."""
    numbers = [np.zeros(slab.size, dtype=np.int64) for slab in slabs]
    ends = np.cumsum([slab.size for slab in slabs])[:-1]
    size = 1
    for path in _varying(slabs):
        codes: dict[Scalar, int] = {}
        columns = [_codes(slab, path, codes) for slab in slabs]
        if size * len(codes) >= ROOM:
            found, inverse = np.unique(np.concatenate(numbers), return_inverse=True)
            numbers = np.split(inverse.astype(np.int64), ends)
            size = len(found)
        numbers = [
            (n.reshape(slab.shape) * len(codes) + column).reshape(prod(slab.shape))
            for n, column, slab in zip(numbers, columns, slabs, strict=True)
        ]
        size *= len(codes)
    return numbers


def _varying(slabs: Sequence[Slab]) -> list[str]:
    """Return the paths that differ between some cells of `slabs`."""
    axes = {path for slab in slabs for axis in slab.axes for path in axis.paths}
    constant = {path for slab in slabs for path in slab.constants}
    return sorted(axes | {p for p in constant if len({s.constants.get(p) for s in slabs}) > 1})


def _codes(slab: Slab, path: str, codes: dict[Scalar, int]) -> NDArray[np.int64]:
    """Return the number of each value at `path`, in a shape that broadcasts to the slab's."""
    for position, axis in enumerate(slab.axes):
        if path in axis.paths:
            found = [codes.setdefault(value, len(codes)) for value in axis.column(path)]
            shape = [1] * len(slab.axes)
            shape[position] = len(found)
            return np.array(found, dtype=np.int64).reshape(shape)
    return np.array(codes.setdefault(slab.constants[path], len(codes)), dtype=np.int64)
