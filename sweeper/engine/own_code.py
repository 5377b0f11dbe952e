"""Trials of a user's script or function: a try before a launch, and those to train anew.

A module's trials always continue from a final checkpoint, and its code is part of a release. A
user's code changes, and may save no state: then a trial that needs more steps starts over. Such
packs have one trial each, so a pack that is made void stands for its trial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper import trainable
from sweeper.config.decoding import trials_of
from sweeper.grid.grid import Grid
from sweeper.packing import Pack, Run, pack_id
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.state import PackState

if TYPE_CHECKING:
    from sweeper.engine.planner import Plan


def try_first(grid: Grid, plan: Plan) -> None:
    """Train the first new trial for a moment, in a process of its own, if it runs a user's code.

    Args:
        grid: The grid.
        plan: The plan of a launch that is about to begin.

    Raises:
        UsageError: It fails, or logs nothing that the criterion reads.
    """
    if grid.config.code is None or not plan.packs:
        return
    module: Any = trainable.load(grid.file.trainable, grid.config.code)
    wanted = next(iter(plan.packs.values()))["trial_id"].slice(0, 1)
    trials = tuple(
        trials_of(grid.config, plan.table.filter(pc.is_in(plan.table["trial_id"], wanted)))
    )
    run = Run(steps=grid.steps, criteria=grid.criteria)
    module.check(Pack(pack_id([t.id for t in trials]), trials[:1], grid.config, run))


def pack_up(grid: Grid, files: Files) -> None:
    """Write the files of the user's code, if the grid names any, to the sweep's folder."""
    if grid.config.code is not None:
        module: Any = trainable.load(grid.file.trainable, grid.config.code)
        module.pack_up(files)


def other_content(grid: Grid, ledger: Ledger, ends: pa.Table) -> NDArray[np.bool_]:
    """Return for each row of `ends` whether its trial was trained by other code than the grid's.

    Args:
        grid: The grid.
        ledger: The ledger of the sweep.
        ends: Ends of trials, with the columns pack_id and attempt.
    """
    if grid.config.code is None:
        return np.zeros(ends.num_rows, dtype=bool)
    now = grid.config.code["sha256"]
    state = ledger.state
    pairs = zip(ends["pack_id"].to_pylist(), ends["attempt"].to_pylist(), strict=True)
    return np.array(
        [_content(ledger, state.packs[pack], attempt) != now for pack, attempt in pairs], dtype=bool
    )


def changed_packs(grid: Grid, ledger: Ledger, packs: list[str]) -> set[str]:
    """Return those of the open `packs` whose rows other code than the grid's has written."""
    if grid.config.code is None:
        return set()
    now = grid.config.code["sha256"]
    state = ledger.state
    begun = [state.packs[i] for i in packs if state.packs[i].attempts]
    return {p.id for p in begun if _content(ledger, p, p.attempts[-1].number) != now}


def without_final_state(grid: Grid, ledger: Ledger, ends: pa.Table) -> NDArray[np.bool_]:
    """Return for each row of `ends` whether its trial has no state to continue from.

    That is so if the user's code saved none, or if it logged rows after the last one.
    """
    if grid.config.code is None:
        return np.zeros(ends.num_rows, dtype=bool)
    saved = [ledger.state.packs[i].checkpoint for i in ends["pack_id"].to_pylist()]
    last = ends["last_step"].to_pylist()
    return np.array(
        [entry is None or entry["step"] < step for entry, step in zip(saved, last, strict=True)],
        dtype=bool,
    )


def _content(ledger: Ledger, pack: PackState, attempt: int) -> str:
    """Return the hash of the code that an attempt ran."""
    launch: Any = ledger.state.launches[pack.attempts[attempt - 1].record["launch_id"]]
    return cast("str", (launch.get("code") or {}).get("sha256", ""))
