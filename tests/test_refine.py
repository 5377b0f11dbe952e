from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isclose, log10
from pathlib import Path
from typing import Any

import pytest

from analysis.views import open_views
from sweeper import extend as extending
from sweeper import refine as refining
from sweeper import sql, sweep
from sweeper.driver import Runner, drive, inline
from sweeper.errors import SweeperError
from sweeper.grid import Grid
from sweeper.launch import PackTask, run_inline, run_pack
from sweeper.loading import load_grid
from sweeper.refine import Refined
from tests.planes import height
from tests.sweeps import ledger, run
from tests.test_cli import sweeper

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
    wanted = refining.diagram(store, "plane", x=x, y=options.pop("y", "task.y"), **options)
    return refining.refine(wanted, store, Runner(launcher, 2), budget)


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
    sweep.request_stop(ledger(str(Path(tasks[0].sweep).parent), "plane").files, tasks[0].launch_id)


def test_a_known_boundary_is_found_within_an_eighth_of_the_grids_spacing(
    tmp_path: Path, store: str
) -> None:
    grid = plane(tmp_path, store)
    refined = refine(store)
    assert (refined.settled, refined.unfinished, refined.exit_code) == (True, False, 0)
    assert refined.cells == len(added(store, grid)) > 0
    assert refined.trials == 2 * refined.cells
    known = cells(store)
    for across, along in (("x", "y"), ("y", "x")):
        for line in range(5):
            row = [c for c in known if c[across] == line * BASE]
            row.sort(key=lambda cell: float(cell[along]))
            torn = [(a, b) for a, b in pairwise(row) if a["phase"] != b["phase"]]
            assert all(b[along] - a[along] <= BASE / 8 for a, b in torn)
            assert all((at(c["x"], c["y"]) > 0) == (c["phase"] == "comprehension") for c in row)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_new_cells_lie_where_neighbours_disagree_and_nowhere_else(
    levels: int, tmp_path: Path, store: str
) -> None:
    grid = plane(tmp_path, store)
    refine(store, levels=levels)
    spacings = set()
    for cell in added(store, grid):
        spacing = BASE
        while any(cell[axis] % spacing for axis in "xy"):
            spacing /= 2
        spacings.add(spacing)
        assert abs(at(cell["x"], cell["y"])) < 2 * (2 * spacing)  # within the square it is from
    assert spacings == {BASE / 2**k for k in range(1, levels + 1)}


def test_a_diagram_of_one_phase_is_left_alone(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store, "task.shift=-5")
    number = ledger(store, "plane").number
    refined = refine(store)
    assert refined == Refined(settled=True)
    assert refining.sentence(refined) == (
        "0 cells, 0 trials in 0 rounds; neighbours agree, or are as close as --levels allows"
    )
    assert ledger(store, "plane").number == number


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
    assert refining.sentence(stopped).endswith("; stopped early: refine again to go on")
    assert refine(store).settled


def test_a_stop_after_the_last_pack_of_a_round_begins_no_other(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store)
    stopped = refine(store, launcher=lambda tasks: stops(tasks, None))
    assert (stopped.unfinished, stopped.rounds, stopped.settled) == (True, 1, False)


def test_a_log_axis_is_refined_in_logarithms(tmp_path: Path, store: str) -> None:
    changes = ("task.x=1e-3,1e-2,1e-1,1", "task.y=-2.9,-1.9,-0.9,0.1", "task.decades=true")
    grid = plane(tmp_path, store, *changes)
    refine(store, levels=2)
    xs = {cell["x"] for cell in added(store, grid)}
    assert all(isclose(8 * log10(x) % 2, 0, abs_tol=1e-6) or
               isclose(8 * log10(x) % 2, 2, abs_tol=1e-6) for x in xs)  # fmt: skip
    assert any(isclose(x, 10**-1.5) for x in xs)
    assert len({float(f"{x:.6g}") for x in xs}) == len(xs)


def test_whole_numbers_stay_whole_and_none_is_there_twice(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store, "task.x=0", "task.n=0,3,8", "task.y=0,2,4,8", "task.shift=0.5")
    refined = refine(store, x="task.n", levels=6)
    found = cells(store)
    assert {type(cell["n"]) for cell in found} == {int}
    places = [(cell["n"], cell["y"]) for cell in found]
    assert len(set(places)) == len(places) == grid.n_cells + refined.cells
    assert {n for n, _ in places} == set(range(9))


