from __future__ import annotations

from itertools import pairwise
from math import isclose, log10
from pathlib import Path

import pytest

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import drive, inline
from sweeper.errors import SweeperError
from sweeper.refine import diagram
from sweeper.refine.refine import Refined, sentence
from tests.refinements import BASE, PLANE, KilledError, added, at, cells, cut_short, plane, refine
from tests.sweeps import ledger, run


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
    assert sentence(refined) == (
        "0 cells, 0 trials in 0 rounds; neighbours agree, or are as close as --levels allows"
    )
    assert ledger(store, "plane").number == number


def test_a_log_axis_is_refined_in_logarithms(tmp_path: Path, store: str) -> None:
    changes = ("task.x=1e-3,1e-2,1e-1,1", "task.y=-2.9,-1.9,-0.9,0.1", "task.decades=true")
    grid = plane(tmp_path, store, *changes)
    refine(store, levels=2)
    xs = {cell["x"] for cell in added(store, grid)}
    assert all(
        isclose(8 * log10(x) % 2, 0, abs_tol=1e-6) or isclose(8 * log10(x) % 2, 2, abs_tol=1e-6)
        for x in xs
    )
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
    split = [c for c in cells(store) if c["agreement"] < diagram.UNDECIDED]
    wanted = diagram.diagram(store, "plane", x="task.x", y="task.y")
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
    commands.retry(store, "plane")
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
        (
            {"x": "task.label"},
            "x: task.label isn't numeric (a, b), so no value lies between two others. "
            "Choose a numeric axis.",
        ),
        (
            {"x": "task.decades"},
            "x: task.decades isn't numeric (false, true), so no value lies "
            "between two others. Choose a numeric axis.",
        ),
        ({"x": "task.xx"}, "x: no axis 'task.xx'. Did you mean 'task.x'?"),
        ({"y": "task.label2"}, "y: no axis 'task.label2'. Did you mean 'task.label'?"),
        ({"y": "task.x"}, "x and y are both task.x. Choose two different axes."),
        (
            {"y": "task.noise"},
            "y: task.noise has fewer than two values in the grid. Axes that vary: "
            "task.decades, task.label, task.x, task.y.",
        ),
        ({"value": "t2"}, "--value t2: can't be refined. Choose phase or delay."),
        ({"condition": "task.x > 5"}, "no cell matches 'task.x > 5'. Loosen it."),
        (
            {"condition": "(with w as (copy (select 1) to '/tmp/x') select true)"},
            "the store is read-only here: the query contains a statement that writes.",
        ),
        ({"name": "plan"}, "no sweep 'plan' in STORE. There: plane."),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_remedy_and_nothing_is_written(
    options: dict[str, str], message: str, tmp_path: Path, store: str
) -> None:
    plane(tmp_path, store, "task.label=a,b", "task.decades=false,true", "task.x=0.5,1")
    number = ledger(store, "plane").number
    given = {"x": "task.x", "y": "task.y", "name": "plane", **options}
    with pytest.raises(SweeperError) as caught:
        diagram.diagram(store, **given)  # type: ignore[arg-type]
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
