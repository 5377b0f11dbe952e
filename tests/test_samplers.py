"""Samplers and distributions by the names of the grid file, with all settings pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweeper.grid.search_section import Sampler
from sweeper.search.samplers import Sobol, distribution, lattice, pruner, sampler
from sweeper.search.storage import quiet
from sweeper.space.space import Space
from tests.searches import grid_of

SPACE: dict[str, Any] = {
    "task.x": {"uniform": [0, 1], "step": 0.5},
    "task.y": {"loguniform": [1e-4, 1]},
    "task.k": {"int": [1, 9], "step": 4},
    "task.fate": {"categorical": ["well", "diverges"]},
}


def space_of(folder: Path, space: dict[str, Any], **settings: Any) -> Space:
    """Return the space of a grid file with this section `search`."""
    changes = {f"search.{key}": value for key, value in settings.items()}
    return Space.of(grid_of(folder, {"search.space": space, "grid": {"product": {}}, **changes}))


def test_each_dimension_has_optunas_distribution(tmp_path: Path) -> None:
    space = space_of(tmp_path, SPACE)
    assert {d.name: distribution(d) for d in space.dimensions} == {
        "task.x": FloatDistribution(0.0, 1.0, step=0.5),
        "task.y": FloatDistribution(1e-4, 1.0, log=True),
        "task.k": IntDistribution(1, 9, step=4),
        "task.fate": CategoricalDistribution(("well", "diverges")),
    }


def test_the_lattice_of_a_space_asks_a_conditional_dimension_only_where_it_applies(
    tmp_path: Path,
) -> None:
    space = {
        "twist.name": {"categorical": ["straight", "bent"]},
        "twist.angle": {"uniform": [0, 1], "step": 0.5, "when": {"twist.name": "bent"}},
    }
    assert lattice(space_of(tmp_path, space, sampler="grid")) == [
        {"twist.name": "straight"},
        {"twist.name": "bent", "twist.angle": 0.0},
        {"twist.name": "bent", "twist.angle": 0.5},
        {"twist.name": "bent", "twist.angle": 1.0},
    ]


@pytest.mark.parametrize("name", [n for n in get_args(Sampler) if n not in ("grid", "cmaes")])
def test_a_sampler_is_seeded_by_the_number_of_its_suggestion(name: str, tmp_path: Path) -> None:
    space = space_of(tmp_path, SPACE, sampler=name)

    def first(number: int) -> dict[str, Any]:
        with quiet():
            study = optuna.create_study(sampler=sampler(space.search, space, (), number))
        return study.ask({d.name: distribution(d) for d in space.dimensions}).params

    assert first(3) == first(3)
    assert first(3) != first(4)


def test_a_sobol_point_depends_on_its_number_and_not_on_the_study() -> None:
    kinds: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in ("a", "b")}
    points = []
    study = optuna.create_study()
    for number in (0, 1, 2, 3):
        with quiet():
            study.sampler = Sobol(number, kinds, scramble=0, seed=0)
        study.ask(kinds)
        points.append(study.ask(kinds).params)
    for name in kinds:  # the first four points have one in each quarter
        assert sorted(int(4 * point[name]) for point in points) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", optuna.pruners.NopPruner),
        ("median", optuna.pruners.MedianPruner),
        ("asha", optuna.pruners.SuccessiveHalvingPruner),
    ],
)
def test_a_pruner_goes_by_its_name(name: str, kind: type, tmp_path: Path) -> None:
    space = space_of(tmp_path, SPACE, pruner=name, unsafe_for_grokking=True)
    assert type(pruner(space.search)) is kind
