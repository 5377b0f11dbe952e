"""Instances of matrix completion and sensing: the matrix A* and its measurements.

The published instances cannot be drawn again: their code draws A* from torch's global generator,
which it does not seed (a seed of 0 counts as none there).

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sweeper.trainables.config import share
from sweeper.trainables.data.streams import stream


@dataclass(frozen=True, slots=True)
class MatrixInstance:
    """One instance, in float64 on the CPU.

    Attributes:
        signal: A*, ``[n1, n2]``.
        measured: Of completion: 1 for the entries that are measured, else 0; ``[n1, n2]``.
        X: Of sensing: the measurements, ``[N, n1 * n2]``; they see A row by row.
        pinv: Of sensing: pseudo-inverse of X.
        ls_spectral: ||A_LS - A*||_2, the largest singular value, of the least-squares solution
            of least norm (law 8).
        null_floor: ||A_LS - A*|| / ||A*||, the share of A* that is not measured.
    """

    signal: Tensor
    measured: Tensor | None
    X: Tensor | None
    pinv: Tensor | None
    ls_spectral: float
    null_floor: float


@lru_cache(maxsize=512)
def matrix(seed: int, n1: int, n2: int, rank: int) -> Tensor:
    """Return A* = U V^T with Gaussian U and V, rescaled to ||A*||_F = sqrt(n1 n2)."""
    g = stream(seed, "low-rank matrix", n1, n2, rank)
    U = torch.randn(n1, rank, generator=g, dtype=torch.float64)
    V = torch.randn(n2, rank, generator=g, dtype=torch.float64)
    A: Tensor = U @ V.mT
    A *= math.sqrt(n1 * n2) / A.norm()
    return A


def leverage(A: Tensor, rank: int) -> Tensor:
    """Return n1 / r ||U_i||^2 + n2 / r ||V_j||^2 of every entry of A = U S V^T of rank r."""
    U, _, Vh = torch.linalg.svd(A, full_matrices=False)
    left = U[:, :rank].square().sum(dim=1) * (len(A) / rank)
    right = Vh[:rank].square().sum(dim=0) * (A.shape[1] / rank)
    scores: Tensor = left[:, None] + right[None, :]
    return scores


@lru_cache(maxsize=512)
def completion(seed: int, n1: int, n2: int, rank: int, N: int, tau: float) -> MatrixInstance:
    """Return the instance of these fields.

    The floor(tau * N) entries of largest leverage are measured; the others are drawn from the
    rest, in one random order for every tau.
    """
    A = matrix(seed, n1, n2, rank)
    top = share(tau, N)
    scores = leverage(A, rank).flatten().round(decimals=9)  # ties do not depend on the last bit
    chosen = torch.argsort(scores, descending=True, stable=True)[:top]
    measured = torch.zeros(n1 * n2, dtype=torch.float64)
    measured[chosen] = 1.0
    order = torch.randperm(n1 * n2, generator=stream(seed, "entries", n1, n2))
    measured[order[measured[order] == 0][: N - top]] = 1.0
    measured = measured.view(n1, n2)
    return _instance(A, measured * A, measured=measured)


@lru_cache(maxsize=128)
def sensing(seed: int, n1: int, n2: int, rank: int, N: int, tau: float) -> MatrixInstance:
    """Return the instance of these fields: measurements x^T A* z of variance 1 / (n1 n2).

    The first min(floor(tau * N), n1) vectors x are left singular vectors of A*, completed to an
    orthonormal basis, and likewise z.
    """
    A = matrix(seed, n1, n2, rank)
    U, _, Vh = torch.linalg.svd(A, full_matrices=False)
    sides = []
    for name, n, vectors in (("left", n1, U[:, :rank]), ("right", n2, Vh[:rank].mT)):
        drawn = torch.randn(N, n, generator=stream(seed, name, N, n), dtype=torch.float64)
        side = drawn / math.sqrt(n)
        g = stream(seed, f"{name} basis", n, rank)
        others = torch.randn(n, n - rank, generator=g, dtype=torch.float64)
        others -= vectors @ (vectors.mT @ others)
        count = min(share(tau, N), n)
        side[:count] = torch.cat([vectors, torch.linalg.qr(others)[0]], dim=1).mT[:count]
        sides.append(side)
    X = (sides[0][:, :, None] * sides[1][:, None, :]).flatten(1)
    pinv = torch.linalg.pinv(X)
    return _instance(A, (pinv @ (X @ A.flatten())).view(n1, n2), X=X, pinv=pinv)


def _instance(
    A: Tensor,
    least_squares: Tensor,
    *,
    measured: Tensor | None = None,
    X: Tensor | None = None,
    pinv: Tensor | None = None,
) -> MatrixInstance:
    unseen = least_squares - A
    return MatrixInstance(
        A,
        measured,
        X,
        pinv,
        ls_spectral=float(torch.linalg.matrix_norm(unseen, 2)),
        null_floor=float(unseen.norm() / A.norm()),
    )