def test_panels_that_differ_otherwise_are_refined_each(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store, "task.shift=-0.35,0.1,5", "task.label=a,b")
    refined = refine(store)
    alone = str(tmp_path / "alone")
    plane(tmp_path, alone)
    refine(alone)
    panels: dict[tuple[float, str], set[tuple[float, float]]] = {}
    for cell in added(store, grid):
        panels.setdefault((cell["shift"], cell["label"]), set()).add((cell["x"], cell["y"]))
    assert sorted(panels) == [(-0.35, "a"), (-0.35, "b"), (0.1, "a"), (0.1, "b")]
    lines = {(BASE * i, BASE * j) for i in range(5) for j in range(5)}
    for label in "ab":
        assert panels[0.1, label] == {(c["x"], c["y"]) for c in cells(alone)} - lines
    assert refined.cells == sum(map(len, panels.values()))


def test_a_small_budget_is_shared_among_the_panels(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store, "task.shift=-0.35,0.1")
    refine(store, 12)
    shifts = [cell["shift"] for cell in added(store, grid)]
    assert (shifts.count(-0.35), shifts.count(0.1)) == (3, 3)


def test_a_condition_chooses_what_is_refined(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store, "task.label=a,b")
    refine(store, condition="task.label = 'b' and task.x <= 0.5")
    found = added(store, grid)
    assert {cell["label"] for cell in found} == {"b"}
    assert max(cell["x"] for cell in found) == 0.5


def test_a_condition_that_new_cells_dont_meet_ends(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store)
    refined = refine(store, condition="task.x in (0, 0.25, 0.5, 0.75, 1)")
    assert refined.settled
    assert refined.rounds == 3  # each edge across is halved once, each edge along to the end
    assert refined.cells == len(added(store, grid))


def test_split_votes_at_the_boundary_get_fresh_seeds_once(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store, "task.noise=0.15", "seeds=[3,5,9]")
    refined = refine(store, levels=1)
    found = cells(store)
    more = [cell for cell in found if cell["n_seeds"] > 3]
    assert more
    assert all(cell["seeds"] == [3, 5, 9, 10, 11, 12] for cell in more)
    assert all(abs(at(cell["x"], cell["y"])) < 0.5 for cell in more)
    assert any(c["n_seeds"] == 3 and c["agreement"] == 1 for c in found)
    assert refined.cells == len(added(store, grid))
    assert refined.trials == 3 * refined.cells + 3 * len(more)
    assert refine(store, levels=1).trials == 0


def test_a_split_vote_away_from_any_boundary_gets_no_seeds(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store, "task.noise=0.15", "seeds=[3,5,9]")
    split = [c for c in cells(store) if c["agreement"] < refining.UNDECIDED]
    wanted = refining.diagram(store, "plane", x="task.x", y="task.y")
    one = next(cell for cell in split)
    condition = f"task.x = {one['x']} and task.y = {one['y']}"  # without neighbours
    assert wanted.condition is None
    assert refine(store, condition=condition) == Refined(settled=True)


def test_failed_cells_are_neither_trained_again_nor_refined_around(
    tmp_path: Path, store: str
) -> None:
    plane(tmp_path, store, "task.trap=0.375")
    refined = refine(store)
    assert refined.settled
    assert refined.exit_code == 3
    failed = [cell for cell in cells(store) if cell["phase"] is None]
    assert {cell["x"] for cell in failed} == {0.375}
    assert refined.failed == 2 * len(failed)
    number = ledger(store, "plane").number
    assert refine(store).trials == 0
    assert ledger(store, "plane").number == number
    sweep.retry(store, "plane")
    assert refine(store).failed == 2 * len(failed)


def test_cells_of_the_grid_that_wait_still_are_left_to_its_launch(
    tmp_path: Path, store: str
) -> None:
    grid = plane(tmp_path, store, "task.y=0,0.25,0.5")
    path = tmp_path / "plane.yaml"
    more = load_grid(path, ["resources.pack=2"])
    with pytest.raises(KilledError):
        run(more, store, launcher=cut_short(0))
    assert [c["phase"] for c in cells(store)].count(None) == 10
    refine(store)
    waiting = [c for c in cells(store) if c["phase"] is None]
    assert [(c["x"], c["y"]) for c in waiting] == [
        (x * BASE, y) for x in range(5) for y in (0.75, 1)
    ]
    assert max(c["y"] for c in added(store, more)) <= 0.5
    assert grid.n_cells == 15


