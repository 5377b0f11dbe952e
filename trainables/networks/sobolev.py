"""The Sobolev penalty: the derivatives of a network are compared with its teacher's.

It is the one penalty that looks at the examples, so it joins the loss before automatic
differentiation, where the others are gradients on weights.

Shape suffixes: B trials, N examples, o outputs, d inputs.

References:
    [N25] Notsawo et al., Grokking Beyond the Euclidean Norm, 2025. arXiv 2506.05718, Figs 11, 34
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Differentiable(Protocol):
    """An architecture whose derivatives by its inputs are known."""

    def jacobian(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the derivatives of the outputs by the inputs, ``[B, N, o, d]``."""


class SobolevPenalty:
    """How far the Jacobians of the networks of a block are from those of their teachers.

    Args:
        architecture: Of the networks.
        wanted: The teachers' Jacobians at the train examples, ``[B, N, o, d]``.
        strength: Of the penalty, ``[B]``.
        squared: Whether the penalty is strength / N * ||J - J*||_F^2, not strength * ||J - J*||_F.
    """

    def __init__(
        self, architecture: Differentiable, wanted: Tensor, strength: Tensor, *, squared: bool
    ) -> None:
        self._architecture, self._wanted = architecture, wanted
        self._strength, self._squared = strength, squared

    def penalty(
        self,
        weights: Sequence[Tensor],
        inputs: Sequence[Tensor],
        chosen: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return the penalty of each trial, ``[B]``; its gradient is 0 where J = J*.

        Args:
            weights: Of the networks.
            inputs: The examples of this step.
            chosen: Which of the train examples they are; None: all.
        """
        wanted = self._wanted if chosen is None else self._wanted[chosen]
        off = (self._architecture.jacobian(weights, inputs) - wanted).flatten(1)
        if self._squared:
            return self._strength * off.square().sum(dim=1) / wanted.shape[1]
        norm: Tensor = torch.linalg.vector_norm(off, dim=1)
        return self._strength * norm

    def error(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return ||J - J*||_F / ||J*||_F of each trial, ``[B]``; NaN where the strength is 0."""
        off = self._architecture.jacobian(weights, inputs) - self._wanted
        ratio = _norm(off) / _norm(self._wanted)
        return torch.where(self._strength > 0, ratio, torch.nan)


def _norm(of: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(of.double().flatten(1), dim=1)
    return norm
