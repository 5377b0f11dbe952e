"""What holds for every family: a pack is nothing but its trials."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.errors import UsageError
from sweeper.packing import static_key
from sweeper.trainables import grokking
from sweeper.trainables.batch import shared
from sweeper.trainables.config import GrokkingConfig
from tests.packs import DENSE, MATRIX, MODULAR, SPARSE, STRICT, pack, run, same, trial
from tests.slow import long_but

SENSING = MATRIX | {"task.name": "matrix_sensing"}
TOY = {
    "task.name": "toy_addition",
    "task.symbols": 5,
    "task.N": 10,
    "task.outputs": 4,
    "model.width": 13,
}
SUM = {"regularizer.name": "sum", "regularizer.terms.l1.strength": 1e-4}

FAMILIES: dict[str, dict[str, Any]] = {
    "sparse l1": SPARSE | {"regularizer.name": "l1", "model.init_scale": 1e-3},
    "sparse odd sizes": SPARSE | {"task.n": 33, "task.N": 17, "regularizer.name": "l1"},
    "sparse float32": SPARSE | {"dtype": "float32", "regularizer.name": "l1"},
    "sparse depth 2": SPARSE | {"model.depth": 2, "model.init_scale": 0.1},
    "sparse depth 3 l2": SPARSE | {"model.depth": 3, "regularizer.name": "l2_sq"},
    "sign-free 1": SPARSE | {"model.sign_free": True, "regularizer.name": "l1"},
    "sign-free 2": SPARSE | {"model.sign_free": True, "model.depth": 2, "regularizer.name": "l1"},
    "sign-free 3": SPARSE
    | {"model.sign_free": True, "model.depth": 3}
    | SUM
    | {"regularizer.terms.l2_fro.strength": 1e-3},
    "sign-free 4 odd": SPARSE | {"model.sign_free": True, "model.depth": 4, "task.n": 21},
    "ista": SPARSE | {"optimizer.name": "ista", "regularizer.name": "l1"},
    "projected": SPARSE | {"optimizer.name": "projected", "regularizer.name": "l1"},
    "basis pursuit": SPARSE | {"optimizer.name": "basis_pursuit"},
    "sparse group": SPARSE | {"regularizer.name": "group", "regularizer.size": 3},
    "ista group": SPARSE
    | {"optimizer.name": "ista", "regularizer.name": "group", "regularizer.size": 4},
    "diagonal": SPARSE | {"model.name": "diagonal", "regularizer.name": "l2_sq"},
    "diagonal 3 odd": SPARSE
    | {"model.name": "diagonal", "model.depth": 3, "task.n": 21, "regularizer.name": "l1"},
    "diagonal adam": SPARSE
    | {"model.name": "diagonal", "optimizer.name": "adam", "task.design": "fourier"},
    "sparse adamw": SPARSE | {"optimizer.name": "adamw", "regularizer.name": "l2_fro"},
    "sparse sgd": SPARSE | {"optimizer.name": "sgd"},
    "sparse noise": SPARSE | {"task.snr": 100.0, "selection.name": "coherent"},
    "matrix": MATRIX | {"regularizer.name": "nuclear"},
    "matrix wide": MATRIX | {"task.n2": 12, "regularizer.name": "nuclear"},
    "matrix float32": MATRIX | {"dtype": "float32", "regularizer.name": "nuclear"},
    "matrix leverage": MATRIX | {"selection.name": "leverage", "regularizer.name": "nuclear"},
    "matrix svt": MATRIX | {"optimizer.name": "svt", "regularizer.name": "nuclear"},
    "matrix projected": MATRIX | {"optimizer.name": "projected", "regularizer.name": "l1"},
    "factorised l2": MATRIX | {"model.name": "factorised", "regularizer.name": "l2_sq"},
    "factorised adam": MATRIX
    | {
        "model.name": "factorised",
        "model.width": 3,
        "optimizer.name": "adam",
        "regularizer.name": "nuclear",
    },
    "factorised 4": MATRIX | {"model.depth": 4, "regularizer.name": "l2_fro"},
    "sensing": SENSING | {"regularizer.name": "nuclear"},
    "sensing svt": SENSING | {"optimizer.name": "svt", "selection.name": "coherent"},
    "sensing projected": SENSING | {"optimizer.name": "projected", "regularizer.name": "nuclear"},
    "sensing factorised": SENSING | {"model.depth": 3, "dtype": "float32"} | SUM,
    "dense": DENSE,
    "dense batches": DENSE | {"optimizer.batch": 6, "task.N": 21, "dtype": "float64"},
    "dense sphere": DENSE | {"optimizer.constant_norm": True, "model.activation": "relu"},
    "dense momentum": DENSE
    | {"optimizer.name": "sgd", "optimizer.momentum": 0.9}
    | {"regularizer.name": "nuclear"},
    "dense sobolev": DENSE | {"regularizer.name": "sobolev", "task.teacher": "gaussian"},
    "relu regression": {
        "task.name": "relu_regression",
        "model.width": 20,
        "regularizer.name": "l2_sq",
        "model.init_scale": 0.5,
    },
    "mlp": MODULAR,
    "mlp depth 2": MODULAR | {"model.depth": 2},
    "mlp depth 3 odd": MODULAR | {"model.depth": 3, "model.d": 5, "model.width": 11},
    "mlp float64": MODULAR | {"dtype": "float64"},
    "mlp batch": MODULAR | {"optimizer.batch": 8},
    "mlp div": MODULAR | {"task.operation": "div"},
    "mlp square": MODULAR | {"selection.name": "square", "selection.fraction": 0.5},
    "mlp strip": MODULAR | {"selection.name": "strip", "selection.fraction": 0.4},
    "mlp l1": MODULAR | {"optimizer.name": "adam", "regularizer.name": "l1"},
    "mlp l2_sq": MODULAR | {"optimizer.name": "adam", "regularizer.name": "l2_sq"},
    "mlp l2_fro": MODULAR | {"optimizer.name": "adam", "regularizer.name": "l2_fro"},
    "mlp nuclear": MODULAR | {"optimizer.name": "adam", "regularizer.name": "nuclear"},
    "mlp sum sgd": MODULAR
    | {"optimizer.name": "sgd"}
    | SUM
    | {"regularizer.terms.nuclear.strength": 1e-3},
    "mlp gd": MODULAR | {"optimizer.name": "gd"},
    "mlp outliers": MODULAR | {"selection.name": "outliers"},
    "mlp permutations": {
        "task.name": "symmetric_group",
        "task.degree": 3,
        "model.d": 12,
        "model.width": 20,
    },
    "transformer": {
        "task.name": "modular_arithmetic",
        "task.p": 7,
        "model.name": "transformer",
        "model.d": 12,
        "model.heads": 2,
        "model.mlp": 16,
        "selection.name": "outliers",
    },
    "mlp matrix": MODULAR | {"model.embedding": "matrix", "model.d": 16, "model.init": "fan_out"},
    "mlp matrix odd": MODULAR
    | {
        "model.embedding": "matrix",
        "model.d": 9,
        "optimizer.batch": 8,
        "optimizer.drop_last": False,
    },
    "mlp sum": MODULAR | {"model.embedding": "sum", "optimizer.constant_norm": True},
    "toy": TOY | {"optimizer.constant_norm": True},
    "toy remainder": TOY
    | {
        "task.latent": 2,
        "task.labels": "remainder",
        "optimizer.batch": 4,
        "model.activation": "leaky_relu",
    },
}


def company(family: str, count: int = 64, *, one_set: bool = False) -> list[Trial]:
    """Return different trials of a family that may share a pack, or one data set even."""
    given = FAMILIES[family]
    found = []
    for i in range(count):
        more: dict[str, Any] = {}
        exact = given.get("optimizer.name") == "basis_pursuit"  # it has no rate
        if not exact:
            more["optimizer.lr"] = 0.02 + 0.001 * i
        more["model.init_scale"] = given.get("model.init_scale", 0.5) * (1 + i % 5 / 10)
        if given.get("regularizer.name", "sum") != "sum":
            more["regularizer.strength"] = 1e-3 * (i % 4)
        if given.get("selection.name") in ("coherent", "leverage"):
            more["selection.tau"] = 0.5 if one_set else i % 7 / 8
        if given.get("task.name") == "toy_addition":
            more["task.m"] = i % 7 / 6
        if given.get("selection.name") in ("square", "strip", "outliers"):
            more["selection.k"] = 1 + i % 2
        if given.get("task.name") == "sparse_recovery" and i % 3 == 0 and not one_set:
            more["task.s"] = 3
        if "task.rank" in given and i % 3 == 0 and not one_set:
            more["task.rank"] = 2
        if given.get("optimizer.name") in ("adamw", "adam", "sgd"):
            more["optimizer.weight_decay"] = i % 3 / 10
        seed = i // 5 if exact else i % 6
        found.append(trial(given | more, seed=0 if one_set else seed))
    assert len({t.id for t in found}) == count
    assert len({static_key(GrokkingConfig, t.values) for t in found}) == 1
    return found


def criterion(family: str) -> Criterion:
    if family.startswith(("mlp", "transformer")):  # some trials reach it and end early
        return Criterion(metric="acc", train=0.5, test=0.3)
    return Criterion(metric="error", train=0.3, test=0.95)


FAST = (
    "sparse l1",
    "sign-free 3",
    "ista",
    "matrix svt",
    "factorised l2",
    "sensing",
    "mlp",
    "mlp strip",
)
"""One of each kind of tensors; the other families are trained by `make check-long`."""


@pytest.mark.parametrize("family", long_but(FAST, FAMILIES))
def test_a_trial_has_the_same_rows_alone_and_in_every_company(family: str) -> None:
    trials = company(family)
    within = run(pack(trials, steps=40, criterion=criterion(family)))
    for chosen in ([trials[0]], [trials[63]], trials[5:8], trials[30:47]):
        apart = run(pack(chosen, steps=40, criterion=criterion(family)))
        same(apart, within, chosen)


@pytest.mark.parametrize(
    "family",
    long_but(
        ("sparse l1", "sign-free 3"),
        (
            f
            for f, given in FAMILIES.items()
            if given["task.name"] == "sparse_recovery"
            and given.get("optimizer.name") != "basis_pursuit"
        ),
    ),
)
def test_a_trial_has_the_same_rows_among_a_hundred_of_its_data_set(family: str) -> None:
    trials = company(family, 100, one_set=True)
    loose = Criterion(metric="error", train=0.3, test=0.99)  # half of them end: tensors shrink
    within = run(pack(trials, steps=40, criterion=loose))
    assert {shared.by_columns(n, torch.float64) for n in (100, 50)} == {True, False}
    for chosen in ([trials[0]], [trials[99]], trials[30:47], trials[2:98]):
        apart = run(pack(chosen, steps=40, criterion=loose))
        same(apart, within, chosen)


@pytest.mark.parametrize(
    "family", ["sparse l1", "sign-free 3", "matrix", "sensing", "mlp", "mlp strip"]
)
def test_the_order_of_a_pack_changes_nothing(family: str) -> None:
    trials = company(family, 24)
    same(run(pack(trials)), run(pack(trials[::-1])), trials)


@pytest.mark.parametrize(
    "family", ["sparse l1", "sign-free 2", "matrix svt", "sensing", "mlp", "mlp nuclear"]
)
def test_trials_that_end_early_leave_the_others_undisturbed(family: str) -> None:
    trials = company(family, 20)
    ending = run(pack(trials, steps=60, criterion=criterion(family)))
    endless = run(pack(trials, steps=60, criterion=STRICT.model_copy(update={"metric": "loss"})))
    statuses = {status for status, _, _ in ending.ends.values()}
    assert "generalized" in statuses
    for t in trials:
        rows = ending.of(t.id)
        assert rows == endless.of(t.id)[: len(rows)]


@pytest.mark.parametrize("broken", ["model.init_scale", "optimizer.lr"])
@pytest.mark.parametrize(
    "family",
    long_but(
        ("sparse l1", "matrix svt", "mlp"),
        (
            "sparse l1",
            "sign-free 3",
            "ista",
            "matrix",
            "matrix svt",
            "matrix projected",
            "factorised l2",
            "sensing",
            "mlp",
            "mlp nuclear",
        ),
    ),
)
def test_a_trial_that_diverges_is_told_so_and_its_mates_never_notice(
    family: str, broken: str
) -> None:
    trials = company(family, 12)
    values = {**trials[3].values, broken: 1e200}
    bad = Trial.of(GrokkingConfig, values, trials[3].seed, trainable="trainables.grokking")
    mixed = [*trials[:5], bad, *trials[5:]]
    together = run(pack(mixed, steps=400, criterion=STRICT))
    assert together.ends[bad.id][0] == "diverged"
    without = run(pack(trials, steps=400, criterion=STRICT))
    same(without, together, trials)
    assert all(without.ends[t.id][0] != "diverged" for t in trials)


def test_measurements_that_are_all_zero_leave_the_train_error_unknown_and_dont_diverge() -> None:
    given = SPARSE | {"selection.name": "coherent", "selection.tau": 1.0, "task.N": 4}
    found = None
    for seed in range(20):
        t = trial(given, seed)
        memory = run(pack([t], steps=20))
        if not any(x == x and abs(x) < float("inf") for x in memory.column(t.id, "train_error")):
            found = memory.ends[t.id][0]
            break
    assert found == "censored"


def test_importing_the_trainable_doesnt_import_torch() -> None:
    code = (
        "import sys, json, trainables.grokking as g; g.Config; g.memory_bytes;"
        "print(json.dumps('torch' in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) is False


def test_a_cuda_that_isnt_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.__version__", "2.13.0+cpu")
    for asked in ("cuda", "cuda:1"):
        with pytest.raises(UsageError) as caught:
            grokking.device(asked)
        assert str(caught.value) == (
            "no GPU found on this machine by torch 2.13.0+cpu. Train on a machine with a GPU and a "
            "build of torch that supports it, or set resources.gpu=0."
        )
    assert (grokking.device("cpu"), grokking.device_count("cpu")) == ("cpu", 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert (grokking.device("cuda:1"), grokking.device_count("cuda")) == ("cuda:1", 2)
    sizes = {0: 24, 1: 16}
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda i: SimpleNamespace(total_memory=sizes[i])
    )
    assert (grokking.device_memory("cuda"), grokking.device_memory("cpu")) == (16, 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert grokking.device_memory("cuda") == 0


def test_a_probe_measures_a_step() -> None:
    seconds = grokking.probe(pack(company("sparse l1", 4)))
    assert 1e-7 < seconds < 1
