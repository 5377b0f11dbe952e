"""Metrics on request of networks: the hand-written block and the automatic one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sweeper.trainables.networks.dense import DenseNetwork
from sweeper.trainables.networks.teacher_student import data_of
from tests.packs import MODULAR, Memory, pack, run, trial

LAST = 10
ASKED = ("gradient_ratio", "layer_norms", "singular_values")
L2 = {"regularizer.name": "l2_sq", "dtype": "float64", "optimizer.name": "sgd"}
FAMILIES: dict[str, dict[str, Any]] = {
    "mlp": MODULAR | L2,
    "mlp batches": MODULAR | L2 | {"optimizer.batch": 5},
    "dense": {
        "task.name": "teacher_student",
        "task.N": 20,
        "task.N_test": 10,
        "model.width": 16,
        "model.depth": 1,
    }
    | L2,
    "dense batches": {
        "task.name": "teacher_student",
        "task.N": 20,
        "task.N_test": 10,
        "model.width": 16,
        "model.depth": 1,
        "optimizer.batch": 6,
    }
    | L2,
}


def trained(given: dict[str, Any], metrics: tuple[str, ...]) -> tuple[list[str], Memory]:
    trials = [trial(given, 0, regularizer__strength=s) for s in (1e-3, 1e-2, 1e-1)]
    return [t.id for t in trials], run(pack(trials, LAST, metrics=metrics))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_requested_changes_nothing_else(family: str) -> None:
    ids, bare = trained(FAMILIES[family], ())
    _, asked = trained(FAMILIES[family], ASKED)
    for key, row in bare.rows.items():
        assert row.items() <= asked.rows[key].items()
    assert {"gradient_ratio", "norm_1", "sigma_1_1"} <= asked.rows[ids[0], LAST].keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_and_spectra_are_those_of_the_weights(family: str) -> None:
    ids, found = trained(FAMILIES[family], ASKED)
    for trial_id in ids:
        row = found.rows[trial_id, LAST]
        norms = np.array([v for k, v in row.items() if k.startswith("norm_") and k[5:].isdigit()])
        assert np.sqrt((norms**2).sum()) == pytest.approx(row["l2"], rel=1e-9)
        spectra = sum(v for k, v in row.items() if k.startswith("sigma_"))
        assert spectra == pytest.approx(row["nuclear"], rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ratio_of_gradients_is_in_proportion_to_the_strength(family: str) -> None:
    ids, found = trained(FAMILIES[family], ASKED)
    first = [found.rows[i, 0]["gradient_ratio"] for i in ids]
    assert first[1] / first[0] == pytest.approx(10, rel=1e-6)  # equal weights, equal losses
    assert first[2] / first[1] == pytest.approx(10, rel=1e-6)


def test_the_ratio_of_gradients_is_that_of_a_module() -> None:
    ids, found = trained(FAMILIES["dense"], ASKED)
    rows = [found.rows[i, 0] for i in ids]
    t = trial(FAMILIES["dense"], 0, regularizer__strength=1e-2)
    data, network = data_of(t), DenseNetwork(t.values)
    weights = [w.clone().requires_grad_() for w in network.base(0)]
    x = data.train.inputs[0]
    hidden = torch.tanh(x @ weights[0].T + weights[1])  # type: ignore[operator]
    outputs = hidden @ weights[2].T + weights[3]
    loss = (outputs - data.train.targets).square().mean()
    gradient = torch.autograd.grad(loss, weights)
    G = torch.sqrt(sum(g.square().sum() for g in gradient))  # type: ignore[arg-type]
    H = 1e-2 * torch.sqrt(sum(w.detach().square().sum() for w in weights))  # type: ignore[arg-type]
    assert rows[1]["gradient_ratio"] == pytest.approx(float(H / G), rel=1e-9)
