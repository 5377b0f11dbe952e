"""Gradients of at most some norm, as torch clips them."""

from __future__ import annotations

import pytest
import torch

from sweeper.trainables import loop
from sweeper.trainables.data.pairs import split_of, table
from tests.packs import MODULAR, pack, trial
from tests.test_modular_arithmetic import network

GIVEN = MODULAR | {"dtype": "float64", "optimizer.name": "sgd", "optimizer.lr": 0.5}


@pytest.mark.parametrize("clip", [0.005, 0.02, 1e3])
def test_steps_with_a_clip_equal_those_of_torch(clip: float) -> None:
    trials = [trial(GIVEN, seed, optimizer__clip=clip) for seed in range(3)]
    block = loop._blocks(pack(trials), range(3))[0]
    a, b, c = table("add", 7)
    pairs = split_of(trials[1])[0]
    values = [w.real(w.value)[1].clone().requires_grad_() for w in block.weights.each]
    peer = torch.optim.SGD(values, lr=0.5)
    norms = []
    for taken in range(20):
        peer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(values, a[pairs], b[pairs]), c[pairs])
        torch.autograd.backward(loss)
        norms.append(float(torch.nn.utils.clip_grad_norm_(values, clip)))
        peer.step()
        block.step(taken)
    for weight, value in zip(block.weights.each, values, strict=True):
        torch.testing.assert_close(weight.real(weight.value)[1], value, rtol=1e-9, atol=1e-12)
    assert (max(norms) > clip) == (clip < 1e3)


def test_a_clip_of_none_is_no_clip_and_keeps_the_id() -> None:
    assert trial(GIVEN, 0).id == trial(GIVEN, 0, optimizer__clip=None).id
    assert trial(GIVEN, 0).id != trial(GIVEN, 0, optimizer__clip=5.0).id
