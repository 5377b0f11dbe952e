"""Subgrids: products of axes over constant values, in which every cell has the same names.

In a subgrid the same fields apply to every cell, so a column is an index into its axis, and the
identity texts of all cells are one `itertools.product` of rendered lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from operator import add

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper.config.fields import Config, Scalar, revisions
from sweeper.config.trial import REVISIONS, SEED, identity_lines, left_out, line


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a subgrid, or several that move together.

    Attributes:
        paths: The fields it sets.
        rows: One tuple per point of the axis: the values of `paths`.
    """

    paths: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    def column(self, path: str) -> list[Scalar]:
        """Return the values of one of the fields, one per point."""
        index = self.paths.index(path)
        return [row[index] for row in self.rows]


@lru_cache(maxsize=8)
def _nulls(size: int, kind: pa.DataType) -> pa.Array:
    """Return nulls. Most columns are null for most trials, and they share this memory."""
    return pa.nulls(size, type=kind)


@lru_cache(maxsize=32)
def _constant(value: Scalar, size: int, kind: pa.DataType) -> pa.Array:
    """Return `size` times `value`. The chunks of a table share this memory."""
    return pa.repeat(pa.scalar(value, type=kind), size)


@dataclass(frozen=True)
class Subgrid:
    """A product of axes over constant values; all its cells have the same names.

    Attributes:
        constants: Resolved values of every field that isn't on an axis.
        axes: Sorted by their first path; the last one varies fastest.
        dropped: Axis paths of the file that don't apply to the names here.
        written: Number of cells in the file, with the dropped axes.
    """

    constants: Mapping[str, Scalar]
    axes: tuple[Axis, ...]
    dropped: tuple[str, ...] = ()
    written: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points of each axis."""
        return tuple(len(axis.rows) for axis in self.axes)

    @property
    def size(self) -> int:
        """The number of cells."""
        return prod(self.shape)

    @property
    def distinct(self) -> bool:
        """Whether no axis has a value twice, so that no two cells are duplicates."""
        return all(len(set(axis.rows)) == len(axis.rows) for axis in self.axes)

    @property
    def first(self) -> dict[str, Scalar]:
        """The resolved values of the first cell."""
        return self.values(0)

    def values(self, index: int) -> dict[str, Scalar]:
        """Return the resolved values of the cell at flat `index`."""
        values = dict(self.constants)
        for axis, i in zip(self.axes, np.unravel_index(index, self.shape or (1,)), strict=False):
            values |= zip(axis.paths, axis.rows[int(i)], strict=True)
        return values

    def column(self, path: str, cells: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
        """Return the values at `path` of the cells at flat indices `cells`."""
        for position, axis in enumerate(self.axes):
            if path in axis.paths:
                points = cells // prod(self.shape[position + 1 :]) % self.shape[position]
                return pa.array(axis.column(path), type=kind).take(pa.array(points))
        if path not in self.constants or not len(cells):
            return _nulls(len(cells), kind)
        return _constant(self.constants[path], len(cells), kind)

    def texts(
        self, config: type[Config], head: str, seeds: Sequence[int | None]
    ) -> list[Iterator[str]]:
        """Return for each seed the identity texts of all trials with it, in order.

        Without a seed: the texts of the cells.
        """
        fixed = identity_lines(config, self.first)
        on_axis = {path for axis in self.axes for path in axis.paths}
        pieces: list[tuple[str, int, list[str]]] = [
            (path, -1, [text]) for path, text in fixed.items() if path not in on_axis
        ]
        usual = left_out(config, self.first)  # the names, on which it depends, are on no axis
        for position, axis in enumerate(self.axes):
            for path in axis.paths:
                lines = [
                    "" if path in usual and usual[path] == value else line(path, value)
                    for value in axis.column(path)
                ]
                pieces.append((path, position, lines))
        revised = self._revised(config)
        if revised is not None:
            pieces = [piece for piece in pieces if piece[0] != REVISIONS]
        texts = [
            self._joined(head, pieces if s is None else [*pieces, (SEED, -1, [line(SEED, s)])])
            for s in seeds
        ]
        return texts if revised is None else [map(add, text, iter(revised)) for text in texts]

    def _revised(self, config: type[Config]) -> list[str] | None:
        """Return the line of the revisions of each cell; None where all cells have the same."""
        reads = {
            path
            for revision in config.revisions
            if revision.where.items() <= self.constants.items()
            for path in revision.reads
        }
        read = [i for i, axis in enumerate(self.axes) if not reads.isdisjoint(axis.paths)]
        if not read:
            return None
        values, shape = self.first, [1] * len(self.axes)
        lines: dict[tuple[str, ...], int] = {}
        codes: list[int] = []
        for rows in product(*(self.axes[i].rows for i in read)):
            for i, row in zip(read, rows, strict=True):
                values |= zip(self.axes[i].paths, row, strict=True)
            codes.append(lines.setdefault(revisions(config, values), len(lines)))
        if len(lines) == 1:
            return None
        for i in read:
            shape[i] = len(self.axes[i].rows)
        spread = np.broadcast_to(np.array(codes, dtype=np.int64).reshape(shape), self.shape)
        texts = [line(REVISIONS, names) if names else "" for names in lines]
        return [texts[code] for code in spread.ravel().tolist()]

    def _joined(self, head: str, pieces: list[tuple[str, int, list[str]]]) -> Iterator[str]:
        """Yield for every cell its lines of `pieces`: (path, position of the axis, lines)."""
        merged = [(-1, [head])]
        for _, at, lines in sorted(pieces, key=lambda piece: piece[0]):
            if at < 0 and merged[-1][0] < 0:
                merged[-1] = (-1, [merged[-1][1][0] + lines[0]])
            else:
                merged.append((at, lines))
        if all(len(axis.paths) == 1 for axis in self.axes):
            # the axes are in the order of their paths: the product is in the order of the text
            return map("".join, product(*(lines for _, lines in merged)))
        return (
            "".join([lines[0 if at < 0 else cell[at]] for at, lines in merged])
            for cell in product(*(range(n) for n in self.shape))
        )
