"""Losses of many trials at once, and which examples are right.

A loss of a trial is the mean over its examples. Shape suffixes: B trials, N examples, o outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import ALIGN


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of logits ``[B, N, o]`` with classes ``[B, N]``, in nats."""
    shares = torch.log_softmax(outputs.flatten(0, 1), 1)
    each = torch.nn.functional.nll_loss(shares, targets.flatten(), reduction="none")
    return each.view(targets.shape)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over the outputs of the squared errors ``[B, N]``, as torch's MSELoss."""
    return (outputs - targets).square().mean(dim=2)


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of one logit ``[B, N, 1]`` with classes 0 and 1, in nats."""
    against = (1 - 2 * targets.to(outputs)) * outputs[:, :, 0]
    N = against.shape[1]  # padded: the exp of a vector's remainder differs in the last bit
    return torch.nn.functional.softplus(torch.nn.functional.pad(against, (0, -N % ALIGN)))[:, :N]


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the sum over the outputs of the squared errors, ``[B, N]``."""
    return (outputs - targets).square().sum(dim=2) / 2


def largest(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return whether the true class has strictly the largest output, ``[B, N]``."""
    true = outputs.gather(2, targets[:, :, None])
    return (outputs >= true).sum(dim=2) == 1


def same_sign(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return whether one logit ``[B, N, 1]`` is above 0 for class 1, not for class 0."""
    return (outputs[:, :, 0] > 0) == (targets == 1)


def one_hot_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return `squares` from the one-hot vector of the classes ``[B, N]``."""
    wanted = torch.nn.functional.one_hot(targets, outputs.shape[2])
    return squares(outputs, wanted.to(outputs))


def within(tolerance: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the rule that an example is right if its `squares` are below `tolerance`."""
    return lambda outputs, targets: squares(outputs, targets) < tolerance


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of outputs, and the measures that are logged beside it.

    Attributes:
        each: (outputs ``[B, N, o]``, targets) to the loss of each example, ``[B, N]``.
        right: The same to whether each example is right, ``[B, N]``; None: there is no accuracy.
        relative: Whether the error ||outputs - targets|| / ||targets|| over all examples is
            measured.
    """

    each: Callable[[Tensor, Tensor], Tensor]
    right: Callable[[Tensor, Tensor], Tensor] | None = None
    relative: bool = False


CLASSES = Loss(cross_entropy, largest)
"""Classes by cross-entropy."""

ONE_HOT = Loss(one_hot_squares, largest)
"""Classes by the mean squared error from their one-hot vectors."""
