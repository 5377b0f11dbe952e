"""Fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import padded
from sweeper.trainables.config.shapes import dense, ends
from sweeper.trainables.data.streams import stream
from sweeper.trainables.networks.affine import SLOPES, affine


class DenseNetwork:
    """x -> W_L f(... f(W_1 x + b_1) ...) + b_L.

    Args:
        values: The values of a trial.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.shapes = dense(values)
        self._activation: str = values["model.activation"]
        self._slope = SLOPES[values["model.activation"]]
        self._init: str = values["model.init"]
        self._inputs, self._outputs = ends(values)

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes with every size padded."""
        return [tuple(padded(size) for size in shape) for shape in self.shapes]

    def base(self, seed: int) -> list[Tensor]:
        """Return the weights and biases that `model.init` names, for init_scale 1."""
        if self._init == "default":
            return self.drawn(stream(seed, "dense", *self.shapes))
        g = stream(seed, f"dense {self._init}", *self.shapes)
        drawn = [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in self.shapes]
        if self._init == "normal":
            return drawn
        return [w / math.sqrt(w.shape[0]) if w.dim() == 2 else torch.zeros_like(w) for w in drawn]

    def drawn(self, g: torch.Generator) -> list[Tensor]:
        """Return U(+-1/sqrt(fan_in)) for weights and biases, as torch.nn.Linear, drawn by `g`."""
        weights, fan = [], 1
        for shape in self.shapes:
            fan = shape[1] if len(shape) == 2 else fan  # a bias has its weight's
            uniform = torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1
            weights.append(uniform / math.sqrt(fan))
        return weights

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs ``[B, N, outputs]`` of inputs ``[B, N, ...]``, flattened."""
        return self._layers(weights, inputs)[-1][:, :, : self._outputs]

    def jacobian(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the derivatives of the outputs by the inputs, ``[B, N, outputs, inputs]``."""
        *hidden, _ = self._layers(weights, inputs)
        *earlier, last = [w for w in weights if w.dim() == 3]
        B, N = inputs[0].shape[:2]
        J = last[:, None, : self._outputs].expand(-1, N, -1, -1)
        for y, weight in zip(reversed(hidden), reversed(earlier), strict=True):
            J = J * self._slope(y)[:, :, None, :]
            rows = torch.bmm(J.reshape(B, N * self._outputs, -1), weight)
            J = rows.view(B, N, self._outputs, -1)
        return J[..., : self._inputs]

    def _layers(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the values of the hidden layers and the outputs, each ``[B, N, padded size]``."""
        x = inputs[0].flatten(2)
        if missing := padded(x.shape[2]) - x.shape[2]:
            x = torch.nn.functional.pad(x, (0, missing))
        values: list[Tensor] = []
        left = list(weights)
        while left:
            W = left.pop(0)
            bias = left.pop(0) if left and left[0].dim() == 2 else None
            x = affine(x, W, bias, self._activation if left else "none")
            values.append(x)
        return values
