"""Where a launch stands, counted from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.engine import commands
from sweeper.engine.driver import Launched, Progress, Runner
from sweeper.engine.task import Launcher, PackTask
from sweeper.engine.worker import run_inline
from sweeper.errors import WorkerError
from sweeper.grid.grid import Grid
from tests.sweeps import ledger, run, statuses, toy_grid

ONE_CELL = ("task.rate=0.5", "task.shift=0", "task.fate=well,raises")


def launched(grid: Grid, store: str, launcher: Launcher = run_inline) -> Launched:
    """Launch `grid` in this process; return the launch."""
    begun: list[Launched] = []
    commands.launch(grid, store, Runner(launcher, 1), started=begun.append)
    return begun[0]


@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_progress_counts_packs_that_were_split_again_and_again(
    tmp_path: Path, store: str, seeds: int
) -> None:
    trials = 2 * seeds
    grid = toy_grid(tmp_path, *ONE_CELL, f"seeds={seeds}", f"resources.pack={trials}")
    launch = launched(grid, store)
    states = ledger(store).state.packs
    generations = [p for p in states.values() if p.parents and states[p.parents[0]].parents]
    assert len(launch.tasks) == 1
    assert generations, "the pack was to be split at least twice"
    failed = list(statuses(store).values()).count("failed")
    assert failed == seeds
    now = launch.progress(ledger(store))
    assert replace(now, each=()) == Progress(
        trials=trials, ended=trials, failed=failed, packs=1, running=0
    )


def test_progress_of_a_launch_counts_nothing_that_another_launch_trained(
    tmp_path: Path, store: str
) -> None:
    first = launched(toy_grid(tmp_path, *ONE_CELL, "seeds=1", "resources.pack=2"), store)
    second = launched(toy_grid(tmp_path, *ONE_CELL, "seeds=4", "resources.pack=8"), store)
    assert replace(first.progress(ledger(store)), each=()) == Progress(2, 2, 1, 1, 0)
    assert replace(second.progress(ledger(store)), each=()) == Progress(6, 6, 3, 1, 0)


def test_a_pack_that_fails_in_a_later_launch_is_no_failure_of_the_earlier_one(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path, "task.rate=0.5", "task.shift=0", "task.fate=raises", "seeds=1")
    earlier = launched(grid, store, launcher=lambda tasks: None)
    later = launched(grid, store)
    assert [t.pack_id for t in earlier.tasks] == [t.pack_id for t in later.tasks]
    assert replace(later.progress(ledger(store)), each=()) == Progress(1, 1, 1, 1, 0)
    assert replace(earlier.progress(ledger(store)), each=()) == Progress(1, 0, 0, 1, 0)


@pytest.mark.parametrize("left", [0, 3])
def test_a_failed_worker_is_an_error_where_trials_are_left(
    tmp_path: Path, store: str, left: int
) -> None:
    grid = toy_grid(tmp_path, "resources.pack=1")

    def launcher(tasks: Sequence[PackTask]) -> None:
        run_inline(tasks[left:])
        raise WorkerError("pack a on node n: ValueError: no.")

    if not left:
        assert run(grid, store, launcher=launcher).exit_code == 0
        return
    with pytest.raises(WorkerError) as error:
        run(grid, store, launcher=launcher)
    assert str(error.value) == (
        "pack a on node n: ValueError: no. 3 of 12 trials are left to train: fix the "
        "cause and launch again."
    )
    assert run(grid, store).counts.new == 0
