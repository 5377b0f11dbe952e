"""Exclusion rules: SQL conditions over the fields of one cell.

DuckDB folds the case of every name, so that it would read ``task.N`` as ``task.n``. A rule's
names are therefore looked up here, by their exact spelling first, and DuckDB sees columns with
generated names. A rule is evaluated once for each combination of the axes that it reads, not once
for each cell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper import sql
from sweeper.errors import nearest
from sweeper.grid.subgrid import Subgrid

CHUNK = 1 << 17
"""Combinations that are evaluated at once, which bounds the memory."""

Types = Mapping[str, pa.DataType]


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule.

    Attributes:
        text: The rule as the file has it.
        condition: The same with the columns c0, c1, ... in place of the paths.
        paths: The paths that these columns stand for.
    """

    text: str
    condition: str
    paths: tuple[str, ...]

    def removed(self, subgrids: Sequence[Subgrid], types: Types) -> list[NDArray[np.bool_]]:
        """Return for each subgrid which of its cells the rule removes, in the subgrid's shape.

        An axis that the rule doesn't read has length 1 there: the result broadcasts.
        """
        parts = [self._projection(subgrid) for subgrid in subgrids]
        masks = [np.zeros(part.size, dtype=bool) for part in parts]
        for batch in _batches([part.size for part in parts]):
            columns = [
                pa.concat_arrays([parts[i].column(path, cells, types[path]) for i, cells in batch])
                for path in self.paths
            ]
            holds = self.holds(columns)
            start = 0
            for i, cells in batch:
                masks[i][cells] = holds[start : start + len(cells)]
                start += len(cells)
        return [
            mask.reshape([len(a.rows) if self._reads(a.paths) else 1 for a in subgrid.axes])
            for mask, subgrid in zip(masks, subgrids, strict=True)
        ]

    def holds(self, columns: Sequence[pa.Array]) -> NDArray[np.bool_]:
        """Return where the condition holds; `columns` are those of `paths`."""
        return mask(self.condition, _table(columns))

    def _reads(self, paths: Sequence[str]) -> bool:
        return not set(paths).isdisjoint(self.paths)

    def _projection(self, subgrid: Subgrid) -> Subgrid:
        constants = {p: v for p, v in subgrid.constants.items() if p in self.paths}
        return Subgrid(constants, tuple(axis for axis in subgrid.axes if self._reads(axis.paths)))


def mask(expression: str, cells: pa.Table) -> NDArray[np.bool_]:
    """Return for each row of `cells` whether the boolean SQL `expression` holds; null is no.

    Raises:
        QueryError: The expression names an unknown column or isn't boolean.
    """
    text = (
        f"select coalesce(({expression}\n), false) as holds from cells"  # it may end in a comment
    )
    sql.check_read_only(text)
    with sql.connect(threads=1) as connection:
        connection.register("cells", cells)
        sql.lock(connection, [])
        table = sql.query(connection, text)
    if not pa.types.is_boolean(table.schema.field(0).type):
        raise sql.QueryError("the expression isn't true or false. Compare something.")
    return np.asarray(table["holds"].combine_chunks().to_numpy(zero_copy_only=False), dtype=bool)


def _batches(sizes: Sequence[int]) -> Iterator[list[tuple[int, NDArray[np.int64]]]]:
    """Yield lists of (subgrid, cells) of about `CHUNK` cells in all."""
    batch: list[tuple[int, NDArray[np.int64]]] = []
    room = CHUNK
    for i, size in enumerate(sizes):
        start = 0
        while start < size:
            end = min(size, start + room)
            batch.append((i, np.arange(start, end)))
            room -= end - start
            start = end
            if room == 0:
                yield batch
                batch, room = [], CHUNK
    if batch:
        yield batch


def _table(columns: Sequence[pa.Array]) -> pa.Table:
    return pa.table({f"c{i}": column for i, column in enumerate(columns)})


def parse(text: str, types: Types) -> Rule:
    """Return the rule in `text` over the fields of `types`.

    Raises:
        QueryError: The text is no SQL condition over one cell, or it names an unknown field.
    """
    query = f"select ({text}\n) from cells"
    sql.check_read_only(query)
    edits: list[tuple[int, int, str]] = []
    paths: list[str] = []
    for node in _expressions(query):
        kind = node.get("class")
        if kind in ("SUBQUERY", "WINDOW", "STAR"):
            raise sql.QueryError("a rule reads the fields of one cell: no select, over or *.")
        if kind == "COLUMN_REF":
            path = _find([str(name) for name in node["column_names"]], types)
            if path not in paths:
                paths.append(path)
            start = int(node["query_location"])
            edits.append((start, start + int(node["query_location_length"]), path))
    raw = query.encode()
    for start, end, path in sorted(edits, reverse=True):
        raw = raw[:start] + f"c{paths.index(path)}".encode() + raw[end:]
    condition = raw.decode().removeprefix("select (").removesuffix("\n) from cells")
    rule = Rule(text, condition, tuple(paths))
    if paths and len(rule.holds([pa.nulls(2, types[p]) for p in paths])) != 2:
        raise sql.QueryError("a rule reads the fields of one cell: no aggregates.")
    return rule


def _expressions(query: str) -> Iterator[dict[str, Any]]:
    """Yield every node of the expression that `query` selects."""
    with sql.connect(threads=1) as connection:
        (text,) = connection.execute("select json_serialize_sql(?)", [query]).fetchone() or ("{}",)
    (statement,) = json.loads(text)["statements"]
    selected = statement["node"]["select_list"]
    if len(selected) != 1:
        raise sql.QueryError("a rule is one condition.")
    yield from sql.nodes(selected)


def _find(names: Sequence[str], types: Types) -> str:
    """Return the path that a rule names: by exact spelling, or else ignoring case."""
    dotted = ".".join(names)
    alike = [path for path in types if path.lower() == dotted.lower()]
    if dotted in alike or len(alike) == 1:
        return dotted if dotted in alike else alike[0]
    near = nearest(dotted, list(types))
    remedy = "" if near is None else f" Did you mean {near!r}?"
    raise sql.QueryError(f"no field is called {dotted!r}.{remedy}")


def spread(mask: NDArray[np.bool_], subgrid: Subgrid) -> NDArray[np.bool_]:
    """Return `mask` of `Rule.removed` with one entry per cell of `subgrid`."""
    return np.broadcast_to(mask, subgrid.shape or (1,)).reshape(prod(subgrid.shape))
