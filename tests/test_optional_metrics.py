"""Metrics on request: what autograd and NumPy find, at no cost to anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeper.packing import Pack
from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.metrics import ON_REQUEST
from sweeper.trainables.families import low_rank, modular_arithmetic, sparse_recovery
from sweeper.trainables.optim.optional_metrics import layer_norms, layer_singular_values, sparsity
from tests.packs import MATRIX, MODULAR, SPARSE, pack, run, trial

ALL = tuple(ON_REQUEST)
L1 = {"regularizer.name": "l1", "regularizer.strength": 0.1}
SUM = {
    "regularizer.name": "sum",
    "regularizer.terms.l1.strength": 0.1,
    "regularizer.terms.l2_sq.strength": 0.3,
}
NUCLEAR = {"regularizer.name": "nuclear", "regularizer.strength": 0.2}
DIAGONAL = {"model.name": "diagonal", "model.depth": 2}
FACTORISED = {
    "model.name": "factorised",
    "model.depth": 3,
    "model.width": 4,
    "model.init_scale": 0.3,
}

SPARSES: dict[str, dict[str, Any]] = {
    "vector": SUM | {"model.init_scale": 0.5},
    "product": SUM | {"model.depth": 3, "model.init_scale": 0.5},
    "sign-free": SUM | {"model.depth": 2, "model.sign_free": True, "model.init_scale": 0.5},
    "difference": L1 | {"model.sign_free": True, "model.init_scale": 0.5},
    "diagonal": {"regularizer.name": "l2_fro", "regularizer.strength": 0.1} | DIAGONAL,
}
MATRICES: dict[str, dict[str, Any]] = {
    "matrix": NUCLEAR,
    "factorised": {
        "regularizer.name": "sum",
        "regularizer.terms.nuclear.strength": 0.2,
        "regularizer.terms.l2_sq.strength": 0.3,
    }
    | FACTORISED,
}


def sparse(kind: str, count: int = 3) -> Pack[GrokkingConfig]:
    """Return trials of two seeds with different rates."""
    given = SPARSE | SPARSES[kind]
    trials = [trial(given, i % 2, optimizer__lr=0.02 + 0.01 * i) for i in range(count)]
    return pack(trials, 30, metrics=ALL)


def matrices(kind: str, count: int = 3) -> Pack[GrokkingConfig]:
    given = MATRIX | MATRICES[kind]
    trials = [trial(given, i % 2, optimizer__lr=0.01 + 0.005 * i) for i in range(count)]
    return pack(trials, 30, metrics=ALL)


def trained(block: Any, steps: int = 7) -> dict[str, Tensor]:
    """Return the metrics of a block's first row after some steps."""
    for taken in range(steps):
        block.step(taken)
    metrics: dict[str, Tensor] = block.metrics()
    return {name: column[0].double() for name, column in metrics.items()}


def first(block: Any, copies: int = 1) -> list[Tensor]:
    """Return the weights of a block's first row as leaves, `copies` times each."""
    lead = len(block.weights.lead)
    rows = [w.real(w.value).flatten(0, lead - 1)[0] for w in block.weights.each]
    return [row.clone().requires_grad_() for row in rows for _ in range(copies)]


def ratio(loss: Tensor, penalty: Tensor, leaves: list[Tensor]) -> float:
    """Return ||grad penalty|| / ||grad loss|| by autograd."""
    norms = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(value, leaves, retain_graph=True)]
        ).norm()
        for value in (penalty, loss)
    ]
    return float(norms[0] / norms[1])


