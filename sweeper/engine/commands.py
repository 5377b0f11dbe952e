"""Commands on sweeps: launch a grid, stop a launch, retry failed trials.

A launch also resumes an interrupted one, and trains only the new trials of a grid that has grown.
"""

from __future__ import annotations

from collections.abc import Callable

from sweeper.engine.driver import Launched, Outcome, Runner, drive
from sweeper.engine.own_code import try_first
from sweeper.engine.planner import Plan, plan_launch
from sweeper.errors import StoreError, UsageError
from sweeper.grid.grid import Grid
from sweeper.store.files import Files, local_folder
from sweeper.store.lease import is_fresh, join, open_sweep, read_lease
from sweeper.store.ledger import META, Ledger, first_record
from sweeper.store.sink import STOP


def launch(
    grid: Grid,
    where: str,
    runner: Runner,
    *,
    rerun: bool = False,
    announce: Callable[[Plan], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Train every trial of `grid` that isn't in the store `where` yet.

    Args:
        grid: The grid to train.
        where: URI of the store; it is created if it doesn't exist.
        runner: Runs the packs.
        rerun: Whether trials that other code of the user's has trained are trained again.
        announce: Called with the plan before anything is written; may raise.
        started: Called once the packs are in the ledger.

    Raises:
        UsageError: The grid has no cells.
        BusyError: Another driver is running this sweep.
        StoreError: The store can't be read or written.
    """
    check_cells(grid)
    plan: Plan | None = None
    known = peek(join(where, grid.name))
    if known is None:  # an error comes before a folder is made
        plan = plan_launch(grid, None, workers=runner.workers, memory=runner.memory)
        announce(plan)
        try_first(grid, plan)
    with drive(grid, where, runner, known) as driver:
        still = plan if driver.ledger.state.launch is None else None
        return driver.train(grid, plan=still, rerun=rerun, announce=announce, started=started)


def check_cells(grid: Grid) -> None:
    """Check that the grid has cells to launch.

    Raises:
        UsageError: It has no cells: its file is for a search.
    """
    if not grid.subgrids:
        raise UsageError(
            f"{grid.name}: the file has no cell to launch: values that a cell needs are only "
            "in search.space. Run `sweeper search`, or add the values to fixed or grid."
        )


def peek(uri: str) -> Ledger | None:
    """Return the ledger of the sweep at `uri`, or None if there is none yet.

    Raises:
        StoreError: It is damaged, or a file is where its folder should be.
    """
    root = local_folder(uri)
    if root is not None and not root.is_dir():
        above = next(folder for folder in (root, *root.parents) if folder.exists())
        if not above.is_dir():
            raise StoreError(
                f"store {root.parent}: can't be created: {above} is a file. Name a folder."
            )
        return None
    files = Files.at(uri)
    if files.size(META) is None:
        if files.size(first_record()) is None:
            return None
        raise StoreError(
            f"{files.location(META)}: missing, though the sweep has a log. Restore it from a "
            "backup: it holds the sweep's format, name and points_per_decade. If the sweep was "
            "being deleted, finish that with `sweeper rm`."
        )
    return Ledger.open(files)


def request_stop(files: Files, launch_id: str) -> None:
    """Ask the running packs of a launch to save a checkpoint and end."""
    files.write(f"{STOP}/{launch_id}", b"")


def stop(where: str, name: str) -> str:
    """Ask the running launch of the sweep `name` to stop; return a message for the user."""
    ledger = open_sweep(where, name)
    lease = read_lease(ledger.files)
    if lease is None or not is_fresh(lease):
        return f"{name} has no running launch"
    request_stop(ledger.files, lease["launch_id"])
    return f"process {lease['pid']} on {lease['host']} stops: its packs save a checkpoint and end"


def retry(where: str, name: str) -> int:
    """Mark the failed trials of the sweep `name` as new; return their number."""
    ledger = open_sweep(where, name)
    failed = [p for p in ledger.state.packs.values() if p.failed and not p.void]
    if failed:
        ledger.append({"kind": "void", "pack_ids": [p.id for p in failed], "why": ["retry"]})
    return sum(p.failed for p in failed)
