"""Blocks of networks, and the same network as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.trainables import networks
from sweeper.trainables.networks.block import NetworkBlock
from tests.packs import pack, trial

SMALL: dict[str, Any] = {
    "task.name": "teacher_student",
    "task.N": 13,
    "task.N_test": 9,
    "task.inputs": 3,
    "task.outputs": 2,
    "task.hidden": 6,
    "model.width": 7,
    "dtype": "float64",
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
}


def network(given: dict[str, Any], *seeds: int, **more: Any) -> NetworkBlock:
    """Return a block of one trial a seed."""
    trials = [trial(given, seed, **more) for seed in seeds or (0,)]
    made = networks.blocks(pack(trials), range(len(trials)))
    assert len(made) == 1
    assert isinstance(made[0], NetworkBlock)
    return made[0]


def values_of(net: NetworkBlock, row: int = 0) -> list[Tensor]:
    """Return copies of the weights of one trial, without padding."""
    return [w.real(w.value)[row].clone() for w in net.weights.each]


def module(net: NetworkBlock, values: Mapping[str, Any]) -> nn.Sequential:
    """Return the network of the first trial as a torch module with the weights it has now."""
    held = values_of(net)
    layers: list[nn.Module] = []
    while held:
        W = held.pop(0)
        bias = held.pop(0) if held and held[0].dim() == 1 else None
        if layers:
            layers.append(ACTIVATIONS[values["model.activation"]]())
        linear = nn.Linear(W.shape[1], W.shape[0], bias=bias is not None, dtype=W.dtype)
        linear.weight.data = W
        if bias is not None:
            linear.bias.data = bias
        layers.append(linear)
    return nn.Sequential(*layers)


def data(net: NetworkBlock) -> tuple[Tensor, Tensor]:
    """Return the train examples of the first trial."""
    (x,), y = net._train
    return x[0], y[0]


def stepped(net: NetworkBlock, count: int = 25) -> None:
    """Take some steps as the fused loop does."""
    with torch.no_grad():
        for taken in range(count):
            net.step(taken)


def close(net: NetworkBlock, reference: nn.Module) -> None:
    """Check that a block has the weights of a module."""
    for ours, theirs in zip(values_of(net), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.data, rtol=1e-9, atol=1e-11)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step of a torch optimizer."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
