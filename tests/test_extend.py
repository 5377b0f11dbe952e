"""Trials that are carried on, and what launches add to what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import stored_grid
from sweeper.engine import commands
from sweeper.engine.driver import Outcome, Runner, drive, inline
from sweeper.engine.worker import run_inline
from sweeper.errors import StoreError, UsageError
from sweeper.refine import extend
from tests.sweeps import assert_whole, ledger, run, toy_grid

SLOW = ["task.rate=0.01,0.02,0.5", "task.shift=0", "seeds=2"]
"""At step 100 the trials of rate 0.01 and 0.02 are censored, those of 0.5 have generalized."""


def carry_on(where: str, steps: int, condition: str | None = None) -> Outcome:
    """Extend the toy in this process."""
    wanted = extend.extension(where, "toy", steps, condition=condition)
    return extend.extend(wanted, where, Runner(run_inline, 2))


def ask(where: str, text: str, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a query over the views of the toy."""
    with open_views(ledger(where), **options) as views:
        found: list[dict[str, Any]] = sql.query(views, text).to_pylist()
        return found


def test_extended_trials_are_those_that_were_asked_for_from_the_start(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, *SLOW), store)
    carry_on(store, 700)
    far = toy_grid(tmp_path, *SLOW, "steps=700")
    whole = str(tmp_path / "whole")
    run(far, whole)
    everything = "select * from metrics order by trial_id, step"
    assert ask(store, everything) == ask(whole, everything)
    lengths = "select distinct task.rate as rate, steps from trials where task.rate = 0.5"
    assert ask(store, lengths) == ask(whole, lengths) != [{"rate": 0.5, "steps": 700}]
    assert_whole(store, far)


def test_a_condition_chooses_which_trials_go_on(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, *SLOW), store)
    outcome = carry_on(store, 700, "task.rate = 0.02 and seed = 1")
    assert outcome.counts.trials == 1
    further = ask(store, "select task.rate as rate, seed from trials where steps > 100")
    assert further == [{"rate": 0.02, "seed": 1}]


def test_what_was_extended_is_shown_among_all_trials_of_the_grid(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, *SLOW), store)
    before = ask(store, "select trial_id, cell_id from trials order by all")
    carry_on(store, 700, "seed = 0")
    assert ask(store, "select trial_id, cell_id from trials order by all") == before


def test_a_horizon_that_is_no_longer_is_refused(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, *SLOW), store)
    with pytest.raises(UsageError) as caught:
        extend.extension(store, "toy", 100)
    assert str(caught.value) == (
        "--steps 100: these 4 censored trials have 100 steps already. Choose more than 100 steps."
    )


def test_trials_without_checkpoints_are_refused_and_nothing_is_written(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, *SLOW, "checkpoint.keep=none"), store)
    number = ledger(store).number
    with pytest.raises(UsageError, match=r"its final checkpoint wasn't kept"):
        carry_on(store, 700)
    assert ledger(store).number == number


def test_a_sweep_that_was_never_launched_has_no_grid(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    with drive(grid, store, inline(grid)) as driver, pytest.raises(StoreError, match="nothing was"):
        stored_grid(driver.ledger)


def test_what_a_launch_added_is_shown_with_its_grid_and_with_grids_that_grew_from_it(
    tmp_path: Path, store: str
) -> None:
    small, more = toy_grid(tmp_path), toy_grid(tmp_path, "task.rate=0.3", "task.shift=7")
    run(small, store)
    with drive(small, store, Runner(run_inline, 2)) as driver:
        driver.train(small, more.table(), adds="refine")
    both = small.n_trials + more.n_trials
    count = "select count(*) as n from trials where status in ('generalized', 'censored')"
    assert ask(store, count) == [{"n": both}]
    run(small, store)  # the very grid again
    assert ask(store, count) == [{"n": both}]
    grown = toy_grid(tmp_path, "seeds=3")
    run(grown, store)
    assert ask(store, count) == [{"n": grown.n_trials + more.n_trials}]
    other = toy_grid(tmp_path, "task.rate=0.1")
    run(other, store)
    assert ask(store, count) == [{"n": other.n_trials}]
    assert ask(store, count, everything=True) == [{"n": grown.n_trials + more.n_trials}]


def test_the_grid_of_the_last_launch_comes_back_with_its_overrides(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path, "task.rate=0.3,0.4", "seeds=3")
    run(grid, store)
    back = stored_grid(ledger(store))
    assert back.table().equals(grid.table())
    assert (back.steps, back.file) == (grid.steps, grid.file)


def test_rounds_of_one_driver_are_launches_of_their_own(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    one, two = grid.table().slice(0, 5), grid.table().slice(5)
    with drive(grid, store, Runner(run_inline, 2)) as driver:
        first = driver.train(grid, one, adds="search")
        second = driver.train(grid, two, adds="search")
    assert (first.counts.done, second.counts.done) == (one.num_rows, two.num_rows)
    assert ask(store, "select count(*) as n from trials") == [{"n": grid.n_trials}]
    records = list(ledger(store).state.launches.values())
    assert [r["adds"] for r in records] == ["search", "search"]
    assert records[1]["beside"] == [records[0]["launch_id"]]


def test_a_driver_that_was_asked_to_stop_says_so_before_the_next_round(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    with drive(grid, store, Runner(run_inline, 2)) as driver:
        driver.train(grid, grid.table().slice(0, 5), adds="search")
        assert not driver.stopped
        commands.stop(store, "toy")
        assert driver.stopped


def test_views_can_be_opened_on_chosen_trials(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    chosen = grid.table().slice(2, 3)
    found = ask(store, "select trial_id from trials order by all", plan=chosen)
    assert sorted(r["trial_id"] for r in found) == sorted(chosen["trial_id"].to_pylist())