def test_excluded_cells_and_those_that_break_a_constraint_are_not_proposed(
    tmp_path: Path, store: str
) -> None:
    path = tmp_path / "plane.yaml"
    path.write_text(PLANE + 'exclude: "task.n = 3 and task.y > 3"\n')
    changes = ("task.x=0", "task.n=0,4,8", "task.y=0,2,4,8", "task.shift=0.5", "task.multiple=1,2")
    grid = load_grid(path, changes)
    run(grid, store)
    assert refine(store, x="task.n", levels=3).settled
    with open_views(ledger(store, "plane")) as views:
        text = "select distinct task.multiple as m, task.n as n, task.y > 3 as high from cells"
        found = {(r["m"], r["n"], r["high"]) for r in sql.query(views, text).to_pylist()}
    assert {n for m, n, _ in found if m == 2} == {0, 2, 4, 6, 8}
    assert {n for m, n, _ in found if m == 1} == set(range(9))
    assert (1, 3, False) in found
    assert (1, 3, True) not in found


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
    wanted = extending.extension(store, "plane", 100)
    outcome = extending.extend(wanted, store, inline(wanted.grid))
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


def test_delays_are_followed_where_they_double_though_the_phase_is_one(
    tmp_path: Path, store: str
) -> None:
    grid = plane(tmp_path, store, "task.ramp=4")
    assert refine(store) == Refined(settled=True)
    refine(store, value="delay", levels=2)
    heights = [at(cell["x"], cell["y"]) for cell in added(store, grid)]
    assert heights
    assert -0.5 < min(heights) < max(heights) < 0.5 + 0.5  # the ramp: delays of 1 to 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "task.label"}, "x: task.label isn't numeric (a, b), so there is nothing in between. "
         "Choose a numeric axis."),
        ({"x": "task.decades"}, "x: task.decades isn't numeric (false, true), so there is nothing "
         "in between. Choose a numeric axis."),
        ({"x": "task.xx"}, "x: no axis 'task.xx'. Did you mean 'task.x'?"),
        ({"y": "task.label2"}, "y: no axis 'task.label2'. Did you mean 'task.label'?"),
        ({"y": "task.x"}, "x and y must differ: task.x."),
        ({"y": "task.noise"}, "y: task.noise has no two values in the grid. Its axes: "
         "task.decades, task.label, task.x, task.y."),
        ({"value": "t2"}, "--value t2: refinement follows phase or delay."),
        ({"condition": "task.x > 5"}, "no cell matches 'task.x > 5'. Loosen it."),
        ({"condition": "(with w as (copy (select 1) to '/tmp/x') select true)"},
         "the store is read-only here: the query contains a statement that writes."),
        ({"name": "plan"}, "no sweep 'plan' in STORE. There: plane."),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_remedy_and_nothing_is_written(
    options: dict[str, str], message: str, tmp_path: Path, store: str
) -> None:
    plane(tmp_path, store, "task.label=a,b", "task.decades=false,true", "task.x=0.5,1")
    number = ledger(store, "plane").number
    given = {"x": "task.x", "y": "task.y", "name": "plane", **options}
    with pytest.raises(SweeperError) as caught:
        refining.diagram(store, **given)  # type: ignore[arg-type]
    assert str(caught.value) == message.replace("STORE", store)
    assert caught.value.exit_code == 2
    assert ledger(store, "plane").number == number


def test_a_sweep_without_launch_or_without_results_is_refused(tmp_path: Path, store: str) -> None:
    path = tmp_path / "plane.yaml"
    path.write_text(PLANE)
    grid = load_grid(path)
    with drive(grid, store, inline(grid)):
        pass
    with pytest.raises(SweeperError) as caught:
        refine(store)
    assert str(caught.value) == "plane: nothing was launched yet. Launch its grid first."
    with pytest.raises(KilledError):
        run(grid, store, launcher=cut_short(0))
    with pytest.raises(SweeperError) as caught:
        refine(store)
    assert str(caught.value) == (
        "plane: none of the cells has a result yet. Launch its grid to the end."
    )


def test_the_command_says_each_round_and_how_it_ended(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store)
    words = ("refine", "plane", "--x", "task.x", "--y", "task.y", "--inline", "--store", store)
    one = sweeper(*words, "--budget", "10")
    assert one.returncode == 0, one.stderr
    lines = one.stdout.splitlines()
    assert lines[0] == "10 trials: 0 done, 10 new, 0 failed; 1 pack on 1 CPU"
    assert lines[-1] == (
        "5 cells, 10 trials in 1 round; the budget is spent: neighbours disagree still"
    )
    assert sweeper(*words, "--budget", "10", "--quiet").stdout == ""
    rest = sweeper(*words, "--budget", "1000", "--json")
    events = [json.loads(line) for line in rest.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["plan"] * 3 + ["refined"]
    assert events[-1] == {
        "event": "refined", "trials": 220, "cells": 110, "rounds": 3, "settled": True,
        "exit_code": 0,
    }  # fmt: skip


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
