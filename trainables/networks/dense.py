"""Fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.blocks import padded
from trainables.config.shapes import dense
from trainables.streams import stream

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


class Dense:
    """x -> W_L f(... f(W_1 x + b_1) ...) + b_L.

    Args:
        values: Of a trial.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._shapes = dense(values)
        self._activation = ACTIVATIONS[values["model.activation"]]
        self._bias: bool = values["model.bias"]
        self._outputs = self._shapes[-1][0]

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes with every size padded."""
        return [tuple(padded(size) for size in shape) for shape in self._shapes]

    def base(self, seed: int) -> list[Tensor]:
        """Return U(+-1/sqrt(fan_in)) for weights and biases, as torch.nn.Linear."""
        return self.drawn(stream(seed, "dense", *self._shapes))

    def drawn(self, g: torch.Generator) -> list[Tensor]:
        """Return the initial weights that `g` draws."""
        found, fan = [], 1
        for shape in self._shapes:
            fan = shape[1] if len(shape) == 2 else fan  # a bias has its weight's
            uniform = torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1
            found.append(uniform / math.sqrt(fan))
        return found

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs ``[B, N, outputs]`` of inputs ``[B, N, ...]``, flattened."""
        x = inputs[0].flatten(2)
        x = torch.nn.functional.pad(x, (0, padded(x.shape[2]) - x.shape[2]))
        step = 2 if self._bias else 1
        for i in range(0, len(weights), step):
            if i:
                x = self._activation(x)
            if self._bias:
                x = torch.baddbmm(weights[i + 1][:, None, :], x, weights[i].mT)
            else:
                x = torch.bmm(x, weights[i].mT)
        return x[:, :, : self._outputs]
