"""Sparse recovery: instances, gradients, solvers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeper.trainables.data.sparse_data import instance
from sweeper.trainables.families.sparse_recovery import SparseRecoveryBlock, instance_of
from tests.packs import SPARSE, pack, trial


def block_of(given: dict[str, Any], seed: int = 0, **more: Any) -> SparseRecoveryBlock:
    t = trial(given, seed, **more)
    return SparseRecoveryBlock(pack([t]), 8, [[0]])


def legacy(N: int, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "seed": 1,
        "n": 100,
        "s": 5,
        "N": N,
        "signal": "gaussian",
        "snr": None,
        "tau": 0.0,
        "rng": "numpy_legacy",
    }
    return instance(**fields | more)


def test_the_published_instance_has_the_published_numbers() -> None:
    one = legacy(30)
    places = [80, 84, 33, 81, 93]
    values = [0.01080866, 0.10152629, 0.09596368, -0.01273031, 0.06985542]
    assert set(one.signal.nonzero()[:, 0].tolist()) == set(places)
    np.testing.assert_allclose(one.signal[places], values, atol=5e-9)
    assert float(one.signal.norm()) == pytest.approx(0.15708369, abs=2e-8)
    np.testing.assert_allclose(one.X[0, :3], [0.29656353, -0.11169093, -0.09643053], atol=5e-9)
    assert one.ls_linf / 1e-6 == pytest.approx(69547.92, abs=0.01)
    assert torch.allclose(legacy(50).X[:30] * math.sqrt(50 / 30), one.X)


def test_the_published_noise_is_that_of_the_published_instance() -> None:
    one, clean = legacy(30, snr=1e8), legacy(30)
    noise = one.y - clean.y
    assert float(noise.norm()) == pytest.approx(2.2525e-5, rel=1e-4)
    assert one.ls_linf / 1e-6 == pytest.approx(69546.35, abs=0.01)
    ratio = noise / one.X[0, :30]
    torch.testing.assert_close(ratio, ratio[:1].expand(30))


def test_published_coherent_rows_keep_the_order_of_their_draw() -> None:
    one = legacy(10, tau=0.3)
    columns = np.random.RandomState(1).choice(100, 3, replace=False)
    assert one.X[:3].argmax(dim=1).tolist() == columns.tolist()
    assert legacy(100, tau=0.29).X[27].count_nonzero() == 1
    assert legacy(100, tau=0.29).X[28].count_nonzero() == 100  # int(0.29 * 100) is 28
    surplus = legacy(120, tau=1.0)
    assert surplus.X[:100].equal(torch.eye(100, dtype=torch.float64))
    assert surplus.X[100:].count_nonzero(dim=1).tolist() == [1] * 20


def test_own_instances_follow_their_law() -> None:
    def own(**more: Any) -> Any:
        fields: dict[str, Any] = {
            "seed": 0,
            "n": 400,
            "s": 100,
            "N": 300,
            "signal": "gaussian",
            "snr": None,
            "tau": 0.0,
            "rng": "torch",
        }
        return instance(**fields | more)

    one = own()
    assert int(one.signal.count_nonzero()) == 100
    assert float(one.signal.norm()) ** 2 == pytest.approx(100 / 400, rel=0.5)
    assert float(one.X.var()) == pytest.approx(1 / 300, rel=0.02)
    torch.testing.assert_close(one.y, one.X @ one.signal)
    signs = own(signal="rademacher").signal
    torch.testing.assert_close(signs, one.signal.sign() / 20)
    noise = own(snr=4.0).y - one.y
    assert float(noise.var()) == pytest.approx(100 / 400 / (300 * 4), rel=0.3)
    rows = own(tau=0.29, N=100).X.count_nonzero(dim=1)
    assert rows.tolist() == [1] * 29 + [400] * 71  # floor of the number that was written


def objective(given: dict[str, Any], factors: list[Tensor], X: Tensor, y: Tensor) -> Tensor:
    """Return the loss and penalty of one trial, as the papers write them."""
    depth = given.get("model.depth", len(factors))
    if given.get("model.sign_free"):
        a = factors[0] ** depth - factors[1] ** depth
    else:
        a = torch.stack(factors).prod(dim=0)
    total: Tensor = (X @ a - y).square().sum() / 2
    name = given.get("regularizer.name", "none")
    terms = {name: given.get("regularizer.strength", 0.0)}
    if name == "sum":
        terms = {
            t: given.get(f"regularizer.terms.{t}.strength", 0.0)
            for t in ("l1", "l2_sq", "l2_fro", "group")
        }
    total = total + terms.get("l1", 0.0) * a.abs().sum()
    size = given.get("regularizer.size") or given.get("regularizer.terms.group.size", 1)
    total = total + terms.get("group", 0.0) * sum(part.norm() for part in a.split(size))
    for f in factors:
        total = total + terms.get("l2_sq", 0.0) / 2 * f.square().sum()
        total = total + terms.get("l2_fro", 0.0) * f.norm()
    return total


PENALTIES: list[dict[str, Any]] = [
    {},
    {"regularizer.name": "l1", "regularizer.strength": 0.3},
    {"regularizer.name": "l2_sq", "regularizer.strength": 0.3},
    {"regularizer.name": "l2_fro", "regularizer.strength": 0.3},
    {
        "regularizer.name": "sum",
        "regularizer.terms.l1.strength": 0.2,
        "regularizer.terms.l2_sq.strength": 0.3,
        "regularizer.terms.l2_fro.strength": 0.4,
    },
    {"regularizer.name": "group", "regularizer.strength": 0.3, "regularizer.size": 3},
    {
        "regularizer.name": "sum",
        "regularizer.terms.l1.strength": 0.2,
        "regularizer.terms.group.strength": 0.3,
        "regularizer.terms.group.size": 5,
    },
]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sign_free", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gradients_are_those_of_the_objective(
    depth: int, sign_free: bool, penalty: dict[str, Any]
) -> None:
    given = SPARSE | penalty | {"model.depth": depth, "model.sign_free": sign_free}
    block = block_of(given)
    one = instance_of(trial(given))
    g = torch.Generator().manual_seed(5)
    start = [torch.randn(20, generator=g, dtype=torch.float64) for _ in block.weights.each]
    for weight, value in zip(block.weights.each, start, strict=True):
        weight.value[0, 0, :20] = value
    block.set_gradient(0)
    count = 2 if sign_free else depth
    factors = [start[i if sign_free else 0].clone().requires_grad_() for i in range(count)]
    torch.autograd.backward(objective(given, factors, one.X, one.y))
    for i, weight in enumerate(block.weights.each):
        grad = factors[i].grad
        assert grad is not None
        torch.testing.assert_close(weight.grad[0, 0, :20], grad, rtol=1e-12, atol=1e-12)
        assert not weight.grad[0, 0, 20:].any()


def test_equal_factors_have_equal_gradients_so_that_one_may_stand_for_all() -> None:
    one = instance_of(trial(SPARSE))
    factors = [torch.full((20,), 0.3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    torch.autograd.backward(
        objective(SPARSE | PENALTIES[4] | {"model.depth": 3}, factors, one.X, one.y)
    )
    for factor in factors[1:]:
        assert factor.grad is not None
        torch.testing.assert_close(factor.grad, factors[0].grad)


def test_metrics_are_those_of_the_docstring() -> None:
    given = SPARSE | {"model.sign_free": True, "model.depth": 2}
    block, one = block_of(given), instance_of(trial(given))
    u = torch.linspace(-1, 1, 20, dtype=torch.float64)
    v = u.flip(0) / 2
    u[3] = v[3] = 0.0
    block.weights.each[0].value[0, 0, :20] = u
    block.weights.each[1].value[0, 0, :20] = v
    a = u**2 - v**2
    found = {name: float(column[0]) for name, column in block.metrics().items()}
    r, e = (one.X @ a - one.y).norm(), (a - one.signal).norm()
    P = torch.linalg.pinv(one.X) @ one.X
    expected = {
        "train_loss": r**2 / 2,
        "test_loss": e**2 / 2,
        "train_error": r / one.y.norm(),
        "test_error": e / one.signal.norm(),
        "l1": a.abs().sum(),
        "l2": a.norm(),
        "distance": e,
        "ls_linf": (torch.linalg.lstsq(one.X, one.y, driver="gelsd").solution - one.signal)
        .abs()
        .max(),
        "null_floor": (one.signal - P @ one.signal).norm() / one.signal.norm(),
        "coherence": max(row.abs().max() / row.norm() for row in one.X),
        "sparsity": 1 / 20,
        "on_support": a[one.signal != 0].norm(),
        "off_support": a[one.signal == 0].norm(),
        "norm_ratio": torch.cat([u, v]).norm() / (1e-6 * 40**0.5),
    }
    assert found == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-9)


def test_ista_ends_at_the_lasso_solution() -> None:
    strength = 0.01
    given = {
        "task.name": "sparse_recovery",
        "task.n": 30,
        "task.N": 20,
        "optimizer.name": "ista",
        "regularizer.name": "l1",
        "regularizer.strength": strength,
    }
    block, one = block_of(given), instance_of(trial(given))
    for taken in range(20_000):
        block.step(taken)
    a = block.weights.each[0].value[0, 0, :30]
    correlation = one.X.T @ (one.y - one.X @ a)
    support = a != 0
    assert 0 < int(support.sum()) < 30
    torch.testing.assert_close(
        correlation[support], strength * a[support].sign(), rtol=1e-8, atol=1e-10
    )
    assert float(correlation[~support].abs().max()) <= strength * (1 + 1e-9)


def test_ista_with_l2_ends_at_the_ridge_solution() -> None:
    given = {
        "task.name": "sparse_recovery",
        "task.n": 10,
        "task.N": 30,
        "optimizer.name": "ista",
        "regularizer.name": "l2_sq",
        "regularizer.strength": 0.2,
    }
    block, one = block_of(given), instance_of(trial(given))
    for taken in range(3000):
        block.step(taken)
    ridge = torch.linalg.solve(
        one.X.T @ one.X + 0.2 * torch.eye(10, dtype=torch.float64), one.X.T @ one.y
    )
    torch.testing.assert_close(block.weights.each[0].value[0, 0, :10], ridge)


@pytest.mark.parametrize("penalty", ["l1", "l2_sq", "group"])
def test_projected_steps_stay_on_the_solutions_of_the_measurements(penalty: str) -> None:
    given = SPARSE | {
        "optimizer.name": "projected",
        "regularizer.name": penalty,
        "regularizer.strength": 0.1,
        "model.init_scale": 1.0,
    }
    if penalty == "group":
        given["regularizer.size"] = 4
    block, one = block_of(given), instance_of(trial(given))
    norms = []
    for taken in range(200):
        block.step(taken)
        a = block.weights.each[0].value[0, 0, :20]
        assert float((one.X @ a - one.y).abs().max()) < 1e-12
        groups = {"l1": 1, "group": 4}.get(penalty, 20)
        parts: list[torch.Tensor] = list(torch.split(a, groups))
        norms.append(sum(float(part.norm()) for part in parts))
    assert norms[-1] < norms[0]


def test_projected_takes_the_papers_step() -> None:
    given = SPARSE | {
        "optimizer.name": "projected",
        "regularizer.name": "l1",
        "regularizer.strength": 0.1,
        "model.init_scale": 1.0,
    }
    block, one = block_of(given), instance_of(trial(given))
    a = block.weights.each[0].value[0, 0, :20].clone()
    block.step(0)
    a = a - 0.1 * (one.X.T @ (one.X @ a - one.y) + 0.1 * a.sign())
    a = a - one.X.T @ torch.linalg.solve(one.X @ one.X.T, one.X @ a - one.y)
    torch.testing.assert_close(block.weights.each[0].value[0, 0, :20], a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["gd", "ista", "projected", "sgd", "adam", "adamw"])
def test_rows_that_pad_and_columns_that_pad_stay_inert(dtype: str, optimizer: str) -> None:
    given = {
        "task.name": "sparse_recovery",
        "task.n": 21,
        "task.N": 11,
        "dtype": dtype,
        "optimizer.name": optimizer,
        "regularizer.name": "l1",
        "regularizer.strength": 0.01,
    }
    block = block_of(given)
    for taken in range(20):
        block.step(taken)
    value = block.weights.each[0].value
    assert value.shape == (1, 8, 24)
    assert value.dtype == getattr(torch, dtype)
    assert not value[..., 21:].any()
    if optimizer != "projected":  # there, padding rows hold the least-squares solution
        assert not value[:, 1:].any()
    assert all(
        column.dtype in (torch.float32, torch.float64) and column.shape == (8,)
        for column in block.metrics().values()
    )
