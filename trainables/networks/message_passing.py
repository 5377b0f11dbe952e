"""Networks that send messages along the bonds of molecules.

There are few types of bonds, so that a round of messages is two products: atoms times the matrix
of each type, and bonds of each type times those.

Shape suffixes: B trials, N molecules, A atoms (padded), a -> c widths of a round.

References:
    [G17] Gilmer et al., Neural Message Passing for Quantum Chemistry, 2017. arXiv 1704.01212
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, Fig. 5
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import padded
from sweeper.trainables.config.molecules import BOND, NODE, message_passing
from sweeper.trainables.data.streams import stream
from sweeper.trainables.networks.affine import affine

ROUND = 6
"""Weights of a round: two layers of Theta with biases, W, b."""


class MessagePassingNetwork:
    """Two rounds of h_i <- ReLU(W h_i + sum_j h_j Theta(bond ij) + b), the sum, two layers.

    Args:
        values: The values of a trial.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._shapes = message_passing(values)
        self._widths = (NODE, values["model.first"], values["model.second"])

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes with every size padded."""
        return [tuple(padded(size) for size in shape) for shape in self._shapes]

    def base(self, seed: int) -> list[Tensor]:
        """Return U(+-1/sqrt(fan_in)) for weights and biases, 0 for b of the rounds."""
        g = stream(seed, "message passing", *self._shapes)
        weights, fan = [], 1
        for place, shape in enumerate(self._shapes):
            fan = shape[1] if len(shape) == 2 else fan  # a bias has its weight's
            uniform = torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1
            zero = place in (ROUND - 1, 2 * ROUND - 1)
            weights.append(torch.zeros_like(uniform) if zero else uniform / math.sqrt(fan))
        return weights

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return one output per molecule, ``[B, N, 1]``, for the inputs of `qm9.graphs`."""
        x, bonds, there = inputs
        B, N, A, _ = x.shape
        types = torch.arange(1, BOND + 1, dtype=bonds.dtype, device=bonds.device)
        bonded = (bonds[..., None] == types).to(x).view(B * N, A, A * BOND)
        x = x.flatten(1, 2)
        for i, (a, c) in enumerate(pairwise(self._widths)):
            x = self._round(x, bonded, weights[ROUND * i : ROUND * (i + 1)], a, c)
        total = torch.bmm(there.reshape(B * N, 1, A), x.reshape(B * N, A, -1)).view(B, N, -1)
        inner, inner_bias, last, last_bias = weights[2 * ROUND :]
        hidden = affine(total, inner, inner_bias, "relu")
        return affine(hidden, last, last_bias)[:, :, :1]

    @staticmethod
    def _round(x: Tensor, bonded: Tensor, weights: Sequence[Tensor], a: int, c: int) -> Tensor:
        """Return the atoms ``[B, N A, c]`` after one round from ``[B, N A, a]``, a padded."""
        inner, inner_bias, outer, outer_bias, own, bias = weights
        B, rows, width = x.shape
        hidden = torch.relu(inner[:, :, :BOND].mT + inner_bias[:, None, :])  # of one-hot types
        theta = affine(hidden, outer, outer_bias)[:, :, : a * c]
        theta = theta.view(B, BOND, a, c).transpose(1, 2).reshape(B, a, BOND * c)
        theta = torch.nn.functional.pad(theta, (0, 0, 0, width - a))
        sent = torch.bmm(x, theta).view(len(bonded), -1, c)  # [B N, A types, c]
        received = torch.bmm(bonded, sent).view(B, rows, c)
        return (affine(x, own, bias) + received).relu_()
