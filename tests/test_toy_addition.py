"""Omnigrok's toy addition: representations, targets, and the decoder that learns them."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.trainables.networks.block import NetworkBlock
from sweeper.trainables.networks.toy_addition import data_of, loss_of, representation
from tests.packs import pack, run, trial, values

TOY = {
    "task.name": "toy_addition",
    "task.symbols": 6,
    "task.N": 15,
    "task.outputs": 4,
    "model.width": 10,
    "dtype": "float64",
}


def test_a_representation_goes_from_a_line_to_chance() -> None:
    line, messy, middle = (representation(3, 10, 2, 0.3, m) for m in (0.0, 1.0, 0.25))
    torch.testing.assert_close(line[:, 0], torch.linspace(-1, 1, 10, dtype=torch.float64))
    assert 0.1 < float(line[:, 1].abs().max()) <= 0.3
    assert float(messy.abs().max()) <= 1
    assert float((messy[1:, 0] - messy[:-1, 0]).min()) < 0  # no line
    torch.testing.assert_close(middle, 0.25 * messy + 0.75 * line)


def of_pairs(given: dict[str, Any]) -> dict[tuple[float, ...], tuple[int, int]]:
    """Return what the decoder sees of each unordered pair."""
    v: Any = values(given)
    R = representation(0, v["task.symbols"], v["task.latent"], v["task.noise"], v["task.m"])
    pairs = combinations_with_replacement(range(v["task.symbols"]), 2)
    return {tuple((R[i] + R[j]).tolist()): (i, j) for i, j in pairs}


@pytest.mark.parametrize("labels", ["sum", "remainder"])
@pytest.mark.parametrize("latent", [1, 2])
def test_examples_are_the_pairs_and_their_own_targets_come_first(labels: str, latent: int) -> None:
    given = TOY | {"task.labels": labels, "task.latent": latent, "task.m": 0.5}
    data = data_of(trial(given))
    pairs, found = of_pairs(given), []
    targets: dict[int, Tensor] = {}
    for part, count in ((data.train, 15), (data.test, 6)):
        assert part.inputs[0].shape == (count, latent)
        for x, own in zip(part.inputs[0].tolist(), part.targets, strict=True):  # type: ignore[union-attr]
            i, j = pairs[tuple(x)]
            found.append((i, j))
            label = (i + j) % 6 if labels == "remainder" else i + j
            assert torch.equal(targets.setdefault(label, own[0]), own[0])
            assert own.shape == (6 if labels == "remainder" else 11, 4)
            assert len({tuple(t) for t in own.tolist()}) == len(own)  # all of them, once
    assert sorted(found) == sorted(pairs.values())
    assert len({tuple(t.tolist()) for t in targets.values()}) == len(targets)


def test_fewer_train_pairs_are_a_part_of_more() -> None:
    some, more = (
        {tuple(x) for x in data_of(trial(TOY, task__N=n)).train.inputs[0].tolist()}  # type: ignore[union-attr]
        for n in (8, 15)
    )
    assert len(some) == 8
    assert some < more


def test_where_no_pair_is_left_all_are_tested_on() -> None:
    data = data_of(trial(TOY, task__N=21))
    assert torch.equal(data.train.inputs[0], data.test.inputs[0])  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"Lower task\.N or raise task\.symbols"):
        values(TOY | {"task.N": 22})


def test_an_answer_is_right_if_no_other_target_is_as_near() -> None:
    targets = torch.tensor([[[[0.0, 0], [2, 0]], [[0, 0], [2, 0]], [[0, 0], [2, 0]]]])
    outputs = torch.tensor([[[0.9, 7.0], [1.1, 7.0], [1.0, 0.0]]])
    loss = loss_of({})
    assert loss.right is not None
    assert loss.right(outputs, targets).tolist() == [[True, False, False]]
    torch.testing.assert_close(loss.each(outputs, targets)[0, 2], torch.tensor(0.5))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_a_step_on_the_sphere_is_that_of_a_module_rescaled(activation: str) -> None:
    given = TOY | {"optimizer.constant_norm": True, "model.init_scale": 2.0, "task.m": 0.3}
    packed = pack([trial(given, s, model__activation=activation) for s in range(2)])
    block = NetworkBlock(packed, [0, 1])
    act = torch.nn.ReLU() if activation == "relu" else torch.nn.LeakyReLU(0.2)
    shapes = ((1, 10), (10, 10), (10, 4))
    linear = [torch.nn.Linear(*shape, dtype=torch.float64) for shape in shapes]
    net = torch.nn.Sequential(linear[0], act, linear[1], act, linear[2])
    start = [w.real(w.value)[1].clone() for w in block.weights.each]
    with torch.no_grad():
        for p, w in zip(net.parameters(), start, strict=True):
            p.copy_(w)
    norm = torch.cat([w.flatten() for w in start]).norm()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.98))
    data = data_of(packed.trials[1])
    x: Tensor = data.train.inputs[0]  # type: ignore[assignment]
    for taken in range(5):
        adam.zero_grad()
        torch.nn.functional.mse_loss(net(x), data.train.targets[:, 0]).backward()  # type: ignore[no-untyped-call]
        adam.step()
        with torch.no_grad():
            found = torch.cat([p.flatten() for p in net.parameters()]).norm()
            for p in net.parameters():
                p.mul_(norm / found)
            block.step(taken)
    for p, weight in zip(net.parameters(), block.weights.each, strict=True):
        torch.testing.assert_close(weight.real(weight.value)[1], p.detach(), rtol=1e-7, atol=1e-9)


def test_a_line_is_learnt_where_a_mess_of_the_same_norm_is_not() -> None:
    given = {
        "task.name": "toy_addition",
        "model.width": 50,
        "model.init_scale": 3.0,
        "optimizer.lr": 5e-3,
        "optimizer.constant_norm": True,
    }
    trials = [trial(given, 0, task__m=m) for m in (0.0, 1.0)]
    memory = run(pack(trials, steps=600))
    line, mess = (memory.column(t.id, "train_loss")[-1] for t in trials)
    assert line < 0.3 * mess
    assert all(memory.column(t.id, "norm_ratio") == pytest.approx(1, abs=1e-6) for t in trials)
