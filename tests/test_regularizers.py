"""Penalties: (sub)gradients where they are unusual, and what counts as a strength."""

from __future__ import annotations

import math

import pytest
import torch

from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.optim.regularizers import GRADIENTS, add_gradient, strengths
from tests.packs import MODULAR, SPARSE, pack, trial


def weights(*values: torch.Tensor) -> Weights:
    """Return one weight of several trials."""
    shape = tuple(values[0].shape)
    held = (shape[0], 8)
    made = Weights((len(values),), [shape], [held], dtype=torch.float64, device="cpu")
    for i, value in enumerate(values):
        made.each[0].real(made.each[0].value)[i] = value
    return made


def matrix(seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(6, 5, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("penalty", GRADIENTS)
def test_each_trial_has_its_own_strength(penalty: str) -> None:
    made = weights(matrix(0), matrix(0), matrix(1))
    add_gradient(made.each, penalty, torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    grad = made.each[0].grad
    torch.testing.assert_close(grad[1], 2 * grad[0])
    assert grad[0].any()
    assert not grad[2].any()


@pytest.mark.parametrize("penalty", GRADIENTS)
def test_the_subgradient_at_zero_is_finite(penalty: str) -> None:
    made = weights(torch.zeros(6, 5, dtype=torch.float64))
    add_gradient(made.each, penalty, torch.ones(1, dtype=torch.float64))
    assert torch.isfinite(made.each[0].grad).all()
    if penalty != "nuclear":
        assert not made.each[0].grad.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("penalty", GRADIENTS)
def test_a_trial_that_isnt_finite_leaves_the_others_alone(penalty: str, bad: float) -> None:
    broken = matrix(1)
    broken[0, 0] = bad
    mixed, clean = weights(matrix(0), broken, matrix(2)), weights(matrix(0), matrix(1), matrix(2))
    for made in (mixed, clean):
        add_gradient(made.each, penalty, torch.ones(3, dtype=torch.float64))
    for i in (0, 2):
        assert torch.equal(mixed.each[0].grad[i], clean.each[0].grad[i])


def test_the_polar_factor_is_orthogonal_and_leaves_the_padding_alone() -> None:
    made = weights(matrix())
    add_gradient(made.each, "nuclear", torch.ones(1, dtype=torch.float64))
    polar = made.each[0].grad[0, :, :5]
    torch.testing.assert_close(polar.T @ polar, torch.eye(5, dtype=torch.float64))
    assert not made.each[0].grad[0, :, 5:].any()


def test_strengths_add_a_coupled_decay_and_leave_out_what_is_zero() -> None:
    l2 = {"regularizer.name": "l2_sq", "regularizer.strength": 0.25}
    coupled = MODULAR | {"optimizer.name": "sgd", "optimizer.weight_decay": 0.5}
    decoupled = MODULAR | {"optimizer.name": "adamw", "optimizer.weight_decay": 0.5}
    assert strengths(pack([trial(coupled | l2)])) == {"l2_sq": [0.75]}
    assert strengths(pack([trial(decoupled | l2)])) == {"l2_sq": [0.25]}
    assert strengths(pack([trial(decoupled)])) == {}
    some = {"regularizer.name": "sum", "regularizer.terms.l2_fro.strength": 0.0}
    both = [trial(SPARSE | some), trial(SPARSE | some, regularizer__terms__l1__strength=0.5)]
    assert strengths(pack(both)) == {"l1": [0.0, 0.5]}
