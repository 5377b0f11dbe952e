"""Fields without effect collapse, and corrected trials have new ids, in every way to a trial."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.config.fields import revisions
from sweeper.config.trial import REVISIONS, SEED, Trial, digest, header, identity_lines, line
from sweeper.grid.grid import Grid
from sweeper.space.space import Point, Space
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.identity import NORMAL_FORMS
from tests.packs import DENSE, MODULAR, SPARSE, pack, run, trial
from tests.strategies import grid_of

NET = MODULAR | {"optimizer.name": "adamw", "dtype": "float64"}
QM9 = {"task.name": "qm9", "task.N": 6, "task.N_test": 3, "task.first": 9}
TOY = {"task.name": "toy_addition", "task.symbols": 4, "task.N": 5}
SOBOLEV = DENSE | {"regularizer.name": "sobolev", "regularizer.strength": 0.0}
SOBOLEV_TERM = DENSE | {"regularizer.name": "sum", "regularizer.terms.l1.strength": 0.1}


@pytest.fixture
def listed(tmp_path: Path) -> str:
    file = tmp_path / "pairs.txt"
    file.write_text("\n".join(map(str, range(0, 49, 2))))
    return str(file)


SAME: dict[str, tuple[dict[str, Any], str, Any, Any]] = {
    "drop_last, all examples": (NET, "optimizer.drop_last", False, True),
    "drop_last, batch above N": (
        NET | {"optimizer.batch": 1000},
        "optimizer.drop_last",
        False,
        True,
    ),
    "drop_last, batch that divides N": (
        DENSE | {"optimizer.batch": 5},
        "optimizer.drop_last",
        False,
        True,
    ),
    "drop_last, where false is the default": (
        QM9 | {"optimizer.batch": 2},
        "optimizer.drop_last",
        True,
        False,
    ),
    "batch above N": (NET, "optimizer.batch", 1000, 29),
    "last_bias without biases": (DENSE | {"model.bias": False}, "model.last_bias", False, True),
    "activation without layers": (DENSE | {"model.depth": 0}, "model.activation", "relu", "tanh"),
    "width without layers": (DENSE | {"model.depth": 0}, "model.width", 7, 100),
    "teacher's activation without layers": (
        DENSE | {"task.depth": 0},
        "task.activation",
        "relu",
        "tanh",
    ),
    "noise of one column": (TOY, "task.noise", 0.7, 0.3),
    "noise under full messiness": (TOY | {"task.latent": 2, "task.m": 1.0}, "task.noise", 0.7, 0.3),
    "squared without strength": (SOBOLEV, "regularizer.squared", True, False),
    "squared without the term": (SOBOLEV_TERM, "regularizer.terms.sobolev.squared", True, False),
}


def rows_of(one: Trial) -> dict[int, dict[str, str]]:
    """Return all rows of a trial of 12 steps, as trained from exactly its values."""
    rows = run(pack([one], 12)).rows
    return {step: {k: repr(v) for k, v in row.items()} for (_, step), row in sorted(rows.items())}


def forced(given: dict[str, Any], path: str, value: Any) -> Trial:
    """Return a trial with `value` at `path` even where that isn't the normal form."""
    values = dict(trial(given).values) | {path: value}
    return Trial.of(GrokkingConfig, values, 0, trainable="trainables.grokking")


@pytest.mark.parametrize("case", SAME)
def test_a_field_without_effect_has_its_normal_form(case: str) -> None:
    given, path, other, normal = SAME[case]
    one, same = trial(given | {path: other}), trial(given | {path: normal})
    assert one.values[path] == normal
    assert (one.id, one.cell_id) == (same.id, same.cell_id)
    assert rows_of(forced(given, path, other)) == rows_of(forced(given, path, normal))


def test_the_seed_of_a_split_that_a_file_lists_has_no_effect(listed: str) -> None:
    given = NET | {"selection.name": "indices", "selection.file": listed}
    assert trial(given | {"task.data_seed": 5}).id == trial(given).id
    seeded = [forced(given, "task.data_seed", seed) for seed in (None, 5)]
    assert rows_of(seeded[0]) == rows_of(seeded[1])
    assert trial(given | {"optimizer.batch": 99}).values["optimizer.batch"] == 25


