"""Suggestions become cells and cells suggestions; a search that means nothing is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from sweeper.compile.loading import load_grid
from sweeper.errors import UsageError
from sweeper.space.conditions import conditional
from sweeper.space.dimension import Choice
from sweeper.space.space import Impossible, Point, Space
from tests.spaces import FILES, MODULAR, ONLY, SPACES, SPARSE, edited, point, space_of, suggestions


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
        "regularizer.name": "none",
        "task.snr": None,
        "selection.tau": 1e-7,
        "model.depth": 3,
        "task.n, task.s": "task.n=60, task.s=3",
    }
    changes = space.overrides(params)
    assert sorted(changes) == [
        "model.depth=3",
        "model.init_scale=1e-06",
        "model.name=product",
        "regularizer.name=none",
        "search=null",
        "selection.name=coherent",
        "selection.tau=1e-07",
        "task.n=60",
        "task.s=3",
        "task.snr=null",
    ]
    found = space.point(params)
    assert isinstance(found, Point)
    grid = load_grid(path, changes)
    assert grid.table()["cell_id"].to_pylist() == [found.cell_id]
    with pytest.raises(UsageError, match=r"no such cell: regularizer\.strength is missing"):
        space.overrides({"regularizer.name": "l1"})


def test_dimensions_are_the_space_and_the_axes_it_does_not_name() -> None:
    names = [d.name for d in SPACES["sparse"].dimensions]
    assert names == [
        "regularizer.name",
        "task.snr",
        "selection.tau",
        "regularizer.strength",
        "model.depth",
        "model.init_scale",
        "task.n, task.s",
    ]
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
        "task.p": 7,
        "model.width": 20,
        "selection.name": "square",
        "selection.k": 1,
        "optimizer.weight_decay": 1,
        "optimizer.betas": "[0.9, 0.95]",
        "dtype": "float32",
        "regularizer.name, regularizer.strength, model.init_scale": "regularizer.name=none, regularizer.strength=1.0, model.init_scale=1.0",
    }
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
        "task.p": 5,
        "model.width": 20,
        "selection.name": "strip",
        "selection.k": 1,
        "optimizer.weight_decay": 1,
        "optimizer.betas": "[0.9, 0.95]",
        "dtype": "float32",
        "regularizer.name, regularizer.strength, model.init_scale": "regularizer.name=l1, regularizer.strength=0.1, model.init_scale=1e-06",
    }
    assert space.point(params) == Impossible("excluded by 'model.width = 20 and task.p = 5'.")
    assert space.point(params | {"task.p": 9}) == Impossible(
        "task.p = 9: p must be a prime, e.g. 23, 59, 97 or 113."
    )


def test_other_cells_are_not_in_the_space() -> None:
    space = SPACES["sparse"]
    params: dict[str, Choice] = {
        "regularizer.name": "none",
        "task.snr": None,
        "selection.tau": 0.5,
        "model.depth": 2,
        "model.init_scale": 0.3,
        "task.n, task.s": "task.n=60, task.s=3",
    }
    found = space.point(params)
    assert isinstance(found, Point)
    assert space.params_of(found.values) == params
    for path, value in [
        ("optimizer.lr", 0.2),
        ("selection.tau", 1.5),
        ("model.init_scale", 0.35),
        ("model.depth", 4),
        ("task.s", 2),
        ("task.snr", 3.0),
        ("dtype", "float32"),
        ("regularizer.name", "l2_fro"),
        ("selection.name", "uniform"),
        ("task.N", 21),
    ]:
        assert space.params_of({**found.values, path: value}) is None, path


def test_thousands_of_cells_are_found_in_the_space_in_seconds() -> None:
    space = SPACES["sparse"]
    found = point(
        space,
        regularizer__name="l1",
        regularizer__strength=1e-4,
        selection__tau=0.5,
        model__depth=3,
        task__snr=10.0,
    )
    cell = {**found.values, "task.n": 60, "task.s": 3}
    start = time.process_time()
    for i in range(2000):
        params = space.params_of({**cell, "selection.tau": i / 2000})
        assert params is not None
        assert params["selection.tau"] == i / 2000
    assert time.process_time() - start < 4
