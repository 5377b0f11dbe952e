"""sweeper from Python: the functions behind the commands.

>>> sweeper.launch("grids/smoke.yaml", inline=True).counts
>>> sweep = sweeper.open("sweeps/smoke")
>>> sweep.sql("select * from cells").to_pandas()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.compile.mapping import grid_of
from sweeper.config.messages import STORE
from sweeper.engine import commands, driver
from sweeper.engine.driver import Launched, Outcome, Runner
from sweeper.engine.planner import Plan
from sweeper.engine.ray import on_ray
from sweeper.grid.grid import Grid
from sweeper.refine import diagram
from sweeper.refine.extend import extend as extend_sweep
from sweeper.refine.extend import extension
from sweeper.refine.refine import Refined
from sweeper.refine.refine import refine as refine_sweep
from sweeper.report.figure import Figure
from sweeper.report.sweep import Sweep, open  # noqa: A004
from sweeper.report.trial import Trial
from sweeper.search.finalist import SearchResult
from sweeper.search.search import search as search_grid
from sweeper.store.lease import open_sweep
from sweeper.verify.verify import Verified, choose, grids_of, measure, train

__all__ = [
    "Figure",
    "Sweep",
    "Trial",
    "extend",
    "launch",
    "load_grid",
    "open",
    "query",
    "refine",
    "search",
    "verify",
]


def launch(
    grid: Grid | Mapping[str, Any] | str | Path,
    where: str = STORE,
    *,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
    announce: Callable[[Plan], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Train every trial of `grid` that isn't in the store `where` yet.

    Args:
        grid: The grid to train: the path of a grid file, the content of one as a dict, or a `Grid`
            of `load_grid`.
        where: URI of the store.
        address: ``local`` starts Ray on this machine; ``auto`` and ``host:port`` join a cluster.
        inline: Train in this process instead, one pack after the other.
        max_concurrent: The most packs at the same time; None for as many as fit.
        announce: Called with the plan before anything is written; may raise.
        started: Called once the packs are in the ledger.

    Returns:
        The outcome. Its `exit_code` is that of the command.

    Raises:
        ConfigError: The grid has mistakes; names all of them.
        SweeperError: The launch is impossible; the message names a remedy.
    """
    grid = _loaded(grid)
    with runner(grid, address=address, inline=inline, max_concurrent=max_concurrent) as here:
        return commands.launch(grid, where, here, announce=announce, started=started)


def _loaded(grid: Grid | Mapping[str, Any] | str | Path) -> Grid:
    if isinstance(grid, Grid):
        return grid
    return grid_of(grid) if isinstance(grid, Mapping) else load_grid(grid)


def search(
    grid: Grid | Mapping[str, Any] | str | Path,
    where: str = STORE,
    *,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
    storage: str | None = None,
    fresh: bool = False,
) -> SearchResult:
    """Run the search of the grid file's section `search`; see `sweeper.search.search`.

    `grid` is that of `launch`.
    """
    grid = _loaded(grid)
    with runner(
        grid, address=address, inline=inline, max_concurrent=max_concurrent, rounds=True
    ) as here:
        return search_grid(grid, where, here, storage=storage, fresh=fresh)


def refine(
    where: str,
    name: str,
    *,
    x: str,
    y: str,
    budget: int,
    value: str = "phase",
    condition: str | None = None,
    levels: int = diagram.LEVELS,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
) -> Refined:
    """Add cells where neighbours of a phase diagram disagree; see `sweeper.refine.refine`.

    Args:
        where: URI of the store.
        name: Name of the sweep.
        x: Path of a numeric axis.
        y: Path of another numeric axis.
        budget: The most new trials.
        value: ``phase``, or ``delay`` to refine also where the delay doubles.
        condition: SQL condition on the rows of `cells`; None for all cells.
        levels: Number of times that the grid's spacing may be halved.
        address: As in `launch`.
        inline: As in `launch`.
        max_concurrent: As in `launch`.
    """
    wanted = diagram.diagram(where, name, x=x, y=y, value=value, condition=condition, levels=levels)
    with runner(
        wanted.grid, address=address, inline=inline, max_concurrent=max_concurrent, rounds=True
    ) as here:
        return refine_sweep(wanted, where, here, budget)


def extend(
    where: str,
    name: str,
    steps: int,
    *,
    condition: str | None = None,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
) -> Outcome:
    """Continue the censored trials of a sweep up to `steps`; see `sweeper.refine.extend`."""
    wanted = extension(where, name, steps, condition=condition)
    with runner(wanted.grid, address=address, inline=inline, max_concurrent=max_concurrent) as here:
        return extend_sweep(wanted, where, here)


def verify(
    where: str,
    *laws: str,
    quick: bool = False,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
) -> list[Verified]:
    """Measure the papers' laws, after training the trials that the store lacks.

    Args:
        where: URI of the store.
        laws: Ids or numbers, listed by ``sweeper verify --list``; none for all laws.
        quick: Use smaller grids, and leave out slow laws that aren't named.
        address: As in `launch`.
        inline: As in `launch`.
        max_concurrent: As in `launch`.
    """
    chosen = choose(laws, quick=quick)
    grids = list(grids_of(chosen, quick=quick).values())
    with runner(
        grids[0], address=address, inline=inline, max_concurrent=max_concurrent, rounds=True
    ) as here:
        train(grids, where, here)
    return list(measure(chosen, where, quick=quick))


def runner(
    grid: Grid,
    *,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
    rounds: bool = False,
) -> AbstractContextManager[Runner]:
    """Return the runner of the packs of `grid` as a context manager; arguments as in `launch`."""
    if inline:
        return nullcontext(driver.inline(grid))
    return on_ray(grid, address=address, max_concurrent=max_concurrent, rounds=rounds)


def query(where: str, name: str, text: str, *, everything: bool = False) -> pa.Table:
    """Return the result of a read-only query over the views of the sweep `name`.

    Args:
        where: URI of the store.
        name: Name of the sweep.
        text: One SQL statement over trials, metrics, delays and cells.
        everything: Query every trial in the store instead of the latest grid's.
    """
    with open_views(open_sweep(where, name), everything=everything) as views:
        sql.check_read_only(text)
        return sql.query(views, text)
