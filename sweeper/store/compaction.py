"""Compaction: many small metrics parts become few, sorted by trial and step.

A query of ten thousand small files takes fifty times as long as of one sorted file. Only finished
packs are compacted. Replaced files stay on disk for a grace period, so that a reader that has just
listed them can read them.
"""

from __future__ import annotations

import secrets
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.errors import SupersededError
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.state import PackState, State

MIN_PARTS = 200
"""Least number of parts of finished packs to compact."""

MAX_ROWS = 2_000_000
"""Largest number of rows of a compacted file, unless one pack alone has more.

Compaction takes about 400 bytes of memory per row.
"""

GRACE_S = 3600.0
"""Seconds that replaced files are kept."""


def compact(ledger: Ledger, *, min_parts: int = MIN_PARTS) -> int:
    """Rewrite the parts of finished packs; return how many files were replaced."""
    ledger.refresh()
    state = ledger.state
    finished = [p for p in state.ordered if _finished(p) and p.parts and _whole(state, p)]
    if sum(len(p.parts) for p in finished) < min_parts:
        return 0
    replaced = 0
    batch: list[PackState] = []
    rows = 0
    for pack in finished:
        more = sum(part.rows for _, part in pack.parts)
        if batch and rows + more > MAX_ROWS:
            replaced += _rewrite(ledger, batch)
            batch, rows = [], 0
        batch.append(pack)
        rows += more
    return replaced + _rewrite(ledger, batch)


def _finished(pack: PackState) -> bool:
    return pack.done and not pack.void and not pack.failed


def _whole(state: State, pack: PackState) -> bool:
    """Return whether each trial of a finished pack has ended.

    A pack is also finished if a smaller grid no longer wants its other trials. If one of them is
    trained anew, its rows in this pack no longer count. A compacted file doesn't say which pack a
    row is of.
    """
    ended = sum(
        part.rows
        for _, _, part, cutoff in state.ends([pack])
        if cutoff is None or part.max_step <= cutoff
    )
    return ended >= pack.size


def _rewrite(ledger: Ledger, packs: list[PackState]) -> int:
    attempts = {p.id: p.attempt for p in packs}
    pieces = []
    removed = [part.path for p in packs for _, part in p.parts]
    for pack in packs:
        for part, cutoff in ledger.state.valid(pack):
            table = tables.read(ledger.files, part)
            pieces.append(table if cutoff is None else table.filter(pc.field("step") <= cutoff))
    whole = _sorted(pa.concat_tables(pieces, promote_options="default"))
    entry = tables.write_metrics(
        ledger.files, f"metrics/compact-{secrets.token_hex(8)}.parquet", whole
    )

    def guard(state: State) -> None:
        for pack_id, attempt in attempts.items():
            now = state.packs[pack_id]
            if now.attempt != attempt or not _finished(now) or not now.parts:
                raise SupersededError(pack_id)

    record: Record = {
        "kind": "compact",
        "at": time.time(),
        "removed": removed,
        "added": [entry],
        "pack_ids": list(attempts),
    }
    try:
        ledger.append(record, guard)
    except SupersededError:  # a pack was taken up again meanwhile: its parts stay
        ledger.files.delete(entry["path"])
        return 0
    return len(removed)


def _sorted(rows: pa.Table) -> pa.Table:
    """Return `rows` by trial and step; each id is compared once, not once per row."""
    ids = rows["trial_id"].combine_chunks().dictionary_encode()
    rank = np.empty(len(ids.dictionary), dtype=np.int64)
    rank[pc.sort_indices(ids.dictionary).to_numpy()] = np.arange(len(rank))
    order = np.lexsort((rows["step"].to_numpy(), rank[ids.indices.to_numpy()]))
    return rows.take(pa.array(order))


def sweep_out(ledger: Ledger, *, grace_s: float = GRACE_S) -> int:
    """Delete the files that were replaced longer than the grace period ago; return how many."""
    limit = time.time() - grace_s
    old = [path for at, path in ledger.state.replaced if at < limit]
    present = set(ledger.files.paths("metrics")) if old else set()
    for path in old:
        if path in present:
            ledger.files.delete(path)
    return len(set(old) & present)
