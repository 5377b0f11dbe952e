"""Snapshots of a ledger: its state up to some record, so that a reader needn't read all records.

A snapshot is a cache. Records are never deleted, so the state up to a record never changes; a
snapshot that is missing or damaged only costs time. Any process may write one. It is a Parquet file
with one row per file of metrics or ends, and the rest of the state as JSON in the file's metadata.
Its name holds the number of records and the SHA-256 of its content.
"""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.errors import StoreError
from sweeper.store.chain import Chain
from sweeper.store.files import Files
from sweeper.store.records import Record
from sweeper.store.state import Attempt, Listed, PackState, Part, State

FOLDER = "snapshots"
VERSION = 1

KEPT = 2
"""Number of snapshots that are kept: a reader may be about to read the one before the last."""

SCHEMA = pa.schema(
    [
        ("pack", pa.int32()),
        ("ends", pa.bool_()),
        ("attempt", pa.int32()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("rows", pa.int64()),
        ("min_step", pa.int64()),
        ("max_step", pa.int64()),
        ("columns", pa.string()),
    ]
)

OF_A_PACK = ("id", "size", "path", "half_of", "halves", "checkpoint", "done", "failed", "split_at")
"""Fields of `PackState` that are stored as they are."""


def save(files: Files, sweep: str, state: State, number: int, chains: dict[str, Chain]) -> str:
    """Write a snapshot, and delete those that it makes superfluous; return its path.

    Args:
        files: The sweep's folder.
        sweep: The sweep's id.
        state: The effect of the records up to the heads of all chains.
        number: The last record of the root log among them.
        chains: Pack to its chain.
    """
    about = {
        "version": VERSION,
        "sweep": sweep,
        "number": number,
        "chains": [[c.pack_id, c.head, c.accepted] for c in chains.values()],
        "launches": list(state.launches.values()),
        "packs": [_pack(pack) for pack in state.packs.values()],
        "files": state.files,
        "starts": state.starts,
        "driver": state.driver,
        "chained": state.chained,
        "compacted": [asdict(part) for part in state.compacted],
        "compacted_packs": sorted(state.compacted_packs),
        "compacted_by": {path: sorted(packs) for path, packs in state.compacted_by.items()},
        "replaced": state.replaced,
        "voided": sorted(state.voided),
        "listed": state.listed,
    }
    metadata = {"state": json.dumps(about, separators=(",", ":")).encode()}
    out = io.BytesIO()
    pq.write_table(_files(state).replace_schema_metadata(metadata), out, compression="zstd")
    content = out.getvalue()
    count = number + sum(chain.accepted for chain in chains.values())
    path = f"{FOLDER}/{count:012d}-{sha256(content).hexdigest()[:32]}.parquet"
    files.write(path, content)
    for old in files.paths(FOLDER)[:-KEPT]:
        files.delete(old)
    return path


def load(files: Files, sweep: str) -> tuple[State, int, dict[str, Chain]] | None:
    """Return the last whole snapshot as (state, number, chains), see `save`; None if there is none.

    Raises:
        StoreError: The store can't be read.
    """
    for path in reversed(files.paths(FOLDER)):
        if (saved := read(files, sweep, path)) is not None:
            return saved
    return None


def read(files: Files, sweep: str, path: str) -> tuple[State, int, dict[str, Chain]] | None:
    """Return the snapshot at `path`, as `load` does; None if it is damaged or of another sweep.

    Raises:
        StoreError: The store can't be read.
    """
    raw = files.read(path)
    if raw is None or sha256(raw).hexdigest()[:32] not in path:
        return None
    with suppress(pa.ArrowException, KeyError, TypeError, ValueError, StoreError):
        table = pq.read_table(pa.BufferReader(raw), partitioning=None)
        about = json.loads(table.schema.metadata[b"state"])
        if about["version"] == VERSION and about["sweep"] == sweep:
            return _state(about, table), about["number"], _chains(about)
    return None


def _chains(about: Record) -> dict[str, Chain]:
    return {i: Chain(i, head, accepted, accepted) for i, head, accepted in about["chains"]}


def _pack(pack: PackState) -> Record:
    return {
        **{name: getattr(pack, name) for name in OF_A_PACK},
        "parents": list(pack.parents),
        "place": list(pack.place),
        "void": pack.void,
        "attempts": [[a.number, a.resumed_at, a.record] for a in pack.attempts],
    }


def _files(state: State) -> pa.Table:
    """Return the files of metrics and ends of all packs, by pack; of each in their order."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for number, pack in enumerate(state.packs.values()):
        for ends, listed in ((False, pack.parts), (True, pack.ends)):
            for attempt, part in listed:
                row: Record = {"pack": number, "ends": ends, "attempt": attempt}
                row |= {name: getattr(part, name) for name in SCHEMA.names[3:-1]}
                row["columns"] = json.dumps(part.columns) if part.columns else None
                for name, value in row.items():
                    columns[name].append(value)
    return pa.table(columns, schema=SCHEMA)


def _state(about: Record, table: pa.Table) -> State:
    table = table.combine_chunks()
    bounds = np.searchsorted(table["pack"].to_numpy(), np.arange(len(about["packs"]) + 1))
    packs = {}
    rows = _Rows(table)
    for number, stored in enumerate(about["packs"]):
        pack = PackState(**{name: stored[name] for name in OF_A_PACK})
        pack.parents, pack.place = tuple(stored["parents"]), tuple(stored["place"])
        pack.void = stored["void"]
        pack.attempts = [Attempt(*attempt) for attempt in stored["attempts"]]
        first, last = int(bounds[number]), int(bounds[number + 1])
        if first < last:
            pack.early = partial(rows.files, first, last)
        packs[pack.id] = pack
    return State(
        launches={record["launch_id"]: record for record in about["launches"]},
        packs=packs,
        files=about["files"],
        starts=about["starts"],
        driver=about["driver"],
        chained=about["chained"],
        compacted=[_part(part) for part in about["compacted"]],
        compacted_packs=set(about["compacted_packs"]),
        compacted_by={path: set(ids) for path, ids in about["compacted_by"].items()},
        replaced=[(at, path) for at, path in about["replaced"]],
        voided=set(about["voided"]),
        listed=about["listed"],
    )


def _part(fields: Record) -> Part:
    return Part(**{**fields, "columns": tuple(fields["columns"])})


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """Make many objects that stay: to look for garbage among them again and again takes longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(slots=True)
class _Rows:
    """The rows of a snapshot, decoded when the first of them is needed."""

    table: pa.Table
    decoded: list[tuple[bool, int, Part]] | None = None

    def files(self, first: int, last: int) -> tuple[Listed, Listed]:
        """Return the parts and the ends in some rows."""
        if self.decoded is None:
            with collecting_no_garbage():
                self.decoded = _decoded(self.table)
        files: tuple[Listed, Listed] = ([], [])
        for ends, attempt, part in self.decoded[first:last]:
            files[ends].append((attempt, part))
        return files


def _decoded(table: pa.Table) -> list[tuple[bool, int, Part]]:
    ends, attempts, *fields, columns = (table[name].to_pylist() for name in SCHEMA.names[1:])
    extra = {text: tuple(json.loads(text or "[]")) for text in set(columns)}
    parts = map(Part, *fields, (extra[text] for text in columns))
    return list(zip(ends, attempts, parts, strict=True))
