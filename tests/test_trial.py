"""The id of a trial is a hash of what it means: pinned, and blind to spelling."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.config.fields import Scalar, all_leaves, build, defaults
from sweeper.config.resolve import broken, resolve
from sweeper.config.trial import Trial
from sweeper.trainables.config import GrokkingConfig
from tests.strategies import GIVEN, TRAINABLE, Flat, grid_of, values_of

SPARSE: Flat = {"task.name": "sparse_recovery"}
MATRIX: Flat = {"task.name": "matrix_completion"}
MODULAR: Flat = {"task.name": "modular_arithmetic"}

GOLDEN: list[tuple[dict[str, Scalar], int, str, str]] = [
    (SPARSE, 0, "f4d145a067a7635aefec", "09599570f1ef8b349092"),
    (SPARSE, 7, "6f721316786484d3c7bb", "09599570f1ef8b349092"),
    (
        {**SPARSE, "task.n": 200, "task.s": 3, "task.N": 40},
        0,
        "e51b3d366dcacaed814b",
        "233deb8e561a7de07afc",
    ),
    (
        {**SPARSE, "regularizer.name": "l1", "regularizer.strength": 0.0001, "optimizer.lr": 0.5},
        1,
        "7216e8d2eda120b6bd5c",
        "30ce1b793414db2dd591",
    ),
    (
        {
            **SPARSE,
            "model.depth": 3,
            "model.sign_free": True,
            "model.init_scale": 0.01,
            "selection.name": "coherent",
            "selection.tau": 0.25,
        },
        2,
        "a961c3bd37767427df16",
        "8efa6e8730cbc8dfb8ce",
    ),
    (
        {
            **SPARSE,
            "optimizer.name": "ista",
            "regularizer.name": "l1",
            "regularizer.strength": 0.001,
            "task.rng": "numpy_legacy",
            "task.data_seed": 42,
        },
        0,
        "a95c6c0fa1e0fb894fdc",
        "4d0019eab2eb6dd770da",
    ),
    (
        {**SPARSE, "task.signal": "rademacher", "task.snr": 10.0, "dtype": "float32"},
        3,
        "983be8859f65a7f25968",
        "ba0fed39109c49c1638b",
    ),
    (
        {
            **SPARSE,
            "regularizer.name": "sum",
            "regularizer.terms.l1.strength": 0.001,
            "regularizer.terms.l2_sq.strength": 0.1,
        },
        0,
        "e41f01e8e84e162080c6",
        "16beef74e9222a6789eb",
    ),
    (MODULAR, 0, "d4b7f46f70dda59256ca", "7ee0d0362af66b7aa51e"),
    (
        {
            **MODULAR,
            "task.p": 59,
            "task.operation": "div",
            "optimizer.weight_decay": 1.0,
            "selection.fraction": 0.3,
        },
        5,
        "180d66bc49eba7b38083",
        "99906d53024fe23c1bc1",
    ),
    (
        {
            **MODULAR,
            "optimizer.name": "adam",
            "optimizer.betas": (0.9, 0.95),
            "regularizer.name": "nuclear",
            "regularizer.strength": 1e-05,
        },
        0,
        "1927a4318fbefaa9adc6",
        "78043e00ccac2ea88a0a",
    ),
    (
        {
            **MODULAR,
            "selection.name": "strip",
            "selection.k": 5,
            "model.depth": 2,
            "model.width": 256,
            "dtype": "float64",
        },
        1,
        "cf213a1e10e79735b3fe",
        "3fb0c9d5f80ff838f87d",
    ),
    (
        {
            **MODULAR,
            "selection.name": "square",
            "selection.k": 4,
            "selection.fraction": 0.5,
            "optimizer.name": "sgd",
            "optimizer.batch": 64,
            "optimizer.lr": 0.001,
        },
        9,
        "7bf3545cc90112e8afce",
        "139a56181689f7c3ad7e",
    ),
    (MATRIX, 0, "ba05b7c170a1246096c7", "8143e5bf60f28648ea9c"),
    (
        {
            **MATRIX,
            "task.name": "matrix_sensing",
            "task.n1": 12,
            "task.rank": 3,
            "selection.tau": 0.25,
            "optimizer.name": "svt",
            "regularizer.name": "nuclear",
            "regularizer.strength": 0.001,
        },
        1,
        "0f38588e90bf4a806ad8",
        "e9f4d187bce79aea4c0a",
    ),
    (
        {
            **MATRIX,
            "model.depth": 3,
            "model.width": 4,
            "task.N": 80,
            "task.data_seed": 5,
            "model.init_scale": 0.1,
            "regularizer.name": "l2_sq",
            "regularizer.strength": 0.01,
        },
        2,
        "d055452741c8ed9e7c87",
        "b82229f256cff07ab154",
    ),
    (
        {
            **MATRIX,
            "selection.tau": 0.5,
            "optimizer.name": "projected",
            "regularizer.name": "nuclear",
            "regularizer.strength": 0.01,
            "dtype": "float32",
        },
        3,
        "d9220f597c87f55386c5",
        "bdeb1272119d553ae826",
    ),
    ({"task.name": "digits"}, 0, "2708c511a7fabf15af70", "ae7c988a6e6e956752d9"),
    (
        {
            "task.name": "mnist",
            "task.path": "/data/mnist",
            "task.N": 60000,
            "task.loss": "cross_entropy",
            "task.messiness": 0.5,
            "model.init_scale": 8.0,
            "optimizer.weight_decay": 0.1,
        },
        3,
        "2ca494f7ff23af778f01",
        "9a77649e3a959da737c1",
    ),
]
"""(config, seed, trial_id, cell_id): never to change, or every store loses its trials."""


def trial_of(given: Flat, seed: int = 0) -> Trial:
    return Trial.of(GrokkingConfig, values_of(given), seed, trainable=TRAINABLE)


@pytest.mark.parametrize(("given", "seed", "trial_id", "cell_id"), GOLDEN)
def test_ids_of_old_trials_never_change(
    given: Flat, seed: int, trial_id: str, cell_id: str
) -> None:
    trial = trial_of(given, seed)
    assert (trial.id, trial.cell_id) == (trial_id, cell_id)


@settings(deadline=None)
@given(GIVEN, st.randoms(use_true_random=False))
def test_order_does_not_count(given: Flat, random: Any) -> None:
    values = list(values_of(given).items())
    random.shuffle(values)
    shuffled = Trial.of(GrokkingConfig, dict(values), 0, trainable=TRAINABLE)
    assert shuffled.id == trial_of(given).id


@settings(deadline=None)
@given(GIVEN)
def test_a_field_equal_to_its_default_does_not_count(given: Flat) -> None:
    values = values_of(given)
    usual = defaults(GrokkingConfig, values)
    spelt_out = {**given, **{p: v for p, v in usual.items() if values.get(p) == v}}
    names = {p: v for p, v in values.items() if p.endswith(".name")}  # as the fields chose them
    left_out = names | {p: v for p, v in given.items() if usual.get(p, ...) != v}
    assert trial_of(spelt_out).id == trial_of(given).id == trial_of(left_out).id


def other(path: str, value: Scalar, values: Flat) -> Scalar:
    """Return another value that `path` can have, `value` itself if there is none."""
    candidates: list[Scalar] = [
        True,
        False,
        "float32",
        "float64",
        "rademacher",
        "gaussian",
        "numpy_legacy",
        "torch",
        "div",
        "add",
        2,
        3,
        7,
        29,
        0.125,
        0.5,
        (0.5, 0.5),
        None,
    ]
    leaf = all_leaves(GrokkingConfig)[path]
    for candidate in candidates:
        checked, problem = leaf.check(candidate)
        if problem is None and checked != value:
            resolved = resolve(GrokkingConfig, {**values, path: checked})
            possible = not resolved.problems and not list(broken(GrokkingConfig, resolved.values))
            if possible and resolved.values[path] == checked:  # it has an effect there
                return checked
    return value


@settings(deadline=None, max_examples=30)
@given(GIVEN)
def test_every_field_of_the_config_and_the_seed_count(given: Flat) -> None:
    values = values_of(given)
    before = trial_of(given)
    assert trial_of(given, seed=1).id != before.id
    assert trial_of(given, seed=1).cell_id == before.cell_id
    moved = 0
    for path, value in values.items():
        changed = value if path.endswith(".name") else other(path, value, values)
        if changed != value:
            moved += 1
            assert trial_of({**values, path: changed}).id != before.id, path
    assert moved >= len(values) // 2


@settings(deadline=None)
@given(st.lists(st.tuples(GIVEN, st.integers(0, 3)), max_size=20))
def test_ids_are_equal_only_for_equal_trials(trials: list[tuple[Flat, int]]) -> None:
    meanings = {(tuple(sorted(values_of(g).items(), key=lambda i: i[0])), s) for g, s in trials}
    assert len({trial_of(g, s).id for g, s in trials}) == len(meanings)


def test_the_trainable_counts() -> None:
    values = values_of(SPARSE)
    ids = {Trial.of(GrokkingConfig, values, 0, trainable=name).id for name in (TRAINABLE, "mine")}
    assert len(ids) == 2


@settings(deadline=None)
@given(GIVEN)
def test_a_config_survives_being_typed(given: Flat) -> None:
    values = values_of(given)
    typed: Any = build(GrokkingConfig, values)
    for path, value in values.items():
        node = typed
        for name in path.split("."):
            node = getattr(node, name)
        assert node == value


HEAD = "name: g\nfixed: {task: {name: sparse_recovery}, steps: 10}\n"


def ids(text: str) -> list[str]:
    return [t.id for t in grid_of(text).trials()]


SAME = [
    [
        "optimizer.lr: [0.1]",
        "optimizer.lr: [0.10]",
        "optimizer.lr: [1e-1]",
        "optimizer.lr: [1.0e-1]",
        "optimizer.lr: [+.1]",
        "optimizer.lr: [0.1]  # a comment",
    ],
    ["optimizer.lr: [10]", "optimizer.lr: [10.0]", "optimizer.lr: [1e1]", "optimizer.lr: [1.0E+1]"],
    ["task.N: [40]", "task.N: [40.0]", "task.N: [4e1]", "task.N: {range: [40, 41]}"],
    [
        "regularizer.strength: [0]\n    regularizer.name: [l1]",
        "regularizer.name: ['l1']\n    regularizer.strength: [-0.0]",
    ],
    [
        "optimizer.lr: [0.001, 0.01, 0.1, 1]",
        "optimizer.lr: {logspace: [0.001, 1, 4]}",
        "optimizer.lr: {logspace: [1e-3, 1.0, 4]}",
    ],
    [
        "selection.tau: [0, 0.1, 0.2, 0.3]",
        "selection.tau: {linspace: [0, 0.3, 4]}",
        "selection.tau: {range: [0, 0.4, 0.1]}",
    ],
    ["task.N: [20, 30, 40]", "task.N: {linspace: [20, 40, 3]}", "task.N: {range: [20, 50, 10]}"],
]


@pytest.mark.parametrize("spellings", SAME, ids=lambda s: s[0])
def test_spelling_does_not_count(spellings: list[str]) -> None:
    found = [ids(HEAD + f"grid:\n  product:\n    {text}\n") for text in spellings]
    assert all(one == found[0] for one in found)


def test_nested_and_dotted_names_are_the_same() -> None:
    nested = "name: g\nfixed: {task: {name: sparse_recovery, N: 40}, steps: 10}\n"
    dotted = "name: h\nfixed: {task.name: sparse_recovery, task.N: 40, steps: 10}\n"
    assert ids(nested) == ids(dotted)


def test_how_a_trial_is_run_and_read_does_not_count() -> None:
    settings = (
        "resources: {cpu: 2, pack: 3}\nstop: {diverged: false}\nlog: {points_per_decade: 9}\n"
        "checkpoint: {keep: none}\ncriterion: {metric: loss, train: 1, test: 1}\n"
    )
    assert ids(HEAD) == ids(HEAD.replace("steps: 10", "steps: 99") + settings)


def test_the_listing_of_the_seeds_does_not_count() -> None:
    assert ids(HEAD + "seeds: 3\n") == ids(HEAD + "seeds: [0, 1, 2]\n")
    assert sorted(ids(HEAD + "seeds: 3\n")) == sorted(ids(HEAD + "seeds: [2, 0, 1]\n"))


def test_a_default_that_depends_on_the_task_does_not_count() -> None:
    explicit: Flat = {
        **MODULAR,
        "selection.fraction": 0.6,
        "selection.name": "uniform",
        "model.name": "mlp",
        "optimizer.name": "adamw",
        "dtype": "float32",
    }
    assert trial_of(explicit).id == trial_of(MODULAR).id
    assert trial_of({**MODULAR, "dtype": "float64"}).id != trial_of(MODULAR).id
    assert trial_of({**SPARSE, "dtype": "float64"}).id == trial_of(SPARSE).id


def test_numbers_in_ids_are_finite() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Trial.of(GrokkingConfig, {**values_of(SPARSE), "optimizer.lr": math.nan}, 0, trainable="x")
