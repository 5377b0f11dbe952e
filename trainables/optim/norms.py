"""Norms of all weights of a trial together."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import EIGHT, Weights

SHORT = 1 << 10
"""Numbers whose squares are summed in single precision before doubles are."""


def total_norm(weights: Weights, of: Literal["value", "grad"] = "value") -> Tensor:
    """Return the Euclidean norm of all weights (gradients) of each trial, ``[*lead]``, float64."""
    squares = torch.zeros(weights.lead, dtype=torch.float64, device=weights.value.device)
    for weight in weights.each:  # one by one: the order of a sum is in its bits
        each = getattr(weight, of).flatten(len(weights.lead))
        squares = squares + _squares(each.contiguous())
    return squares.sqrt()


def _squares(each: Tensor) -> Tensor:
    """Return the sum of squares over the last axis in float64: ``[*lead, n]`` to ``[*lead]``.

    Doubles of long single-precision rows would take most of the time of a step, so such a row is
    summed in short pieces, each of which is exact to rounding.
    """
    pieces = math.gcd(each.shape[-1], EIGHT * EIGHT)
    if each.dtype != torch.float64 and each.shape[-1] > SHORT and pieces > 1:
        each = each.view(*each.shape[:-1], pieces, -1)
        parts: Tensor = torch.linalg.vector_norm(each, dim=-1)
        return parts.double().square().sum(dim=-1)
    norm: Tensor = torch.linalg.vector_norm(each, dim=-1, dtype=torch.float64)
    return norm.square()
