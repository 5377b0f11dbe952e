"""Optimizers of many trials at once, each with rates of its own.

All trials of a pack have taken the same number of steps, so the bias corrections of Adam are
numbers; learning rates and weight decays are tensors of one number per trial.

References:
    [KB15] Kingma, Ba, Adam, 2015. arXiv 1412.6980
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [LH19] Loshchilov, Hutter, Decoupled Weight Decay, 2019. arXiv 1711.05101
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from sweeper.config.fields import Values
from sweeper.packing import Pack
from sweeper.trainables.batch.weights import EIGHT, Weights
from sweeper.trainables.config import GrokkingConfig

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


class Momentum:
    """v <- momentum * v + g, w <- w - lr * v, as torch.optim.SGD; v is kept as the first moment.

    Args:
        weights: What to train.
        lr: Learning rate of each trial, ``[*lead]``.
        momentum: The share of v that a step leaves.
    """

    def __init__(self, weights: Weights, lr: Tensor, momentum: float) -> None:
        self._weights = weights
        self._rates = [-w.per_trial(lr) for w in weights.each]
        self._momentum = momentum

    def step(self, taken: int) -> None:  # noqa: ARG002
        """Take one step."""
        self._weights.m.mul_(self._momentum).add_(self._weights.grad)
        for weight, rate in zip(self._weights.each, self._rates, strict=True):
            weight.value.addcmul_(weight.m, rate)


class OnSphere:
    """Another optimizer, and after each of its steps all weights scaled to their initial norm.

    The norm is that of all weights of a trial together: what is left of the loss is its reduced
    landscape at this norm ([L23] 2). Made before the first step, or the norm isn't the initial.

    Args:
        inner: Takes the steps.
        weights: What it trains.
    """

    def __init__(self, inner: Optimizer, weights: Weights) -> None:
        self._inner, self._weights = inner, weights
        self._initial = total_norm(weights)

    def step(self, taken: int) -> None:
        """Take one step, then scale."""
        self._inner.step(taken)
        norm = total_norm(self._weights)
        factor = torch.where(norm > 0, self._initial / norm, 1.0)
        for weight in self._weights.each:
            weight.value.mul_(weight.per_trial(factor.to(weight.value)))


class Clipped:
    """Another optimizer that sees gradients of at most some norm.

    The norm is that of all weights of a trial together. As torch.nn.utils.clip_grad_norm_, a
    trial's gradient is scaled by clip / (norm + 1e-6) where that is below 1.

    Args:
        inner: Takes the steps.
        weights: What it trains.
        clip: The largest norm.
    """

    def __init__(self, inner: Optimizer, weights: Weights, clip: float) -> None:
        self._inner, self._weights, self._clip = inner, weights, clip

    def step(self, taken: int) -> None:
        """Scale, then take one step."""
        norm = total_norm(self._weights, "grad")
        factor = (self._clip / (norm + 1e-6)).clamp(max=1.0)
        for weight in self._weights.each:
            weight.grad.mul_(weight.per_trial(factor.to(weight.grad)))
        self._inner.step(taken)


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

    A double of long single-precision rows would be the dearest part of a step; short pieces of
    them are exact to rounding by themselves.
    """
    pieces = math.gcd(each.shape[-1], EIGHT * EIGHT)
    if each.dtype != torch.float64 and each.shape[-1] > SHORT and pieces > 1:
        each = each.view(*each.shape[:-1], pieces, -1)
        parts: Tensor = torch.linalg.vector_norm(each, dim=-1)
        return parts.double().square().sum(dim=-1)
    norm: Tensor = torch.linalg.vector_norm(each, dim=-1, dtype=torch.float64)
    return norm.square()


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
        self._values = [w.value for w in weights.each]
        self._lr = [w.per_trial(lr) for w in weights.each]
        self._keep = None if keep is None else [w.per_trial(keep) for w in weights.each]
        self._betas = betas
        self._count = torch.zeros((), dtype=torch.float32, device=weights.value.device)

    def step(self, taken: int) -> None:
        """Take one step; `taken` sets the bias corrections.

        Torch's one pass over memory takes a single rate: with rate and decay 1 it leaves the
        negative direction of the step, which then counts as much as each trial's own rate says.
        """
        w = self._weights
        torch._fused_adamw_(
            [w.update],
            [w.grad],
            [w.m],
            [w.v],
            [],
            [self._count.fill_(taken + 1)],  # a GPU's kernel reads it there
            lr=1.0,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=1.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )
        if self._keep is not None:
            torch._foreach_mul_(self._values, self._keep)
        torch._foreach_addcmul_(self._values, [one.update for one in w.each], self._lr)


def needs_moments(values: Values) -> bool:
    """Return whether the optimizer of a trial with `values` keeps moments."""
    return values["optimizer.name"] in ("adam", "adamw") or bool(values.get("optimizer.momentum"))


def optimizer(
    pack: Pack[GrokkingConfig], weights: Weights, column: Callable[[str], Tensor]
) -> Optimizer:
    """Return the optimizer of `pack` for the weights of one of its blocks.

    Args:
        pack: Names the optimizer and its static fields.
        weights: Of the block, at their initial values.
        column: Path of a field to its value for each row, ``[*lead]``, in float64.
    """
    values = pack.trials[0].values
    made = _plain(values, weights, column)
    clip = values.get("optimizer.clip")
    if clip is not None:
        assert isinstance(clip, float)
        made = Clipped(made, weights, clip)
    return OnSphere(made, weights) if values.get("optimizer.constant_norm") else made


def _plain(values: Values, weights: Weights, column: Callable[[str], Tensor]) -> Optimizer:
    name = str(values["optimizer.name"])
    lr = column("optimizer.lr")
    rate = lr.to(weights.value)
    momentum = values.get("optimizer.momentum")
    if momentum:
        assert isinstance(momentum, float)
        return Momentum(weights, rate, momentum)
    if not needs_moments(values):
        return GradientDescent(weights, rate)
    keep = (1 - lr * column("optimizer.weight_decay")) if name == "adamw" else None
    betas = values["optimizer.betas"]
    assert isinstance(betas, tuple)
    return AdamW(
        weights, rate, None if keep is None else keep.to(weights.value), (betas[0], betas[1])
    )
