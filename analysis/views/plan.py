"""The trials that a sweep planned, with their configs.

A grid sets a hundred fields and varies a few. Values that all trials share are stored once, and
only the others are stored per trial: 10^6 trials need the memory of their ids and axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeper import sql
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.snapshot import IDS
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.plan_index import single
from sweeper.store.records import Record


@dataclass(frozen=True, slots=True)
class Plan:
    """Some trials.

    Attributes:
        names: Paths of the config, in order.
        rows: One row per trial: `IDS`, and the paths whose values differ. Paths that differ only in
            case get distinct names, see `sweeper.sql.distinct`.
        fixed: One row: the other paths, named likewise, with the value that all trials share.
    """

    names: tuple[str, ...]
    rows: pa.Table
    fixed: pa.Table

    @classmethod
    def read(cls, ledger: Ledger, shown: Sequence[Record]) -> Plan:
        """Return the trials that the launches `shown` planned, each as the last plan has it."""
        entries = snapshot.plans(shown)
        if len(entries) != 1:
            return cls.of(snapshot.plan(ledger, shown))
        (entry,) = entries
        raw = tables.content(ledger.files, entry)
        with tables.decoding(ledger.files, entry["path"]):
            file = pq.ParquetFile(pa.BufferReader(raw))
            names = file.schema_arrow.names
            proven = single(file) if file.metadata.num_rows else {}
            constant = {name: value for name, value in proven.items() if name not in IDS}
            table = file.read(columns=[name for name in names if name not in constant])
            rest = cls.of(tables.shaped(entry["path"], table))
        fixed = rest.fixed
        for name, value in constant.items():
            fixed = fixed.append_column(name, pa.chunked_array([pa.repeat(value, 1)]))
        return cls(tuple(name for name in names if name not in IDS), rest.rows, fixed)._distinct()

    @classmethod
    def of(cls, table: pa.Table) -> Plan:
        """Return the trials of `table`: the columns of `sweeper.grid.grid.Grid.table`."""
        names = tuple(name for name in table.column_names if name not in IDS)
        same = [name for name in names if table.num_rows and _same(table[name])]
        return cls(names, table.drop_columns(same), table.select(same).slice(0, 1))._distinct()

    def _distinct(self) -> Plan:
        new = dict(zip(self.names, sql.distinct(self.names), strict=True))
        rows, fixed = (
            t.rename_columns([new.get(name, name) for name in t.column_names])
            for t in (self.rows, self.fixed)
        )
        return Plan(self.names, rows, fixed)

    def columns(self, rows: str, fixed: str) -> dict[str, str]:
        """Return the columns of the config, each as SQL: one struct per part.

        A struct is null where the trial lacks the part. Fields whose names differ only in case
        get distinct names, see `sweeper.sql.distinct`.

        Args:
            rows: Alias of a relation with the columns of `rows`.
            fixed: Alias of one with the columns of `fixed`.
        """
        kept = {*self.fixed.column_names}
        always: set[str] = set()
        columns: dict[str, str] = {}
        for path, name in zip(self.names, sql.distinct(self.names), strict=True):
            columns[path] = f"{fixed if name in kept else rows}.{sql.identifier(name)}"
            if name in kept and self.fixed[name].null_count == 0:
                always.add(columns[path])
        return _nested(columns, always)


def _nested(columns: Mapping[str, str], always: set[str]) -> dict[str, str]:
    """Return `columns` with one struct per part; `always` are those that are never null."""
    heads: dict[str, dict[str, str]] = {}
    for path, column in columns.items():
        head, dot, rest = path.partition(".")
        heads.setdefault(head, {})[rest if dot else ""] = column
    nested: dict[str, str] = {}
    for head, inner in heads.items():
        if "" in inner:
            nested[head] = inner[""]
            continue
        fields = _nested(inner, always)
        pairs = zip(sql.distinct(list(fields)), fields.values(), strict=True)
        struct = f"{{{', '.join(f'{sql.literal(name)}: {value}' for name, value in pairs)}}}"
        name = inner.get("name")
        there = name is None or name in always
        nested[head] = struct if there else f"case when {name} is not null then {struct} end"
    return nested


def _same(column: pa.ChunkedArray) -> bool:
    """Return whether all values are the same, bit for bit; nulls are."""
    if column.null_count:
        return bool(column.null_count == len(column))
    if pa.types.is_list(column.type):
        sizes = pc.min_max(pc.list_value_length(column)).as_py()
        inner = pc.list_flatten(column)
        if sizes["min"] != sizes["max"] or inner.null_count:
            return False
        if not len(inner):
            return True
        values = inner.to_numpy().reshape(len(column), -1).view(np.int64)
        return bool((values == values[:1]).all())
    if pa.types.is_floating(column.type):
        bits = column.to_numpy().view(np.int64)
        return bool((bits == bits[0]).all())
    return bool(pc.all(pc.equal(column, column[0])).as_py())
