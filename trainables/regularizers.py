"""Penalties on weights, each with a strength of its own per trial.

`add_gradient` adds the (sub)gradient of the penalty to the weights' gradients; which tensors
count as weights, and what l1 means for a recovered vector, is the system's business. The
subgradient of |w| at 0 is 0.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718, 1.1: l2 without a square root, the polar
        factor for the nuclear norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sweeper.packing import Pack
from trainables.blocks import Weight
from trainables.config import GrokkingConfig


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
    """Add the polar factor U V^T, the (sub)gradient of strength * ||W||_*; 0 where W isn't finite."""
    finite = torch.isfinite(weight.value).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    U, _, Vh = torch.linalg.svd(torch.where(finite, weight.value, 0.0), full_matrices=False)
    weight.grad.addcmul_(U @ Vh, strength * finite)


GRADIENTS: dict[str, Callable[[Weight, Tensor], None]] = {
    "l1": l1, "l2_sq": l2_sq, "l2_fro": l2_fro, "nuclear": nuclear,
}  # fmt: skip


def strengths(pack: Pack[GrokkingConfig]) -> dict[str, list[float]]:
    """Return penalty to the strengths of all trials of `pack`; terms that are 0 everywhere left out.

    The presence of a term is the same for all trials of a pack; its strength may be 0 for some.
    """
    name = pack.trials[0].values["regularizer.name"]
    if name == "none":
        return {}
    if name != "sum":
        return {str(name): pack.column("regularizer.strength")}
    terms = {term: pack.column(f"regularizer.terms.{term}.strength") for term in GRADIENTS}
    filled = {term: [v or 0.0 for v in column] for term, column in terms.items()}
    return {term: column for term, column in filled.items() if any(column)}


def add_gradient(weights: Sequence[Weight], penalty: str, strength: Tensor) -> None:
    """Add the gradient of `penalty` on every weight; `strength` as ``[*lead]``."""
    for weight in weights:
        GRADIENTS[penalty](weight, weight.per_trial(strength))
