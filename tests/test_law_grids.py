"""Every grid of a law parses, plans what its comment says, and is read by a law."""

from __future__ import annotations

import re

import pytest

from sweeper.analysis.laws import LAWS, LawGrid
from sweeper.analysis.laws.claim import GRIDS
from sweeper.compile.loading import load_grid
from sweeper.engine.planner import plan_launch
from sweeper.grid.gridfile import Resources

NAMED: dict[str, LawGrid] = {grid.name: grid for law in LAWS for grid in law.grids}


def test_the_folder_holds_the_grids_of_the_laws_and_no_others() -> None:
    assert {path.stem for path in GRIDS.glob("*.yaml")} == NAMED.keys()


def test_laws_that_share_a_grid_cut_it_alike() -> None:
    assert all(NAMED[grid.name] == grid for law in LAWS for grid in law.grids)


@pytest.mark.parametrize("grid", NAMED.values(), ids=lambda grid: grid.name)
def test_a_laws_grid_opens_with_its_question_its_size_and_its_cost(grid: LawGrid) -> None:
    head = " ".join(
        line.lstrip("# ") for line in grid.path.read_text().split("\n") if line.startswith("#")
    )
    assert re.match(r"Question: .*\?", head)
    assert re.search(r"Cost: .*\d", head)
    found = re.search(r"(\d+) cells? x (\d+) seeds? = (\d+) trials? in (\d+) packs?", head)
    assert found is not None, head
    loaded = load_grid(grid.path)
    plan = plan_launch(loaded, None, workers=2)
    trials, seeds = plan.counts.trials, len(loaded.seeds)
    assert [int(n) for n in found.groups()] == [trials // seeds, seeds, trials, plan.n_packs]


@pytest.mark.parametrize("grid", NAMED.values(), ids=lambda grid: grid.name)
def test_a_laws_sweep_is_told_from_the_users_own_and_runs_beside_the_others(grid: LawGrid) -> None:
    for changes in ((), grid.cut):
        loaded = load_grid(grid.path, changes)
        assert loaded.name == grid.name
        assert loaded.name.startswith("law_")
        assert loaded.file.resources == Resources()
        assert loaded.n_trials > 0
    assert load_grid(grid.path, grid.cut).n_trials <= load_grid(grid.path).n_trials
