"""The steps of the optimizers; `sweeper.trainables.config.optimizers` has their fields.

An optimizer trains many trials at once, each with rates of its own. All trials of a pack have
taken the same number of steps, so the bias corrections of Adam are numbers; learning rates and
weight decays are tensors of one number per trial.

References:
    [KB15] Kingma, Ba, Adam, 2015. arXiv 1412.6980
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [LH19] Loshchilov, Hutter, Decoupled Weight Decay, 2019. arXiv 1711.05101
    [N25] Notsawo et al., 2025. arXiv 2506.05718
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from sweeper.packing import Pack
from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.optimizers import Adam, OptimizerSection, Sgd
from sweeper.trainables.optim.norms import total_norm
from sweeper.trainables.optim.systems import Projectable, Proximal, Solvable, System

EPS = 1e-8
"""Adam's epsilon."""

Column = Callable[[str], Tensor]
"""Path of a field to its value for each trial of a block, ``[*lead]``, in float64."""


S = TypeVar("S", bound=System)
"""The blocks that an optimizer can train."""


class Optimizer(ABC, Generic[S]):
    """Changes the weights of a block, one step of all its trials at a time.

    What it keeps from step to step are the tensors that `OptimizerSection.state` names: they are
    made here, checkpoints hold them, and packs are planned with room for them. It keeps no
    reference to the block, which keeps one to it: memory is freed when a block is dropped.

    Args:
        system: The block that is trained, with its weights at their initial values.
        config: The static fields; its batched fields are those of one trial only.

    Attributes:
        weights: The weights of the block.
        state: Name to one number for every number of the weights, 0 before the first step.
    """

    def __init__(self, system: S, config: OptimizerSection) -> None:
        self.weights = system.weights
        self.state = {name: self.weights.keep(name) for name in config.state}

    @abstractmethod
    def step(self, system: S, taken: int) -> None:
        """Take one step of the block; `taken` is the number of steps before it."""

    def per_weight(self, numbers: Tensor) -> list[Tensor]:
        """Return one number per trial, ``[*lead]``, in the shape and dtype of each weight."""
        numbers = numbers.to(self.weights.value)
        return [weight.per_trial(numbers) for weight in self.weights.each]


class GradientOptimizer(Optimizer[System]):
    """An optimizer that needs nothing but the gradients of the loss and the penalties.

    Where the config has these fields, `clip` bounds the norm of the gradients and `constant_norm`
    puts the weights back on the sphere that they started on ([L23] 2).
    """

    def __init__(self, system: System, config: OptimizerSection) -> None:
        super().__init__(system, config)
        self._clip: float | None = getattr(config, "clip", None)
        sphere: bool = getattr(config, "constant_norm", False)
        self._initial = total_norm(self.weights) if sphere else None

    def step(self, system: System, taken: int) -> None:
        """Take one step."""
        system.set_gradient(taken)
        if self._clip is not None:
            clip_gradients(self.weights, self._clip)
        self.update(taken)
        if self._initial is not None:
            scale_weights(self.weights, self._initial)

    @abstractmethod
    def update(self, taken: int) -> None:
        """Change the weights by the gradients, which are those of this step."""


def clip_gradients(weights: Weights, clip: float) -> None:
    """Scale the gradients of each trial down to a norm of at most `clip`.

    The norm is that of all weights of a trial together. As torch.nn.utils.clip_grad_norm_, a
    trial's gradient is scaled by clip / (norm + 1e-6) where that is below 1.
    """
    factor = (clip / (total_norm(weights, "grad") + 1e-6)).clamp(max=1.0)
    for weight in weights.each:
        weight.grad.mul_(weight.per_trial(factor.to(weight.grad)))


def scale_weights(weights: Weights, norm: Tensor) -> None:
    """Scale all weights of each trial together to `norm`, ``[*lead]``."""
    now = total_norm(weights)
    factor = torch.where(now > 0, norm / now, 1.0)
    for weight in weights.each:
        weight.value.mul_(weight.per_trial(factor.to(weight.value)))


class GradientDescentOptimizer(GradientOptimizer):
    """w <- w - lr * g."""

    def __init__(self, system: System, config: OptimizerSection, column: Column) -> None:
        super().__init__(system, config)
        self._rates = self.per_weight(-column("optimizer.lr"))

    def update(self, taken: int) -> None:  # noqa: ARG002
        """Take a step along the negative gradients."""
        for weight, rate in zip(self.weights.each, self._rates, strict=True):
            weight.value.addcmul_(weight.grad, rate)


