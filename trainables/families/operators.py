"""Linear measurements of many matrices, and their residuals.

Two kinds of linear measurements with one interface: entries (completion) and values of x^T A z
(sensing). Matrices are ``[B, n1, n2]``, padded with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sweeper.trainables.batch.shared import Shared, slots
from sweeper.trainables.batch.weights import Placement
from sweeper.trainables.data.matrix_data import MatrixInstance


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


class EntryMeasurements:
    """Some of the entries of each A*.

    Args:
        data: The instance of each trial.
        shape: Of the padded matrices, ``[B, n1, n2]``.
        place: Dtype and device.
    """

    def __init__(self, data: Sequence[MatrixInstance], shape: torch.Size, place: Placement) -> None:
        self._measured, self._minus_y = (torch.zeros(shape, **place) for _ in range(2))
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


class BilinearMeasurements:
    """Values of x^T A* z; trials of one data set share the products with its X.

    Shape suffixes: D data sets, M trials of a data set (padded with zeros), N measurements,
    q = n1 n2 entries.

    Args:
        data: The instance of each trial; trials of one data set are neighbours, and have the
            same object.
        place: Dtype and device.
    """

    def __init__(self, data: Sequence[MatrixInstance], place: Placement) -> None:
        starts = [i for i, one in enumerate(data) if i == 0 or one is not data[i - 1]]
        sizes = [b - a for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
        sets = [data[i] for i in starts]
        D, M = len(sets), slots(max(sizes), place["dtype"])
        self._at = (
            torch.tensor([d for d in range(D) for _ in range(sizes[d])], device=place["device"]),
            torch.tensor([i for size in sizes for i in range(size)], device=place["device"]),
        )
        X = torch.stack([one.X for one in sets if one.X is not None])
        pinv = torch.stack([one.pinv for one in sets if one.pinv is not None]).mT
        # one by one: a product of all at once rounds by how many there are
        y = torch.stack([one.X @ one.signal.flatten() for one in sets if one.X is not None])
        shared = Shared(X, M, **place)
        self._a, g = shared.vectors(shared.n), shared.vectors(shared.n)
        self._fit = shared.fit(self._a, g, -y)
        self._projection = shared.projected(self._fit, pinv)
        self._n1, self._n2 = data[0].signal.shape
        self.norm = torch.linalg.vector_norm(y.to(**place), dim=-1)[self._at[0]]

    def _real(self, A: Tensor) -> Tensor:
        return A[:, : self._n1, : self._n2]

    def _take(self, A: Tensor) -> None:
        """Make A the vectors that are measured."""
        entries = self._real(A).reshape(len(A), -1)
        self._a[..., : entries.shape[1]].index_put_(self._at, entries)

    def _entries(self, vectors: Tensor) -> Tensor:
        """Return ``[D, M, q]`` as matrices of the trials, without padding."""
        rows = vectors[self._at]
        return rows[:, : self._n1 * self._n2].view(-1, self._n1, self._n2)

    def gradient(self, A: Tensor, out: Tensor) -> None:
        """Write X^T (X(A) - y) to `out`."""
        self._take(A)
        self._real(out).copy_(self._entries(self._fit.gradient()))

    def residual(self, A: Tensor) -> Tensor:
        """Return ||X(A) - y||."""
        self._take(A)
        norms: Tensor = torch.linalg.vector_norm(self._fit.residual()[self._at], dim=-1)
        return norms

    def project(self, A: Tensor) -> None:
        """Take X^+ (X(A) - y) from A."""
        self._take(A)
        self._real(A).sub_(self._entries(self._projection.gradient()))