EFFECTIVE: list[tuple[dict[str, Any], str, Any, Any]] = [
    (NET | {"optimizer.batch": 8}, "optimizer.drop_last", False, True),
    (NET, "optimizer.batch", 29, None),  # another order of the sum, so other last bits
    (NET, "optimizer.batch", 28, 29),
    (DENSE, "model.last_bias", False, True),
    (DENSE, "model.width", 7, 20),
    (DENSE | {"task.depth": 0}, "task.hidden", 7, 12),  # a key of the teacher's stream
    (TOY | {"task.latent": 2}, "task.noise", 0.7, 0.3),
    (NET, "task.data_seed", 5, None),
    (SOBOLEV | {"regularizer.strength": 0.1}, "regularizer.squared", True, False),
    (
        SOBOLEV_TERM | {"regularizer.terms.sobolev.strength": 0.1},
        "regularizer.terms.sobolev.squared",
        True,
        False,
    ),
]


@pytest.mark.parametrize(("given", "path", "one", "other"), EFFECTIVE)
def test_a_field_with_an_effect_keeps_its_value(
    given: dict[str, Any], path: str, one: Any, other: Any
) -> None:
    trials = [trial(given | {path: value}) for value in (one, other)]
    assert [t.values[path] for t in trials] == [one, other]
    assert trials[0].id != trials[1].id
    assert rows_of(trials[0]) != rows_of(trials[1])


def test_every_normal_form_is_tested() -> None:
    tested = {path for _, path, _, _ in SAME.values()} | {"task.data_seed", "task.source"}
    assert {form.path for form in NORMAL_FORMS} == tested


def grid(given: dict[str, Any], product: dict[str, list[Any]], **more: Any) -> Grid:
    """Return the grid with `given` fixed."""
    content = {"name": "g", "fixed": {**given, "steps": 10}, "seeds": 2}
    return grid_of(yaml.safe_dump(content | {"grid": {"product": product}} | more))


def cells(one: Grid, *paths: str) -> list[tuple[Any, ...]]:
    """Return the values of the first trial of each cell at `paths`."""
    return [tuple(t.values[p] for p in paths) for t in one.trials() if t.seed == 0]


def test_axes_collapse_where_they_have_no_effect() -> None:
    """29 train pairs: a batch of 8 leaves 5 over, 29 and more leave none."""
    paths = ("optimizer.batch", "optimizer.drop_last")
    made = grid(NET, {paths[0]: [None, 8, 29, 40], paths[1]: [True, False]})
    assert sorted(cells(made, *paths), key=str) == sorted(
        [(None, True), (8, True), (8, False), (29, True)], key=str
    )
    assert (made.n_written, made.n_cells, made.n_duplicates, made.n_excluded) == (8, 4, 4, 0)
    table = made.table().to_pydict()
    assert table["trial_id"] == [t.id for t in made.trials()]
    assert len(set(table["trial_id"])) == made.n_trials == 8
    assert set(table["trial_id"]) == {
        trial(NET | dict(zip(paths, cell, strict=True)), seed).id
        for cell in cells(made, *paths)
        for seed in (0, 1)
    }


def test_axes_that_decide_together_are_split_until_each_part_is_a_product() -> None:
    """Of 49 pairs, 0.5 are 24 and 0.6 are 29 to train on: 8 divides 24 alone."""
    paths = ("optimizer.batch", "optimizer.drop_last", "selection.fraction")
    made = grid(NET, {paths[0]: [8, 9], paths[1]: [True, False], paths[2]: [0.5, 0.6]})
    wanted = {(b, d, f) for b in (8, 9) for d in (True, False) for f in (0.5, 0.6)}
    assert set(cells(made, *paths)) == wanted - {(8, False, 0.5)}
    assert (made.n_written, made.n_cells, made.n_duplicates) == (8, 7, 1)
    assert [t.id for t in made.trials()] == made.table()["trial_id"].to_pylist()


def test_a_zipped_axis_collapses_row_by_row() -> None:
    rows: dict[str, list[Any]] = {
        "optimizer.batch": [None, None, 8],
        "optimizer.drop_last": [True, False, False],
    }
    block: Any = {"zip": [rows]}
    made = grid(NET, {}, grid=block)
    assert cells(made, *rows) == [(None, True), (8, False)]
    assert (made.n_written, made.n_cells) == (3, 2)


def test_a_grid_whose_fields_all_have_an_effect_stays_one_product() -> None:
    axes: dict[str, list[Any]] = {"optimizer.batch": [8, 9], "optimizer.drop_last": [True, False]}
    assert len(grid(NET, axes).subgrids) == 1


