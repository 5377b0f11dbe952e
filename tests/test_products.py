"""Diagonal networks, trigonometric measurements, groups and basis pursuit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.config.resolve import broken, resolve
from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.families.basis_pursuit import basis_pursuit
from sweeper.trainables.families.products import starts
from sweeper.trainables.families.sparse_recovery import instance_of
from sweeper.trainables.optim.regularizers import add_gradient, directions, group_norms
from tests.packs import SPARSE, pack, run, trial, values
from tests.test_sparse_recovery import PENALTIES, block_of, objective

DIAGONAL = SPARSE | {"model.name": "diagonal"}
PURSUIT = SPARSE | {"optimizer.name": "basis_pursuit"}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_gradients_of_a_diagonal_network_are_those_of_the_objective(
    depth: int, penalty: dict[str, Any]
) -> None:
    given = DIAGONAL | penalty | {"model.depth": depth}
    block, one = block_of(given), instance_of(trial(given))
    held = [weight.value[0, 0, :20].clone().requires_grad_() for weight in block.weights.each]
    block.set_gradient(0)
    torch.autograd.backward(objective(penalty, held, one.X, one.y))
    assert len(held) == depth
    for factor, weight in zip(held, block.weights.each, strict=True):
        assert factor.grad is not None
        torch.testing.assert_close(weight.grad[0, 0, :20], factor.grad, rtol=1e-11, atol=1e-11)
        assert not weight.grad[0, 0, 20:].any()


def test_the_factors_of_a_diagonal_network_start_apart() -> None:
    given = values(DIAGONAL | {"task.n": 2000, "model.depth": 3})
    u, v, w = starts(given, 0)
    for one in (u, v, w):
        assert float(one.mean()) == pytest.approx(0, abs=0.1)
        assert float(one.var()) == pytest.approx(1, abs=0.1)
    assert abs(float(torch.corrcoef(torch.stack([u, v]))[0, 1])) < 0.1
    assert not torch.equal(u, starts(given, 1)[0])
    block = block_of(DIAGONAL | {"model.init_scale": 0.25})
    base = starts(values(DIAGONAL), 0)
    for weight, start in zip(block.weights.each, base, strict=True):
        torch.testing.assert_close(weight.value[0, 0, :20], 0.25 * start)


def test_metrics_of_a_diagonal_network_hold_both_sides_of_law_16() -> None:
    block, one = block_of(DIAGONAL), instance_of(trial(DIAGONAL))
    u, v = (weight.value[0, 0, :20] for weight in block.weights.each)
    found = {name: float(column[0]) for name, column in block.metrics().items()}
    assert found["weights_l2"] ** 2 == pytest.approx(float(u.square().sum() + v.square().sum()))
    assert found["l1"] == pytest.approx(float((u * v).abs().sum()))
    assert found["l1_min"] == pytest.approx(float(basis_pursuit(one.X, one.y).abs().sum()))


def test_a_diagonal_network_under_decay_ends_at_the_least_l1_norm() -> None:
    given = {
        "task.name": "sparse_recovery",
        "task.n": 20,
        "task.N": 12,
        "task.s": 2,
        "model.name": "diagonal",
        "regularizer.name": "l2_sq",
        "optimizer.lr": 0.1,
    }
    trials = [trial(given, seed, regularizer__strength=x) for seed in range(3) for x in (0, 1e-3)]
    memory = run(pack(trials, steps=80_000))
    for alone, decayed in zip(trials[::2], trials[1::2], strict=True):
        end = {name: memory.column(decayed.id, name)[-1] for name in ("l1", "l1_min", "weights_l2")}
        assert end["weights_l2"] ** 2 / 2 == pytest.approx(end["l1"], rel=1e-3)  # law 16
        assert end["l1"] == pytest.approx(end["l1_min"], rel=0.05)
        assert memory.column(alone.id, "l1")[-1] > 1.5 * end["l1_min"]


def test_basis_pursuit_takes_one_step_to_a_solution_that_no_other_beats() -> None:
    trials = [trial(PURSUIT, seed, task__N=16) for seed in range(4)]
    memory = run(pack(trials, steps=3))
    for t in trials:
        assert memory.column(t.id, "train_error")[1] < 1e-12
        assert memory.column(t.id, "test_error")[1] < 1e-9  # 16 of 20 measurements for 2 nonzeros
        one = instance_of(t)
        assert memory.column(t.id, "l1")[1] == float(basis_pursuit(one.X, one.y).abs().sum())
        assert set(memory.column(t.id, "test_error")[1:]) == {memory.column(t.id, "test_error")[1]}
    one = instance_of(trial(PURSUIT, 0, task__N=8, task__s=6))
    best = basis_pursuit(one.X, one.y)
    null = torch.eye(20, dtype=torch.float64) - one.pinv @ one.X
    assert int((best.abs() > 1e-12).sum()) == 8  # a vertex, not the signal
    for direction in null:
        for size in (-0.01, 0.01):
            moved = best + size * direction
            torch.testing.assert_close(one.X @ moved, one.y)
            assert float(moved.abs().sum()) >= float(best.abs().sum()) - 1e-12


def test_basis_pursuit_without_a_solution_says_so() -> None:
    X = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="no least l1 norm under X a = y, X of \\(2, 3\\)"):
        basis_pursuit(X, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert not basis_pursuit(X, torch.zeros(2, dtype=torch.float64)).any()


def test_a_fourier_design_measures_a_series_at_random_points() -> None:
    given = SPARSE | {"task.design": "fourier", "task.n": 5, "task.N": 4000, "task.s": 1}
    one = instance_of(trial(given))
    X = one.X * math.sqrt(4000 / 2)
    x = torch.atan2(X[:, 1], X[:, 0])
    expected = [torch.cos(x), torch.sin(x), torch.cos(2 * x), torch.sin(2 * x), torch.cos(3 * x)]
    torch.testing.assert_close(X, torch.stack(expected, dim=1))
    # orthonormal over random points, as a Gaussian design is
    torch.testing.assert_close(one.X.T @ one.X, torch.eye(5, dtype=torch.float64), atol=0.1, rtol=0)
    other = instance_of(trial(given | {"task.n": 4}))
    torch.testing.assert_close(other.X, one.X[:, :4])


def test_nonzeros_come_in_whole_groups() -> None:
    for seed in range(5):
        given = SPARSE | {"task.s": 8, "task.group_size": 4}
        places = instance_of(trial(given, seed)).signal.nonzero()[:, 0].view(2, 4)
        assert (places[:, 0] % 4).tolist() == [0, 0]
        assert (places - places[:, :1]).tolist() == [[0, 1, 2, 3]] * 2
    single = instance_of(trial(SPARSE))
    assert instance_of(trial(SPARSE | {"task.group_size": 1})).signal.equal(single.signal)


def test_directions_of_groups_are_unit_vectors_and_zero_where_a_group_is() -> None:
    values = torch.tensor([[3.0, 4.0, 0.0, 0.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(
        group_norms(values, 2), torch.tensor([[5.0, 5.0, 0.0, 0.0, 2.0]]).double()
    )
    torch.testing.assert_close(
        directions(values, 2), torch.tensor([[0.6, 0.8, 0.0, 0.0, -1.0]]).double()
    )


def test_groups_of_a_network_are_rows_of_its_weights() -> None:
    made = Weights((1,), [(6, 5)], [(6, 8)], dtype=torch.float64, device="cpu")
    g = torch.Generator().manual_seed(3)
    start = torch.randn(6, 5, generator=g, dtype=torch.float64)
    start[2] = 0.0
    made.each[0].real(made.each[0].value)[0] = start
    add_gradient(made.each, "group", torch.tensor([0.3], dtype=torch.float64))
    rows = start[[0, 1, 3, 4, 5]].clone().requires_grad_()
    torch.autograd.backward(0.3 * rows.norm(dim=1).sum())
    assert rows.grad is not None
    found = made.each[0].grad[0]
    torch.testing.assert_close(found[[0, 1, 3, 4, 5], :5], rows.grad)
    assert not found[2].any()
    assert not found[:, 5:].any()


def test_ista_with_groups_ends_at_the_group_lasso_solution() -> None:
    strength = 0.01
    given = {
        "task.name": "sparse_recovery",
        "task.n": 32,
        "task.N": 20,
        "task.s": 8,
        "task.group_size": 4,
        "optimizer.name": "ista",
        "regularizer.name": "group",
        "regularizer.size": 4,
        "regularizer.strength": strength,
    }
    block, one = block_of(given), instance_of(trial(given))
    for taken in range(20_000):
        block.step(taken)
    a = block.weights.each[0].value[0, 0, :32]
    correlation = (one.X.T @ (one.y - one.X @ a)).view(8, 4)
    norms = a.view(8, 4).norm(dim=1)
    alive = norms > 0
    assert 0 < int(alive.sum()) < 8
    wanted = strength * directions(a[None], 4).view(8, 4)
    torch.testing.assert_close(correlation[alive], wanted[alive], rtol=1e-8, atol=1e-10)
    assert float(correlation[~alive].norm(dim=1).max()) <= strength * (1 + 1e-9)


def test_groups_recover_a_grouped_signal_from_fewer_measurements_than_single_entries() -> None:
    given = {
        "task.name": "sparse_recovery",
        "task.n": 60,
        "task.N": 24,
        "task.s": 12,
        "task.group_size": 6,
        "optimizer.lr": 0.1,
        "regularizer.strength": 1e-3,
    }
    error = {}
    for penalty in (
        {"regularizer.name": "l1"},
        {"regularizer.name": "group", "regularizer.size": 6},
    ):
        trials = [trial(given | penalty, seed) for seed in range(4)]
        memory = run(pack(trials, steps=20_000))
        last = [memory.column(t.id, "test_error")[-1] for t in trials]
        error[penalty["regularizer.name"]] = np.median(last)
    assert error["group"] < 0.1 < 0.3 < error["l1"]


def test_coherent_measurements_see_single_entries_whatever_the_design() -> None:
    for design in ("gaussian", "fourier"):
        given = SPARSE | {"selection.name": "coherent", "task.design": design}
        none, some = (instance_of(trial(given, selection__tau=tau)) for tau in (0.0, 0.1))
        assert none.coherence < 1
        assert some.coherence == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"task.group_size": 3},
        "task.n = 20, task.s = 2, task.group_size = 3: groups are filled "
        "whole. Choose a task.group_size that divides n and s.",
    ),
    (
        {"task.group_size": 4},
        "task.n = 20, task.s = 2, task.group_size = 4: groups are filled "
        "whole. Choose a task.group_size that divides n and s.",
    ),
    (
        {"task.design": "fourier", "task.rng": "numpy_legacy"},
        "task.design = 'fourier', task.rng = "
        "'numpy_legacy': the published instances are Gaussian. Set task.rng: torch.",
    ),
    (
        {"task.group_size": 2, "task.rng": "numpy_legacy"},
        "task.group_size = 2, task.rng = "
        "'numpy_legacy': the published instances have no groups. Set task.rng: torch.",
    ),
    (
        {"model.name": "diagonal", "optimizer.name": "ista"},
        "model.name = 'diagonal', "
        "optimizer.name = 'ista': ista, projected and basis_pursuit need a linear model. Set "
        "model.name: product, or optimizer.name: gd.",
    ),
    (
        {"optimizer.name": "basis_pursuit", "regularizer.name": "l1", "regularizer.strength": 1.0},
        "optimizer.name = 'basis_pursuit', regularizer.name = 'l1': ista and projected are written "
        "for the penalties none, l1, l2_sq and group, projected for nuclear, basis_pursuit for none. "
        "Choose one of them, or optimizer.name: gd.",
    ),
    (
        {"optimizer.name": "basis_pursuit", "task.snr": 10.0, "task.N": 21},
        "optimizer.name = "
        "'basis_pursuit', task.snr = 10.0, task.n = 20, task.N = 21: more measurements with noise "
        "than unknowns have no exact solution. Lower task.N, or remove task.snr.",
    ),
    (
        {"regularizer.name": "group", "regularizer.strength": 1.0},
        "task.name = 'sparse_recovery', "
        "regularizer.size = null: groups of a vector need a size, e.g. 4; those of a network are rows "
        "of its weights and have none. Set or remove it.",
    ),
    (
        {"regularizer.name": "sum", "regularizer.terms.group.strength": 1.0},
        "task.name = "
        "'sparse_recovery', regularizer.terms.group.strength = 1.0, regularizer.terms.group.size = "
        "null: groups of a vector need a size, e.g. 4; those of a network are rows of its weights and "
        "have none. Set or remove it.",
    ),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_with_its_remedy(more: dict[str, Any], message: str) -> None:
    resolved = resolve(GrokkingConfig, SPARSE | more)
    assert not resolved.problems
    assert [text for _, text in broken(GrokkingConfig, resolved.values)] == [message]


def plain_difference(given: dict[str, Any], steps: int) -> list[float]:
    """Return the train losses of u^L - v^L by a plain loop, u and v starting equal."""
    values: Any = trial(given).values
    one = instance_of(trial(given))
    X, y = one.X.numpy(), one.y.numpy()
    L, lr, strength = (
        values[path] for path in ("model.depth", "optimizer.lr", "regularizer.strength")
    )
    u, v = (np.full(X.shape[1], values["model.init_scale"]) for _ in range(2))
    losses = []
    for _ in range(steps + 1):
        a = u**L - v**L
        losses.append(0.5 * np.sum((X @ a - y) ** 2))
        if values["regularizer.name"] == "l1":
            direction = np.sign(a)
        else:
            groups = a.reshape(-1, values["regularizer.size"])
            norms = np.linalg.norm(groups, axis=1, keepdims=True)
            direction = (groups / np.where(norms > 0, norms, 1)).flatten()
        g = X.T @ (X @ a - y) + strength * direction
        u, v = u - lr * L * u ** (L - 1) * g, v + lr * L * v ** (L - 1) * g
    return losses


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize(
    "penalty",
    [
        {"regularizer.name": "l1", "regularizer.strength": 1e-2},
        {"regularizer.name": "group", "regularizer.strength": 1e-2, "regularizer.size": 5},
    ],
)
def test_a_difference_of_equal_powers_is_0_and_has_no_sign(
    depth: int, penalty: dict[str, Any]
) -> None:
    given = SPARSE | penalty | {"model.sign_free": True, "model.depth": depth}
    given |= {"model.init_scale": 0.3, "optimizer.lr": 0.05}
    block = block_of(given)
    assert not block._factors.predict().any()
    block.set_penalty_gradient()
    assert not block.weights.grad.any()
    one = trial(given)
    losses = run(pack([one], 40, points_per_decade=1000)).column(one.id, "train_loss")
    assert losses == pytest.approx(plain_difference(given, 40), rel=1e-12)
