"""What a worker does with a pack: failures stay with their trial, attempts leave no trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sweeper.engine import commands
from sweeper.engine.planner import plan_launch
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline, run_pack
from sweeper.store.outcomes import ended_trials
from tests import toy
from tests.sweeps import assert_whole, ledger, rows, run, statuses, toy_grid


def test_a_launch_trains_every_trial_once(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    outcome = run(grid, store)
    assert (outcome.counts.trials, outcome.counts.done, outcome.counts.new) == (12, 12, 0)
    assert outcome.exit_code == 0
    assert_whole(store, grid)


def test_a_relaunch_of_a_finished_sweep_runs_no_pack(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)

    def never(tasks: Sequence[PackTask]) -> None:
        raise AssertionError(tasks)

    assert run(grid, store, launcher=never).counts.done == 12


def test_a_grown_grid_runs_only_its_new_trials(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path), store)
    before = rows(store)
    seen: list[str] = []

    def count(tasks: Sequence[PackTask]) -> None:
        seen.extend(t.pack_id for t in tasks)
        run_inline(tasks)

    grown = toy_grid(tmp_path, "task.rate=0.1,0.5,1.0,2.0", "seeds=3")
    run(grown, store, launcher=count)
    assert sum(ledger(store).state.packs[p].size for p in seen) == 24 - 12
    after = rows(store)
    old = set(before["trial_id"].to_pylist())
    kept = after.filter([i in old for i in after["trial_id"].to_pylist()])
    assert kept.equals(before)
    assert_whole(store, grown)


def test_a_trial_that_raises_fails_alone_with_its_traceback(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=well,raises", "task.rate=0.5", "seeds=4", "task.shift=0")
    outcome = run(grid, store, workers=1)
    assert (outcome.counts.done, outcome.counts.failed, outcome.exit_code) == (4, 4, 3)
    fates = {t.id: t.values["task.fate"] for t in grid.trials()}
    assert {i for i, s in statuses(store).items() if s == "failed"} == {
        i for i, fate in fates.items() if fate == "raises"
    }
    errors = [r["error"] for r in ended_trials(ledger(store)).to_pylist() if r["error"]]
    assert all(e.endswith("ArithmeticError: a trial of this pack raises") for e in errors)


def test_failed_trials_are_left_alone_until_they_are_retried(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=raises", "task.shift=0", "task.rate=0.5")
    run(grid, store)
    assert run(grid, store).counts.failed == 2
    assert commands.retry(store, "toy") == 2
    counts = plan_launch(grid, ledger(store), workers=2).counts
    assert (counts.new, counts.failed) == (2, 0)
    assert run(grid, store).counts.failed == 2
    assert commands.retry(store, "toy") == 2


def test_a_pack_that_does_not_fit_is_run_in_halves(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=huge", "seeds=9", "task.shift=0", "task.rate=0.5")
    outcome = run(grid, store, workers=1)
    assert outcome.counts.done == 9
    sizes = [p.size for p in ledger(store).state.packs.values() if p.split_at is None]
    assert sorted(sizes) == [2, 3, 4]
    assert_whole(store, grid)


def test_a_diverging_trial_ends_at_the_step_where_it_does(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=well,diverges", "task.shift=0", "task.rate=1.0")
    run(grid, store, workers=1)
    ends = {r["trial_id"]: r for r in ended_trials(ledger(store)).to_pylist()}
    for trial in grid.trials():
        end = ends[trial.id]
        if trial.values["task.fate"] == "diverges":
            assert (end["status"], end["last_step"]) == ("diverged", 5)
        else:
            assert end["status"] == "generalized"
    losses = rows(store)["train_loss"].to_pylist()
    assert None in losses  # what isn't finite is null
    assert all(x == x for x in losses if x is not None)


def test_a_drained_pack_saves_and_goes_on_where_it_was(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.pause=0.01", "task.shift=0", "stop.after_generalization=false")
    reference = str(tmp_path / "reference")
    run(grid, reference, workers=1)

    def drain(tasks: Sequence[PackTask]) -> None:
        import threading

        book = ledger(store)
        stop = lambda: commands.request_stop(book.files, tasks[0].launch_id)  # noqa: E731
        timer = threading.Timer(0.3, stop)
        timer.start()
        run_inline(tasks)
        timer.join()

    outcome = run(grid, store, workers=1, launcher=drain)
    assert outcome.stopped
    assert (outcome.counts.new, outcome.exit_code) == (6, 4)
    (pack,) = ledger(store).state.packs.values()
    assert pack.checkpoint is not None
    assert 0 < pack.checkpoint["step"] < 100
    run(grid, store, workers=1)
    assert ledger(store).state.packs[pack.id].attempts[-1].resumed_at == pack.checkpoint["step"]
    assert rows(store).equals(rows(reference))
    assert_whole(store, grid)


class DeathError(Exception):
    """Stands for a worker that is killed: nothing after it runs."""


def test_an_attempt_killed_anywhere_ends_with_the_rows_of_an_undisturbed_run(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the writer at its k-th write to the store, for every k that there is."""
    from sweeper.store.files import Files

    grid = toy_grid(
        tmp_path,
        "task.shift=0",
        "checkpoint.every_s=0.000001",
        "steps=12",
        "stop.after_generalization=false",
    )
    reference = str(tmp_path / "reference")
    run(grid, reference, workers=1)
    expected = rows(reference)
    put = Files._put
    left = 10**9

    def dying_put(self: Files, path: str, content: bytes, mode: str, *, durable: bool) -> bool:
        nonlocal left
        if "lease" not in path:
            left -= 1
            if left < 0:
                raise SystemExit("killed")
        return put(self, path, content, mode, durable=durable)

    monkeypatch.setattr(Files, "_put", dying_put)
    survived = False
    for k in range(200):
        where = f"{store}-{k}"
        left = k
        try:
            run(grid, where, workers=1)
            survived = True
        except SystemExit:
            pass
        left = 10**9
        run(grid, where, workers=1)
        assert rows(where).equals(expected), f"killed at write {k}"
        assert_whole(where, grid)
        if survived:
            break
    assert survived
    assert k > 20  # it was killed at many places indeed


