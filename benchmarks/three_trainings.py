"""A transformer on addition modulo p, trained as a script, as a function, and fused.

The classes are own parts for the fused loop (docs/own.md). `train` is the plain loop that somebody
would write for the same model, data, start and optimizer. Run as a program, this file is the
script.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import sweeper
from sweeper.trainables.config.own import Model, Selection, Task
from sweeper.trainables.data.streams import stream

P = 23


class Sums(Task):
    """All sums of two numbers modulo `P`."""

    inputs: int = 2
    outputs: int = P

    def examples(self, g: torch.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the pairs and their sums."""
        return table()


class Scattered(Selection):
    """A fixed part of the pairs, scattered over the table."""

    fraction: float = 0.6

    def train(self, inputs: Tensor, targets: Tensor, g: torch.Generator) -> Tensor:  # noqa: ARG002
        """Return the chosen pairs as a mask."""
        return scattered(inputs, self.fraction)


class Transformer(Model):
    """One block of attention and an MLP over the two numbers and an equals sign."""

    width: int = 32

    def module(self, shape: tuple[int, ...], outputs: int) -> torch.nn.Module:  # noqa: ARG002
        """Return the network."""
        return Net(self.width, outputs)


class Net(torch.nn.Module):
    """The network: inputs ``[N, 2]``, outputs ``[N, p]``."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.tokens = torch.nn.Parameter(torch.randn(outputs + 1, width) / width**0.5)
        self.places = torch.nn.Parameter(torch.randn(3, width) / width**0.5)
        self.attention = torch.nn.ModuleList(
            [torch.nn.Linear(width, width, bias=False) for _ in range(4)]
        )
        self.up = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)
        self.out = torch.nn.Linear(width, outputs, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits of the sums."""
        p = self.tokens.shape[0] - 1
        equals = torch.full_like(pairs[:, :1], p)
        x = self.tokens[torch.cat([pairs, equals], dim=1)] + self.places
        query, key, value, back = self.attention
        scores = query(x) @ key(x).transpose(1, 2) / x.shape[-1] ** 0.5
        x = x + back(scores.softmax(dim=-1) @ value(x))
        x = x + self.down(torch.relu(self.up(x)))
        logits: Tensor = self.out(x[:, -1])
        return logits


def table() -> tuple[Tensor, Tensor]:
    """Return all pairs ``[p^2, 2]`` and their sums ``[p^2]``."""
    numbers = torch.arange(P)
    pairs = torch.cartesian_prod(numbers, numbers)
    return pairs, pairs.sum(dim=1) % P


def scattered(pairs: Tensor, fraction: float) -> Tensor:
    """Return which pairs are trained on."""
    return (pairs[:, 0] * 31 + pairs[:, 1] * 17) % 100 < 100 * fraction


@dataclass
class Config:
    """The config of the plain loop."""

    lr: float = 1e-3
    weight_decay: float = 1.0
    width: int = 32
    fraction: float = 0.6


def train(config: Config, run: sweeper.Run) -> None:
    """Train one trial, as one would without sweeper."""
    torch.manual_seed(stream(run.seed, "own model").initial_seed())
    net = Net(config.width, P).double()
    pairs, sums = table()
    chosen = scattered(pairs, config.fraction)
    optimizer = torch.optim.AdamW(
        net.parameters(), config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    loss_of = torch.nn.functional.cross_entropy
    for step in run.steps(2000):
        if run.due(step):
            with torch.no_grad():
                run.log(step, measured(net, pairs, sums, chosen))
        loss = loss_of(net(pairs[chosen]), sums[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def measured(net: Net, pairs: Tensor, sums: Tensor, chosen: Tensor) -> dict[str, Any]:
    """Return the loss and the accuracy on the train pairs and on the others."""
    row = {}
    for side, rows in (("train", chosen), ("test", ~chosen)):
        logits = net(pairs[rows])
        row[f"{side}_loss"] = torch.nn.functional.cross_entropy(logits, sums[rows])
        row[f"{side}_acc"] = (logits.argmax(dim=1) == sums[rows]).double().mean()
    return row


if __name__ == "__main__":
    RUN = sweeper.init(Config)
    train(RUN.config, RUN)
