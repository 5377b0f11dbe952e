"""A grid: the cells of a grid file, enumerated lazily.

Axes that name a choice (``regularizer.name``) split the grid into slabs (`sweeper.slab`).
Axes that don't apply to a slab's names are dropped there, and cells that then mean the same
collapse. An id costs one hash: 10^6 cells take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper import sql
from sweeper.config import Config, all_leaves, arrow_kind
from sweeper.criterion import Criterion
from sweeper.gridfile import GridFile
from sweeper.schema import KINDS
from sweeper.slab import Slab
from sweeper.trial import Trial, digest, header

CHUNK = 1 << 17
"""Cells whose exclusion rules are evaluated at once: bounds the memory."""


def column_types(config: type[Config]) -> dict[str, pa.DataType]:
    """Return the column type of every path of `config`, names included, sorted."""
    types = {p: KINDS[arrow_kind(leaf.annotation)] for p, leaf in all_leaves(config).items()}
    types |= {f"{part}.name": pa.string() for part in config.parts}
    return dict(sorted(types.items()))


@dataclass(frozen=True)
class Grid:
    """All trials a grid file asks for.

    Attributes:
        file: The validated file.
        config: The trainable's config.
        steps: Horizon in optimizer steps.
        slabs: The cells.
        text: The file's text and the overrides, for the provenance.
    """

    file: GridFile
    config: type[Config]
    steps: int
    slabs: tuple[Slab, ...]
    text: str = ""

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.file.name

    @property
    def seeds(self) -> list[int]:
        """The seeds of every cell, in the order of the file, each once."""
        return list(dict.fromkeys(self.file.seed_list))

    @property
    def n_written(self) -> int:
        """Cells the file spells out, before any is excluded or collapses."""
        return sum(slab.written for slab in self.slabs)

    @property
    def n_cells(self) -> int:
        """Cells that are left."""
        return sum(len(cells) for cells in self._kept[0])

    @property
    def n_excluded(self) -> int:
        """Cells that a rule under `exclude` removed."""
        return self._kept[1]

    @property
    def n_collapsed(self) -> int:
        """Cells that mean the same as another one of the grid."""
        return self.n_written - self.n_excluded - self.n_cells

    @property
    def n_trials(self) -> int:
        """Cells times seeds."""
        return self.n_cells * len(self.seeds)

    @cached_property
    def _kept(self) -> tuple[tuple[NDArray[np.int64], ...], int]:
        """For each slab the flat indices of its cells; and the number of excluded ones."""
        found: list[NDArray[np.int64]] = []
        seen: set[str] = set()
        excluded = 0
        for slab in self.slabs:
            keep = np.ones(slab.size, dtype=bool)
            for expression in self.file.excludes:
                keep &= ~self._matches(slab, expression)
            excluded += int((~keep).sum()) * (slab.written // slab.size)
            if len(self.slabs) > 1 or not slab.distinct:
                for index, text in enumerate(self._texts(slab)):
                    if keep[index]:
                        cell = digest(text)
                        keep[index] = cell not in seen
                        seen.add(cell)
            found.append(np.flatnonzero(keep))
        return tuple(found), excluded

    def _texts(self, slab: Slab, seed: int | None = None) -> Iterator[str]:
        return slab.texts(self.config, header(self.file.trainable), seed)

    def _matches(self, slab: Slab, expression: str) -> NDArray[np.bool_]:
        spans = [np.arange(a, min(a + CHUNK, slab.size)) for a in range(0, slab.size, CHUNK)]
        return np.concatenate([sql.mask(expression, self.structs(slab, span)) for span in spans])

    def structs(self, slab: Slab, cells: NDArray[np.int64]) -> pa.Table:
        """Return the configs of `cells`, each part a struct: what SQL calls ``model.depth``."""
        return nest({p: slab.column(p, cells, t) for p, t in column_types(self.config).items()})

    def table(self) -> pa.Table:
        """Return one row a trial: trial_id, cell_id, seed and the flat config, null where a
        field doesn't apply. Rows of a cell stand together, in the order of the seeds.
        """
        tables = [
            self._slab_table(slab, cells)
            for slab, cells in zip(self.slabs, self._kept[0], strict=True)
        ]
        return pa.concat_tables(tables).combine_chunks()

    def _slab_table(self, slab: Slab, cells: NDArray[np.int64]) -> pa.Table:
        n_seeds = len(self.seeds)
        keep = np.zeros(slab.size, dtype=bool)
        keep[cells] = True
        by_seed = [self._ids(slab, keep, seed) for seed in self.seeds]
        trial_ids = [trial_id for row in zip(*by_seed, strict=True) for trial_id in row]
        rows = np.repeat(cells, n_seeds)
        cell_ids = np.repeat(np.array(self._ids(slab, keep, None), dtype=object), n_seeds)
        columns = {
            "trial_id": pa.array(trial_ids, pa.string()),
            "cell_id": pa.array(cell_ids, pa.string()),
            "seed": pa.array(np.tile(np.array(self.seeds, dtype=np.int64), len(cells))),
        }
        types = column_types(self.config)
        return pa.table(columns | {p: slab.column(p, rows, t) for p, t in types.items()})

    def _ids(self, slab: Slab, keep: NDArray[np.bool_], seed: int | None) -> list[str]:
        return [digest(t) for t, k in zip(self._texts(slab, seed), keep, strict=True) if k]

    def trials(self) -> Iterator[Trial]:
        """Yield every trial; the convenient form of `table`, one object a trial."""
        for slab, cells in zip(self.slabs, self._kept[0], strict=True):
            for cell in cells:
                values = slab.values(int(cell))
                for seed in self.seeds:
                    yield Trial.of(self.config, values, seed, trainable=self.file.trainable)

    @property
    def criteria(self) -> dict[str, Criterion]:
        """Task name to criterion; "" where the trainable has no tasks."""
        lead = next(iter(self.config.parts), None)
        tasks = {str(s.first.get(f"{lead}.name", "")) for s in self.slabs} if lead else {""}
        given = self.file.criterion
        found: dict[str, Criterion] = {}
        for task in sorted(tasks):
            if isinstance(given, Criterion):
                found[task] = given
            elif given is not None and task in given:
                found[task] = given[task]
            else:
                found[task] = Criterion(**self.config.criteria[task])
        return found


def nest(columns: dict[str, pa.Array]) -> pa.Table:
    """Return flat ``part.field`` columns as a table with one struct column a part."""
    return pa.table(_fields(columns))


def _fields(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    tree: dict[str, dict[str, pa.Array]] = {}
    flat: dict[str, pa.Array] = {}
    for path, column in columns.items():
        head, _, rest = path.partition(".")
        if rest:
            tree.setdefault(head, {})[rest] = column
        else:
            flat[path] = column
    for head, inner in tree.items():
        nested = _fields(inner)
        flat[head] = pa.StructArray.from_arrays(list(nested.values()), names=list(nested))
    return flat
