"""The parts that networks are made of, each against a plain computation in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.trainables.config import shapes
from sweeper.trainables.config.fields import NETWORKS
from sweeper.trainables.data.selected import selected
from sweeper.trainables.data.splits import parted
from sweeper.trainables.data.streams import stream
from sweeper.trainables.networks.affine import affine
from sweeper.trainables.networks.losses import CLASSES
from sweeper.trainables.networks.lstm import LstmLayer
from sweeper.trainables.networks.operations import data_of, loss_of
from sweeper.trainables.networks.sobolev import SobolevPenalty
from sweeper.trainables.networks.tables import ARCHITECTURES, PROBLEMS, architecture_of, problem_of
from sweeper.trainables.networks.transformer import BOTH, WHOLE, Lookup, OperandRows
from tests.packs import DENSE, pack, trial

Array = NDArray[np.float64]

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-14}


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def leaf(array: Array) -> Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


VALUES: dict[str, Callable[[Array], Array]] = {
    "none": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
}
SLOPES: dict[str, Callable[[Array], Array]] = {
    "none": np.ones_like,
    "relu": lambda z: (z > 0).astype(float),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "leaky_relu": lambda z: np.where(z > 0, 1.0, 0.2),
}


@pytest.mark.parametrize(("activation", "biased"), [*product(VALUES, (True, False))])
def test_an_affine_map_and_its_gradients_are_those_of_plain_products(
    activation: str, biased: bool
) -> None:
    x, W, b = drawn(2, 5, 3), drawn(2, 4, 3, seed=1), drawn(2, 4, seed=2) * biased
    G = drawn(2, 5, 4, seed=3)
    tensors = [leaf(x), leaf(W), *([leaf(b)] if biased else [])]
    y = affine(tensors[0], tensors[1], tensors[2] if biased else None, activation)
    z = np.einsum("bnd,bhd->bnh", x, W) + b[:, None]
    np.testing.assert_allclose(y.detach(), VALUES[activation](z), **EXACT)
    found = torch.autograd.grad(y, tensors, torch.from_numpy(G))
    inner = G * SLOPES[activation](z)
    wanted = [
        np.einsum("bnh,bhd->bnd", inner, W),
        np.einsum("bnh,bnd->bhd", inner, x),
        inner.sum(axis=1),
    ]
    for one, expected in zip(found, wanted, strict=False):
        np.testing.assert_allclose(one, expected, **EXACT)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def recurrent(x: Array, W: Array, b: Array) -> Array:
    """Return the hidden states ``[T, B, h, N]``: gates output, input, forget, candidate."""
    T, B, _, N = x.shape
    h = W.shape[1] // 4
    hidden, cell, states = np.zeros((B, h, N)), np.zeros((B, h, N)), []
    for t in range(T):
        gates = W @ np.concatenate([hidden, x[t]], axis=1) + b
        o, i, f, g = np.split(gates, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        states.append(hidden)
    return np.stack(states)


def test_a_layer_of_an_lstm_is_the_recurrence_and_its_gradients_are_differences() -> None:
    x, W, b = drawn(3, 2, 3, 4), drawn(2, 8, 5, seed=1), drawn(2, 8, 1, seed=2)
    G = drawn(3, 2, 2, 4, seed=3)
    tensors = [leaf(x), leaf(W), leaf(b)]
    layer: Callable[..., Tensor] = LstmLayer.apply
    states = layer(*tensors)
    np.testing.assert_allclose(states.detach(), recurrent(x, W, b), **EXACT)
    found = torch.autograd.grad(states, tensors, torch.from_numpy(G))
    for k, array in enumerate((x, W, b)):
        direction = drawn(*array.shape, seed=9)
        ends = []
        for sign in (1, -1):
            moved = [x, W, b]
            moved[k] = array + sign * 1e-6 * direction
            ends.append(np.sum(G * recurrent(*moved)))
        slope = float((found[k].numpy() * direction).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)


def test_a_table_is_split_into_pairs_with_their_results() -> None:
    given = {
        "task.name": "modular_arithmetic",
        "task.p": 5,
        "task.operation": "sub",
        "model.name": "transformer",
        "selection.fraction": 0.4,
    }
    data = data_of(trial(given, seed=3))
    pairs: list[tuple[int, int]] = []
    for part, size in ((data.train, 10), (data.test, 15)):
        a, b = (x.tolist() for x in part.inputs if isinstance(x, Tensor))
        assert len(a) == size
        assert part.targets.tolist() == [(i - j) % 5 for i, j in zip(a, b, strict=True)]
        assert list(zip(a, b, strict=True)) == sorted(zip(a, b, strict=True))
        pairs += zip(a, b, strict=True)
    assert sorted(pairs) == list(product(range(5), range(5)))
    assert data_of(trial(given, seed=3)) is data
    assert data_of(trial(given, seed=4)).train.targets.tolist() != data.train.targets.tolist()
    assert loss_of(None) is CLASSES


class _Given:
    """A network whose Jacobian is its first weight."""

    def jacobian(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        assert not inputs
        return weights[0]


@pytest.mark.parametrize("squared", [True, False])
def test_the_sobolev_penalty_is_the_distance_of_jacobians(squared: bool) -> None:
    J, wanted, strength = drawn(2, 4, 3, 2), drawn(2, 4, 3, 2, seed=1), np.array([0.3, 0.0])
    penalty = SobolevPenalty(
        _Given(), torch.from_numpy(wanted), torch.from_numpy(strength), squared=squared
    )
    squares = ((J - wanted) ** 2).sum(axis=(1, 2, 3))
    expected = strength * (squares / 4 if squared else np.sqrt(squares))
    np.testing.assert_allclose(penalty.penalty([torch.from_numpy(J)], [], None), expected, **EXACT)

    chosen = torch.arange(2)[:, None], torch.tensor([[2, 0], [1, 3]])
    part = np.stack([wanted[0, [2, 0]], wanted[1, [1, 3]]])
    squares = ((J[:, :2] - part) ** 2).sum(axis=(1, 2, 3))
    expected = strength * (squares / 2 if squared else np.sqrt(squares))
    found = penalty.penalty([torch.from_numpy(J[:, :2])], [], chosen)
    np.testing.assert_allclose(found, expected, **EXACT)

    ratio = np.linalg.norm(J[0] - wanted[0]) / np.linalg.norm(wanted[0])
    error = penalty.error([torch.from_numpy(J)], [])
    assert float(error[0]) == pytest.approx(ratio, rel=1e-12)
    assert torch.isnan(error[1])  # without strength there is no such metric


def test_the_gradient_of_the_sobolev_penalty_is_0_on_the_teacher() -> None:
    J = leaf(drawn(1, 2, 2, 2))
    penalty = SobolevPenalty(_Given(), J.detach().clone(), torch.ones(1).double(), squared=False)
    (gradient,) = torch.autograd.grad(penalty.penalty([J], [], None).sum(), [J])
    assert torch.equal(gradient, torch.zeros_like(gradient))


GIVEN: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "transformer": {"task.name": "modular_arithmetic", "task.p": 5, "model.name": "transformer"},
    "lstm": {"task.name": "imdb", "task.N": 4, "task.N_test": 4, "task.length": 3},
    "message_passing": {"task.name": "qm9", "task.N": 4, "task.N_test": 4},
}


@pytest.mark.parametrize("name", GIVEN)
def test_an_architecture_starts_with_the_shapes_that_are_planned_for(name: str) -> None:
    one = pack([trial(GIVEN[name])])
    problem = problem_of(one)
    assert problem is PROBLEMS[str(one.trials[0].values["task.name"])]
    architecture, planned = architecture_of(one, problem.data(one.trials[0]))
    assert type(architecture) is ARCHITECTURES[name]
    assert [tuple(w.shape) for w in architecture.base(0)] == planned
    for held, shape in zip(architecture.held(), planned, strict=True):
        assert all(h >= s for h, s in zip(held, shape, strict=True))


def test_every_network_and_every_task_of_the_config_is_there() -> None:
    assert ARCHITECTURES.keys() == shapes.SHAPES.keys() == GIVEN.keys()
    assert PROBLEMS.keys() == set(NETWORKS)


def test_rows_of_operands_are_spread_over_the_pairs() -> None:
    a, b = torch.tensor([[0, 2, 1], [1, 1, 0]]), torch.tensor([[1, 0, 2], [2, 0, 0]])
    x = torch.from_numpy(drawn(2, 3, 4))
    lookup = Lookup([a, b], 3)
    for name, operand in (("a", a), ("b", b)):
        spread = lookup.spread(OperandRows(x, frozenset(name)), BOTH)
        assert spread.shape == (2, WHOLE, 4)
        for trial_, pair in product(range(2), range(3)):
            assert torch.equal(spread[trial_, pair], x[trial_, operand[trial_, pair]])
        assert lookup.spread(OperandRows(x, frozenset(name)), frozenset(name)) is x
    constant = OperandRows(x[:, :1], frozenset())
    assert lookup.spread(constant, BOTH) is constant.of


def test_a_split_has_every_example_once_in_order() -> None:
    train, test = parted(torch.tensor([4, 1, 6]), 8)
    assert train.tolist() == [1, 4, 6]
    assert test.tolist() == [0, 2, 3, 5, 7]


def test_uniform_examples_are_the_first_of_a_permutation_by_the_data_seed() -> None:
    given = {"task.name": "modular_arithmetic", "task.p": 5, "selection.fraction": 0.29}
    targets = torch.arange(100)
    for seed, data_seed in ((3, None), (5, 3)):
        one = trial(given, seed, task__data_seed=data_seed)
        order = torch.randperm(100, generator=stream(3, "split", 100))
        found = selected(one, targets[:, None].double(), targets)
        assert found.tolist() == sorted(order[:29].tolist())