def test_a_shrunken_grid_leaves_unwanted_trials_of_open_packs_alone(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path, "task.shift=0")

    def die(tasks: Sequence[PackTask]) -> None:
        raise DeathError

    with pytest.raises(DeathError):
        run(grid, store, workers=1, launcher=die)
    small = toy_grid(tmp_path, "task.shift=0", "task.rate=0.5")
    assert run(small, store, workers=1).counts.done == 2
    assert set(statuses(store)) == {t.id for t in small.trials()}
    assert run(grid, store, workers=1).counts.done == 6
    assert_whole(store, grid)


def test_a_task_whose_pack_was_finished_by_another_does_nothing(tmp_path: Path, store: str) -> None:
    kept: list[PackTask] = []

    def remember(tasks: Sequence[PackTask]) -> None:
        kept.extend(tasks)
        run_inline(tasks)

    run(toy_grid(tmp_path), store, launcher=remember)
    before = ledger(store).number
    for task in kept:
        run_pack(task)
    assert ledger(store).number == before


def test_a_trial_that_exits_fails_alone(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = toy.train

    def leave(pack: Any, sink: Any, checkpoints: Any) -> None:
        if "diverges" in pack.column("task.fate"):
            raise SystemExit(7)
        train(pack, sink, checkpoints)

    monkeypatch.setattr(toy, "train", leave)
    grid = toy_grid(tmp_path, "task.fate=well,diverges", "task.shift=0", "task.rate=1.0")
    outcome = run(grid, store, workers=1)
    assert (outcome.counts.done, outcome.counts.failed, outcome.exit_code) == (2, 2, 3)
