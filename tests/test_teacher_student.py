"""Regression on teachers, the Sobolev penalty, and functions of one variable."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweeper.config.resolve import broken, resolve
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.networks import relu_regression, teacher_student
from tests.nets import SMALL, close, data, descend, module, network, stepped, values_of
from tests.packs import pack, run, trial

RELU = {"task.name": "relu_regression", "model.width": 12}


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        {"model.activation": "tanh"},
        {"model.activation": "relu", "model.depth": 3},
        {"model.activation": "leaky_relu"},
        {"model.bias": False, "model.depth": 1, "model.activation": "relu"},
        {"model.depth": 0},
    ],
)
@pytest.mark.parametrize("batch", [None, 5])
def test_the_sobolev_penalty_is_that_of_automatic_differentiation(
    squared: bool, model: dict[str, Any], batch: int | None
) -> None:
    given = (
        SMALL
        | model
        | {
            "optimizer.name": "sgd",
            "optimizer.lr": 0.05,
            "optimizer.batch": batch,
            "regularizer.name": "sobolev",
            "regularizer.strength": 0.3,
            "regularizer.squared": squared,
        }
    )
    net = network(given)
    reference = module(net, net._values)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    whole_x, whole_y = data(net)
    wanted = teacher_student.jacobian_of(trial(given))
    for taken in range(6):
        chosen = torch.arange(13) if batch is None else net._minibatch(taken)[1][0]
        x, y = whole_x[chosen], whole_y[chosen]
        loss = nn.functional.mse_loss(reference(x), y)
        x = x.clone().requires_grad_()
        rows = [
            torch.autograd.grad(reference(x)[:, o].sum(), x, create_graph=True)[0] for o in range(2)
        ]
        off = torch.stack(rows, dim=1) - wanted[chosen]
        penalty = off.square().sum() / len(chosen) if squared else off.square().sum().sqrt()
        descend(optimizer, loss + 0.3 * penalty)
    stepped(net, 6)
    close(net, reference)


def test_sobolev_joins_other_penalties_in_a_sum() -> None:
    plain = {"optimizer.name": "sgd", "regularizer.strength": 0.3}
    given = SMALL | {
        "optimizer.name": "sgd",
        "regularizer.name": "sum",
        "regularizer.terms.sobolev.squared": True,
    }
    alone = network(SMALL | plain | {"regularizer.name": "sobolev", "regularizer.squared": True})
    summed = network(given | {"regularizer.terms.sobolev.strength": 0.3})
    both = network(
        given | {"regularizer.terms.sobolev.strength": 0.3, "regularizer.terms.l1.strength": 0.1}
    )
    before = values_of(both)
    for net in (alone, summed, both):
        stepped(net, 1)
    for start, a, s, b in zip(before, *map(values_of, (alone, summed, both)), strict=True):
        assert torch.equal(a, s)
        torch.testing.assert_close(b, s - 0.01 * 0.1 * start.sign(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "given", [{"task.name": "relu_regression"}, {"task.name": "digits"}, {"task.name": "mnist"}]
)
def test_sobolev_is_refused_where_there_is_no_teacher(given: dict[str, Any]) -> None:
    term = resolve(
        GrokkingConfig,
        given | {"regularizer.name": "sum", "regularizer.terms.sobolev.strength": 0.1},
    )
    assert any(
        "the Jacobian is compared with that of a teacher. Remove this term." in message
        for _, message in broken(GrokkingConfig, term.values)
    )
    given = given | {"regularizer.name": "sobolev", "regularizer.strength": 0.1}
    assert any(
        "doesn't go with task.name" in p.message for p in resolve(GrokkingConfig, given).problems
    )


def test_the_jacobian_error_is_logged_where_the_penalty_is_and_unknown_without_strength() -> None:
    given = SMALL | {"regularizer.name": "sobolev"}
    trials = [trial(given, 0, regularizer__strength=s) for s in (0.0, 0.5)]
    memory = run(pack(trials, 100))
    assert all(math.isnan(v) for v in memory.column(trials[0].id, "jacobian_error"))
    found = memory.column(trials[1].id, "jacobian_error")
    assert found[-1] < 0.7 * found[0]
    x, _ = data(net := network(given, regularizer__strength=0.5))
    J = torch.func.vmap(torch.func.jacrev(module(net, net._values)))(x).detach()
    wanted = teacher_student.jacobian_of(trials[0])
    assert found[0] == pytest.approx(((J - wanted).norm() / wanted.norm()).item())


@pytest.mark.parametrize("law", ["default", "gaussian"])
def test_the_teacher_is_a_network_and_its_derivatives_are_known(law: str) -> None:
    t = trial(SMALL | {"task.teacher": law, "task.depth": 1})
    found = teacher_student.data_of(t)
    assert [e.inputs[0].shape for e in (found.train, found.test)] == [(13, 3), (9, 3)]
    assert [e.targets.shape for e in (found.train, found.test)] == [(13, 2), (9, 2)]
    teacher, weights = teacher_student._teacher(0, 3, 6, 1, 2, "tanh", law)

    def outputs(x: Tensor) -> Tensor:
        W, *rest = [w[0] for w in weights]
        V = rest[-2] if law == "default" else rest[-1]
        b, c = (rest[0], rest[-1]) if law == "default" else (0.0, torch.zeros(8))
        padded = torch.nn.functional.pad(x, (0, 5))
        return (torch.tanh(padded @ W.T + b) @ V.T + c)[..., :2]

    x = found.train.inputs[0]
    assert isinstance(x, Tensor)
    torch.testing.assert_close(outputs(x), found.train.targets)
    J = torch.func.vmap(torch.func.jacrev(outputs))(x)
    torch.testing.assert_close(teacher_student.jacobian_of(t), J)
    assert len(weights) == len(teacher.shapes) == (4 if law == "default" else 2)


def test_a_gaussian_teacher_has_the_laws_of_the_paper() -> None:
    _, (A, B) = teacher_student._teacher(1, 100, 500, 1, 2, "relu", "gaussian")
    A, B = A[0, :500, :100], B[0, :2, :500]
    assert A.std().item() == pytest.approx(1, rel=0.02)
    assert B.std().item() * 500 == pytest.approx(1, rel=0.1)
    assert abs(A.mean().item()) < 0.02


def test_data_depend_on_their_seed_alone() -> None:
    base = teacher_student.data_of(trial(SMALL, 1))
    assert teacher_student.data_of(trial(SMALL, 1, optimizer__lr=0.3)) is base
    assert teacher_student.data_of(trial(SMALL, 5, task__data_seed=1)) is base
    other = teacher_student.data_of(trial(SMALL, 2))
    assert not torch.equal(other.train.targets, base.train.targets)
    assert not torch.equal(base.train.targets[:9], base.test.targets)
    inits = [values_of(network(SMALL, seed, task__data_seed=1))[0] for seed in (5, 6)]
    assert not torch.equal(*inits)


def test_a_relu_function_has_its_kinks_and_is_tested_on_a_grid() -> None:
    found = relu_regression.data_of(trial(RELU, 4, task__N_test=401))
    (x,), y = found.test.inputs, found.test.targets
    assert isinstance(x, Tensor)
    torch.testing.assert_close(x[:, 0], torch.linspace(-2, 2, 401, dtype=torch.float64))
    bends = (y[2:] - 2 * y[1:-1] + y[:-2]).abs() > 1e-9
    assert 1 <= int(bends.sum()) <= 6, "each of three kinks bends the grid at one or two points"
    (points,) = found.train.inputs
    assert isinstance(points, Tensor)
    assert points.shape == (10, 1)
    assert points.abs().max().item() <= 2
    at = ((points[:, 0] + 2) * 100).round().long()
    near = (y[at] - found.train.targets).abs()
    assert near.max().item() < 0.05, "train examples are of the same function"
    more = relu_regression.data_of(trial(RELU, 4, task__N=50))
    assert torch.equal(more.test.targets, y), "more examples are of the same function"


def test_the_slopes_of_a_relu_function_change_by_standard_normals() -> None:
    changes = []
    for seed in range(200):
        y = relu_regression.data_of(trial(RELU, seed, task__hidden=1)).test.targets[:, 0]
        changes.append(((y[-1] - y[-2]) - (y[1] - y[0])) / 0.01)
    assert torch.stack(changes).std().item() == pytest.approx(1, rel=0.15)
    assert abs(torch.stack(changes).mean().item()) < 0.25


def test_relu_regression_is_the_flow_of_half_the_mean_square() -> None:
    given = RELU | {"regularizer.name": "l2_sq", "regularizer.strength": 0.1}
    net = network(given)
    assert [w.shape for w in net.weights.each] == [(12, 1), (12,), (1, 12)]
    reference = module(net, net._values)
    x, y = data(net)
    optimizer = torch.optim.SGD(reference.parameters(), lr=1e-3, weight_decay=0.1)
    assert net.metrics()["train_loss"].item() == pytest.approx(
        (reference(x) - y).square().mean().item() / 2
    )
    for _ in range(25):
        descend(optimizer, (reference(x) - y).square().mean() / 2)
    stepped(net)
    close(net, reference)


def test_the_teacher_can_be_learnt() -> None:
    given = {"task.name": "teacher_student", "task.inputs": 2, "task.outputs": 1, "task.N": 200}
    t = trial(given)
    losses = run(pack([t], 500)).column(t.id, "test_loss")
    assert losses[-1] < losses[0] / 100
