"""What the tests of refinement build on: planes, launched and refined in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline, run_pack
from sweeper.grid.grid import Grid
from sweeper.refine import diagram
from sweeper.refine.refine import Refined
from sweeper.refine.refine import refine as refine_sweep
from tests.planes import height
from tests.sweeps import ledger, run

PLANE = """
name: plane
trainable: tests.planes
fixed: {steps: 100}
grid:
  product:
    task.x: {linspace: [0, 1, 5]}
    task.y: {linspace: [0, 1, 5]}
    task.shift: [0.1]
seeds: 2
"""

BASE = 0.25
"""Between two lines of the grid."""

Row = dict[str, Any]


class KilledError(Exception):
    """Stands for a driver that is killed."""


def plane(tmp_path: Path, store: str, *overrides: str) -> Grid:
    """Return the grid of planes with `overrides`, launched to the end."""
    path = tmp_path / "plane.yaml"
    path.write_text(PLANE)
    grid = load_grid(path, overrides)
    assert run(grid, store).counts.new == 0
    return grid


def refine(
    store: str, budget: int = 10_000, launcher: Any = run_inline, x: str = "task.x", **options: Any
) -> Refined:
    """Refine the planes over x and y in this process."""
    wanted = diagram.diagram(store, "plane", x=x, y=options.pop("y", "task.y"), **options)
    return refine_sweep(wanted, store, Runner(launcher, 2), budget)


def cells(store: str, **options: Any) -> list[Row]:
    """Return the cells that the views show."""
    with open_views(ledger(store, "plane"), **options) as views:
        text = (
            "select cell_id, task.x as x, task.y as y, task.n as n, task.shift as shift, "
            "task.label as label, phase, agreement, delay, n_seeds, "
            "(select list_sort(list(t.seed)) from trials as t where t.cell_id = c.cell_id) "
            "as seeds from cells as c order by task.shift, task.label, task.x, task.n, task.y"
        )
        found: list[Row] = sql.query(views, text).to_pylist()
        return found


def added(store: str, grid: Grid) -> list[Row]:
    """Return the cells that the grid doesn't have."""
    own = set(grid.table()["cell_id"].to_pylist())
    return [cell for cell in cells(store) if cell["cell_id"] not in own]


def trial_ids(store: str) -> set[str]:
    """Return the trials that ended."""
    with open_views(ledger(store, "plane"), everything=True) as views:
        text = "select trial_id from trials where status not in ('pending', 'running')"
        return set(sql.query(views, text)["trial_id"].to_pylist())


def at(x: float, y: float, **values: Any) -> float:
    """Return the height of a place."""
    given = {f"task.{name}": value for name, value in values.items()}
    plain = {"task.n": 0, "task.shift": 0.1, "task.noise": 0.0, "task.decades": False}
    return height({**plain, "task.x": x, "task.y": y, **given})


def cut_short(packs: int) -> Callable[[Sequence[PackTask]], None]:
    """Return a launcher that is killed after so many packs."""
    left = [packs]

    def launch(tasks: Sequence[PackTask]) -> None:
        for task in tasks:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            run_pack(task)

    return launch


def stops(tasks: Sequence[PackTask], packs: int | None) -> None:
    """Run the first packs and ask the launch to stop."""
    for task in tasks[:packs]:
        run_pack(task)
    commands.request_stop(
        ledger(str(Path(tasks[0].sweep).parent), "plane").files, tasks[0].launch_id
    )
