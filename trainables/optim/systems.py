"""The methods that an optimizer calls on the block that it trains.

Every block is a `System`. The other protocols are those of linear models: only the block knows
the proximal map of its penalties, or the solutions of its measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from sweeper.trainables.batch.weights import Weights


class System(Protocol):
    """A block of trials whose weights have gradients.

    Attributes:
        weights: The weights of all trials.
    """

    weights: Weights

    def set_gradient(self, taken: int) -> None:
        """Set the gradients of the weights to those of the loss and the penalties.

        Args:
            taken: Number of steps before this one; it picks the minibatch.
        """


class Proximal(System, Protocol):
    """A block of linear models whose penalties have a proximal map."""

    def set_loss_gradient(self) -> None:
        """Set the gradients of the weights to those of the loss alone."""

    def shrink(self, lr: Tensor) -> None:
        """Apply the proximal map of lr * penalty to the weights; `lr` is ``[*lead]``."""


class Projectable(System, Protocol):
    """A block of linear models whose measurements have exact solutions."""

    def descend_penalties(self, lr: Tensor) -> None:
        """Take a subgradient step on the penalties alone; `lr` is ``[*lead]``."""

    def projection(self) -> Callable[[], None]:
        """Return a function that moves the weights to the nearest solution of the measurements.

        It is called once, before the first step. The function keeps no reference to the block.
        """


class Solvable(System, Protocol):
    """A block of linear models for whose measurements the solution of least l1 norm is known."""

    def solver(self) -> Callable[[], None]:
        """Return a function that sets the weights to the solution of least l1 norm.

        It is called once, before the first step. The function keeps no reference to the block.
        """
