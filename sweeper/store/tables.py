"""Parquet files of the store: written whole, listed with size and checksum."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from sweeper.errors import StoreError
from sweeper.store.files import Files
from sweeper.store.records import Record
from sweeper.store.schema import ENDS, METRICS
from sweeper.store.state import Part

ROW_GROUP = 1_000_000

SAMPLE = 50_000
"""Rows of a column that decide whether its values repeat."""

THREADED = 1 << 20
"""Size in bytes from which a file is decoded by several threads."""


def write(
    files: Files, path: str, table: pa.Table, *, steps: str | None = "step", **options: Any
) -> Record:
    """Write `table` to `path` and return its entry for a record of the ledger.

    Args:
        files: The sweep's folder.
        path: Below it.
        table: The rows.
        steps: The column whose range is part of the entry; None for a table without steps.
        options: Further options of `pyarrow.parquet.write_table`.
    """
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        row_group_size=ROW_GROUP,
        write_statistics=True,
        store_schema=True,
        **options,
    )
    content = buffer.getvalue()
    files.write(path, content)
    entry: Record = {
        "path": path,
        "size": len(content),
        "sha256": sha256(content).hexdigest(),
        "rows": table.num_rows,
        "min_step": 0,
        "max_step": 0,
    }
    if steps is not None and table.num_rows:
        extent = pa.compute.min_max(table[steps]).as_py()
        entry |= {"min_step": extent["min"], "max_step": extent["max"]}
    return entry


def write_metrics(files: Files, path: str, table: pa.Table) -> Record:
    """Write rows of metrics to `path`; the entry names the columns beyond the common ones."""
    entry = write(files, path, table, **_encodings(table))
    entry["columns"] = [c for c in table.column_names if c not in METRICS]
    return entry


def _encodings(table: pa.Table) -> dict[str, Any]:
    """Return the encodings: measured values split by byte, repeating values by a dictionary.

    The first bytes of neighbouring measured values are alike, the last ones are noise. Split, they
    take a sixth less space, and two thirds of the time to read.
    """
    measured = [
        field.name
        for field, column in zip(table.schema, table.columns, strict=True)
        if pa.types.is_floating(field.type) and not _repeats(column.slice(0, SAMPLE))
    ]
    return {
        "use_dictionary": [name for name in table.column_names if name not in measured],
        "column_encoding": dict.fromkeys(measured, "BYTE_STREAM_SPLIT"),
    }


def _repeats(column: pa.ChunkedArray) -> bool:
    distinct: int = pa.compute.count_distinct(column, mode="all").as_py()
    return 2 * distinct <= len(column)


def read(files: Files, part: Part | Record, **options: Any) -> pa.Table:
    """Return the table of a listed file, its checksum proven.

    Raises:
        StoreError: The file is missing or differs from the ledger's entry.
    """
    entry = part if isinstance(part, dict) else {"path": part.path, "sha256": part.sha256}
    raw = content(files, entry)
    with decoding(files, entry["path"]):
        if not options:
            return shaped(entry["path"], table(raw))
        return pq.read_table(io.BytesIO(raw), partitioning=None, **options)


@contextmanager
def decoding(files: Files, path: str) -> Iterator[None]:
    """Raise each error about the content of the file at `path` as a `StoreError` that names it.

    The checksum of a file proves that its bytes are those that were written, not that a program
    wrote a table of ours.
    """
    try:
        yield
    except (
        pa.ArrowException,
        OSError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(
            f"{files.location(path)}: damaged: no table of a sweep ({reason}). {_remedy(path)}"
        ) from None


SHAPES: dict[str, Mapping[str, pa.DataType]] = {
    "plans": {"trial_id": pa.string(), "cell_id": pa.string(), "seed": pa.int64()},
    "packs": dict.fromkeys(("pack_id", "trial_id", "start"), pa.string())
    | {"position": pa.int64()},
    "metrics": {name: METRICS[name] for name in ("trial_id", "step")},
    "ends": ENDS,
}
"""Folder to the columns that each of its files has."""


def shaped(path: str, table: pa.Table, columns: Collection[str] | None = None) -> pa.Table:
    """Return `table`, read from `path`, if it has the columns that files there have.

    Args:
        path: Below the sweep's folder.
        table: What was read of it.
        columns: The columns that were read; None for all.

    Raises:
        ValueError: It lacks one, or one has another type or other lengths than it says.
    """
    for name, kind in SHAPES.get(path.partition("/")[0], {}).items():
        if columns is not None and name not in columns:
            continue
        if name not in table.column_names or table.schema.field(name).type != kind:
            raise ValueError(f"it needs the column {name} of type {kind}")
    table.validate()
    return table


def _remedy(path: str) -> str:
    return REWRITTEN if path.startswith("plans/") else REMEDY


def table(raw: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in a Parquet file's bytes, or some columns of it."""
    file = pq.ParquetFile(pa.BufferReader(raw))  # pq.read_table takes four times as long
    return file.read(columns=None if columns is None else list(columns))


def upto(rows: pa.Table, cutoff: int | None, steps: str = "step") -> pa.Table:
    """Return the rows up to the step `cutoff`; None for all."""
    return rows if cutoff is None else rows.filter(pa.compute.field(steps) <= cutoff)


def content(files: Files, entry: Record) -> bytes:
    """Return the bytes of a listed file and prove its checksum.

    Raises:
        StoreError: The file is missing or differs from the ledger's entry.
    """
    raw = files.read(entry["path"])
    if message := wrong(files, raw, entry["path"], None, entry["sha256"]):
        raise StoreError(f"{message} {_remedy(entry['path'])}")
    return cast("bytes", raw)


def proven(files: Files, part: Part) -> tuple[bytes, str | None]:
    """Return the bytes of a listed file, and a message if its size or checksum is wrong."""
    raw = files.read(part.path)
    return raw or b"", wrong(files, raw, part.path, part.size, part.sha256)


def wrong(
    files: Files, raw: bytes | None, path: str, size: int | None, checksum: str
) -> str | None:
    """Return a message if `raw`, the content of a listed file, is missing or differs; else None.

    Args:
        files: The sweep's folder.
        raw: The content; None if there is no such file.
        path: The file.
        size: In bytes; None if it isn't listed.
        checksum: Its SHA-256.
    """
    location = files.location(path)
    if raw is None:
        return f"{location}: missing, though the ledger lists it."
    if size is not None and len(raw) != size:
        return f"{location}: damaged: it has {len(raw)} bytes instead of {size}."
    if sha256(raw).hexdigest() != checksum:
        return f"{location}: damaged: its checksum differs from the ledger's."
    return None


REMEDY = "`sweeper launch` trains its trials again; all others are untouched."
REWRITTEN = "`sweeper launch` of the grid that it belongs to writes it again."


def corrupt(files: Files, entry: Part | Record) -> str | None:
    """Return a message if a listed file is missing or its checksum is wrong; None otherwise."""
    if isinstance(entry, Part):
        return proven(files, entry)[1]
    return wrong(files, files.read(entry["path"]), entry["path"], None, entry["sha256"])


def damaged(files: Files, part: Part) -> str | None:
    """Return a message if a listed file is missing or its size is wrong; None otherwise."""
    size = files.size(part.path)
    if size is None:
        return f"{files.location(part.path)}: missing, though the ledger lists it."
    if size != part.size:
        return f"{files.location(part.path)}: damaged: it has {size} bytes instead of {part.size}."
    return None
