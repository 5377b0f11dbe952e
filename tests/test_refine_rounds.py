from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeper.compile.loading import load_grid
from sweeper.engine.driver import Runner, drive, inline
from sweeper.engine.worker import run_inline
from sweeper.refine import extend
from sweeper.refine.refine import Refined, sentence
from tests.commands import sweeper
from tests.refinements import KilledError, added, cells, cut_short, plane, refine, stops, trial_ids
from tests.sweeps import ledger


@pytest.mark.parametrize("budget", [1, 2, 7, 31])
def test_a_budget_pays_for_whole_cells_and_is_never_exceeded(
    budget: int, tmp_path: Path, store: str
) -> None:
    grid = plane(tmp_path, store)
    before = trial_ids(store)
    refined = refine(store, budget)
    assert refined.trials == len(trial_ids(store) - before) == budget - budget % 2
    assert {cell["n_seeds"] for cell in added(store, grid)} <= {2}
    assert not refined.settled
    assert refined.exit_code == 0


@pytest.mark.parametrize(("short", "settled"), [(0, True), (1, False)])
def test_the_exact_budget_is_enough_to_know_that_nothing_is_left(
    short: int, settled: bool, tmp_path: Path, store: str
) -> None:
    free = str(tmp_path / "free")
    plane(tmp_path, free)
    plane(tmp_path, store)
    assert refine(store, refine(free).trials - short).settled is settled


def test_trials_that_the_store_holds_cost_nothing(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store)
    free = refine(store)
    plane(tmp_path, store, "task.label=b")
    plane(tmp_path, store)  # the first grid again: what was refined isn't shown beside it
    assert len(cells(store)) == 25
    before = trial_ids(store)
    again = refine(store, 1)
    assert (again.trials, again.cells, again.settled) == (0, free.cells, True)
    assert trial_ids(store) == before
    assert len(cells(store)) == 25 + free.cells


@pytest.mark.parametrize("packs", [1, 16])
def test_what_was_killed_goes_on_to_the_same_cells(packs: int, tmp_path: Path, store: str) -> None:
    whole = str(tmp_path / "whole")
    options = ("seeds=3", "task.noise=0.1", "resources.pack=12")
    plane(tmp_path, whole, *options)
    refine(whole, levels=2)
    plane(tmp_path, store, *options)
    with pytest.raises(KilledError):
        refine(store, levels=2, launcher=cut_short(packs))
    assert refine(store, levels=2).settled
    assert cells(store) == cells(whole)
    assert trial_ids(store) == trial_ids(whole)


def test_what_was_killed_is_paid_for_once(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store, "seeds=3", "resources.pack=7")
    before = trial_ids(store)
    with pytest.raises(KilledError):
        refine(store, 90, levels=1, launcher=cut_short(2))
    assert len(trial_ids(store) - before) == 14
    resumed = refine(store, levels=1)
    assert resumed.trials == len(trial_ids(store) - before) - 14
    assert {cell["n_seeds"] for cell in cells(store)} == {3}


def test_more_budget_goes_on_where_less_had_ended(tmp_path: Path, store: str) -> None:
    whole = str(tmp_path / "whole")
    plane(tmp_path, whole)
    refine(whole)
    plane(tmp_path, store)
    rounds = [refine(store, budget) for budget in (5, 30, 60, 10_000)]
    assert [r.settled for r in rounds] == [False, False, False, True]
    assert cells(store) == cells(whole)


def test_a_stop_ends_a_refinement_with_work_left(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store, "resources.pack=4")
    stopped = refine(store, launcher=lambda tasks: stops(tasks, 1))
    assert (stopped.unfinished, stopped.exit_code, stopped.trials) == (True, 4, 4)
    assert sentence(stopped).endswith("; stopped early: refine again to continue")
    assert refine(store).settled


def test_a_stop_after_the_last_pack_of_a_round_begins_no_other(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store)
    stopped = refine(store, launcher=lambda tasks: stops(tasks, None))
    assert (stopped.unfinished, stopped.rounds, stopped.settled) == (True, 1, False)


def test_refined_cells_stay_beside_their_grid_when_it_is_launched_again(
    tmp_path: Path, store: str
) -> None:
    plane(tmp_path, store)
    refine(store)
    shown = cells(store)
    plane(tmp_path, store)
    assert cells(store) == shown
    assert refine(store) == Refined(settled=True)


def test_a_refined_sweep_can_be_extended_and_refined_again(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store, "checkpoint.keep=all", "steps=50", "task.ramp=-2")
    refine(store, value="delay", levels=1)
    shown = [cell["cell_id"] for cell in cells(store)]
    wanted = extend.extension(store, "plane", 100)
    outcome = extend.extend(wanted, store, inline(wanted.grid))
    assert outcome.counts.new == 0
    assert [cell["cell_id"] for cell in cells(store)] == shown
    assert refine(store, value="delay", levels=2).cells > 0


def test_cells_that_a_search_adds_stand_beside_the_refined_ones(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store)
    refined = refine(store, levels=1)
    other = load_grid(tmp_path / "plane.yaml", ["task.x=0.3333", "task.y=0.777"])
    with drive(grid, store, Runner(run_inline, 2)) as driver:
        driver.train(grid, other.table(), adds="search")
    assert len(cells(store)) == 25 + refined.cells + 1
    assert refine(store, levels=1) == Refined(settled=True)
    assert refine(store, levels=2).cells > 0


def test_the_command_says_each_round_and_how_it_ended(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store)
    words = ("refine", "plane", "--x", "task.x", "--y", "task.y", "--inline", "--store", store)
    one = sweeper(*words, "--budget", "10")
    assert one.returncode == 0, one.stderr
    lines = one.stdout.splitlines()
    assert lines[0] == "10 trials: 0 done, 10 new, 0 failed; 1 pack on 1 CPU"
    assert lines[-1] == (
        "5 cells, 10 trials in 1 round; the budget is spent: neighbours still disagree"
    )
    assert sweeper(*words, "--budget", "10", "--quiet").stdout == ""
    rest = sweeper(*words, "--budget", "1000", "--json")
    events = [json.loads(line) for line in rest.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["plan"] * 3 + ["refined"]
    assert events[-1] == {
        "event": "refined",
        "trials": 220,
        "cells": 110,
        "rounds": 3,
        "settled": True,
        "exit_code": 0,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plane", "--x", "task.xx"), "error: x: no axis 'task.xx'. Did you mean 'task.x'?\n"),
        (("plan", "--x", "task.x"), "error: no sweep 'plan' in STORE. There: plane.\n"),
        (("plane", "--x", "task.x", "--budget", "0"), None),
    ],
)
def test_a_mistake_on_the_command_line_is_exit_code_2(
    words: tuple[str, ...], message: str | None, tmp_path: Path, store: str
) -> None:
    plane(tmp_path, store)
    number = ledger(store, "plane").number
    budget = () if "--budget" in words else ("--budget", "9")
    done = sweeper("refine", *words, "--y", "task.y", *budget, "--inline", "--store", store)
    assert done.returncode == 2
    assert message is None or done.stderr == message.replace("STORE", store)
    assert message is not None or "--budget" in done.stderr
    assert ledger(store, "plane").number == number
