"""The files of data that trials name, by their content: a changed file means other results.

A field of the config names one if its value is text, looks like a path, and exists where the
launch runs: a file, or a folder with files. Its content is no part of a trial's id, nor is a
user's code. So the record of a launch has the hash, and the next launch compares.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.store.ledger import Ledger


def data_of(table: pa.Table) -> dict[str, str]:
    """Return the path of each file or folder that the trials of a plan name to its SHA-256."""
    return {value: _digest(Path(value)) for column in _texts(table) for value in _paths(column)}


def _texts(table: pa.Table) -> Iterator[pa.ChunkedArray]:
    """Yield the columns of text that may name files."""
    for name in table.column_names:
        if pa.types.is_string(table.schema.field(name).type) and not name.endswith(
            (".name", "_id")
        ):
            yield table[name]


def _paths(column: pa.ChunkedArray) -> Iterator[str]:
    for value in pc.unique(column.drop_null()).to_pylist():
        if (os.sep in value or Path(value).suffix) and Path(value).exists():
            yield value


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of the files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    whole = sha256()
    for one in sorted(path.iterdir()):
        if one.is_file():
            whole.update(f"{one.name}\0{_digest(one)}\n".encode())
    return whole.hexdigest()


def other_data(
    ledger: Ledger, now: Mapping[str, str], table: pa.Table, ends: pa.Table
) -> NDArray[np.bool_]:
    """Return for each row of `ends` whether a file that its trial names had another content.

    Args:
        ledger: The ledger of the sweep.
        now: The content of the files, as `data_of`.
        table: The rows of the plan that `ends` belong to, in the same order.
        ends: Ends of trials, with the columns pack_id and attempt.
    """
    changed = np.zeros(ends.num_rows, dtype=bool)
    stale = {
        launch_id: pa.array([p for p, h in now.items() if record.get("data", {}).get(p, h) != h])
        for launch_id, record in ledger.state.launches.items()
    }
    stale = {launch_id: paths for launch_id, paths in stale.items() if len(paths)}
    if not stale:
        return changed
    launches: list[Any] = [
        ledger.state.packs[pack].attempts[attempt - 1].record["launch_id"]
        for pack, attempt in zip(
            ends["pack_id"].to_pylist(), ends["attempt"].to_pylist(), strict=True
        )
    ]
    for launch_id, paths in stale.items():
        mine = np.array([one == launch_id for one in launches])
        for column in _texts(table):
            changed |= mine & pc.is_in(column, paths).to_numpy()
    return changed
