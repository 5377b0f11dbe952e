"""Penalties on weights, each with a strength of its own per trial.

`add_gradient` adds the (sub)gradient of a penalty to the gradients of the weights. The block
decides which tensors count as weights, and applies l1 to the recovered vector where there is one.
The subgradient of |w| at 0 is 0. The penalty `sobolev` does not act on weights: see
`sweeper.trainables.networks.sobolev`.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718, 1.1: l2 without a square root, the polar
        factor for the nuclear norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from sweeper.config.fields import Section
from sweeper.packing import Pack
from sweeper.trainables.batch.weights import Weight, padded
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.own import Regularizer
from sweeper.trainables.config.regularizers import Terms


def l1(weight: Weight, strength: Tensor) -> None:
    """Add the gradient of strength * sum |w|."""
    weight.grad.addcmul_(torch.sign(weight.value), strength)


def l2_sq(weight: Weight, strength: Tensor) -> None:
    """Add the gradient of strength / 2 * sum w^2."""
    weight.grad.addcmul_(weight.value, strength)


def l2_fro(weight: Weight, strength: Tensor) -> None:
    """Add the gradient of strength * ||W||_F; 0 where W is 0."""
    norm = weight.norm()
    weight.grad.addcmul_(weight.value, torch.where(norm > 0, strength / norm, 0.0))


def nuclear(weight: Weight, strength: Tensor) -> None:
    """Add the (sub)gradient of strength * ||W||_*, the polar factor; 0 where W is not finite.

    A bias is no matrix and has none.
    """
    if len(weight.shape) < 2:
        return
    matrix, finite = decomposable(weight)
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    weight.real(weight.grad).addcmul_(weight.real(U @ Vh), strength * finite)


def group(weight: Weight, strength: Tensor) -> None:
    """Add the (sub)gradient of strength * sum ||w_g|| over rows w_g; 0 where a row is 0.

    A bias is no row of a matrix and has none.
    """
    if len(weight.shape) < 2:
        return
    weight.grad.addcmul_(directions(weight.value, weight.value.shape[-1]), strength)


def directions(values: Tensor, size: int) -> Tensor:
    """Return w_g / ||w_g|| for groups g of `size` neighbours, 0 where a group is 0.

    Args:
        values: ``[..., n]``; the last group may be shorter.
        size: Entries per group.
    """
    norms = group_norms(values, size)
    return values * torch.where(norms > 0, 1 / norms, 0.0)


def group_norms(values: Tensor, size: int) -> Tensor:
    """Return the norm of its group for each of `values`, ``[..., n]``."""
    n = values.shape[-1]
    filled = torch.nn.functional.pad(values, (0, -n % size)).contiguous()
    groups = filled.reshape(*values.shape[:-1], -1, size)
    norms: Tensor = torch.linalg.vector_norm(groups, dim=-1, keepdim=True)
    return norms.expand_as(groups).flatten(-2)[..., :n]


def decomposable(weight: Weight) -> tuple[Tensor, Tensor]:
    """Return W and whether it is finite, broadcastable.

    W is padded with zeros to rows that are multiples of 8, and is 0 where it is not finite.
    """
    finite = torch.isfinite(weight.value).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    rows = weight.value.shape[-2]
    matrix = torch.where(finite, weight.value, 0.0)
    return torch.nn.functional.pad(matrix, (0, 0, 0, padded(rows) - rows)), finite


GRADIENTS: dict[str, Callable[[Weight, Tensor], None]] = {
    "l1": l1,
    "l2_sq": l2_sq,
    "l2_fro": l2_fro,
    "nuclear": nuclear,
    "group": group,
}


Penalty = str | Regularizer
"""A penalty by its name, or a user's own."""


def strengths(pack: Pack[GrokkingConfig]) -> dict[Penalty, list[float]]:
    """Return penalty to the strengths of all trials of `pack`.

    Penalties whose strengths are all 0 are left out. A coupled weight decay adds to `l2_sq`.
    """
    values = pack.trials[0].values
    name = values["regularizer.name"]
    own: Section = pack.config.regularizer
    columns: dict[Penalty, list[float]] = {}
    if name == "sum":
        for term in Terms.model_fields:
            column = pack.column(f"regularizer.terms.{term}.strength")
            columns[term] = [strength or 0.0 for strength in column]
    elif isinstance(own, Regularizer):
        columns[own] = pack.column("regularizer.strength")
    elif name != "none":
        columns[str(name)] = pack.column("regularizer.strength")
    if "optimizer.weight_decay" in values and not pack.config.optimizer.decoupled:
        decays = pack.column("optimizer.weight_decay")
        before = columns.get("l2_sq", [0.0] * len(decays))
        columns["l2_sq"] = [a + b for a, b in zip(before, decays, strict=True)]
    logged = "sobolev" if name == "sobolev" else None  # it adds a column to the metrics
    return {
        penalty: column for penalty, column in columns.items() if any(column) or penalty == logged
    }


def add_gradient(weights: Sequence[Weight], penalty: Penalty, strength: Tensor) -> None:
    """Add the gradient of `penalty` on every weight; `strength` as ``[*lead]``."""
    if isinstance(penalty, Regularizer):
        _add_own(weights, penalty, strength)
        return
    for weight in weights:
        GRADIENTS[penalty](weight, weight.per_trial(strength))


def _add_own(weights: Sequence[Weight], penalty: Regularizer, strength: Tensor) -> None:
    """Add the gradient of a user's own penalty, written for one trial."""
    lead = len(weights[0].lead)
    values = [w.real(w.value).flatten(0, lead - 1).contiguous() for w in weights]

    def of_one(tensors: list[Tensor]) -> Tensor:
        value: Any = penalty.penalty(tensors)
        if not isinstance(value, Tensor) or value.dim():
            raise ValueError(
                f"{penalty.name}.penalty has to return a tensor with one number; it returned "
                f"{list(value.shape) if isinstance(value, Tensor) else type(value).__name__}."
            )
        return value

    gradients = vmap(grad(of_one))(values)
    for weight, gradient in zip(weights, gradients, strict=True):
        real, each = weight.real(weight.grad), weight.per_trial(strength)
        real.add_(torch.where(each > 0, each * gradient.reshape(real.shape), 0.0))
