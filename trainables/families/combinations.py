"""How the embeddings of two operands become the input of a network, and how gradients come back.

Rows of both operands are looked up first: `combine` sees them as ``E``, ``[2, B, N, d]``. What
lies behind the true width is padding, zero before and after (`sweeper.trainables.batch.weights`).

Shape suffixes: B trials, N pairs, d embedding (padded).

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718, Fig. 1 and its code
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class EmbeddingCombination(Protocol):
    """One input of two embeddings.

    Attributes:
        in_place: `gradients` writes to the looked-up rows themselves, each operand's gradient to
            the rows of the other: nothing more needs to be kept.
    """

    in_place: bool

    def combine(self, E: Tensor, out: Tensor) -> None:
        """Write the inputs ``[B, N, d]`` to `out`, which is zero in its padding."""

    def gradients(self, E: Tensor, dX: Tensor, out: Tensor) -> None:
        """Write the gradients of the looked-up rows, ``[2, B, N, d]``, to `out`.

        Args:
            E: The rows.
            dX: Gradient of the inputs, ``[B, N, d]``.
            out: Zero in its padding; `E` itself if this works in place.
        """


class Hadamard:
    """e_a * e_b, elementwise."""

    in_place = True

    def combine(self, E: Tensor, out: Tensor) -> None:
        """Write e_a * e_b."""
        torch.mul(E[0], E[1], out=out)

    def gradients(self, E: Tensor, dX: Tensor, out: Tensor) -> None:
        """Write e_b's gradient e_a * dX to the rows of a, and the other way round."""
        torch.mul(E, dX, out=out)


class ElementwiseSum:
    """e_a + e_b."""

    in_place = False

    def combine(self, E: Tensor, out: Tensor) -> None:
        """Write e_a + e_b."""
        torch.add(E[0], E[1], out=out)

    def gradients(self, E: Tensor, dX: Tensor, out: Tensor) -> None:  # noqa: ARG002
        """Write dX twice."""
        out.copy_(dX)


class MatrixProduct:
    """The matrix product A B of e_a and e_b, each reshaped to q x q ([N25]).

    Args:
        d: Width of the embeddings, a square number.
    """

    in_place = False

    def __init__(self, d: int) -> None:
        self._d, self._q = d, math.isqrt(d)

    def _matrices(self, rows: Tensor) -> Tensor:
        """Return ``[..., d]`` as ``[B * N, q, q]`` for each leading index before B and N."""
        true = rows[..., : self._d]
        return true.view(*rows.shape[:-1], self._q, self._q).flatten(-4, -3)

    def combine(self, E: Tensor, out: Tensor) -> None:
        """Write A B."""
        torch.bmm(*self._matrices(E), out=self._matrices(out))

    def gradients(self, E: Tensor, dX: Tensor, out: Tensor) -> None:
        """Write dX B^T and A^T dX."""
        (A, B), D, (to_a, to_b) = self._matrices(E), self._matrices(dX), self._matrices(out)
        torch.bmm(D, B.mT, out=to_a)
        torch.bmm(A.mT, D, out=to_b)


def combination(name: str, d: int) -> EmbeddingCombination:
    """Return the combination that ``model.embedding`` names, of embeddings of width `d`."""
    if name == "matrix":
        return MatrixProduct(d)
    return ElementwiseSum() if name == "sum" else Hadamard()
