"""The fields of the optimizers; `sweeper.trainables.optim.optimizers` has their steps.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, Section
from sweeper.trainables.config.fields import (
    LINEAR,
    MATRIX,
    SPARSE,
    Count,
    NonNegative,
    Positive,
    by_name,
)


class OptimizerSection(Section):
    """The fields of an optimizer, and its memory needs for the planning of packs."""

    decoupled: ClassVar[bool] = False
    """Whether the step itself applies the weight decay; otherwise it is part of the gradient."""

    scratch: ClassVar[int] = 0
    """Tensors that a step needs per weight, beside the weight, its gradient and its state."""

    inverse: ClassVar[bool] = False
    """Whether a step needs the pseudo-inverse of the measurements."""

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the tensors per weight that are kept from step to step.

        Checkpoints hold them under these names, which therefore never change.
        """
        return ()

    @property
    def tensors(self) -> int:
        """How many tensors of a weight's size training holds per weight."""
        return 2 + len(self.state) + self.scratch  # the weight and its gradient


class GradientDescent(OptimizerSection):
    """Full-batch (sub)gradient descent ([N25] Eq. 1).

    Attributes:
        lr: Learning rate, the step size per optimizer step, above 0.
    """

    name: Literal["gd"] = "gd"
    lr: Annotated[Positive, BATCHED] = 0.1


class Ista(OptimizerSection):
    """Take a gradient step on the loss, then the proximal step of the penalty ([N25] 1.1).

    Attributes:
        lr: Learning rate, the step size per optimizer step, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["ista"] = "ista"
    lr: Annotated[Positive, BATCHED] = 0.1


class Svt(OptimizerSection):
    """Soft-threshold the singular values after a gradient step: ISTA for matrices ([N25] 1.1).

    Attributes:
        lr: Learning rate, the step size per optimizer step, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MATRIX}

    name: Literal["svt"] = "svt"
    lr: Annotated[Positive, BATCHED] = 0.1


class Projected(OptimizerSection):
    """Take a subgradient step on the penalty, then project onto the solutions of the data.

    The method is projected subgradient descent of [N25] 1.1.

    Attributes:
        lr: Learning rate, the step size per optimizer step, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": LINEAR}
    inverse: ClassVar[bool] = True

    name: Literal["projected"] = "projected"
    lr: Annotated[Positive, BATCHED] = 0.1


class BasisPursuit(OptimizerSection):
    """Solve X a = y with the least l1 norm of a, in a single step ([N25] Figs 19, 20)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["basis_pursuit"] = "basis_pursuit"


class _Stochastic(OptimizerSection):
    """The fields of every optimizer that takes batches.

    Attributes:
        lr: Learning rate, the step size per optimizer step, above 0.
        batch: Train examples per step; null: all of them. A number above the number of train
            examples means all as well.
        drop_last: Whether an epoch leaves out the examples that do not fill a batch; false: they
            form a last, smaller batch.
        constant_norm: Whether all weights together are scaled back to their initial norm after
            every step ([L23] section 2).
        clip: Largest norm of the gradient of all weights of a trial, penalties included, above 0;
            a larger gradient is scaled down to it before the step, as by
            torch.nn.utils.clip_grad_norm_. null: gradients are not clipped.
    """

    lr: Annotated[Positive, BATCHED] = 1e-2
    weight_decay: Annotated[NonNegative, BATCHED] = 0.0
    batch: Count | None = None
    drop_last: bool = True
    constant_norm: bool = False
    clip: Positive | None = None


class Sgd(_Stochastic):
    """Stochastic gradient descent with momentum, as torch.optim.SGD.

    Attributes:
        weight_decay: Strength of the weight decay, at least 0; 0: none. It is
            coupled, as in torch.optim: the same as the penalty `l2_sq`.
        momentum: Factor m of Polyak's heavy ball, from 0 to below 1: v <- m v + g, w <- w - lr v;
            0: no momentum.
    """

    name: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def state(self) -> tuple[str, ...]:
        """The velocity m, where there is momentum."""
        return ("m",) if self.momentum else ()


class Adam(_Stochastic):
    """Adam with coupled penalties and weight decay: both are part of the gradient.

    Attributes:
        weight_decay: Strength of the weight decay, at least 0; 0: none. It
            adds weight_decay * w to the gradient.
        betas: Decay rates per step of the means of the gradient and of its square, each from 0 to
            below 1.
    """

    scratch: ClassVar[int] = 1

    name: Literal["adam"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.98,
    )

    @property
    def state(self) -> tuple[str, ...]:
        """The means m of the gradient and v of its square."""
        return ("m", "v")


class AdamW(Adam):
    """Adam with decoupled weight decay; penalties are part of the gradient.

    Attributes:
        weight_decay: Strength of the weight decay, at least 0; 0: none. It
            is decoupled: every step sets w <- w - lr * weight_decay * w.
    """

    decoupled: ClassVar[bool] = True

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]


Optimizer = GradientDescent | Ista | Svt | Projected | BasisPursuit | Sgd | Adam | AdamW

OPTIMIZERS = by_name(Optimizer)