class MomentumOptimizer(GradientDescentOptimizer):
    """m <- momentum * m + g, w <- w - lr * m, as torch.optim.SGD; without momentum w - lr * g."""

    def __init__(self, system: System, config: Sgd, column: Column) -> None:
        super().__init__(system, config, column)
        self._momentum = config.momentum

    def update(self, taken: int) -> None:
        """Update the velocity m, then take a step along it."""
        if not self._momentum:
            super().update(taken)
            return
        m = self.state["m"]
        m.flat.mul_(self._momentum).add_(self.weights.grad)
        for weight, velocity, rate in zip(self.weights.each, m.each, self._rates, strict=True):
            weight.value.addcmul_(velocity, rate)


class AdamOptimizer(GradientOptimizer):
    """Adam [KB15]; its weight decay is part of the gradient."""

    def __init__(self, system: System, config: Adam, column: Column) -> None:
        super().__init__(system, config)
        self._betas = config.betas
        self._lr = self.per_weight(column("optimizer.lr"))
        self._values = [weight.value for weight in self.weights.each]
        self._change = self.weights.buffer()
        self._count = torch.zeros((), dtype=torch.float32, device=self.weights.value.device)

    def update(self, taken: int) -> None:
        """Update the moments, then take a step; `taken` sets the bias corrections.

        Torch's one pass over memory takes a single rate: with rate and decay 1 it leaves the
        negative direction of the step, which is then scaled by the rate of each trial.
        """
        torch._fused_adamw_(
            [self._change.flat],
            [self.weights.grad],
            [self.state["m"].flat],
            [self.state["v"].flat],
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
        torch._foreach_addcmul_(self._values, self._change.each, self._lr)


class AdamWOptimizer(AdamOptimizer):
    """Adam with decoupled weight decay [LH19]: every step leaves 1 - lr * decay of a weight."""

    def __init__(self, system: System, config: Adam, column: Column) -> None:
        super().__init__(system, config, column)
        self._kept = self.per_weight(1 - column("optimizer.lr") * column("optimizer.weight_decay"))

    def update(self, taken: int) -> None:
        """Let the weights decay, then take Adam's step."""
        torch._foreach_mul_(self._values, self._kept)
        super().update(taken)


class ProximalGradientOptimizer(Optimizer[Proximal]):
    """A gradient step on the loss, then the proximal map of lr * penalty ([N25] 1.1).

    For the l1 norm of a vector this is ISTA, for the nuclear norm of a matrix singular value
    thresholding.
    """

    def __init__(self, system: Proximal, config: OptimizerSection, column: Column) -> None:
        super().__init__(system, config)
        self._lr = column("optimizer.lr").to(self.weights.value)
        self._rates = self.per_weight(-self._lr)

    def step(self, system: Proximal, taken: int) -> None:  # noqa: ARG002
        """Take one step."""
        system.set_loss_gradient()
        for weight, rate in zip(self.weights.each, self._rates, strict=True):
            weight.value.addcmul_(weight.grad, rate)
        system.shrink(self._lr)


class ProjectedOptimizer(Optimizer[Projectable]):
    """A subgradient step on the penalties, then a projection onto the data's solutions [N25]."""

    def __init__(self, system: Projectable, config: OptimizerSection, column: Column) -> None:
        super().__init__(system, config)
        self._lr = column("optimizer.lr").to(self.weights.value)
        self._project = system.projection()

    def step(self, system: Projectable, taken: int) -> None:  # noqa: ARG002
        """Take one step."""
        system.descend_penalties(self._lr)
        self._project()


class BasisPursuitOptimizer(Optimizer[Solvable]):
    """Every step sets the weights to the solution of least l1 norm; there is no rate."""

    def __init__(self, system: Solvable, config: OptimizerSection, column: Column) -> None:  # noqa: ARG002
        super().__init__(system, config)
        self._solve = system.solver()

    def step(self, system: Solvable, taken: int) -> None:  # noqa: ARG002
        """Go to the solution."""
        self._solve()


OPTIMIZERS: dict[str, Callable[[Any, Any, Column], Optimizer[Any]]] = {
    "gd": GradientDescentOptimizer,
    "ista": ProximalGradientOptimizer,
    "svt": ProximalGradientOptimizer,
    "projected": ProjectedOptimizer,
    "basis_pursuit": BasisPursuitOptimizer,
    "sgd": MomentumOptimizer,
    "adam": AdamOptimizer,
    "adamw": AdamWOptimizer,
}
"""Name of an optimizer in a config to the class that takes its steps.

Which of them can train which blocks, the config checks by `fits` and by its constraints.
"""


def optimizer(pack: Pack[GrokkingConfig], system: System, column: Column) -> Optimizer[Any]:
    """Return the optimizer of `pack` for one of its blocks.

    Args:
        pack: The trials; they have one optimizer.
        system: The block, with its weights at their initial values.
        column: The batched fields of the block's trials.
    """
    config = pack.config.optimizer
    return OPTIMIZERS[config.name](system, config, column)
