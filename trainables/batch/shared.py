"""Products of a data set's matrix with the vectors of all trials that share it.

r = X a + c and g = X^T r, for D data sets at once: the two products of a step of linear
measurements. Shape suffixes: D data sets, M trials of a data set, N rows and n columns of X.

A trial's numbers must not depend on its neighbours, bit for bit. In double precision the library
of matrix products (MKL) computes tiles of 24 by one kernel and the rest by others, whose last bits
differ. So the dimension that it tiles is a multiple of 24: that of r and g while trials are rows
of memory, that of the trials where they are its columns. Columns make the product with few rows
(N) half as slow again, and pay from about a hundred trials on. Both layouts then give the same
bits. In single precision multiples of 8 do, and columns are no faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import Placement, padded

TILE = 24
"""Numbers that one kernel takes at once in double precision; 8 and 12 divide it."""

COLUMNS = 96
"""Trials of a data set from which on they are columns of memory."""


def by_columns(trials: int, dtype: torch.dtype) -> bool:
    """Return whether that many trials of a data set are columns of memory."""
    return dtype == torch.float64 and trials >= COLUMNS


def slots(trials: int, dtype: torch.dtype) -> int:
    """Return M for a data set with that many trials: some of the slots are inert."""
    return padded(trials, TILE) if by_columns(trials, dtype) else padded(trials)


class Shared:
    """The matrices X of some data sets, padded with zeros.

    Args:
        X: ``[D, N, n]``, in float64 on the CPU.
        M: Slots of a data set.
        dtype: Of the trials.
        device: Of the trials.
    """

    def __init__(self, X: Tensor, M: int, *, dtype: torch.dtype, device: str) -> None:
        self.columns = by_columns(M, dtype)
        self._M = M
        self._place: Placement = {"dtype": dtype, "device": device}
        tile = TILE if dtype == torch.float64 else padded(1)
        self._inner = tuple(padded(size) for size in X.shape[1:])
        self.n = padded(X.shape[2], tile)
        self._N = self._inner[0] if self.columns else padded(X.shape[1], tile)
        self._X = self._filled(X)

    def _filled(self, matrices: Tensor) -> Tensor:
        below, right = self._N - matrices.shape[1], self.n - matrices.shape[2]
        return torch.nn.functional.pad(matrices, (0, right, 0, below)).to(**self._place)

    def vectors(self, size: int) -> Tensor:
        """Return zeros of each trial, ``[D, M, size]``, laid out as the products want them."""
        D = len(self._X)
        if self.columns:
            return torch.zeros(D, size, self._M, **self._place).mT
        return torch.zeros(D, self._M, size, **self._place)

    def fit(self, a: Tensor, g: Tensor, c: Tensor) -> SharedProducts:
        """Return the products of a step for vectors that stay where they are.

        Args:
            a: ``[D, M, n]``, padded, laid out as by `vectors`.
            g: Where X^T r goes, likewise.
            c: ``[D, N]``, in float64 on the CPU: added to X a.
        """
        n = self._inner[1]
        r, plus = (self.vectors(self._N) for _ in range(2))
        plus[..., : c.shape[1]] = c[:, None, :].to(plus)
        X = self._X
        if self.columns:
            forward = (plus.mT, X[..., :n].contiguous(), a.mT[:, :n], r.mT)
        else:
            forward = (plus, a[..., :n], X.mT.contiguous()[:, :n], r)
        return SharedProducts(r, g, forward, self._backward(r, g, X))

    def projected(self, fit: SharedProducts, back: Tensor) -> SharedProducts:
        """Return `fit` with other matrices in place of X in X^T r; both write to the same r and g.

        Args:
            fit: The products with X.
            back: ``[D, N, n]``, in float64 on the CPU, e.g. the transposed pseudo-inverse of X.
        """
        return SharedProducts(
            fit.r, fit.g, fit.forward, self._backward(fit.r, fit.g, self._filled(back))
        )

    def _backward(self, r: Tensor, g: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the operands and the result of Y^T r."""
        if self.columns:
            return Y.mT.contiguous(), r.mT, g.mT
        N = self._inner[0]
        return r[..., :N], Y[:, :N], g


class SharedProducts:
    """The products of a step, in buffers of their own.

    Attributes:
        r: X a + c, ``[D, M, N]``.
        g: X^T r, ``[D, M, n]``.
        forward: The summand, the operands and the result of X a + c.
    """

    def __init__(
        self,
        r: Tensor,
        g: Tensor,
        forward: tuple[Tensor, Tensor, Tensor, Tensor],
        backward: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        self.r, self.g = r, g
        self.forward, self._backward = forward, backward

    def residual(self) -> Tensor:
        """Write r of the vectors as they are now, and return it."""
        plus, left, right, out = self.forward
        torch.baddbmm(plus, left, right, out=out)
        return self.r

    def gradient(self) -> Tensor:
        """Write r and g of the vectors as they are now, and return g."""
        plus, left, right, out = self.forward
        torch.baddbmm(plus, left, right, out=out)
        left, right, out = self._backward
        torch.bmm(left, right, out=out)
        return self.g
