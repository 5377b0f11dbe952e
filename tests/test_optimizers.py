"""Optimizers equal torch.optim, trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sweeper.trainables import loop
from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.data.pairs import split_of, table
from sweeper.trainables.optim.optimizers import optimizer
from tests.packs import MODULAR, pack, trial
from tests.test_modular_arithmetic import network

RATES = [(0.01, 0.0), (0.02, 0.5), (0.003, 1.0)]


@pytest.mark.parametrize("name", ["gd", "sgd", "adam", "adamw"])
def test_a_hundred_steps_equal_those_of_torch(name: str) -> None:
    given = MODULAR | {"dtype": "float64", "optimizer.name": name}
    own: list[dict[str, Any]] = []
    for lr, decay in RATES:
        own.append(given | {"optimizer.lr": lr})
        if name != "gd":
            own[-1]["optimizer.weight_decay"] = decay
    trials = [trial(g, seed) for seed, g in enumerate(own)]
    block = loop._blocks(pack(trials), range(3))[0]
    a, b, c = table("add", 7)
    for i, (lr, decay) in enumerate(RATES):
        values = [w.real(w.value)[i].clone().requires_grad_() for w in block.weights.each]
        peer: torch.optim.Optimizer
        if name in ("gd", "sgd"):
            peer = torch.optim.SGD(values, lr=lr, weight_decay=decay if name == "sgd" else 0.0)
        else:
            kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
            peer = kind(values, lr=lr, betas=(0.9, 0.98), weight_decay=decay)
        pairs = split_of(trials[i])[0]
        alone = loop._blocks(pack([trials[i]]), [0])[0]
        for taken in range(100):
            peer.zero_grad()
            logits = network(values, a[pairs], b[pairs])
            torch.autograd.backward(torch.nn.functional.cross_entropy(logits, c[pairs]))
            peer.step()
            alone.step(taken)
        for weight, value in zip(alone.weights.each, values, strict=True):
            torch.testing.assert_close(weight.real(weight.value)[0], value, rtol=1e-9, atol=1e-11)
    for taken in range(100):
        block.step(taken)
    for i, t in enumerate(trials):
        alone = loop._blocks(pack([t]), [0])[0]
        for taken in range(100):
            alone.step(taken)
        for x, y in zip(block.weights.each, alone.weights.each, strict=True):
            assert torch.equal(x.value[i], y.value[0])


class Devices(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the devices of the tensors that each operation takes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.of: dict[str, set[str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        self.of.setdefault(str(func), set()).update(str(x.device) for x in given)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_takes_no_tensor_of_another_device_than_the_weights(name: str) -> None:
    move: Any = {"dtype": torch.float32, "device": "meta"}  # as a GPU would refuse one of the CPU
    weights = Weights((1,), [(3, 5)], [(8, 8)], moments=True, **move)
    one = pack([trial(MODULAR | {"optimizer.name": name})], device="meta")
    made = optimizer(one, weights, lambda _: torch.zeros(1, **move))
    with Devices() as devices:
        made.step(0)
    assert devices.of["aten._fused_adamw_.default"] == {"meta"}
    assert set().union(*devices.of.values()) == {"meta"}
