"""The optimizers.

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


class GradientDescent(Section):
    """Full-batch (sub)gradient descent ([N25] Eq. 1)."""

    name: Literal["gd"] = "gd"
    lr: Annotated[Positive, BATCHED] = 0.1


class Ista(Section):
    """Gradient step on the loss, then the proximal step of the penalty ([N25] 1.1)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["ista"] = "ista"
    lr: Annotated[Positive, BATCHED] = 0.1


class Svt(Section):
    """ISTA for matrices: singular values are soft-thresholded ([N25] 1.1)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MATRIX}

    name: Literal["svt"] = "svt"
    lr: Annotated[Positive, BATCHED] = 0.1


class Projected(Section):
    """Subgradient step on the penalty, then projection onto the data's solutions ([N25] 1.1)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": LINEAR}

    name: Literal["projected"] = "projected"
    lr: Annotated[Positive, BATCHED] = 0.1


class BasisPursuit(Section):
    """One step goes to a solution of X a = y of least l1 norm ([N25] Figs 19, 20)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["basis_pursuit"] = "basis_pursuit"


class _Stochastic(Section):
    lr: Annotated[Positive, BATCHED] = 1e-2
    weight_decay: Annotated[NonNegative, BATCHED] = 0.0
    batch: Count | None = None
    drop_last: bool = True
    constant_norm: bool = False
    clip: Positive | None = None


class Sgd(_Stochastic):
    """Stochastic gradient descent; `batch` null takes the full batch.

    Its weight decay is coupled, as in torch.optim: the penalty `l2_sq` by another name.

    Attributes:
        drop_last: Leave out what is left of an epoch; otherwise it is a last, smaller batch.
        momentum: m of Polyak's heavy ball, v <- m v + g, w <- w - lr v, as torch.optim.SGD.
        constant_norm: Scale all weights back to their initial norm after every step ([L23] 2).
        clip: The gradient of all weights of a trial, penalties included, is scaled to at most this
            norm before every step, as torch.nn.utils.clip_grad_norm_; null: never.
    """

    name: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Adam(_Stochastic):
    """Adam; penalties and weight decay are coupled, they enter through the gradient."""

    name: Literal["adam"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.98,
    )


class AdamW(Adam):
    """Adam with decoupled weight decay: w <- w - lr * weight_decay * w at every step."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]


Optimizer = GradientDescent | Ista | Svt | Projected | BasisPursuit | Sgd | Adam | AdamW

OPTIMIZERS = by_name(Optimizer)
