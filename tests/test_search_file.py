"""The section `search` of a grid file: what it may leave open, and whose mistakes are whose."""

from __future__ import annotations

import pytest

from sweeper.compile.compile import read_grid
from sweeper.errors import ConfigError, UsageError
from sweeper.grid.document import parse
from sweeper.grid.search_section import MEASURES, Finalists, Search
from sweeper.space.space import Impossible, Space
from tests.spaces import ONLY, ROOT, SPARSE, TASKS, edited, point, space_of
from tests.strategies import grid_of
from tests.test_gridfile import load


def test_a_file_may_be_for_a_search_alone() -> None:
    grid = edited(ONLY)
    assert grid.n_cells == 0
    assert list(grid.criteria) == ["sparse_recovery"]
    assert edited(TASKS).n_cells == 0
    assert list(edited(TASKS).criteria) == ["modular_arithmetic", "sparse_recovery"]
    assert edited(ONLY, "regularizer.strength=0.5").n_cells == 1
    some = edited(SPARSE, "regularizer.name=l1")
    assert some.n_cells == 6


def test_a_sum_may_be_left_to_the_search() -> None:
    text = (
        "name: g\nfixed: {task.name: sparse_recovery, steps: 1, regularizer.name: sum}\nsearch:\n"
        "  objective: t2\n  space: {regularizer.terms.l1.strength: {loguniform: [0.1, 1]}}\n"
    )
    assert edited(text).n_cells == 0
    assert point(space_of(text), regularizer__terms__l1__strength=0.2).cell_id


def test_a_rule_may_read_what_only_the_search_varies() -> None:
    grid = edited(SPARSE + "exclude: selection.tau > 0.5 and model.depth = 1\n")
    assert grid.n_excluded == 0
    searched = Space.of(grid).point(
        {"regularizer.name": "none", "selection.tau": 0.6, "model.depth": 1}
    )
    assert searched == Impossible("excluded by 'selection.tau > 0.5 and model.depth = 1'.")


def test_the_command_line_takes_a_path_out_of_the_space() -> None:
    space = Space.of(edited(SPARSE, "model.init_scale=0.5", "selection.tau=0.25"))
    assert {"model.init_scale", "selection.tau"}.isdisjoint(d.name for d in space.dimensions)
    assert point(space, regularizer__name="none").values["selection.tau"] == 0.25


def test_an_override_that_empties_the_search_does_not_stop_a_launch() -> None:
    grid = edited(SPARSE, "regularizer.name=none")
    assert grid.n_cells == 6
    with pytest.raises(ConfigError) as caught:
        Space.of(grid)
    assert caught.value.problems == [
        "g.yaml:13:84: regularizer.strength depends on regularizer.name = 'l1', but "
        "regularizer.name can only be 'none'. Change the condition.",
        "g.yaml:13:88: regularizer.strength depends on regularizer.name = 'l2_sq', but "
        "regularizer.name can only be 'none'. Change the condition.",
    ]


def test_a_grid_without_a_search_has_no_space() -> None:
    with pytest.raises(UsageError) as caught:
        Space.of(grid_of("name: g\nfixed: {task: {name: sparse_recovery}, steps: 1}\n"))
    assert str(caught.value) == (
        "g: the grid file has no section search. "
        "Add one, e.g. search: {space: {selection.tau: {uniform: [0, 1]}}}."
    )


def test_two_blocks_may_stand_if_the_space_names_all_of_their_axes() -> None:
    text = (
        "name: g\nfixed: {task.name: sparse_recovery, steps: 1}\n"
        "grid: [{product: {task.N: [20]}}, {product: {task.N: [30]}}]\n"
        "search: {objective: t2, space: {task.N: {int: [20, 80]}}}\n"
    )
    space = space_of(text)
    assert [d.name for d in space.dimensions] == ["task.N"]
    searched = point(space, task__N=77)
    grid = edited(text, *space.overrides({"task.N": 77}))
    assert grid.table()["cell_id"].to_pylist() == [searched.cell_id]


