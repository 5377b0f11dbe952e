"""Networks: what a block trains is what torch.nn and torch.optim train, one trial at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweeper.trainables import grokking, loop, networks
from sweeper.trainables.config import GrokkingConfig, shapes
from sweeper.trainables.data.streams import stream
from sweeper.trainables.networks import block
from sweeper.trainables.networks.block import NetworkBlock
from sweeper.trainables.networks.losses import (
    cross_entropy,
    half_squares,
    largest,
    one_hot_squares,
    squares,
    within,
)
from tests.nets import SMALL, close, data, descend, module, network, stepped, values_of
from tests.packs import pack, run, same, trial
from tests.test_loop import tensors

OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[..., torch.optim.Optimizer], dict[str, Any]]]
OPTIMIZERS = {
    "gd": ({}, torch.optim.SGD, {}),
    "sgd": ({"optimizer.weight_decay": 0.1}, torch.optim.SGD, {"weight_decay": 0.1}),
    "sgd momentum": ({"optimizer.momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    "sgd both": (
        {"optimizer.momentum": 0.5, "optimizer.weight_decay": 0.2},
        torch.optim.SGD,
        {"momentum": 0.5, "weight_decay": 0.2},
    ),
    "adam": ({"optimizer.weight_decay": 0.1}, torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (
        {"optimizer.weight_decay": 0.3, "optimizer.betas": [0.8, 0.9]},
        torch.optim.AdamW,
        {"weight_decay": 0.3, "betas": (0.8, 0.9)},
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    "model",
    [
        {"model.activation": "tanh"},
        {"model.activation": "relu", "model.depth": 3},
        {"model.bias": False, "model.depth": 1},
        {"model.depth": 0},
        {"model.last_bias": False, "model.depth": 1},
    ],
)
def test_a_block_trains_what_torch_trains(kind: str, model: dict[str, Any]) -> None:
    ours, theirs, settings = OPTIMIZERS[kind]
    given = SMALL | model | {"optimizer.name": kind.split()[0], "optimizer.lr": 0.02} | ours
    net = network(given, model__init_scale=1.5)
    reference = module(net, net._values)
    betas = {"betas": (0.9, 0.98)} if kind == "adam" else {}
    optimizer = theirs(reference.parameters(), lr=0.02, **betas, **settings)
    x, y = data(net)
    for _ in range(25):
        descend(optimizer, nn.functional.mse_loss(reference(x), y))
    stepped(net)
    close(net, reference)


def test_the_trials_of_a_block_have_rates_decays_and_scales_of_their_own() -> None:
    more: list[dict[str, Any]] = [
        {
            "optimizer.lr": 0.01 * (i + 1),
            "optimizer.weight_decay": i / 10,
            "model.init_scale": 0.5 + i,
        }
        for i in range(3)
    ]
    given = SMALL | {"optimizer.name": "adamw"}
    together = networks.blocks(pack([trial(given | m, 0) for m in more]), range(3))[0]
    assert isinstance(together, NetworkBlock)
    stepped(together)
    for row, m in enumerate(more):
        alone = network(given | m)
        stepped(alone)
        for a, b in zip(values_of(together, row), values_of(alone), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_with_constant_norm_all_weights_are_scaled_back_after_each_step(name: str) -> None:
    given = SMALL | {"optimizer.name": name, "optimizer.constant_norm": True}
    net = network(given, model__init_scale=2.0, optimizer__lr=0.05)
    reference = module(net, net._values)
    parameters = list(reference.parameters())

    def norm() -> float:
        return float(torch.cat([p.data.flatten() for p in parameters]).norm())

    initial = norm()
    made = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    betas = {"betas": (0.9, 0.98)} if name == "adamw" else {}
    optimizer = made(parameters, lr=0.05, weight_decay=0.0, **betas)
    x, y = data(net)
    for _ in range(25):
        descend(optimizer, nn.functional.mse_loss(reference(x), y))
        factor = initial / norm()
        for p in parameters:
            p.data.mul_(factor)
    stepped(net)
    close(net, reference)
    assert net.metrics()["norm_ratio"].item() == pytest.approx(1, abs=1e-12)


def test_constant_norm_holds_for_each_trial_of_a_single_precision_pack() -> None:
    given = SMALL | {"optimizer.constant_norm": True, "dtype": "float32"}
    trials = [trial(given, i, model__init_scale=0.3 + i) for i in range(4)]
    memory = run(pack(trials, 300))
    for t in trials:
        assert memory.column(t.id, "norm_ratio") == pytest.approx(1, abs=1e-6)
    free = [trial(given | {"optimizer.constant_norm": False}, 0)]
    assert abs(run(pack(free, 300)).column(free[0].id, "norm_ratio")[-1] - 1) > 0.01


def test_a_norm_that_underflows_divides_nothing() -> None:
    given = SMALL | {"optimizer.constant_norm": True, "dtype": "float32"}
    t = trial(given, model__init_scale=1e-300, model__bias=False)
    memory = run(pack([t], 20))
    assert memory.ends[t.id][0] == "censored"
    assert all(map(math.isfinite, memory.column(t.id, "train_loss")))


def test_minibatches_go_through_the_examples_epoch_by_epoch() -> None:
    net = network(SMALL | {"optimizer.batch": 4}, 0, 1)
    seen: list[list[int]] = []
    for taken in range(6):  # 13 examples: 3 batches an epoch, one example left out
        rows, chosen = net._minibatch(taken)
        assert rows.shape == (2, 1)
        assert chosen.shape == (2, 4)
        assert not torch.equal(chosen[0], chosen[1])
        seen.append(chosen[0].tolist())
    first, second = ([n for batch in seen[i : i + 3] for n in batch] for i in (0, 3))
    for epoch in (first, second):
        assert len(set(epoch)) == 12
        assert set(epoch) < set(range(13))
    assert first != second
    again = network(SMALL | {"optimizer.batch": 4}, 0)
    assert again._minibatch(4)[1][0].tolist() == seen[4], "a resumed trial sees the same batch"


def test_a_step_on_a_minibatch_is_one_on_those_examples() -> None:
    given = SMALL | {"optimizer.name": "sgd", "optimizer.batch": 4, "optimizer.lr": 0.1}
    net = network(given)
    reference = module(net, net._values)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    x, y = data(net)
    for taken in range(7):
        epoch, index = divmod(taken, 3)
        order = torch.randperm(13, generator=stream(0, "batches", 13, epoch))
        chosen = order[4 * index : 4 * index + 4]
        descend(optimizer, nn.functional.mse_loss(reference(x[chosen]), y[chosen]))
    stepped(net, 7)
    close(net, reference)


def test_a_batch_of_more_than_all_examples_is_all_of_them() -> None:
    nets = [network(SMALL | {"optimizer.name": "sgd", "optimizer.batch": b}) for b in (None, 99)]
    for net in nets:
        stepped(net, 5)
    for a, b in zip(*map(values_of, nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda w: w.abs().sum(),
    "l2_sq": lambda w: w.square().sum() / 2,
    "l2_fro": lambda w: w.norm(),
    "nuclear": lambda w: w.norm() * 0 if w.dim() < 2 else torch.linalg.matrix_norm(w, "nuc"),
    "group": lambda w: w.norm() * 0 if w.dim() < 2 else w.norm(dim=1).sum(),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_are_those_of_all_weights_and_of_matrices_alone(name: str) -> None:
    given = SMALL | {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.05,
        "regularizer.name": name,
        "regularizer.strength": 0.2,
    }
    whole = pack([trial(given, seed) for seed in (0, 3, 4)])  # in company: trials don't mix
    net = networks.blocks(whole, range(3))[0]
    assert isinstance(net, NetworkBlock)
    reference = module(net, net._values)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    x, y = data(net)
    for _ in range(8):
        loss = nn.functional.mse_loss(reference(x), y)
        descend(optimizer, loss + 0.2 * sum(PENALTIES[name](p) for p in reference.parameters()))
    stepped(net, 8)
    close(net, reference)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("default", [1 / math.sqrt(300), 1 / math.sqrt(300), 1 / 30, 1 / 30]),
        ("fan_out", [1 / math.sqrt(300), 0, 1 / math.sqrt(50), 0]),
        ("normal", [1, 1, 1, 1]),
    ],
)
def test_weights_start_as_their_law_says_times_their_scale(init: str, std: list[float]) -> None:
    given = SMALL | {"task.inputs": 100, "task.outputs": 50, "model.width": 300, "model.depth": 1}
    made = network(given, model__init=init, model__init_scale=2.0)
    for value, wanted in zip(values_of(made), std, strict=True):
        assert value.std().item() == pytest.approx(2 * wanted, rel=0.15)
        assert abs(value.mean().item()) <= 3 * 2 * wanted / math.sqrt(value.numel())
        if init == "default":
            assert value.abs().max().item() <= 2 * wanted * math.sqrt(3)
    one = network(given, model__init=init)
    for a, b in zip(values_of(made), values_of(one), strict=True):
        assert torch.equal(a, 2 * b)


def test_padding_stays_zero() -> None:
    for name in ("l2_fro", "sobolev", "nuclear"):
        given = SMALL | {"regularizer.name": name, "regularizer.strength": 0.1}
        net = network(given, 0, 1)
        stepped(net, 10)
        for w in net.weights.each:
            rest = w.value.clone()
            w.real(rest).zero_()
            assert not rest.any()


def test_losses_are_torchs() -> None:
    g = torch.Generator().manual_seed(0)
    z, y = (torch.randn(2, 5, 3, generator=g, dtype=torch.float64) for _ in range(2))
    c = torch.randint(0, 3, (2, 5), generator=g)
    torch.testing.assert_close(
        cross_entropy(z, c), nn.functional.cross_entropy(z.mT, c, reduction="none")
    )
    torch.testing.assert_close(squares(z, y).mean(), nn.functional.mse_loss(z, y))
    torch.testing.assert_close(half_squares(z, y), 1.5 * squares(z, y))
    hot = nn.functional.one_hot(c, 3).double()
    torch.testing.assert_close(one_hot_squares(z, c).mean(), nn.functional.mse_loss(z, hot))
    assert torch.equal(largest(z, c), z.argmax(2) == c)
    each = squares(z, y)
    assert torch.equal(within(each[0, 2].item())(z, y), each < each[0, 2])


def test_a_tie_and_what_isnt_a_number_are_wrong() -> None:
    nan = math.nan
    z = torch.tensor([[[1.0, 1.0, 0.0], [nan, 0.0, -1.0], [2.0, 0.0, 1.0]]])
    assert largest(z, torch.tensor([[0, 0, 0]])).tolist() == [[False, False, True]]
    assert not within(1e9)(torch.full((1, 1, 2), nan), torch.zeros(1, 1, 2)).any()


@pytest.mark.parametrize("loss", ["mse", "half_square"])
def test_metrics_are_those_of_the_module(loss: str) -> None:
    net = network(SMALL | {"task.loss": loss, "task.outputs": 4, "task.tolerance": 0.05}, 2)
    stepped(net, 3)
    reference = module(net, net._values)
    found = {name: column.item() for name, column in net.metrics().items()}
    for side, ((x,), y) in (("train", net._train), ("test", net._test)):
        off = reference(x[0]) - y[0]
        mean = off.square().mean().item()
        assert found[f"{side}_loss"] == pytest.approx(mean if loss == "mse" else 2 * mean)
        assert found[f"{side}_error"] == pytest.approx((off.norm() / y[0].norm()).item())
        right = off.square().mean(dim=1) < 0.05
        assert found[f"{side}_acc"] == pytest.approx(right.double().mean().item())
    parameters = [p.data for p in reference.parameters()]
    assert found["l1"] == pytest.approx(sum(p.abs().sum().item() for p in parameters))
    assert found["l2"] == pytest.approx(math.sqrt(sum(p.square().sum().item() for p in parameters)))
    nuclear = sum(torch.linalg.matrix_norm(p, "nuc").item() for p in parameters if p.dim() == 2)
    assert found["nuclear"] == pytest.approx(nuclear)


def test_an_evaluation_in_pieces_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    given = SMALL | {"task.N_test": 300, "task.N": 200}
    whole = network(given, 0, 1).metrics()
    monkeypatch.setattr(block, "EVALUATED", 1)
    pieces = network(given, 0, 1)
    calls = []
    forward = pieces._architecture.forward

    def counted(*args: Any) -> Tensor:
        calls.append(args[1][0].shape[1])
        return forward(*args)

    monkeypatch.setattr(pieces._architecture, "forward", counted)
    for name, column in pieces.metrics().items():
        torch.testing.assert_close(column, whole[name], rtol=1e-12, atol=0)
    assert calls == [64, 64, 64, 8, 64, 64, 64, 64, 44]


def test_pieces_dont_depend_on_pack_mates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "EVALUATED", 1 << 15)
    trials = [trial(SMALL | {"task.N_test": 999}, seed) for seed in range(9)]
    same(run(pack(trials[:1], 3)), run(pack(trials, 3)), trials[:1])


BIG = {"task.name": "teacher_student"}


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (BIG, 8),
        (BIG | {"task.N_test": 5000}, 4),
        (BIG | {"model.width": 300, "task.N": 20}, 3),
        (BIG | {"dtype": "float64", "optimizer.name": "sgd", "optimizer.momentum": 0.5}, 8),
        (
            BIG
            | {
                "model.width": 200,
                "task.inputs": 50,
                "regularizer.name": "sobolev",
                "regularizer.strength": 1.0,
            },
            4,
        ),
        ({"task.name": "relu_regression"}, 8),
    ],
)
def test_the_memory_of_a_trial_is_known_within_a_factor_of_two(
    given: dict[str, Any], count: int
) -> None:
    trials = [trial(given, seed) for seed in range(count)]
    blocks = loop._blocks(pack(trials), range(count))
    held = sum(tensors(blocks, {}).values()) / count
    values: Any = trials[0].values
    step = shapes.step_numbers(values) * (8 if values["dtype"] == "float64" else 4)
    claimed = grokking.memory_bytes(trials[0].config(GrokkingConfig))
    assert (held + step) / 2 <= claimed <= (held + step) * 2


def test_moments_and_jacobians_are_in_the_memory_of_a_trial() -> None:
    def claimed(**more: Any) -> int:
        return grokking.memory_bytes(trial(BIG, **more).config(GrokkingConfig))

    weights = 4 * shapes.parameters(trial(BIG).values)
    plain = claimed(optimizer__name="sgd")
    assert claimed(optimizer__name="sgd", optimizer__momentum=0.5) == plain + weights
    assert claimed(optimizer__name="adam") == plain + 3 * weights
    sobolev = {"regularizer__name": "sobolev", "regularizer__strength": 0.1}
    rows = 4 * 100 * 5 * (2 * 100)  # examples, outputs, the slopes of both hidden layers
    assert claimed(optimizer__name="sgd", **sobolev) >= plain + rows
