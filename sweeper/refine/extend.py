"""Longer horizons: censored trials continue from their checkpoints.

The horizon isn't part of a trial's id. A trial that was extended has the same id and, bit for bit,
the same rows as one that had the longer horizon from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sweeper import sql
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.views import open_views
from sweeper.compile import loading
from sweeper.config.messages import counted
from sweeper.engine.driver import Launched, Outcome, Runner, drive
from sweeper.engine.planner import Plan
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid
from sweeper.store import lease
from sweeper.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Extension:
    """Trials to extend.

    Attributes:
        grid: The sweep's grid with the longer horizon.
        table: The trials, in the columns of `Grid.table`.
    """

    grid: Grid
    table: pa.Table


def extension(where: str, name: str, steps: int, *, condition: str | None = None) -> Extension:
    """Return the censored trials of a sweep, to be trained up to `steps`.

    Args:
        where: URI of the store.
        name: The sweep.
        steps: The horizon, in optimizer steps from the start.
        condition: SQL over the columns of `trials` and `delays` that selects trials; None for all.

    Raises:
        UsageError: All of them have that many steps already, or the condition is wrong.
        StoreError: There is no such sweep, or it was never launched.
    """
    ledger = lease.open_sweep(where, name)
    grid = loading.stored_grid(ledger, [f"steps={steps}"]).named(name)
    ids, furthest = _censored(ledger, condition)
    if ids and furthest >= steps:
        n = len(ids)
        trials = f"these {n} censored trials have" if n > 1 else "this censored trial has"
        raise UsageError(
            f"--steps {steps}: {trials} {counted(furthest, 'step')} already. "
            f"Choose more than {counted(furthest, 'step')}."
        )
    plan = snapshot.plan(ledger, snapshot.launches(ledger, everything=False))
    table = plan.filter(pc.is_in(plan["trial_id"], pa.array(ids, pa.string())))
    return Extension(grid, table.select(grid.schema.names))


def extend(
    wanted: Extension,
    where: str,
    runner: Runner,
    *,
    announce: Callable[[Plan], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Extend the trials of `wanted`; arguments as in `sweeper.engine.commands.launch`.

    Raises:
        UsageError: The final checkpoint of a trial wasn't kept.
        BusyError: Another driver is at work on this sweep.
        StoreError: The store can't be read or written.
    """
    with drive(wanted.grid, where, runner) as driver:
        return driver.train(
            wanted.grid, wanted.table, adds="extend", announce=announce, started=started
        )


def _censored(ledger: Ledger, condition: str | None) -> tuple[list[str], int]:
    """Return the censored trials that meet `condition`, and the fewest steps of any of them."""
    text = (
        "select trial_id, steps from trials "
        "join (select * exclude (last_step) from delays) as d using (trial_id) "
        "where status = 'censored'"
    )
    if condition:
        text += f" and ({condition})"
    try:
        sql.check_read_only(text)
        with open_views(ledger) as views:
            trials = sql.query(views, text)
    except sql.QueryError as error:
        raise UsageError(
            f"--where {condition!r}: {error} Write a condition over the columns of trials and "
            'delays, e.g. "selection.tau > 0.2".'
        ) from None
    if condition and not trials.num_rows:
        raise UsageError(f"--where {condition!r}: no censored trial matches. Loosen it.")
    return trials["trial_id"].to_pylist(), min(trials["steps"].to_pylist(), default=0)
