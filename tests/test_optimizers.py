"""Optimizers equal torch.optim, trial by trial."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sweeper.trainables import loop
from sweeper.trainables.batch.weights import Placement, Weights
from sweeper.trainables.config import optimizers as config
from sweeper.trainables.data.pairs import split_of, table
from sweeper.trainables.optim.optimizers import OPTIMIZERS, optimizer
from tests.packs import DENSE, MATRIX, MODULAR, SPARSE, pack, trial
from tests.test_loop import tensors
from tests.test_modular_arithmetic import network

PURSUIT = SPARSE | {"optimizer.name": "basis_pursuit"}
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


class Still:
    """A block whose gradients are what they are."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def set_gradient(self, taken: int) -> None:
        pass


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer.name": "gd"},
        {"optimizer.name": "sgd"},
        {"optimizer.name": "sgd", "optimizer.momentum": 0.9},
        {"optimizer.name": "adam", "optimizer.clip": 1.0},
        {"optimizer.name": "adamw", "optimizer.constant_norm": True},
    ],
)
def test_a_step_takes_no_tensor_of_another_device_than_the_weights(given: dict[str, Any]) -> None:
    place: Placement = {"dtype": torch.float32, "device": "meta"}  # a GPU would refuse the CPU's
    block = Still(Weights((1,), [(3, 5)], [(8, 8)], **place))
    one = pack([trial(MODULAR | given)], device="meta")
    made = optimizer(one, block, lambda _: torch.zeros(1, **place))
    with Devices() as devices:
        made.step(block, 0)
    assert devices.of.get("aten._fused_adamw_.default", {"meta"}) == {"meta"}
    assert set().union(*devices.of.values()) == {"meta"}


def test_every_optimizer_of_the_config_has_a_step() -> None:
    assert OPTIMIZERS.keys() == config.OPTIMIZERS.keys()


SOLVED = {"ista": SPARSE, "basis_pursuit": SPARSE, "projected": SPARSE, "svt": MATRIX}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", config.OPTIMIZERS)
def test_memory_is_planned_for_the_tensors_that_an_optimizer_holds(
    name: str, momentum: float
) -> None:
    given = SOLVED.get(name, MODULAR) | {"optimizer.name": name}
    if name == "sgd":
        given = given | {"optimizer.momentum": momentum}
    one = pack([trial(given)])
    (block,) = loop._blocks(one, [0])
    kept: dict[int, int] = {}
    for thing in (block.weights, block._optimizer):  # type: ignore[attr-defined]
        tensors(thing, kept)
    large = [size for size in kept.values() if size >= block.weights.value.nbytes]
    assert len(large) == one.config.optimizer.tensors


def test_a_block_that_is_dropped_frees_its_memory_at_once() -> None:
    for given in (MODULAR, SPARSE | {"optimizer.name": "projected"}, PURSUIT, DENSE):
        (block,) = loop._blocks(pack([trial(given)]), [0])
        block.step(0)
        values = weakref.ref(block.weights.value)
        gc.disable()
        try:
            del block
            assert values() is None, given
        finally:
            gc.enable()
