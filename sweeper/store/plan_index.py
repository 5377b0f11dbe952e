"""The trials of a pack and their configs, looked up in the two large tables of a launch.

A launch lists all its trials in two files, and each of its packs needs a few rows of both. Files
of the store never change, so a process proves and decodes each file once, keeps it in a compact
form and looks up rows in a sorted index: the cost of a pack depends on its own trials only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweeper.store import tables
from sweeper.store.files import Files
from sweeper.store.records import Record

IDS = ("trial_id", "cell_id")
"""Columns of a plan whose values rarely repeat."""


class Index:
    """Finds rows by their text.

    Args:
        texts: One per row, without nulls; of equal texts the first row is returned.
    """

    def __init__(self, texts: pa.ChunkedArray) -> None:
        self._texts = _bytes(texts.combine_chunks())
        self._order = np.argsort(self._texts, kind="stable")
        self._sorted = self._texts[self._order]

    def find(self, wanted: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of the `wanted` texts that exist, in the order of `wanted`."""
        if not len(self._sorted) or not wanted:
            return np.zeros(0, dtype=np.int64)
        asked = np.array([text.encode() for text in wanted])
        at = np.minimum(np.searchsorted(self._sorted, asked), len(self._sorted) - 1)
        return cast("NDArray[np.int64]", self._order[at[self._sorted[at] == asked]])


def _bytes(texts: pa.Array) -> NDArray[np.bytes_]:
    """Return `texts` as bytes of one width; without a copy if all texts have that width."""
    _, offsets, data = texts.buffers()
    n = len(texts)
    at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + n + 1]
    width = int(at[1] - at[0]) if n else 0
    if width and (np.diff(at) == width).all():
        return np.frombuffer(data, f"S{width}", count=n, offset=int(at[0]))
    return np.array([text.encode() for text in texts.to_pylist()], dtype=np.bytes_)


class PlanIndex:
    """The trials of a launch with their configs, by trial.

    Most columns hold one value in all rows, or only nulls: of these, one value is kept.
    """

    def __init__(self, raw: bytes) -> None:
        file = pq.ParquetFile(pa.BufferReader(raw))
        self._schema = file.schema_arrow.remove_metadata()
        self._single = single(file) if file.metadata.num_row_groups else {}
        several = [field for field in self._schema if field.name not in self._single]
        text = [f.name for f in several if f.name not in IDS and pa.types.is_string(f.type)]
        narrow = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=text)
        self._table = narrow.read(columns=[field.name for field in several])
        self._index = Index(self._table["trial_id"])

    def rows(self, trial_ids: Sequence[str]) -> pa.Table:
        """Return the rows of the planned trials among `trial_ids`, in the order of `trial_ids`."""
        rows = self._table.take(pa.array(self._index.find(trial_ids)))
        columns = [
            pa.repeat(self._single[field.name], rows.num_rows)
            if field.name in self._single
            else rows[field.name].cast(field.type)
            for field in self._schema
        ]
        return pa.table(columns, schema=self._schema)


def single(file: pq.ParquetFile) -> dict[str, pa.Scalar]:
    """Return the value of each scalar column that has the same value in all rows.

    Reads the file's statistics only. They don't tell 0 from -0, so float columns of zeros are left
    out.
    """
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    numbers = {groups[0].column(i).path_in_schema: i for i in range(file.metadata.num_columns)}
    values: dict[str, pa.Scalar] = {}
    for field in file.schema_arrow:
        if field.name in IDS or pa.types.is_nested(field.type):
            continue
        about = [group.column(numbers[field.name]).statistics for group in groups]
        if not all(s is not None and s.has_null_count for s in about):
            continue
        if all(s.null_count == g.num_rows for s, g in zip(about, groups, strict=True)):
            values[field.name] = pa.scalar(None, field.type)
        elif all(s.null_count == 0 and s.has_min_max and s.min == s.max for s in about):
            first = about[0].max
            zero = pa.types.is_floating(field.type) and first == 0
            if not zero and all(s.max == first for s in about):
                values[field.name] = pa.scalar(first, field.type)
    return values


class Listing:
    """The rows of a packs file, by pack: pack_id, position, trial_id, start."""

    def __init__(self, table: pa.Table) -> None:
        packs = table["pack_id"].combine_chunks().dictionary_encode()
        codes = packs.indices.to_numpy()
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=len(packs.dictionary))
        self._bounds = np.concatenate([[0], np.cumsum(counts)])
        self._index = Index(pa.chunked_array([packs.dictionary]))
        rows = table.drop_columns(["pack_id"])
        together = bool((order[:-1] < order[1:]).all())  # as a launch writes them
        self._table = rows if together else rows.take(pa.array(order))

    def rows(self, pack_id: str) -> pa.Table:
        """Return the rows of one pack, by position."""
        code = self._index.find([pack_id])
        start, stop = self._bounds[[code[0], code[0] + 1]] if len(code) else (0, 0)
        listed = self._table.slice(int(start), int(stop - start))
        ids = pa.repeat(pa.scalar(pack_id, pa.string()), listed.num_rows)
        return listed.add_column(0, "pack_id", ids).sort_by("position")


def plan(files: Files, entry: Record) -> PlanIndex:
    """Return the plan that the ledger lists by `entry`.

    Raises:
        StoreError: The file is missing or differs from the ledger's entry.
    """
    return _plan(files.uri, entry["path"], entry["sha256"])


def listing(files: Files, path: str, sha256: str) -> Listing:
    """Return the packs listed at `path`; raises as `plan` does."""
    return _listing(files.uri, path, sha256)


@lru_cache(maxsize=2)
def _plan(uri: str, path: str, sha256: str) -> PlanIndex:
    files = Files.at(uri)
    raw = tables.content(files, {"path": path, "sha256": sha256})
    with tables.decoding(files, path):
        return PlanIndex(raw)


@lru_cache(maxsize=32)  # a pack that is split again and again has many small ones
def _listing(uri: str, path: str, sha256: str) -> Listing:
    files = Files.at(uri)
    table = tables.read(files, {"path": path, "sha256": sha256})
    with tables.decoding(files, path):
        return Listing(table)
