"""From weights to a recovered vector a and back: products of vectors, elementwise.

Shape suffixes as in `sweeper.trainables.families.sparse_recovery`: D data sets, M trials of one, n
entries of a.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718, App. F.1
    [B25] Boursier et al., 2025. arXiv 2505.20172, App. D.2
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.data.streams import stream


class Factors(Protocol):
    """How the weights of a block make a.

    Attributes:
        linear: a is the one weight itself.
        copies: Equal factors that each weight stands for.
    """

    linear: bool
    copies: int

    def predict(self) -> Tensor:
        """Return a, ``[D, M, n]``; valid until the next call."""

    def pull_back(self, g: Tensor) -> None:
        """Write the weights' gradients, given `g`, that on the last predicted a; `g` is spoilt."""


def starts(values: Mapping[str, Any], seed: int) -> list[Tensor]:
    """Return the initial weights of a trial for init_scale 1, each ``[n]`` in float64."""
    n = values["task.n"]
    if values["model.name"] == "diagonal":
        depth = values["model.depth"]
        g = stream(seed, "diagonal factors", depth, n)
        return list(torch.randn(depth, n, generator=g, dtype=torch.float64))
    return [torch.ones(n, dtype=torch.float64)] * (2 if values["model.sign_free"] else 1)


def factors(values: Mapping[str, Any], weights: Weights) -> Factors:
    """Return the model of a trial with these `values`, made of `weights`."""
    if values["model.name"] == "diagonal":
        return DiagonalFactors(weights)
    return ProductFactors(weights, values["model.depth"])


class ProductFactors:
    """a = A^L of one weight A, or u^L - v^L of two.

    The L factors of a product start equal and have equal gradients for ever, so one tensor
    stands for all of them. Both powers of a difference are rounded before one is subtracted from
    the other: where u = v, a is exactly 0, and so is its sign. A fused product and sum would leave
    the rounding error of one power, whose sign l1 and group turn into a whole step.
    """

    def __init__(self, weights: Weights, depth: int) -> None:
        self._each = weights.each
        self._depth = depth
        self.linear = depth == 1 and len(self._each) == 1
        self.copies = depth if len(self._each) == 1 else 1
        deep = depth > 2  # at depth 2, A^(L-1) is A itself
        self._powers = [torch.empty_like(w.value) if deep else w.value for w in self._each]
        self._a = torch.zeros_like(self._each[0].value)
        self._subtracted = torch.zeros_like(self._a) if len(self._each) == 2 and depth > 1 else None

    def predict(self) -> Tensor:
        """Return a, and leave A^(L-1) of every factor A in `_powers`."""
        values = [w.value for w in self._each]
        if self.linear:
            return values[0]
        if self._depth == 1:
            return torch.sub(values[0], values[1], out=self._a)
        if self._depth > 2:
            for value, power in zip(values, self._powers, strict=True):
                torch.mul(value, value, out=power)
                for _ in range(self._depth - 3):
                    power.mul_(value)
        torch.mul(self._powers[0], values[0], out=self._a)
        if self._subtracted is not None:
            torch.mul(self._powers[1], values[1], out=self._subtracted)
            self._a.sub_(self._subtracted)
        return self._a

    def pull_back(self, g: Tensor) -> None:
        """Give one factor of a product A^(L-1) g, u of u^L - v^L L u^(L-1) g, v its negative."""
        if self.linear:
            return  # g is the weight's own
        if len(self._each) == 2 and self._depth > 1:
            g.mul_(self._depth)
        for weight, power in zip(self._each, self._powers, strict=True):
            if self._depth == 1:
                weight.grad.copy_(g)
            else:
                torch.mul(power, g, out=weight.grad)
            g.neg_()  # for v


class DiagonalFactors:
    """a = w_1 * ... * w_L."""

    linear = False
    copies = 1

    def __init__(self, weights: Weights) -> None:
        self._each = weights.each
        self._a = torch.zeros_like(self._each[0].value)

    def predict(self) -> Tensor:
        """Return the product."""
        first, second, *others = self._each
        torch.mul(first.value, second.value, out=self._a)
        for other in others:
            self._a.mul_(other.value)
        return self._a

    def pull_back(self, g: Tensor) -> None:
        """Give each factor g times the product of the others."""
        for weight in self._each:
            first, *others = (other for other in self._each if other is not weight)
            torch.mul(g, first.value, out=weight.grad)
            for other in others:
                weight.grad.mul_(other.value)
