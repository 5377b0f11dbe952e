"""The trials that the views show, and those that the store keeps beside them.

A store keeps every trial that it ever trained. The views show the trials of the latest launch and
of the launches beside it, so a launch of fewer cells under the same name hides the others.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from sweeper.errors import StoreError
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.state import Part


def beside(ledger: Ledger, table: pa.Table, adds: str | None) -> list[str]:
    """Return the launches whose trials the views show beside those of the launch of `table`.

    Trials that a search or a refinement added are shown with the grid that they were added to, and
    with every later grid that has all trials of that grid.

    Args:
        ledger: The sweep's ledger, before the launch.
        table: The trials of the launch, with a column ``trial_id``.
        adds: The command that adds the trials of `table` to a grid; None for the grid itself.
    """
    last = ledger.state.launch
    if last is None:
        return []
    shown = [*last.get("beside", ()), last["launch_id"]]
    if adds is not None:
        return shown
    launches = ledger.state.launches
    added = [i for i in shown if launches[i].get("adds")]
    if added:
        for base in (launches[i] for i in shown if not launches[i].get("adds")):
            planned = tables.read(ledger.files, base["plan"], columns=["trial_id"])["trial_id"]
            if not pc.all(pc.is_in(planned, table["trial_id"])).as_py():
                return []
    return added


def hidden(ledger: Ledger) -> int:
    """Return the number of stored trials that the views of the sweep don't show."""
    last = ledger.state.launch
    if last is None:
        return 0
    return _hidden(ledger, [*last.get("beside", ()), last["launch_id"]], None)


def hidden_by(ledger: Ledger, table: pa.Table, adds: str | None = None) -> int:
    """Return the number of stored trials that the views won't show after a launch of `table`.

    Arguments as in `beside`. A trial is stored once the store has a row or an end of it. A trial
    that was planned and never begun doesn't count.
    """
    return _hidden(ledger, beside(ledger, table, adds), table)


def _hidden(ledger: Ledger, launches: list[str], table: pa.Table | None) -> int:
    """Return the number of stored trials in neither `table` nor the plan of one of `launches`."""
    records = ledger.state.launches
    shown = {planned_hash(records[i]["plan"]): records[i]["plan"] for i in launches}
    rest = {planned_hash(record["plan"]): record["plan"] for record in records.values()}
    rest = {digest: entry for digest, entry in rest.items() if digest not in shown}
    if not rest:
        return 0
    known = [] if table is None else [table["trial_id"]]
    values = _joined([*known, *(_ids(ledger, entry) for entry in shown.values())])
    planned = _joined(_ids(ledger, entry) for entry in rest.values()).unique()
    unshown = planned.filter(pc.invert(pc.is_in(planned, values)))
    if not len(unshown):
        return 0
    return int(pc.sum(pc.is_in(unshown, stored(ledger))).as_py() or 0)


def planned_hash(entry: Record) -> str:
    """Return the hash of the trials of a plan, with which the name of its file begins."""
    return str(entry["path"]).partition("-")[0]


def stored(ledger: Ledger) -> pa.Array:
    """Return the trials that the store has a row or an end of, each once."""
    state = ledger.state
    ids = [_ids(ledger, part, cutoff, "last_step") for _, _, part, cutoff in state.ends()]
    unended = {  # packs that may hold rows of trials without an end
        pack.id
        for pack in state.packs.values()
        if not pack.void and sum(part.rows for _, part in pack.ends) < pack.size
    }
    for pack_id in unended:
        ids += [
            _ids(ledger, part, cutoff, "step") for part, cutoff in state.valid(state.packs[pack_id])
        ]
    for part in state.compacted:
        if not unended.isdisjoint(state.compacted_by[part.path]):
            ids.append(_ids(ledger, part, None, "step"))
    return _joined(ids).unique()


def _ids(
    ledger: Ledger, entry: Part | Record, cutoff: int | None = None, steps: str = ""
) -> pa.ChunkedArray:
    """Return the trials in a file: none if it is damaged, since a launch has to mend it first.

    Args:
        ledger: The sweep's ledger.
        entry: The file, as the ledger lists it.
        cutoff: Last step of the rows that count; None for all rows.
        steps: The column of the steps.
    """
    columns = ["trial_id"] if cutoff is None else ["trial_id", steps]
    try:
        table = tables.read(ledger.files, entry, columns=columns)
    except StoreError:
        return pa.chunked_array([], pa.string())
    return tables.upto(table, cutoff, steps)["trial_id"]


def _joined(columns: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for ids in columns for chunk in ids.chunks], pa.string())