@pytest.mark.parametrize("kind", SPARSES)
def test_the_ratio_of_gradients_of_a_vector_is_that_of_autograd(kind: str) -> None:
    one = sparse(kind)
    values: Any = one.trials[0].values
    (block,) = sparse_recovery.blocks(one, range(1))
    found = trained(block)
    data = sparse_recovery.instance_of(one.trials[0])
    depth = values["model.depth"]
    tied = values["model.name"] == "product" and not values["model.sign_free"]
    leaves = first(block, depth if tied else 1)
    if values["model.name"] == "product" and values["model.sign_free"]:
        a = leaves[0] ** depth - leaves[1] ** depth
    else:
        a = torch.stack(leaves).prod(dim=0)
    loss = (data.X @ a - data.y).square().sum() / 2
    terms = {
        "l1": a.abs().sum(),
        "l2_sq": torch.stack([leaf.square().sum() / 2 for leaf in leaves]).sum(),
        "l2_fro": torch.stack([leaf.norm() for leaf in leaves]).sum(),
    }
    assert float(found["gradient_ratio"]) == pytest.approx(
        ratio(loss, penalty(values, terms), leaves), rel=1e-9
    )
    norms = [float(leaf.detach().norm()) for leaf in leaves]
    assert [float(found[f"norm_{k}"]) for k in range(1, len(leaves) + 1)] == pytest.approx(norms)
    assert f"norm_{len(leaves) + 1}" not in found


@pytest.mark.parametrize("count", [1, 96])
def test_the_ratio_of_a_projected_vector_is_by_the_gradient_of_the_loss(count: int) -> None:
    """The projection uses X^+ r, the ratio X^T r: at the start, where r isn't 0, they differ."""
    given = SPARSE | L1 | {"optimizer.name": "projected", "model.init_scale": 0.5}
    trials = [trial(given, optimizer__lr=0.02 + 0.001 * i) for i in range(count)]
    (block,) = sparse_recovery.blocks(pack(trials, 30, metrics=ALL), range(count))
    found = trained(block, steps=0)["gradient_ratio"]
    data = sparse_recovery.instance_of(trials[0])
    X, y, a = data.X.numpy(), data.y.numpy(), np.full(len(data.signal), 0.5)
    expected = 0.1 * np.sqrt(len(a)) / np.linalg.norm(X.T @ (X @ a - y))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def penalty(values: Any, terms: dict[str, Tensor]) -> Tensor:
    """Return the penalty of a config whose `terms` have the values that are given."""
    if values["regularizer.name"] == "sum":
        strengths = {n: values[f"regularizer.terms.{n}.strength"] or 0.0 for n in terms}
    else:
        strengths = {values["regularizer.name"]: values["regularizer.strength"]}
    return torch.stack([strengths[n] * terms[n] for n in strengths if strengths[n]]).sum()


@pytest.mark.parametrize("kind", MATRICES)
def test_the_ratio_of_gradients_of_a_matrix_is_that_of_autograd(kind: str) -> None:
    one = matrices(kind)
    values: Any = one.trials[0].values
    (block,) = low_rank.blocks(one, range(1))
    found = trained(block)
    data = low_rank.instance_of(one.trials[0])
    leaves = first(block)
    A = torch.linalg.multi_dot(leaves) if len(leaves) > 1 else leaves[0]
    assert data.measured is not None
    loss = (data.measured * (A - data.signal)).square().sum() / 2
    terms = {
        "nuclear": torch.linalg.svdvals(A).sum(),
        "l2_sq": torch.stack([leaf.square().sum() / 2 for leaf in leaves]).sum(),
    }
    expected = ratio(loss, penalty(values, terms), leaves)
    assert float(found["gradient_ratio"]) == pytest.approx(expected, rel=1e-6)
    sigma = torch.linalg.svdvals(A.detach()).tolist()
    assert [float(found[f"sigma_{k}"]) for k in range(1, 6)] == pytest.approx(sigma, abs=1e-12)
    assert "sigma_6" not in found
    for k, leaf in enumerate(leaves, start=1):
        assert float(found[f"norm_{k}"]) == pytest.approx(float(leaf.detach().norm()))


@pytest.mark.parametrize(
    "make", [lambda: sparse("product"), lambda: sparse("diagonal"), lambda: matrices("factorised")]
)
def test_asking_for_metrics_changes_no_other_number(make: Any) -> None:
    asked: Pack[GrokkingConfig] = make()
    plain = pack(asked.trials, 30)
    found, expected = run(asked), run(plain)
    assert found.rows.keys() == expected.rows.keys()
    for key, row in expected.rows.items():
        common = {name: found.rows[key][name] for name in row}
        assert common == row
        assert found.rows[key].keys() - row.keys() >= {"gradient_ratio", "norm_1"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["product", "diagonal", "factorised", "matrix"])
