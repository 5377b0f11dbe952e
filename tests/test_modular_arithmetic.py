"""Modular arithmetic: tables, splits, networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.trainables import loop
from sweeper.trainables.config import OPERATIONS, table_size
from sweeper.trainables.data.pairs import split_of, table
from sweeper.trainables.families.modular_arithmetic import ModularArithmeticBlock
from tests.packs import MODULAR, pack, trial


def result(operation: str, p: int, x: int, y: int) -> int:
    """Return what [P22] A.1.1 writes."""
    quotient = next((q for q in range(p) if (q * y - x) % p == 0), 0)
    return {
        "add": x + y,
        "sub": x - y,
        "mul": x * y,
        "div": quotient,
        "div_odd_sub": quotient if y % 2 == 1 else x - y,
        "x2_y2": x * x + y * y,
        "x2_xy_y2": x * x + x * y + y * y,
        "x2_xy_y2_x": x * x + x * y + y * y + x,
        "x3_xy": x**3 + x * y,
        "x3_xy2_y": x**3 + x * y * y + y,
    }[operation] % p


@pytest.mark.parametrize("p", [3, 7, 23])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_table_holds_the_result_of_every_pair(operation: str, p: int) -> None:
    a, b, c = table(operation, p)
    pairs = [(x, y) for x in range(p) for y in range(p) if y or operation != "div"]
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == pairs
    assert c.tolist() == [result(operation, p, x, y) for x, y in pairs]
    assert len(pairs) == table_size(operation, p)


@pytest.mark.parametrize(
    ("given", "n_train"),
    [
        ({}, 317),
        ({"task.operation": "div"}, 303),
        ({"selection.fraction": 0.5}, 264),
        ({"selection.fraction": 0.3}, 158),
        ({"selection.name": "square", "selection.k": 5, "selection.fraction": 0.5}, 264),
        ({"selection.name": "strip", "selection.k": 9, "selection.fraction": 0.5}, 264),
    ],
)
def test_a_split_takes_the_floor_of_its_share_of_the_whole_table(
    given: dict[str, Any], n_train: int
) -> None:
    t = trial({"task.name": "modular_arithmetic"} | given, 3)
    train, test = split_of(t)
    size = table_size(str(t.values["task.operation"]), 23)
    assert len(train) == n_train
    assert sorted(train.tolist() + test.tolist()) == list(range(size))


@pytest.mark.parametrize("operation", ["add", "div"])
@pytest.mark.parametrize("name", ["square", "strip"])
@pytest.mark.parametrize("k", [1, 3])
def test_no_pair_of_a_hold_out_is_trained_on(name: str, k: int, operation: str) -> None:
    a, b, _ = table(operation, 7)

    def held(i: int) -> bool:
        return int(a[i]) <= k and (int(b[i]) <= k or name == "strip")

    free = sum(not held(i) for i in range(len(a)))
    fraction = free / len(a)  # all that is left: the largest share that works
    given = MODULAR | {"task.operation": operation, "selection.name": name, "selection.k": k}
    train, test = split_of(trial(given, 0, selection__fraction=fraction))
    assert len(train) == free
    assert {i for i in range(len(a)) if held(i)} == set(test.tolist())
    with pytest.raises(AssertionError, match="the hold-out leaves fewer"):
        trial(given, 0, selection__fraction=fraction + 1 / len(a))


def network(values: list[Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Return logits [N, p] by the formula."""
    E_a, E_b, *hidden, out = values
    x = E_a[a] * E_b[b]
    for W in hidden:
        x = torch.relu(x @ W.T)
    return x @ out.T


def penalty(name: str, values: list[Tensor]) -> Tensor:
    """Return the sum of a penalty over all weights."""
    total = torch.zeros((), dtype=torch.float64)
    for w in values:
        singular = torch.linalg.svdvals(w)
        of = {
            "l1": w.abs().sum(),
            "l2_sq": w.square().sum() / 2,
            "l2_fro": w.square().sum().sqrt(),
            "nuclear": singular.sum(),
        }
        total = total + of[name]
    return total


def block_of(given: dict[str, Any], count: int = 3) -> ModularArithmeticBlock:
    block = loop._blocks(pack([trial(given, s) for s in range(count)]), range(count))[0]
    assert isinstance(block, ModularArithmeticBlock)
    return block


ODD = MODULAR | {"model.d": 5, "model.width": 11, "dtype": "float64"}


