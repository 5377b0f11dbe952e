"""Measurements of matrices: gradient, residual and projection belong to one another."""

from __future__ import annotations

import pytest
import torch

from sweeper.trainables.batch.weights import Placement
from sweeper.trainables.families.low_rank import instance_of
from sweeper.trainables.families.operators import (
    BilinearMeasurements,
    EntryMeasurements,
    Measurements,
)
from tests.packs import MATRIX, trial

PLACE: Placement = {"dtype": torch.float64, "device": "cpu"}
SENSING = MATRIX | {"task.name": "matrix_sensing"}
n1, n2 = 6, 5


def measured(kind: str) -> tuple[Measurements, torch.Tensor]:
    """Return measurements of two data sets, and the matrices that were measured."""
    given = MATRIX if kind == "entries" else SENSING
    data = [instance_of(trial(given, seed)) for seed in (0, 0, 1)]
    shape = torch.Size((3, 8, 8))
    signal = torch.zeros(shape, dtype=torch.float64)
    for i, one in enumerate(data):
        signal[i, :n1, :n2] = one.signal
    made = (
        EntryMeasurements(data, shape, PLACE)
        if kind == "entries"
        else BilinearMeasurements(data, PLACE)
    )
    return made, signal


def drawn() -> torch.Tensor:
    """Return three padded matrices."""
    A = torch.zeros(3, 8, 8, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    A[:, :n1, :n2] = torch.randn(3, n1, n2, generator=g, dtype=torch.float64)
    return A


@pytest.mark.parametrize("kind", ["entries", "values"])
def test_the_measured_matrices_leave_no_residual(kind: str) -> None:
    made, signal = measured(kind)
    assert float(made.residual(signal).max()) < 1e-12
    torch.testing.assert_close(made.residual(torch.zeros_like(signal)), made.norm)


@pytest.mark.parametrize("kind", ["entries", "values"])
def test_the_gradient_is_that_of_half_the_squared_residual(kind: str) -> None:
    made, _ = measured(kind)
    A, out, small = drawn(), torch.zeros(3, 8, 8, dtype=torch.float64), 1e-4
    made.gradient(A, out)
    direction = drawn().flip(0)
    ahead, behind = (made.residual(A + s * direction).square() / 2 for s in (small, -small))
    slope = (out * direction).sum(dim=(1, 2))
    torch.testing.assert_close((ahead - behind) / (2 * small), slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["entries", "values"])
def test_the_projection_is_the_nearest_solution(kind: str) -> None:
    made, signal = measured(kind)
    A = drawn()
    before = A.clone()
    made.project(A)
    assert float(made.residual(A).max()) < 1e-10
    moved, along = A - before, signal - A  # the move is orthogonal to the space of the solutions
    assert float((moved * along).sum(dim=(1, 2)).abs().max()) < 1e-9
    assert moved.any()
