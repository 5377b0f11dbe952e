"""What the engine's tests build on: toy grids, launches in this process, rows as they stand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.commands import request_stop
from sweeper.engine.driver import Outcome, Runner
from sweeper.engine.task import Launcher, PackTask
from sweeper.engine.worker import run_inline
from sweeper.grid.grid import Grid
from sweeper.store import lease, tables
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.schema import logged_steps

TOY = """
name: toy
trainable: tests.toy
fixed: {steps: 100}
grid:
  product:
    task.rate: [0.1, 0.5, 1.0]
    task.shift: [0, 1]
seeds: 2
"""


def toy_grid(tmp_path: Path, *overrides: str, text: str = TOY) -> Grid:
    """Return the toy's grid with overrides."""
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return load_grid(path, overrides)


def run(grid: Grid, where: str, *, workers: int = 2, launcher: Any = run_inline) -> Outcome:
    """Launch `grid` in this process."""
    return commands.launch(grid, where, Runner(launcher, workers))


def stopped_midway(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """Return a launcher that asks the launch to stop while the toy trains its first pack."""
    pauses = iter(range(10))

    def launcher(tasks: Sequence[PackTask]) -> None:
        def pause(_: float) -> None:
            if next(pauses, None) == 5:
                request_stop(Files.at(tasks[0].sweep), tasks[0].launch_id)
                time.sleep(1.5)  # the sink looks every half a second

        monkeypatch.setattr("tests.toy.time", SimpleNamespace(sleep=pause))
        run_inline(tasks)

    return launcher


def ledger(where: str, name: str = "toy") -> Ledger:
    """Return the ledger of a sweep."""
    return lease.open_sweep(where, name)


def rows(where: str, name: str = "toy") -> pa.Table:
    """Return all metric rows that count, by trial and step, read without SQL."""
    book = ledger(where, name)
    pieces = []
    for part, cutoff in book.state.parts():
        table = tables.read(book.files, part)
        pieces.append(table if cutoff is None else table.filter(pc.field("step") <= cutoff))
    whole = pa.concat_tables(pieces, promote_options="default")
    return whole.sort_by([("trial_id", "ascending"), ("step", "ascending")])


def statuses(where: str, name: str = "toy") -> dict[str, str]:
    """Return how each trial ended, the last time that it did."""
    ends = ended_trials(ledger(where, name)).sort_by([("steps", "ascending")]).to_pylist()
    return {row["trial_id"]: row["status"] for row in ends}


def assert_whole(where: str, grid: Grid, name: str = "toy") -> None:
    """Assert that every trial of `grid` has each logged step once, up to its end."""
    table = rows(where, name)
    seen: dict[str, list[int]] = {}
    for trial_id, step in zip(
        table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True
    ):
        seen.setdefault(trial_id, []).append(step)
    ends = {
        r["trial_id"]: r["last_step"]
        for r in ended_trials(ledger(where, name)).sort_by([("steps", "ascending")]).to_pylist()
    }
    logged = run_steps(grid)
    for trial in grid.trials():
        assert seen[trial.id] == [s for s in logged if s <= ends[trial.id]]


def run_steps(grid: Grid) -> Sequence[int]:
    """Return the logged steps up to the grid's horizon."""
    return logged_steps(grid.file.log.points_per_decade, grid.steps)
