"""Suggestions become cells and cells suggestions; a search that means nothing is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.compile import read_grid
from sweeper.dimension import Choice, Dimension
from sweeper.document import parse
from sweeper.errors import ConfigError, UsageError
from sweeper.grid import Grid
from sweeper.loading import load_grid
from sweeper.overrides import apply
from sweeper.searching import MEASURES, Finalists, Search
from sweeper.space import Impossible, Point, Space
from sweeper.structure import conditional
from tests.strategies import grid_of
from tests.test_gridfile import load

ROOT = Path(__file__).parent.parent

SPARSE = """
name: sparse
fixed: {task: {name: sparse_recovery}, steps: 100, optimizer.lr: 1.0e-1}
grid:
  product: {model.depth: [1, 2, 3], task.N: [20], regularizer.strength: [1]}
  zip:
    - {task.n: [50, 60], task.s: [2, 3]}
search:
  space:
    task.snr: {categorical: [null, 10]}
    selection.tau: {uniform: [0, 1]}
    model.init_scale: {uniform: [0.1, 0.75], step: 0.1, when: {model.depth: [1, 2]}}
    regularizer.strength: {loguniform: [1.0e-5, 1.0e-3], when: {regularizer.name: [l1, l2_sq]}}
    regularizer.name: {categorical: [l1, l2_sq, none]}
"""

MODULAR = """
name: modular
fixed: {task: {name: modular_arithmetic}, steps: 100}
grid:
  product: {optimizer.betas: [[0.9, 0.98], [0.9, 0.95]], dtype: [float32, float64]}
  zip:
    - {regularizer.name: [l1, none, l2_sq], regularizer.strength: [0.1, 1, 0.2],
       model.init_scale: [1.0e-6, 1, 2]}
search:
  space:
    task.p: {int: [5, 23], step: 2}
    model.width: {int: [16, 128], log: true}
    selection.name: {categorical: [square, strip]}
    selection.k: {int: [1, 3]}
    optimizer.weight_decay: {int: [0, 3]}
exclude: [model.width = 20 and task.p = 5]
criterion: {modular_arithmetic: {metric: loss, train: 0.1, test: 0.2}}
"""

TASKS = """
name: tasks
fixed: {steps: 10}
search:
  objective: t2
  space:
    task.name: {categorical: [sparse_recovery, modular_arithmetic]}
    task.p: {categorical: [5, 7]}
    selection.tau: {uniform: [0, 1]}
    optimizer.batch: {categorical: [null, 8], when: {task.name: modular_arithmetic}}
"""

ONLY = """
name: only
fixed: {task.name: sparse_recovery, steps: 10, regularizer: {name: l1}}
search:
  space: {regularizer.strength: {loguniform: [0.1, 1]}}
  reference: {regularizer.strength: 0}