def test_a_suggestion_means_the_normal_form() -> None:
    space = {"optimizer.drop_last": {"categorical": [True, False]}}
    made = grid(NET, {}, grid=[], search={"space": space, "n_trials": 2, "objective": "t2"})
    points = [Space.of(made).point({"optimizer.drop_last": value}) for value in (True, False)]
    assert all(isinstance(point, Point) for point in points)
    assert points[0] == points[1]


FREE = SPARSE | {"model.sign_free": True, "model.depth": 2}
L1 = {"regularizer.name": "l1", "regularizer.strength": 1e-3}
SUM = {"regularizer.name": "sum", "regularizer.terms.l1.strength": 1e-3}
GROUP = {"regularizer.name": "group", "regularizer.strength": 1e-3, "regularizer.size": 4}
GROUP_TERM = {
    "regularizer.name": "sum",
    "regularizer.terms.group.strength": 1e-3,
    "regularizer.terms.group.size": 4,
}
NEW: list[tuple[dict[str, Any], str, str]] = [
    (FREE | L1, "7bbadb7e0f8df3a79e4f", "c46ec59e9bfd2bad4a90"),
    (FREE | SUM, "4ba65e30082c5558c607", "c0e414cbdef43c90125f"),
    (FREE | GROUP, "d5ca5a64de1d47e414c0", "94bbd9065fc207f1acc5"),
    (FREE | GROUP_TERM, "0c33522ef71dd9797b82", "b16ccd55846c2d8d2c07"),
    (FREE | L1 | {"model.depth": 3}, "614e70ba2a0118d443ab", "a6fa09d682fa4673b587"),
]
"""Config, the id that it has, and the id that it had before 2026-11-30."""

OLD: list[tuple[dict[str, Any], str]] = [
    (FREE, "f50ca138a8c14cf684b8"),
    (FREE | L1 | {"regularizer.strength": 0.0}, "4693dc62d4cb65b5656b"),
    (FREE | L1 | {"model.depth": 1}, "1de9e79b10633e425628"),
    (FREE | L1 | {"model.sign_free": False}, "a243e5b26c5b7fbec48d"),
    (FREE | {"regularizer.name": "l2_sq", "regularizer.strength": 1e-3}, "baf9be09163d3ca19f7a"),
    (SPARSE | L1 | {"model.name": "diagonal"}, "faafa39e76fa89dadd66"),
]
"""Config, and the id that it has always had."""


@pytest.mark.parametrize(("given", "trial_id", "before"), NEW)
def test_trials_whose_numbers_changed_have_new_ids(
    given: dict[str, Any], trial_id: str, before: str
) -> None:
    one = trial(given)
    assert revisions(GrokkingConfig, one.values) == ("exact difference of powers",)
    assert one.id == trial_id
    lines = identity_lines(GrokkingConfig, one.values) | {SEED: line(SEED, 0)}
    del lines[REVISIONS]
    text = header("trainables.grokking") + "".join(lines[path] for path in sorted(lines))
    assert digest(text) == before


@pytest.mark.parametrize(("given", "trial_id"), OLD)
def test_all_other_trials_keep_their_ids(given: dict[str, Any], trial_id: str) -> None:
    one = trial(given)
    assert not revisions(GrokkingConfig, one.values)
    assert one.id == trial_id


AXES: list[dict[str, list[Any]]] = [
    {
        "model.depth": [1, 2],
        "model.sign_free": [True, False],
        "optimizer.lr": [0.1, 0.2],
        "regularizer.strength": [0.0, 1e-3],
    },
    {"regularizer.strength": [0.0, 1e-3]},
    {"model.depth": [2, 3]},
    {"model.depth": [1, 2], "optimizer.lr": [0.1, 0.2]},
]


@pytest.mark.parametrize("axes", AXES)
def test_a_grid_has_the_ids_of_its_trials_whatever_is_on_its_axes(
    axes: dict[str, list[Any]],
) -> None:
    made = grid({k: v for k, v in (FREE | L1).items() if k not in axes}, axes)
    trials = list(made.trials())
    assert made.table()["trial_id"].to_pylist() == [t.id for t in trials]
    assert made.table()["cell_id"].to_pylist() == [t.cell_id for t in trials]
    assert len({t.id for t in trials}) == 2 * prod(map(len, axes.values()))
    assert len({bool(revisions(GrokkingConfig, t.values)) for t in trials}) == (
        1 if axes.keys() == {"model.depth"} else 2
    )
