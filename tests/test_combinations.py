"""Embeddings of two operands combined to one input, forward and back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.trainables import loop
from sweeper.trainables.families.combinations import combination
from sweeper.trainables.families.modular_arithmetic import ModularArithmeticBlock, base_weights
from tests.packs import pack, trial, values

NAMES = ("hadamard", "matrix", "sum")


def combined(name: str, a: Tensor, b: Tensor) -> Tensor:
    """Return one input of two embeddings by the formula, ``[d]``."""
    q = math.isqrt(len(a))
    if name == "matrix":
        entries = [(i, j) for i in range(q) for j in range(q)]
        return torch.stack([a[i * q : (i + 1) * q] @ b[j::q] for i, j in entries])
    return a * b if name == "hadamard" else a + b


@pytest.mark.parametrize("d", [4, 9, 16, 64])
@pytest.mark.parametrize("name", NAMES)
def test_a_combination_and_its_gradients_are_those_of_the_formula(name: str, d: int) -> None:
    g = torch.Generator().manual_seed(0)
    B, N, width = 2, 3, d + -d % 8
    E = torch.zeros(2, B, N, width, dtype=torch.float64)
    dX = torch.zeros(B, N, width, dtype=torch.float64)
    E[..., :d] = torch.randn(2, B, N, d, generator=g)
    dX[..., :d] = torch.randn(B, N, d, generator=g)
    true = E[..., :d].clone().requires_grad_()
    rows = [combined(name, true[0, t, n], true[1, t, n]) for t in range(B) for n in range(N)]
    wanted = torch.stack(rows).view(B, N, d)
    (gradient,) = torch.autograd.grad(wanted, true, dX[..., :d])
    made, X = combination(name, d), torch.zeros(B, N, width, dtype=torch.float64)
    made.combine(E, X)
    torch.testing.assert_close(X[..., :d], wanted.detach())
    out = E if made.in_place else torch.zeros_like(E)
    made.gradients(E, dX, out)
    torch.testing.assert_close((out.flip(0) if made.in_place else out)[..., :d], gradient)
    assert not X[..., d:].any()
    assert not out[..., d:].any()


SMALL = {
    "task.name": "modular_arithmetic",
    "task.p": 7,
    "model.d": 9,
    "model.width": 11,
    "dtype": "float64",
    "optimizer.name": "adam",
}


def block_of(given: dict[str, Any], count: int = 3) -> ModularArithmeticBlock:
    block = loop._blocks(pack([trial(given, s) for s in range(count)]), range(count))[0]
    assert isinstance(block, ModularArithmeticBlock)
    return block


@pytest.mark.parametrize("init", ["default", "fan_out", "normal"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [None, 8])
def test_gradients_of_a_network_are_those_of_autograd(
    name: str, init: str, batch: int | None
) -> None:
    given = SMALL | {"model.embedding": name, "model.init": init, "optimizer.batch": batch}
    block = block_of({k: v for k, v in given.items() if v is not None})
    block.set_gradient(0)
    for i in range(3):
        weights = [w.real(w.value)[i].clone().requires_grad_() for w in block.weights.each]
        E_a, E_b, *hidden, out = weights
        pairs = (block._train if batch is None else block._minibatch(0))[i]
        a, b = (operand[pairs] for operand in block._operands)
        x = torch.stack([combined(name, E_a[s], E_b[t]) for s, t in zip(a, b, strict=True)])
        for W in hidden:
            x = torch.relu(x @ W.T)
        loss = torch.nn.functional.cross_entropy(x @ out.T, (a + b) % 7)
        torch.autograd.backward(loss)
        for weight, value in zip(block.weights.each, weights, strict=True):
            torch.testing.assert_close(weight.real(weight.grad)[i], value.grad)
            inside = weight.real(weight.grad)[i].count_nonzero()
            assert weight.grad[i].count_nonzero() == inside  # the padding stays zero


def test_the_published_network_starts_with_its_published_norm() -> None:
    """22,720 numbers with a norm of 13.1."""
    weights = base_weights(0, 97, 64, 64, 1, "fan_out")
    assert sum(w.numel() for w in weights) == 22_720
    assert math.sqrt(sum(float(w.square().sum()) for w in weights)) == pytest.approx(13.06, abs=0.1)
    assert float(weights[2].std()) == pytest.approx(64**-0.5, rel=0.05)
    assert float(weights[3].std()) == pytest.approx(97**-0.5, rel=0.05)
    assert float(weights[0].abs().max()) <= 97**-0.5


def test_all_weights_start_normal_where_that_is_asked_for() -> None:
    weights = base_weights(0, 97, 64, 64, 1, "normal")
    assert all(float(w.std()) == pytest.approx(1, rel=0.05) for w in weights)


def test_the_norm_ratio_is_relative_to_the_start() -> None:
    block = block_of(SMALL | {"model.embedding": "matrix", "optimizer.lr": 0.1})
    before = block.metrics()
    assert before["norm_ratio"].tolist() == [1.0] * 3
    block.step(0)
    after = block.metrics()
    assert (after["norm_ratio"] != 1).all()
    torch.testing.assert_close(after["norm_ratio"], after["l2"] / before["l2"])


def test_matrices_need_a_square_number_of_entries() -> None:
    with pytest.raises(AssertionError) as caught:
        values(SMALL | {"model.embedding": "matrix", "model.d": 12})
    assert "model.embedding = 'matrix', model.d = 12: embeddings that are multiplied" in str(
        caught.value
    )