@pytest.mark.parametrize(
    ("section", "mistake"),
    [
        (
            "{space: [selection.tau]}",
            "g:4:17: search.space = ['selection.tau'] must be a mapping, "
            "e.g. space: {selection.tau: {uniform: [0, 1]}}.",
        ),
        (
            "{objective: 5, space: {selection.tau: {uniform: [0, 1]}}}",
            "g:4:21: search.objective = 5 must be a name or SQL, {value: ..., direction: ...}, "
            "or a list of these.",
        ),
        (
            "{sampler: cmaes, space: {selection.tau: {uniform: [0, 1]}}}",
            "g:4:19: search.sampler = 'cmaes' can't suggest model.depth, which is categorical. "
            "Give it a range in search.space, or use tpe or gp or nsga2 or random or qmc.",
        ),
        (
            "{sampler: qmc, objective: t2, "
            "space: {optimizer.lr: {uniform: [1, 2], when: {model.depth: 1}}}}",
            "g:4:19: search.sampler = 'qmc' can't suggest optimizer.lr, which not every "
            "suggestion has. Use tpe or nsga2 or random.",
        ),
        (
            "{sampler: grid, objective: t2, space: {task.N: {int: [1, 2000000]}}}",
            "g:4:19: search.sampler = 'grid' would list up to 4,000,000 points; at most 1,000,000 are "
            "allowed. Use fewer values, or tpe.",
        ),
        (
            "{pruner: asha, space: {selection.tau: {uniform: [0, 1]}}}",
            "g:4:18: search.pruner = 'asha' ends late grokkers: before it groks, a trial looks like "
            "one that never will. Remove it, or accept this with unsafe_for_grokking: true.",
        ),
        (
            "{space: {selection.tau: {uniform: [0, 1, 2]}}, reference: 5}",
            "g:4:43: search.space.selection.tau.uniform = [0, 1, 2] must be [low, high].\n"
            "g:4:67: search.reference = 5 must be a mapping, e.g. reference: {selection.tau: 0}.",
        ),
    ],
)
def test_a_mistake_of_the_search_has_no_echo(section: str, mistake: str) -> None:
    head = (
        "name: g\nfixed: {task.name: sparse_recovery, steps: 1}\n"
        "grid: {product: {model.depth: [1, 2]}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_grid(parse(f"{head}search: {section}\n", "g"), load)
    assert str(caught.value) == mistake


@pytest.mark.parametrize(
    ("fixed", "grid", "mistakes"),
    [
        (
            "regularizer.name: l1, ",
            "{}",
            ["g:2:37: regularizer.strength is missing: 'l1' needs it. Add it."],
        ),
        (
            "task.N: [20, 40], ",
            "{}",
            [
                "g:2:45: task.N = [20, 40] must be a whole number. To sweep it, make it an axis of "
                "grid."
            ],
        ),
        (
            "",
            "{product: {task.N: [[1], {a: 2}]}}",
            [
                "g:3:27: task.N = [1] must be a whole number.",
                "g:3:32: task.N = {a: 2} must be a whole number.",
            ],
        ),
        (
            "",
            "{zip: [{model.depth: [1, 2], task.N: [1]}]}",
            [
                "g:3:14: axes zipped together must have equal lengths: model.depth has 2, task.N has 1. "
                "Make them equal."
            ],
        ),
    ],
)
def test_a_mistake_of_the_grid_is_none_of_the_search(
    fixed: str, grid: str, mistakes: list[str]
) -> None:
    text = f"name: g\nfixed: {{task.name: sparse_recovery, {fixed}steps: 1}}\ngrid: {grid}\n"
    for space in ("{}", "{optimizer.lr: {uniform: [0.1, 1]}}"):
        with pytest.raises(ConfigError) as caught:
            read_grid(parse(f"{text}search: {{objective: t2, space: {space}}}\n", "g"), load)
        assert caught.value.problems == mistakes


def test_objectives_have_directions_and_say_whether_they_need_a_reference() -> None:
    search = Search.model_validate(
        {"objective": ["amplification", {"value": "t2 / t1", "direction": "minimize"}]}
    )
    assert [o.direction for o in search.objectives] == ["maximize", "minimize"]
    assert [o.needs_reference for o in search.objectives] == [True, False]
    assert not Search(objective="delay - t1").needs_reference
    assert Search(objective="log(amplification)").needs_reference


def test_finalists_are_judged_by_seeds_that_chose_none_of_them() -> None:
    assert Finalists(top=2, seeds=3).fresh([0, 2]) == [1, 3, 4]
    assert Finalists(top=2, seeds=[7]).fresh([0]) == [7]
    assert Search(seeds=2).seed_list([5]) == [0, 1]
    assert Search().seed_list([5]) == [5]


def test_measures_are_columns_of_the_cells() -> None:
    files = [
        ROOT / "analysis" / "views" / "sql" / f"{name}.sql" for name in ("cells", "amplification")
    ]
    headers = "".join(file.read_text() for file in files)
    for name in MEASURES:
        assert f" {name} " in headers, name
