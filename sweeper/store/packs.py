"""Packs as the store lists them: the rows of a packs file, and the packs with work left."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sweeper.store import tables
from sweeper.store.ledger import Ledger, State


def pack_table(pack: str, trial_ids: Sequence[str], starts: Sequence[str | None]) -> pa.Table:
    """Return the rows that list one pack in a packs file.

    Args:
        pack: Its id.
        trial_ids: Its trials in order.
        starts: For each the checkpoint of another pack that it goes on from, or None.
    """
    return pa.table(
        {
            "pack_id": pa.array([pack] * len(trial_ids), pa.string()),
            "position": pa.array(range(len(trial_ids)), pa.int64()),
            "trial_id": pa.array(trial_ids, pa.string()),
            "start": pa.array(starts, pa.string()),
        }
    )


def pack_rows(ledger: Ledger, pack_ids: Sequence[str]) -> pa.Table:
    """Return the listed trials of packs: pack_id, position, trial_id, start; in order."""
    wanted = pa.array(pack_ids, pa.string())
    paths = sorted({ledger.state.packs[i].path for i in pack_ids})
    listed = []
    for path in paths:
        entry = {"path": path, "sha256": ledger.state.files[path]}
        table = tables.read(ledger.files, entry)
        listed.append(table.filter(pc.is_in(table["pack_id"], wanted)))
    if not listed:
        return pack_table("", [], [])
    return pa.concat_tables(listed).sort_by([("pack_id", "ascending"), ("position", "ascending")])


def open_packs(state: State) -> list[str]:
    """Return the packs that have work left, in the order of the ledger."""
    return [p.id for p in state.packs.values() if p.open]
