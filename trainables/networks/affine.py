"""Linear maps with a bias and an activation, of many trials at once, with their backward pass.

An automatic backward pass of the transposed products leaves gradients in another order of memory
than their weights have, and copying those took as long as some products. Here each product writes
its result in the order of the weights.

Shape suffixes: B trials, N examples, d inputs, h outputs.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAK = 0.2
"""Slope of the leaky ReLU below 0 ([L23]'s code)."""

FAR = 20.0
"""Where tanh is 1 to the last bit of a double."""


def _tanh(x: Tensor) -> Tensor:
    """Set x to tanh x = e / (e + 2) for e = exp(2 x) - 1: twice as fast as torch.tanh_."""
    e = x.clamp_(-FAR, FAR).mul_(2).expm1_()
    return e.div_(e + 2)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu_,
    "tanh": _tanh,
    "leaky_relu": lambda x: torch.nn.functional.leaky_relu_(x, LEAK),
}
"""Activation to the function that sets a tensor to its values; NaN stays NaN."""

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: (y > 0).to(y),
    "tanh": lambda y: 1 - y * y,
    "leaky_relu": lambda y: torch.where(y > 0, torch.ones_like(y), LEAK),
}
"""Activation to its derivative as a function of its value."""

PULLED_BACK: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda g, _: g,
    "relu": lambda g, y: torch.ops.aten.threshold_backward(g, y, 0),
    "tanh": torch.ops.aten.tanh_backward,
    "leaky_relu": lambda g, y: torch.ops.aten.leaky_relu_backward(g, y, LEAK, True),
}
"""Activation to the gradient of its input, from that of its value and the value."""


class _Affine(torch.autograd.Function):
    """f(x W^T + b)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        """Return ``[B, N, h]``; see `affine`."""
        y = torch.bmm(x, W.mT) if bias is None else torch.baddbmm(bias[:, None], x, W.mT)
        y = ACTIVATIONS[activation](y)
        ctx.activation = activation
        ctx.save_for_backward(x, W, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        """Return the gradients of the arguments for the gradient ``[B, N, h]``."""
        x, W, y = ctx.saved_tensors
        g = PULLED_BACK[ctx.activation](grad, y)
        of_x = torch.bmm(g, W) if ctx.needs_input_grad[0] else None
        of_bias = g.sum(dim=1) if ctx.needs_input_grad[2] else None
        return of_x, torch.bmm(g.mT, x), of_bias, None


_affine: Callable[..., Tensor] = _Affine.apply


def affine(x: Tensor, W: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """Return f(x W^T + b), ``[B, N, h]``.

    Args:
        x: ``[B, N, d]``.
        W: ``[B, h, d]``.
        bias: ``[B, h]``; None for 0.
        activation: Name of f.
    """
    return _affine(x, W, bias, activation)
