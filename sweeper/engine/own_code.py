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
from sweeper.config.fields import is_import_path
from sweeper.engine import one_step
from sweeper.engine.data_files import data_of
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid
from sweeper.packing import Pack, Run, pack_id
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.state import PackState

if TYPE_CHECKING:
    from sweeper.engine.planner import Plan


TRIED = 3
"""The most trials that are tried before a launch, if they differ in the user's own parts."""


def try_first(grid: Grid, plan: Plan) -> None:
    """Try what a user wrote before a launch begins, in a process of its own.

    A script or a function trains the first new trial for a moment. Of own parts, which a grid names
    by import path, the first new trial of each combination takes a step.

    Args:
        grid: The grid.
        plan: The plan of a launch that is about to begin.

    Raises:
        UsageError: It fails; or a script or function logs nothing that the criterion reads.
    """
    if not plan.packs:
        return
    new = pa.concat_tables(plan.packs.values())["trial_id"]
    if grid.config.code is not None:
        trials = tuple(trials_of(grid.config, _rows(plan, new.slice(0, 1))))[:1]
        module: Any = trainable.load(grid.file.trainable, grid.config.code)
        run = Run(steps=grid.steps, criteria=grid.criteria)
        module.check(Pack(pack_id([t.id for t in trials]), trials, grid.config, run))
        return
    names = [f"{part}.name" for part in grid.config.parts]
    own = [
        name
        for name in names
        if any(map(is_import_path, pc.unique(plan.table[name].drop_null()).to_pylist()))
    ]
    if not own:
        return
    table = _rows(plan, new).group_by(own, use_threads=False).aggregate([("trial_id", "min")])
    several = trials_of(grid.config, _rows(plan, table["trial_id_min"].slice(0, TRIED)))
    found = one_step.error_of(grid, several)
    if found is not None:
        trial, error = found
        shown = ", ".join(f"{n} = {trial.values[n]}" for n in own if n in trial.values)
        raise UsageError(f"a trial with {shown} can't take a step: {error}")


def _rows(plan: Plan, trial_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the rows of the plan's table with these ids."""
    return plan.table.filter(pc.is_in(plan.table["trial_id"], trial_ids))


def pack_up(grid: Grid, files: Files) -> None:
    """Write the files of the user's code, if the grid names any, to the sweep's folder."""
    if grid.config.code is not None:
        module: Any = trainable.load(grid.file.trainable, grid.config.code)
        module.pack_up(files)


def users_own(grid: Grid, table: pa.Table) -> dict[str, Any]:
    """Return what the record of a launch says of the user's code and data, if there are any.

    Args:
        grid: The grid.
        table: The trials of the launch.
    """
    known = {"code": grid.config.code, "data": data_of(table)}
    return {key: value for key, value in known.items() if value}


def edited(grid: Grid) -> bool:
    """Return whether the grid's code, as a launch has stored it, isn't that of this machine now."""
    if grid.config.code is None:
        return False
    module: Any = trainable.load(grid.file.trainable, grid.config.code)
    return bool(module.edited())


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