"""

FILES = {"sparse": SPARSE, "modular": MODULAR, "tasks": TASKS, "only": ONLY}


def space_of(text: str) -> Space:
    return Space.of(read_grid(parse(text, "g.yaml"), load))


SPACES = {name: space_of(text) for name, text in FILES.items()}


def edited(text: str, *overrides: str) -> Grid:
    return read_grid(apply(parse(text, "g.yaml"), overrides), load)


def values_of(dimension: Dimension) -> st.SearchStrategy[Choice]:
    if dimension.kind == "categorical":
        return st.sampled_from(dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.step is not None:
        return st.sampled_from(list(dimension.values()))
    if dimension.kind == "int":
        return st.integers(int(dimension.low), int(dimension.high))
    return st.floats(dimension.low, dimension.high)


@st.composite
def suggestions(draw: st.DrawFn) -> tuple[str, dict[str, Choice]]:
    name = draw(st.sampled_from(list(SPACES)))
    params: dict[str, Choice] = {}
    for dimension in SPACES[name].dimensions:
        if SPACES[name].asks(dimension, params):
            params[dimension.name] = draw(values_of(dimension))
    return name, params


def point(space: Space, **params: Choice) -> Point:
    found = space.point({key.replace("__", "."): value for key, value in params.items()})
    assert isinstance(found, Point), found.reason
    return found


@settings(max_examples=300)
@given(suggestions())
def test_a_cell_tells_the_suggestion_that_made_it(case: tuple[str, dict[str, Choice]]) -> None:
    name, params = case
    space = SPACES[name]
    found = space.point(params)
    if isinstance(found, Point):
        back = space.params_of(found.values)
        assert back == params
        row = space.table([found], [0]).to_pylist()[0]
        stored = {p: v for p, v in row.items() if p not in ("trial_id", "cell_id", "seed")}
        assert space.params_of(stored) == params


@settings(max_examples=60)
@given(suggestions())
def test_overrides_train_exactly_the_suggested_cell(case: tuple[str, dict[str, Choice]]) -> None:
    name, params = case
    found = SPACES[name].point(params)
    if isinstance(found, Point):
        grid = edited(FILES[name], *SPACES[name].overrides(params))
        assert set(grid.table()["cell_id"].to_pylist()) == {found.cell_id}


def test_overrides_are_those_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(SPARSE)
    space = Space.of(load_grid(path))
    params = {
        "regularizer.name": "none", "task.snr": None, "selection.tau": 1e-7, "model.depth": 3,
        "task.n, task.s": "task.n=60, task.s=3",
    }  # fmt: skip
    changes = space.overrides(params)
    assert sorted(changes) == [
        "model.depth=3", "model.init_scale=1e-06", "model.name=product", "regularizer.name=none",
        "search=null", "selection.name=coherent", "selection.tau=1e-07", "task.n=60", "task.s=3",
        "task.snr=null",
    ]  # fmt: skip
    found = space.point(params)
    assert isinstance(found, Point)
    grid = load_grid(path, changes)
    assert grid.table()["cell_id"].to_pylist() == [found.cell_id]
    with pytest.raises(UsageError, match=r"no such cell: regularizer\.strength is missing"):
        space.overrides({"regularizer.name": "l1"})


def test_dimensions_are_the_space_and_the_axes_it_does_not_name() -> None:
    names = [d.name for d in SPACES["sparse"].dimensions]
    assert names == [
        "regularizer.name", "task.snr", "selection.tau", "regularizer.strength", "model.depth",
        "model.init_scale", "task.n, task.s",
    ]  # fmt: skip
    depth, pair = (SPACES["sparse"].dimensions[i] for i in (4, 6))
    assert depth.choices == (1, 2, 3)
    assert pair.choices == ("task.n=50, task.s=2", "task.n=60, task.s=3")
    assert pair.sets["task.n=60, task.s=3"] == {"task.n": 60, "task.s": 3}
    by_name = {d.name: d for d in SPACES["modular"].dimensions}
    assert by_name["optimizer.betas"].choices == ("[0.9, 0.98]", "[0.9, 0.95]")
    group = by_name["regularizer.name, regularizer.strength, model.init_scale"]
    assert group.choices[0] == (
        "regularizer.name=l1, regularizer.strength=0.1, model.init_scale=1e-06"
    )


def test_a_dimension_is_asked_where_it_applies() -> None:
    space = SPACES["sparse"]
    by_name = {d.name: d for d in space.dimensions}
    assert space.asks(by_name["regularizer.strength"], {"regularizer.name": "l1"})
    assert not space.asks(by_name["regularizer.strength"], {"regularizer.name": "none"})
    assert not space.asks(by_name["regularizer.strength"], {})
    assert conditional(space) == ["regularizer.strength", "model.init_scale"]
    tasks = SPACES["tasks"]
    asked = {d.name: d for d in tasks.dimensions}
    assert not tasks.asks(asked["task.p"], {"task.name": "sparse_recovery"})
    assert tasks.asks(asked["task.p"], {"task.name": "modular_arithmetic"})
    assert conditional(tasks) == ["task.p", "selection.tau", "optimizer.batch"]


def test_steps_leave_no_rounding_noise_and_end_below_the_upper_end() -> None:
    scale = next(d for d in SPACES["sparse"].dimensions if d.name == "model.init_scale")
    assert list(scale.values()) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert scale.high == 0.7
    assert scale.snap(0.1 + 2 * 0.1) == 0.3
    assert scale.finite
    decay = next(d for d in SPACES["modular"].dimensions if d.name == "optimizer.weight_decay")
    assert list(decay.values()) == [0, 1, 2, 3]
    assert decay.find({"optimizer.weight_decay": 2.0}) == (2,)


def test_the_reference_has_neutral_values_and_else_the_same() -> None:
    space = SPACES["modular"]
    params: dict[str, Choice] = {
        "task.p": 7, "model.width": 20, "selection.name": "square", "selection.k": 1,
        "optimizer.weight_decay": 1, "optimizer.betas": "[0.9, 0.95]", "dtype": "float32",
        "regularizer.name, regularizer.strength, model.init_scale":
            "regularizer.name=none, regularizer.strength=1.0, model.init_scale=1.0",
    }  # fmt: skip
    found = space.point(params)
    assert isinstance(found, Point)
    assert found.reference is not None
    mine, other = dict(found.values), dict(found.reference.values)
    assert mine.pop("selection.k") == 1
    assert (mine.pop("selection.name"), other.pop("selection.name")) == ("square", "uniform")
    assert mine == other
    table = space.table([found, found.reference, found], [3, 4])
    assert table.num_rows == 4
    assert table.schema == edited(MODULAR).table().schema


def test_a_cell_can_be_its_own_reference() -> None:
    text = SPARSE.replace("search:", "search:\n  reference: {selection.tau: 0}")
    params: dict[str, Choice] = {"selection__tau": 0.0, "regularizer__name": "none"}
    found = point(space_of(text), **params, model__depth=3, task__snr=None)
    assert found.reference is not None
    assert found.reference.cell_id == found.cell_id
    assert found.reference.values == found.values


def test_what_the_reference_cannot_be_is_no_cell_for_an_amplification_alone() -> None:
    text = ONLY.replace("{regularizer.strength: 0}", "{task.n: 4, task.s: 4}").replace(
        "}\n  ref", ", task.n: {int: [20, 40]}}\n  ref"
    )
    assert isinstance(point(space_of(text), regularizer__strength=0.5).reference, Point)
    text = ONLY.replace("{regularizer.strength: 0}", "{task.s: 30}").replace(
        "}\n  ref", ", task.n: {int: [20, 40]}}\n  ref"
    )
    params: dict[str, Choice] = {"regularizer.strength": 0.5, "task.n": 20}
    assert space_of(text).point(params) == Impossible(
        "its reference can't exist: task.n = 20, task.s = 30: a vector has at most n nonzeros. "
        "Lower task.s or raise task.n."
    )
    delays = space_of(text.replace("search:", "search:\n  objective: delay"))
    found = delays.point(params)
    assert isinstance(found, Point)
    assert found.reference is None


def test_an_excluded_or_a_broken_suggestion_is_impossible() -> None:
    space = SPACES["modular"]
    params: dict[str, Choice] = {
        "task.p": 5, "model.width": 20, "selection.name": "strip", "selection.k": 1,
        "optimizer.weight_decay": 1, "optimizer.betas": "[0.9, 0.95]", "dtype": "float32",
        "regularizer.name, regularizer.strength, model.init_scale":
            "regularizer.name=l1, regularizer.strength=0.1, model.init_scale=1e-06",
    }  # fmt: skip
    assert space.point(params) == Impossible("excluded by 'model.width = 20 and task.p = 5'.")
    assert space.point(params | {"task.p": 9}) == Impossible(
        "task.p = 9: p must be a prime, e.g. 23, 59, 97 or 113."
    )


def test_other_cells_are_not_in_the_space() -> None:
    space = SPACES["sparse"]
    params: dict[str, Choice] = {
        "regularizer.name": "none", "task.snr": None, "selection.tau": 0.5, "model.depth": 2,
        "model.init_scale": 0.3, "task.n, task.s": "task.n=60, task.s=3",
    }  # fmt: skip
    found = space.point(params)
    assert isinstance(found, Point)
    assert space.params_of(found.values) == params
    for path, value in [
        ("optimizer.lr", 0.2), ("selection.tau", 1.5), ("model.init_scale", 0.35),
        ("model.depth", 4), ("task.s", 2), ("task.snr", 3.0), ("dtype", "float32"),
        ("regularizer.name", "l2_fro"), ("selection.name", "uniform"), ("task.N", 21),
    ]:  # fmt: skip
        assert space.params_of({**found.values, path: value}) is None, path


def test_thousands_of_cells_are_found_in_the_space_in_seconds() -> None:
    space = SPACES["sparse"]
    found = point(
        space, regularizer__name="l1", regularizer__strength=1e-4, selection__tau=0.5,
        model__depth=3, task__snr=10.0,
    )  # fmt: skip
    cell = {**found.values, "task.n": 60, "task.s": 3}
    start = time.process_time()
    for i in range(2000):
        params = space.params_of({**cell, "selection.tau": i / 2000})
        assert params is not None
        assert params["selection.tau"] == i / 2000
    assert time.process_time() - start < 4


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
    found = Space.of(grid).point(
        {"regularizer.name": "none", "selection.tau": 0.6, "model.depth": 1}
    )
    assert found == Impossible("excluded by 'selection.tau > 0.5 and model.depth = 1'.")


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
        "g.yaml:13:84: regularizer.strength: regularizer.name is never 'l1'. It is 'none'.",
        "g.yaml:13:88: regularizer.strength: regularizer.name is never 'l2_sq'. It is 'none'.",
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
    found = point(space, task__N=77)
    grid = edited(text, *space.overrides({"task.N": 77}))
    assert grid.table()["cell_id"].to_pylist() == [found.cell_id]


@pytest.mark.parametrize(
    ("section", "mistake"),
    [
        ("{space: [selection.tau]}",
         "g:4:17: search.space = ['selection.tau'] must be a mapping, "
         "e.g. space: {selection.tau: {uniform: [0, 1]}}."),
        ("{objective: 5, space: {selection.tau: {uniform: [0, 1]}}}",
         "g:4:21: search.objective = 5 must be a name or SQL, {value: ..., direction: ...}, "
         "or a list of these."),
        ("{sampler: cmaes, space: {selection.tau: {uniform: [0, 1]}}}",
         "g:4:19: search.sampler = 'cmaes' can't suggest model.depth, which is categorical. "
         "Give it a range in search.space, or take tpe or gp or nsga2 or random or qmc."),
        ("{sampler: qmc, objective: t2, "
         "space: {optimizer.lr: {uniform: [1, 2], when: {model.depth: 1}}}}",
         "g:4:19: search.sampler = 'qmc' can't suggest optimizer.lr, which isn't asked every "
         "time. Take tpe or nsga2 or random."),
        ("{sampler: grid, objective: t2, space: {task.N: {int: [1, 2000000]}}}",
         "g:4:19: search.sampler = 'grid' would list up to 4,000,000 points; at most 1,000,000 are "
         "allowed. Take fewer values, or tpe."),
        ("{pruner: asha, space: {selection.tau: {uniform: [0, 1]}}}",
         "g:4:18: search.pruner = 'asha' kills late grokkers: until it groks, a trial looks like "
         "one that never will. Remove it, or accept that by unsafe_for_grokking: true."),
        ("{space: {selection.tau: {uniform: [0, 1, 2]}}, reference: 5}",
         "g:4:43: search.space.selection.tau.uniform = [0, 1, 2] must be [low, high].\n"
         "g:4:67: search.reference = 5 must be a mapping, e.g. reference: {selection.tau: 0}."),
    ],
)  # fmt: skip
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
        ("regularizer.name: l1, ", "{}",
         ["g:2:37: regularizer.strength is missing: 'l1' needs it. Add it."]),
        ("task.N: [20, 40], ", "{}",
         ["g:2:45: task.N = [20, 40] must be a whole number. To sweep it, make it an axis of "
          "grid."]),
        ("", "{product: {task.N: [[1], {a: 2}]}}",
         ["g:3:27: task.N = [1] must be a whole number.",
          "g:3:32: task.N = {a: 2} must be a whole number."]),
        ("", "{zip: [{model.depth: [1, 2], task.N: [1]}]}",
         ["g:3:14: axes zipped together must have equal lengths: model.depth has 2, task.N has 1. "
          "Make them equal."]),
    ],
)  # fmt: skip
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
    header = (ROOT / "analysis" / "sql" / "cells.sql").read_text()
    for name in set(MEASURES) - {"amplification", "log_delay"}:
        assert f" {name} " in header, name
