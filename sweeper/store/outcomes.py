"""The outcomes of trials: one row per end of a trial.

Apart from the worker, so that a reader of a store imports no code that trains.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.schema import ENDS, empty


def ended_trials(
    ledger: Ledger, pack_ids: Sequence[str] | None = None, *, without: Collection[str] = ()
) -> pa.Table:
    """Return the ends that count: the columns of `ENDS`, and pack_id and attempt.

    A trial that was carried on after an end has one row per end.

    Args:
        ledger: The sweep's ledger.
        pack_ids: The packs to read; None for all.
        without: Packs to leave out.
    """
    packs = ledger.state.packs
    chosen = packs.values() if pack_ids is None else [packs[i] for i in pack_ids]
    listed = list(ledger.state.ends(pack for pack in chosen if pack.id not in without))
    pieces = [
        tables.upto(tables.read(ledger.files, part), cutoff, "last_step")
        for _, _, part, cutoff in listed
    ]
    return ends_table(pieces, [x[0] for x in listed], [x[1] for x in listed])


def ends_table(ends: Sequence[pa.Table], packs: Sequence[str], attempts: Sequence[int]) -> pa.Table:
    """Return files of ends as one table, with the pack and the attempt of each file."""
    if not ends:
        return empty({**ENDS, "pack_id": pa.string(), "attempt": pa.int64()})
    owner = pa.array(np.repeat(np.arange(len(ends)), [t.num_rows for t in ends]))
    table = pa.concat_tables(ends)
    table = table.append_column("pack_id", pa.array(packs, pa.string()).take(owner))
    return table.append_column("attempt", pa.array(attempts, pa.int64()).take(owner))
