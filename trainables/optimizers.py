"""Optimizers of many trials at once, each with rates of its own.

All trials of a pack have taken the same number of steps, so the bias corrections of Adam are
numbers; learning rates and weight decays are tensors of one number per trial.

References:
    [KB15] Kingma, Ba, Adam, 2015. arXiv 1412.6980
    [LH19] Loshchilov, Hutter, Decoupled Weight Decay, 2019. arXiv 1711.05101
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sweeper.packing import Pack
from trainables.blocks import Weights
from trainables.config import GrokkingConfig

EPS = 1e-8
"""Adam's epsilon."""


class Optimizer(Protocol):
    """Changes weights by their gradients."""

    def step(self, taken: int) -> None:
        """Take one step; `taken` is the number of steps before it."""


class GradientDescent:
    """w <- w - lr * g, with `lr` of shape ``[*lead]``."""

    def __init__(self, weights: Weights, lr: Tensor) -> None:
        self._weights = weights
        self._rates = [-w.per_trial(lr) for w in weights.each]

    def step(self, taken: int) -> None:  # noqa: ARG002
        """Take one step."""
        for weight, rate in zip(self._weights.each, self._rates, strict=True):
            weight.value.addcmul_(weight.grad, rate)


class AdamW:
    """Adam [KB15] with decoupled weight decay [LH19]; without a decay it is Adam.

    Args:
        weights: What to train.
        lr: Learning rate of each trial, ``[*lead]``.
        keep: What a step leaves of a weight, 1 - lr * weight decay, ``[*lead]``; None for Adam.
        betas: Decay rates of the moments.
    """

    def __init__(
        self, weights: Weights, lr: Tensor, keep: Tensor | None, betas: tuple[float, float]
    ) -> None:
        self._weights = weights
        self._lr = [w.per_trial(lr) for w in weights.each]
        self._keep = None if keep is None else [w.per_trial(keep) for w in weights.each]
        self._betas = betas

    def step(self, taken: int) -> None:
        """Take one step; `taken` sets the bias corrections."""
        b1, b2 = self._betas
        c1, c2 = 1 - b1 ** (taken + 1), math.sqrt(1 - b2 ** (taken + 1))
        w = self._weights
        w.m.lerp_(w.grad, 1 - b1)
        w.v.mul_(b2).addcmul_(w.grad, w.grad, value=1 - b2)
        torch.sqrt(w.v, out=w.update)
        w.update.add_(EPS * c2)  # c2 * (sqrt(v) / c2 + eps)
        torch.div(w.m, w.update, out=w.update)
        for index, (weight, rate) in enumerate(zip(w.each, self._lr, strict=True)):
            if self._keep is not None:
                weight.value.mul_(self._keep[index])
            weight.update.mul_(rate * (c2 / c1))
        w.value.sub_(w.update)


def needs_moments(name: str) -> bool:
    """Return whether the optimizer `name` keeps moments."""
    return name in ("adam", "adamw")


def optimizer(
    pack: Pack[GrokkingConfig], weights: Weights, column: Callable[[str], Tensor]
) -> Optimizer:
    """Return the optimizer of `pack` for the weights of one of its blocks.

    Args:
        pack: Names the optimizer and its static fields.
        weights: Of the block.
        column: Path of a field to its value for each row, ``[*lead]``, in float64.
    """
    values = pack.trials[0].values
    name = str(values["optimizer.name"])
    lr = column("optimizer.lr")
    if not needs_moments(name):
        return GradientDescent(weights, lr.to(weights.value))
    keep = (1 - lr * column("optimizer.weight_decay")) if name == "adamw" else None
    betas = values["optimizer.betas"]
    assert isinstance(betas, tuple)
    return AdamW(
        weights, lr.to(weights.value), None if keep is None else keep.to(weights.value),
        (betas[0], betas[1]),
    )  # fmt: skip
