"""Packs as the store lists them: the rows of a packs file, and the packs with work left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.state import State


def pack_table(
    pack_ids: Sequence[str], sizes: Sequence[int], trial_ids: pa.Array, starts: pa.Array
) -> pa.Table:
    """Return the rows that list packs in a packs file, one row per trial.

    Args:
        pack_ids: The packs.
        sizes: Number of trials of each pack.
        trial_ids: The trials of all packs, in the order of the packs and within each.
        starts: For each trial the path of another pack's checkpoint that it goes on from, or null.
    """
    counts = np.asarray(sizes, dtype=np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return pa.table(
        {
            "pack_id": pa.array(pack_ids, pa.string()).take(pa.array(owner)),
            "position": pa.array(np.arange(len(owner)) - first[owner]),
            "trial_id": trial_ids.cast(pa.string()),
            "start": starts.cast(pa.string()),
        }
    )


def pack_rows(ledger: Ledger, pack_ids: Sequence[str]) -> pa.Table:
    """Return the rows that list packs, by pack and position: pack_id, position, trial_id, start."""
    wanted = pa.array(pack_ids, pa.string())
    paths = sorted({ledger.state.packs[i].path for i in pack_ids})
    listed = []
    for path in paths:
        entry = {"path": path, "sha256": ledger.state.files[path]}
        table = tables.read(ledger.files, entry)
        listed.append(table.filter(pc.is_in(table["pack_id"], wanted)))
    if not listed:
        return pack_table([], [], pa.array([]), pa.array([]))
    return pa.concat_tables(listed).sort_by([("pack_id", "ascending"), ("position", "ascending")])


def open_packs(state: State) -> list[str]:
    """Return the packs that have work left, in the order in which they were planned."""
    return [p.id for p in state.ordered if p.open]
