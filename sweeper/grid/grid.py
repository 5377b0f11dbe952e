"""A grid: the cells of a grid file, enumerated lazily.

Axes that name a choice (``regularizer.name``) split the grid into subgrids
(`sweeper.grid.subgrid`). A subgrid drops the axes that don't apply to its names, and cells that
then mean the same are kept once. Each id takes one hash: 10^6 cells take seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress, islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper.config.fields import Config, Scalar, Values, all_leaves, arrow_kind, marks
from sweeper.config.trial import ID_BYTES, Trial, header, raw_digest
from sweeper.criterion import Criterion
from sweeper.grid.dedupe import dedupe
from sweeper.grid.exclusion import Rule, spread
from sweeper.grid.gridfile import GridFile
from sweeper.grid.subgrid import Subgrid
from sweeper.store.schema import KINDS

CHUNK = 1 << 16
"""Trials of a table that are built at once, which bounds the memory."""


def column_types(config: type[Config]) -> dict[str, pa.DataType]:
    """Return the column type of every path of `config`, names included, sorted."""
    types = {p: KINDS[arrow_kind(leaf.annotation)] for p, leaf in all_leaves(config).items()}
    types |= {f"{part}.name": pa.string() for part in config.parts}
    return dict(sorted(types.items()))


def _hexadecimal(ids: NDArray[np.void]) -> pa.Array:
    """Return ids of `ID_BYTES` bytes each as text, in row-major order, without an object per id."""
    text = ids.tobytes().hex().encode()
    offsets = np.arange(ids.size + 1, dtype=np.int32) * (2 * ID_BYTES)
    return pa.StringArray.from_buffers(ids.size, pa.py_buffer(offsets), pa.py_buffer(text))


def columns(config: type[Config]) -> pa.Schema:
    """Return the columns of a table of trials of `config`."""
    ids = {"trial_id": pa.string(), "cell_id": pa.string(), "seed": pa.int64()}
    return pa.schema(list((ids | column_types(config)).items()))


@dataclass(frozen=True, slots=True)
class StaticGroup:
    """Trials with equal static fields: those that can share packs.

    Attributes:
        values: The resolved values of one of them.
        trials: Number of trials.
        sets: Number of their data sets; an upper bound if blocks overlap.
    """

    values: Values
    trials: int
    sets: int


@dataclass(frozen=True)
class Grid:
    """All trials that a grid file describes.

    Attributes:
        file: The validated file.
        config: The trainable's config.
        steps: Horizon in optimizer steps.
        subgrids: The cells.
        text: The file's text and the overrides, for the provenance.
        overrides: The changes of the command line.
        rules: The exclusion rules.
        fixed: The values under `fixed` as the file has them: path to value.
        searched: Names of the first part that a search can choose.
        unsearchable: Mistakes that the overrides cause in the section `search`.
    """

    file: GridFile
    config: type[Config]
    steps: int
    subgrids: tuple[Subgrid, ...]
    text: str = ""
    rules: tuple[Rule, ...] = ()
    overrides: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    searched: tuple[str, ...] = ()
    unsearchable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.file.name

    def named(self, name: str) -> Grid:
        """Return the same grid for the sweep `name`."""
        return replace(self, file=self.file.model_copy(update={"name": name}))

    @property
    def seeds(self) -> list[int]:
        """The seeds of every cell, in the order of the file."""
        return self.file.seed_list

    @property
    def n_written(self) -> int:
        """Number of cells in the file, with excluded cells and duplicates."""
        return sum(subgrid.written for subgrid in self.subgrids)

    @property
    def n_cells(self) -> int:
        """Number of cells without excluded cells and duplicates."""
        return sum(len(cells) for cells in self._kept[0])

    @property
    def n_excluded(self) -> int:
        """Number of cells that the rules under `exclude` remove."""
        return self._kept[1]

    @property
    def n_duplicates(self) -> int:
        """Number of cells that equal an earlier cell of the grid."""
        return self.n_written - self.n_excluded - self.n_cells

    @property
    def n_trials(self) -> int:
        """Number of trials: cells times seeds."""
        return self.n_cells * len(self.seeds)

    @cached_property
    def _kept(self) -> tuple[tuple[NDArray[np.int64], ...], int]:
        """For each subgrid the flat indices of its cells; and the number of excluded ones."""
        keep = [np.ones(subgrid.size, dtype=bool) for subgrid in self.subgrids]
        types = column_types(self.config)
        for rule in self.rules:
            for mine, subgrid, removed in zip(
                keep, self.subgrids, rule.removed(self.subgrids, types), strict=True
            ):
                mine &= ~spread(removed, subgrid)
        excluded = sum(
            int((~mine).sum()) * (subgrid.written // subgrid.size)
            for mine, subgrid in zip(keep, self.subgrids, strict=True)
        )
        dedupe(self.subgrids, keep)
        return tuple(np.flatnonzero(mine) for mine in keep), excluded

    def static_counts(self) -> list[StaticGroup]:
        """Return the groups of trials that can share packs, in the order of the grid.

        It makes neither ids nor tables: it takes the time and memory of counting the cells.
        """
        groups: dict[Hashable, StaticGroup] = {}
        mark = marks(self.config)
        for subgrid, cells in zip(self.subgrids, self._kept[0], strict=True):
            static = [any(mark.get(p) is None for p in axis.paths) for axis in subgrid.axes]
            points = np.unravel_index(cells, subgrid.shape or (1,))
            group, drawn = (np.zeros(len(cells), dtype=np.int64) for _ in range(2))
            for axis, n, s, point in zip(subgrid.axes, subgrid.shape, static, points, strict=False):
                if s:
                    group = group * n + point
                elif any((m := mark.get(p)) is not None and m.draws for p in axis.paths):
                    drawn = drawn * n + point
            _, first, counts = np.unique(group, return_index=True, return_counts=True)
            several = int(drawn.max(initial=0)) + 1
            apart = np.unique(group * several + drawn) // several
            sets = np.unique(apart, return_counts=True)[1] * len(self.seeds)
            for i in np.argsort(first):
                values = subgrid.values(int(cells[first[i]]))
                key = tuple(sorted((p, v) for p, v in values.items() if mark.get(p) is None))
                before = groups.get(key)
                trials = int(counts[i]) * len(self.seeds) + (before.trials if before else 0)
                data = int(sets[i]) + (before.sets if before else 0)
                groups[key] = StaticGroup(before.values if before else values, trials, data)
        return list(groups.values())

    def table(self) -> pa.Table:
        """Return one row per trial: trial_id, cell_id, seed and the flat config.

        A field that doesn't apply is null. Rows of a cell stand together, in the order of the
        seeds.
        """
        return pa.Table.from_batches(self.batches(), self.schema)

    @property
    def schema(self) -> pa.Schema:
        """The columns of `table`."""
        return columns(self.config)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `table` in pieces of about `CHUNK` trials."""
        seeds = np.array(self.seeds, dtype=np.int64)
        step = max(1, CHUNK // len(seeds))
        for subgrid, cells in zip(self.subgrids, self._kept[0], strict=True):
            keep = np.zeros(subgrid.size, dtype=bool)
            keep[cells] = True
            texts = subgrid.texts(self.config, header(self.file.trainable), [None, *self.seeds])
            streams = [map(raw_digest, compress(stream, keep)) for stream in texts]
            for start in range(0, len(cells), step):
                chunk = cells[start : start + step]
                n = len(chunk)
                ids = [np.frombuffer(b"".join(islice(s, n)), f"V{ID_BYTES}") for s in streams]
                rows = np.repeat(chunk, len(seeds))
                yield pa.record_batch(
                    [
                        _hexadecimal(np.stack(ids[1:], axis=1)),
                        _hexadecimal(np.repeat(ids[0], len(seeds))),
                        pa.array(np.tile(seeds, n)),
                        *(subgrid.column(f.name, rows, f.type) for f in list(self.schema)[3:]),
                    ],
                    schema=self.schema,
                )

    def trials(self) -> Iterator[Trial]:
        """Yield every trial as an object. `table` is the faster form."""
        for subgrid, cells in zip(self.subgrids, self._kept[0], strict=True):
            for cell in cells:
                values = subgrid.values(int(cell))
                for seed in self.seeds:
                    yield Trial.of(self.config, values, seed, trainable=self.file.trainable)

    @property
    def axes(self) -> list[str]:
        """The axes of the file that take more than one value, sorted."""
        named = {
            path
            for block in self.file.blocks
            for group in (block.product, *block.zip)
            for path in group
        }
        return sorted(path for path in named if len(self.axis_values(path)) > 1)

    def axis_values(self, path: str) -> set[Scalar]:
        """Return the values of the field at `path` in the cells that have it."""
        values: set[Scalar] = set()
        for subgrid in self.subgrids:
            on_axis = [axis for axis in subgrid.axes if path in axis.paths]
            if on_axis:
                values |= set(on_axis[0].column(path))
            elif path in subgrid.constants:
                values.add(subgrid.constants[path])
        return values

    @property
    def criteria(self) -> dict[str, Criterion]:
        """Task name to criterion; the name is "" if the trainable has no tasks."""
        lead = next(iter(self.config.parts), None)
        tasks = {str(s.first.get(f"{lead}.name", "")) for s in self.subgrids} if lead else {""}
        tasks |= set(self.searched)
        given = self.file.criterion
        criteria: dict[str, Criterion] = {}
        for task in sorted(tasks):
            if isinstance(given, Criterion):
                criteria[task] = given
            elif given is not None and task in given:
                criteria[task] = given[task]
            else:
                criteria[task] = Criterion(**self.config.criteria[task])
        return criteria
