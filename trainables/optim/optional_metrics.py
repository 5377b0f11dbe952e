"""Metrics that are logged only on request, computed alike for every family.

A block logs those that `pack.run.metrics` names. The names are listed in
`sweeper.trainables.config.metrics`. `B` stands for the leading trial dimensions of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sweeper.trainables.batch.spectra import singular_values
from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.optim.regularizers import decomposable

ZERO = 1e-6
"""Entries below it in absolute value count as zero for the sparsity."""


def gradient_ratio(loss: Sequence[Tensor], penalties: Sequence[Tensor], weights: Weights) -> Tensor:
    """Return ||beta H|| / ||G||, ``[B]`` in float64: the share of the penalties in a step.

    While the ratio is small, a trial fits its data. Later penalties and loss balance each other at
    a ratio near 1, and the weights move slowly (Fig. 3 and 5 of arXiv 2506.05718). The ratio is
    not finite where the loss has no gradient, as for a solver that stays on its minimizers. A
    decoupled weight decay has no gradient and is not counted.

    Args:
        loss: G, gradient of the loss on each weight at the current weights, ``[B, ...]`` each.
        penalties: beta H, (sub)gradient of all penalties together, likewise.
        weights: The weights.
    """
    return _norm(penalties, weights) / _norm(loss, weights)


def _norm(tensors: Sequence[Tensor], weights: Weights) -> Tensor:
    """Return the Euclidean norm of all `tensors` of each trial together, in float64."""
    axis = len(weights.lead)
    squares = torch.zeros(weights.lead, dtype=torch.float64, device=weights.value.device)
    for tensor in tensors:  # one by one: the order of a sum is in its bits
        norm = torch.linalg.vector_norm(
            tensor.flatten(axis).contiguous(), dim=axis, dtype=torch.float64
        )
        squares = squares + norm.square()
    return squares.sqrt()


def layer_norms(weights: Weights, copies: int = 1) -> dict[str, Tensor]:
    """Return ``norm_1``, ``norm_2``, ..., the Euclidean norm of each weight tensor, ``[B]``.

    Args:
        weights: The weights, in the order of the layers.
        copies: Equal factors that each tensor stands for; each gets its column.
    """
    norms = [weight.norm().reshape(weights.lead) for weight in weights.each]
    return numbered("norm", (norm for norm in norms for _ in range(copies)))


def layer_singular_values(weights: Weights) -> dict[str, Tensor]:
    """Return ``sigma_k_1``, ``sigma_k_2``, ...: the spectrum of the k-th weight, ``[B]``.

    For networks, which recover no matrix. A bias has no column, but is counted by k.
    """
    columns: dict[str, Tensor] = {}
    for number, weight in enumerate(weights.each, start=1):
        if len(weight.shape) == 2:
            matrix, finite = decomposable(weight)
            values = singular_values(torch.where(finite, matrix, torch.nan))
            shown = values[:, : min(weight.shape)]
            columns |= numbered(f"sigma_{number}", shown.unbind(dim=1))
    return columns


def numbered(name: str, columns: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return `columns` as ``name_1``, ``name_2``, ..."""
    return {f"{name}_{number}": column for number, column in enumerate(columns, start=1)}


def sparsity(values: Tensor) -> Tensor:
    """Return the share of the entries that are 0, ``[B, n]`` to ``[B]`` in float64.

    An entry below `ZERO` in absolute value counts as 0. Subgradient steps never rest on 0 but pass
    it by up to lr * strength, so their entries count only if that product is below `ZERO`. The
    share is NaN where an entry is not finite.
    """
    share = (values.abs() < ZERO).double().mean(dim=-1)
    return torch.where(torch.isfinite(values).all(dim=-1), share, torch.nan)
