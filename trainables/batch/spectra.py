"""Functions of the singular values of many matrices at once.

A = U S V^T is computed from the eigenvectors V of A^T A, by one batched `eigh`, in less than
half of the time of an SVD: A V has the columns s_i u_i, and its columns' norms are the singular
values, exact to the rounding of the largest one. Always in float64.

Matrices are padded with zeros to multiples of 4 (`sweeper.trainables.families.low_rank`). The Gram
matrix gets -1 on the diagonal of its padding, so that no eigenvector mixes padding with a null
space of A: results are exactly 0 there. A matrix that is not finite gives a result that is
not finite, and does not change its neighbours.

Shape suffixes: B trials, rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NULL = 1e-6
"""Below this share of the largest, directions of A^T A are lost in its rounding."""


def polar(A: Tensor, rows: int, columns: int) -> Tensor:
    """Return the polar factors U V^T of A, ``[B, rows, columns]`` and padding.

    Singular values at `NULL` times the largest or below count as 0 and are left out: the result
    is the least subgradient of the nuclear norm.
    """

    def inverse(s: Tensor) -> Tensor:
        return torch.where(s > NULL * s.amax(dim=-1, keepdim=True), 1 / s, 0.0)

    return _mapped(A, rows, columns, inverse)


def shrink(A: Tensor, rows: int, columns: int, threshold: Tensor) -> Tensor:
    """Return A with its singular values lowered by `threshold`, ``[B]``, and at least 0.

    It is A - U min(S, threshold) V^T: a threshold of 0 leaves every bit of A.
    """
    t = threshold.double()[:, None]
    return A - _mapped(A, rows, columns, lambda s: torch.where(s > t, t / s, 1.0))


def _mapped(A: Tensor, rows: int, columns: int, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Return U S gain(S) V^T; `gain` maps the singular values, ``[B, k]``."""
    if columns > rows:
        return _mapped(A.mT, columns, rows, gain).mT
    double = A.double().contiguous()
    gram = torch.bmm(double.mT, double)
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    diagonal[:, columns:] = -1.0
    finite = torch.isfinite(diagonal.sum(dim=-1))[:, None, None]  # bounds all entries of A^T A
    V = torch.linalg.eigh(torch.where(finite, gram, 0.0))[1].contiguous()
    scaled = torch.bmm(double, V)
    s = scaled.square().sum(dim=-2).sqrt()  # a tenth of the time of vector_norm, over rows
    scaled.mul_(gain(s)[:, None, :])
    return torch.bmm(scaled, V.mT).to(A.dtype)


def singular_values(A: Tensor) -> Tensor:
    """Return the singular values, ``[B, k]`` in float64, descending; NaN where A is not finite."""
    finite = torch.isfinite(A).all(dim=-1).all(dim=-1)
    values = torch.linalg.svdvals(torch.where(finite[:, None, None], A, 0.0).double())
    return torch.where(finite[:, None], values, torch.nan)
