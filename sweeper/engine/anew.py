"""Trials of the store that have to be trained anew, though they have ended."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.engine.data_files import data_of, other_data
from sweeper.engine.own_code import other_content, without_final_state
from sweeper.grid.grid import Grid
from sweeper.store.ledger import Ledger

NEW, LONGER, DONE, FAILED = range(4)
"""The states of a trial. A LONGER one continues from its final checkpoint."""


def anew(
    grid: Grid,
    ledger: Ledger,
    table: pa.Table,
    ends: pa.Table,
    status: NDArray[np.int8],
    last: NDArray[np.int64],
    *,
    rerun: bool,
) -> tuple[set[str], int]:
    """Set the `status` of trials that other code or data trained, and have to be anew, to NEW.

    Args:
        grid: The grid.
        ledger: The ledger of the sweep.
        table: The trials.
        ends: The ends that count.
        status: The status of each trial.
        last: The row of each trial's last end in `ends`; -1 for none.
        rerun: Whether trials that other code or data has trained are trained again.

    Returns:
        The packs of these trials, which become void; and the number of trials that other code or
        data has trained and that aren't trained again.
    """
    now = data_of(table)
    if grid.config.code is None and not now:
        return set(), 0
    ended = np.flatnonzero(last >= 0)
    mine = ends.take(pa.array(last[ended]))
    changed = other_content(grid, ledger, mine)
    changed |= other_data(ledger, now, table.take(pa.array(ended)), mine)
    again = (status[ended] == LONGER) & without_final_state(grid, ledger, mine)
    if rerun:
        again |= changed
    packs, trials = _closure(ends, mine["trial_id"].filter(pa.array(again)))
    again = pc.is_in(mine["trial_id"], trials).to_numpy()
    status[ended[again]] = NEW
    return packs, int((changed & ~again).sum())


def _closure(ends: pa.Table, trials: pa.ChunkedArray) -> tuple[set[str], pa.Array]:
    """Return all packs in which `trials` ended, and all trials that ended in one of these packs.

    A trial that was continued has an end in each of its packs, and a pack is void as a whole.
    """
    known = -1
    trials, packs = trials.unique(), pa.array([], pa.string())
    while len(trials) > known:
        known = len(trials)
        packs = ends["pack_id"].filter(pc.is_in(ends["trial_id"], trials)).unique()
        trials = ends["trial_id"].filter(pc.is_in(ends["pack_id"], packs)).unique()
    return set(packs.to_pylist()), trials
