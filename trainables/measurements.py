"""What is measured of many matrices, and the residual that it leaves.

Two kinds of linear measurements with one interface: entries (completion) and values of x^T A z
(sensing). Matrices are ``[B, n1, n2]``, padded with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from trainables.blocks import padded
from trainables.matrix_data import Instance


class Measurements(Protocol):
    """The measurements of B trials, each of its own matrix A*.

    Attributes:
        norm: ||y|| of each trial, ``[B]``.
    """

    norm: Tensor

    def gradient(self, A: Tensor, out: Tensor) -> None:
        """Write the gradient of 1/2 ||X(A) - y||^2 to `out`."""

    def residual(self, A: Tensor) -> Tensor:
        """Return ||X(A) - y||, ``[B]``."""

    def project(self, A: Tensor) -> None:
        """Move A in place to the nearest solution of X(A) = y."""


class Entries:
    """Some of the entries of each A*.

    Args:
        data: The instance of each trial.
        shape: Of the padded matrices, ``[B, n1, n2]``.
        move: Dtype and device.
    """

    def __init__(self, data: Sequence[Instance], shape: torch.Size, move: Any) -> None:
        self._measured, self._minus_y = (torch.zeros(shape, **move) for _ in range(2))
        for i, one in enumerate(data):
            assert one.measured is not None
            n1, n2 = one.signal.shape
            self._measured[i, :n1, :n2] = one.measured
            self._minus_y[i, :n1, :n2] = -one.measured * one.signal
        self._chosen = self._measured > 0
        self._y = -self._minus_y
        self.norm = torch.linalg.vector_norm(self._y, dim=(1, 2))

    def gradient(self, A: Tensor, out: Tensor) -> None:
        """Write the measured entries of A - A* to `out`."""
        torch.addcmul(self._minus_y, self._measured, A, out=out)

    def residual(self, A: Tensor) -> Tensor:
        """Return the norm of the measured entries of A - A*."""
        wrong = torch.addcmul(self._minus_y, self._measured, A)
        norm: Tensor = torch.linalg.vector_norm(wrong, dim=(1, 2))
        return norm

    def project(self, A: Tensor) -> None:
        """Set the measured entries of A to those of A*."""
        A.copy_(torch.where(self._chosen, self._y, A))


class Values:
    """Values of x^T A* z; trials of one data set share the products with its X.

    Shape suffixes: D data sets, M trials of a data set (padded with zeros), N measurements,
    q = n1 n2 entries.

    Args:
        data: The instance of each trial; trials of one data set are neighbours, and have the
            same object.
        move: Dtype and device.
    """

    def __init__(self, data: Sequence[Instance], move: Any) -> None:
        starts = [i for i, one in enumerate(data) if i == 0 or one is not data[i - 1]]
        sizes = [b - a for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
        sets = [data[i] for i in starts]
        D, M = len(sets), padded(max(sizes))
        rows = [d * M + i for d, size in enumerate(sizes) for i in range(size)]
        self._rows = torch.tensor(rows, device=move["device"])
        assert sets[0].X is not None
        N, q = sets[0].X.shape
        X, pinv = (torch.zeros(D, padded(N), padded(q), dtype=torch.float64) for _ in range(2))
        minus_y = torch.zeros(D, padded(N), dtype=torch.float64)
        for d, one in enumerate(sets):
            assert one.X is not None
            assert one.pinv is not None
            X[d, :N, :q], pinv[d, :N, :q] = one.X, one.pinv.mT
            minus_y[d, :N] = -one.X @ one.signal.flatten()
        self._X, self._Xt = X.to(**move), X.mT.contiguous().to(**move)
        self._pinv_t = pinv.to(**move)
        self._minus_y = minus_y[:, None, :].expand(D, M, padded(N)).contiguous().to(**move)
        self._a, self._g = (torch.zeros(D, M, padded(q), **move) for _ in range(2))
        self._n1, self._n2 = data[0].signal.shape
        self.norm = torch.linalg.vector_norm(self._minus_y, dim=-1).flatten()[self._rows]

    def _real(self, A: Tensor) -> Tensor:
        return A[:, : self._n1, : self._n2]

    def _residuals(self, A: Tensor) -> Tensor:
        """Return X(A) - y, ``[D, M, N]``."""
        entries = self._real(A).reshape(len(A), -1)
        self._a.flatten(0, 1)[:, : entries.shape[1]].index_copy_(0, self._rows, entries)
        return torch.baddbmm(self._minus_y, self._a, self._Xt)

    def _entries(self, rows: Tensor) -> Tensor:
        """Return ``[D, M, q]`` as matrices of the trials, without padding."""
        found = rows.flatten(0, 1).index_select(0, self._rows)
        return found[:, : self._n1 * self._n2].view(-1, self._n1, self._n2)

    def gradient(self, A: Tensor, out: Tensor) -> None:
        """Write X^T (X(A) - y) to `out`."""
        torch.bmm(self._residuals(A), self._X, out=self._g)
        self._real(out).copy_(self._entries(self._g))

    def residual(self, A: Tensor) -> Tensor:
        """Return ||X(A) - y||."""
        norms: Tensor = torch.linalg.vector_norm(self._residuals(A), dim=-1)
        return norms.flatten()[self._rows]

    def project(self, A: Tensor) -> None:
        """Take X^+ (X(A) - y) from A."""
        torch.bmm(self._residuals(A), self._pinv_t, out=self._g)
        self._real(A).sub_(self._entries(self._g))
