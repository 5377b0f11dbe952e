"""Reads what a sweep holds straight from its ledger and Parquet files, without SQL."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from sweeper.store import lease, tables
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials


def rows(book: Ledger) -> pa.Table:
    """Return all metric rows that count, by trial and step."""
    pieces = []
    for part, cutoff in book.state.parts():
        table = tables.read(book.files, part)
        pieces.append(table if cutoff is None else table.filter(pc.field("step") <= cutoff))
    if not pieces:
        return pa.table({"trial_id": pa.array([], pa.string()), "step": pa.array([], pa.int64())})
    whole = pa.concat_tables(pieces, promote_options="default")
    return whole.sort_by([("trial_id", "ascending"), ("step", "ascending")])


def ends(book: Ledger) -> pa.Table:
    """Return how each trial ended: trial_id, status, last_step, steps; by trial."""
    table = ended_trials(book).select(["trial_id", "status", "last_step", "steps"])
    return table.sort_by([("trial_id", "ascending"), ("steps", "ascending")])


def plan(book: Ledger) -> pa.Table:
    """Return the trials of the latest launch with their configs."""
    assert book.state.launch is not None
    return tables.read(book.files, book.state.launch["plan"])


def open_sweep(where: str, name: str) -> Ledger:
    """Return the ledger of the sweep `name` in the store `where`."""
    return lease.open_sweep(where, name)


def busy_seconds(book: Ledger) -> float:
    """Return the seconds from the claim of each pack to the end of its last trial, summed."""
    wall = ended_trials(book).group_by("pack_id").aggregate([("wall_s", "max")])
    return float(pc.sum(wall["wall_s_max"]).as_py())
