"""sweeper from Python: the functions behind the commands.

>>> grid = sweeper.load_grid("grids/smoke.yaml", ["seeds=2"])
>>> sweeper.launch(grid, "sweeps", inline=True).counts
>>> sweeper.query("sweeps", "smoke", "select * from cells")
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pyarrow as pa

from analysis.views import open_views
from sweeper import driver, sql, store, sweep
from sweeper.agenda import Agenda
from sweeper.driver import Launched, Outcome, Runner
from sweeper.grid import Grid
from sweeper.launch_ray import on_ray
from sweeper.loading import load_grid

__all__ = ["launch", "load_grid", "query"]


def launch(
    grid: Grid,
    where: str,
    *,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
    announce: Callable[[Agenda], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Train every trial of `grid` that the store `where` doesn't hold yet.

    Args:
        grid: What is wanted.
        where: URI of the store.
        address: ``local`` starts Ray on this machine; ``auto`` and ``host:port`` join a cluster.
        inline: Train in this process instead, one pack after the other.
        max_concurrent: Most packs at the same time; null for as many as there is room for.
        announce: Called with what is to be done, before anything is written; may raise.
        started: Called once the packs are in the ledger.

    Returns:
        How it ended; its `exit_code` is the command's.

    Raises:
        SweeperError: With a remedy.
    """
    with runner(grid, address=address, inline=inline, max_concurrent=max_concurrent) as here:
        return sweep.launch(grid, where, here, announce=announce, started=started)


def runner(
    grid: Grid, *, address: str = "local", inline: bool = False, max_concurrent: int | None = None
) -> AbstractContextManager[Runner]:
    """Return what runs the packs of `grid`; use it as a context manager, see `launch`."""
    if inline:
        return nullcontext(driver.inline(grid))
    return on_ray(grid, address=address, max_concurrent=max_concurrent)


def query(where: str, name: str, text: str, *, everything: bool = False) -> pa.Table:
    """Return the result of a read-only query over the views of the sweep `name`.

    Args:
        where: URI of the store.
        name: The sweep.
        text: One SQL statement over trials, metrics, delays and cells.
        everything: Every trial ever run instead of the latest grid.
    """
    with open_views(store.open_sweep(where, name), everything=everything) as views:
        sql.check_read_only(text)
        return sql.query(views, text)