def test_metrics_on_request_do_not_depend_on_the_pack(kind: str, dtype: str) -> None:
    family = SPARSE | SPARSES[kind] if kind in SPARSES else MATRIX | MATRICES[kind]
    given = family | {"dtype": dtype}
    trials = [trial(given, i % 2, optimizer__lr=0.02 + 0.003 * i) for i in range(11)]
    whole = run(pack(trials, 10, metrics=ALL))
    for one in (trials[0], trials[7]):
        assert run(pack([one], 10, metrics=ALL)).of(one.id) == whole.of(one.id)


@pytest.mark.parametrize("kind", SPARSES)
def test_a_vector_is_split_into_support_and_rest(kind: str) -> None:
    memory = run(sparse(kind))
    for key, row in memory.rows.items():
        assert np.hypot(row["on_support"], row["off_support"]) == pytest.approx(row["l2"])
        if key[1] == 0:
            assert row["norm_ratio"] == 1.0
    last = max(step for _, step in memory.rows)
    changed = {row["norm_ratio"] for (_, step), row in memory.rows.items() if step == last}
    assert 1.0 not in changed


def test_a_trial_that_recovers_its_vector_ends_on_the_support_alone() -> None:
    given = SPARSE | L1 | {"optimizer.name": "ista", "task.N": 16, "regularizer.strength": 0.02}
    one = trial(given, optimizer__lr=0.2, model__init_scale=1e-2)
    memory = run(pack([one], 3000))
    share, off = memory.column(one.id, "sparsity"), memory.column(one.id, "off_support")
    assert share[0] == 0.0, "all entries are 1e-2 at the start"
    assert off[-1] == 0.0
    assert share[-1] == 18 / 20, "s = 2 of n = 20"
    assert memory.column(one.id, "test_error")[-1] < 0.5


def test_the_sparsity_counts_entries_below_a_millionth() -> None:
    rows = torch.tensor([[0.0, 1e-7, -1e-6, 2.0], [0.0, 0.0, 0.0, float("nan")], [0.0] * 4])
    assert sparsity(rows).tolist()[::2] == [0.5, 1.0]
    assert torch.isnan(sparsity(rows)[1])


def test_without_penalties_the_ratio_is_0_and_without_a_gradient_it_is_none() -> None:
    free = trial(SPARSE | {"model.init_scale": 0.5})
    memory = run(pack([free], 20, metrics=ALL))
    assert set(memory.column(free.id, "gradient_ratio")) == {0.0}
    matrix = trial(MATRIX | NUCLEAR | {"optimizer.name": "projected"})
    ratios = run(pack([matrix], 20, metrics=ALL)).column(matrix.id, "gradient_ratio")
    assert np.isinf(ratios[-1]), "the projection leaves no residual at all"


def test_a_network_has_a_norm_and_a_spectrum_for_each_of_its_weights() -> None:
    trials = [trial(MODULAR, seed) for seed in range(3)]
    (block,) = modular_arithmetic.blocks(pack(trials), range(3))
    weights: Weights = block.weights
    norms, spectra = layer_norms(weights), layer_singular_values(weights)
    assert norms.keys() == {f"norm_{k}" for k in range(1, len(weights.each) + 1)}
    for k, weight in enumerate(weights.each, start=1):
        matrices = weight.real(weight.value)
        assert norms[f"norm_{k}"].tolist() == pytest.approx(
            matrices.flatten(1).norm(dim=1).tolist()
        )
        expected = torch.linalg.svdvals(matrices.double())
        found = torch.stack([spectra[f"sigma_{k}_{i}"] for i in range(1, 1 + min(weight.shape))])
        assert torch.allclose(found.T, expected, atol=1e-5)
        assert f"sigma_{k}_{1 + min(weight.shape)}" not in spectra