@pytest.mark.parametrize("name", ["none", "l1", "l2_sq", "l2_fro", "nuclear", "sum", "decay"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients_are_those_of_the_objective(name: str, depth: int) -> None:
    given = ODD | {"model.depth": depth, "optimizer.name": "adam"}
    strengths = {name: 0.3} if name not in ("none", "sum", "decay") else {}
    given |= (
        {f"regularizer.{k}": v for k, v in (("name", name), ("strength", 0.3))} if strengths else {}
    )
    if name == "sum":
        strengths = {"l1": 0.1, "nuclear": 0.2, "l2_fro": 0.3}
        given |= {"regularizer.name": "sum"}
        given |= {f"regularizer.terms.{t}.strength": s for t, s in strengths.items()}
    if name == "decay":
        strengths = {"l2_sq": 0.3}
        given |= {"optimizer.weight_decay": 0.3}
    block = block_of(given)
    block.set_gradient(0)
    a, b, c = table("add", 7)
    for i in range(3):
        values = [w.real(w.value)[i].clone().requires_grad_() for w in block.weights.each]
        pairs = split_of(trial(given, i))[0]
        loss = torch.nn.functional.cross_entropy(network(values, a[pairs], b[pairs]), c[pairs])
        for term, strength in strengths.items():
            loss = loss + strength * penalty(term, values)
        torch.autograd.backward(loss)
        for weight, value in zip(block.weights.each, values, strict=True):
            torch.testing.assert_close(
                weight.real(weight.grad)[i], value.grad, rtol=1e-9, atol=1e-12
            )
            inside = weight.real(weight.grad)[i].count_nonzero()
            assert weight.grad[i].count_nonzero() == inside  # the padding stays zero


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_metrics_are_those_of_the_docstring(dtype: str) -> None:
    given = ODD | {"dtype": dtype, "model.init_scale": 3.0}
    block = block_of(given)
    found = block.metrics()
    a, b, c = table("add", 7)
    for i in range(3):
        values = [w.real(w.value)[i].double() for w in block.weights.each]
        expected: dict[str, float] = {
            "l1": float(sum(w.abs().sum() for w in values)),
            "l2": float(torch.cat([w.flatten() for w in values]).norm()),
            "nuclear": float(penalty("nuclear", values)),
            "norm_ratio": 1.0,
            "med": float(torch.cat([w.roll(-1, 0) - w for w in values[:2]]).norm(dim=1).mean()),
        }
        for side, pairs in zip(("train", "test"), split_of(trial(given, i)), strict=True):
            logits = network(values, a[pairs], b[pairs])
            loss = torch.nn.functional.cross_entropy(logits, c[pairs])
            expected[f"{side}_loss"] = float(loss)
            right = (logits.argmax(dim=1) == c[pairs]).double()
            expected[f"{side}_acc"] = float(right.mean())
        assert {k: float(v[i]) for k, v in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_dead_network_knows_nothing() -> None:
    block = block_of(ODD)
    block.weights.value.zero_()
    found = block.metrics()
    assert found["train_acc"].tolist() == found["test_acc"].tolist() == [0.0] * 3


def test_the_init_is_uniform_with_the_fan_in_of_each_layer() -> None:
    block = block_of({"task.name": "modular_arithmetic", "dtype": "float64"}, 1)
    bounds = [w.value[0].abs().max() for w in block.weights.each]
    expected = [23**-0.5, 23**-0.5, 64**-0.5, 128**-0.5]
    assert all(0.97 * e < float(bound) <= e for bound, e in zip(bounds, expected, strict=True))


def test_minibatches_of_an_epoch_partition_the_train_pairs() -> None:
    block = block_of(ODD | {"optimizer.batch": 7})
    n = block._train.shape[1] // 7
    epochs = [torch.cat([block._minibatch(e * n + i) for i in range(n)], dim=1) for e in range(2)]
    for row, train in zip(epochs[0].tolist(), block._train.tolist(), strict=True):
        assert len(set(row)) == 7 * n
        assert set(row) <= set(train)
    assert not torch.equal(*epochs)
    assert not torch.equal(epochs[0][0], epochs[0][1])


def test_a_batch_larger_than_the_train_set_is_the_whole() -> None:
    assert block_of(ODD | {"optimizer.batch": 10_000})._minibatch(3).shape == (3, 29)
