"""Functions of singular values, beside torch's singular value decomposition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sweeper.trainables.batch.spectra import NULL, polar, shrink, singular_values
from sweeper.trainables.batch.weights import padded

SHAPES = [(10, 10), (6, 5), (5, 6), (3, 17), (17, 3), (8, 8), (1, 1), (20, 12)]


def held(*matrices: Tensor) -> Tensor:
    """Return matrices side by side, padded."""
    rows, columns = matrices[0].shape
    made = torch.zeros(len(matrices), padded(rows), padded(columns), dtype=matrices[0].dtype)
    for i, one in enumerate(matrices):
        made[i, :rows, :columns] = one
    return made


def drawn(rows: int, columns: int, rank: int | None = None, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.randn(rows, columns, generator=g, dtype=torch.float64)
    left, right = (torch.randn(n, rank, generator=g, dtype=torch.float64) for n in (rows, columns))
    return left @ right.mT


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_both_are_functions_of_the_singular_values(rows: int, columns: int) -> None:
    A = [drawn(rows, columns, seed=seed) for seed in range(3)]
    threshold = torch.tensor([0.0, 0.5, 1.5], dtype=torch.float64)
    H, S = (polar(held(*A), rows, columns), shrink(held(*A), rows, columns, threshold))
    for i, one in enumerate(A):
        U, s, Vh = torch.linalg.svd(one, full_matrices=False)
        lowered = U @ torch.diag((s - threshold[i]).clamp_min(0)) @ Vh
        torch.testing.assert_close(H[i, :rows, :columns], U @ Vh, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(S[i, :rows, :columns], lowered, rtol=1e-9, atol=1e-11)
    for found in (H, S):
        found[:, :rows, :columns] = 0
        assert not found.any()
    assert torch.equal(shrink(held(*A), rows, columns, threshold)[0], held(*A)[0])


def test_small_singular_values_keep_their_directions() -> None:
    U, V = (torch.linalg.qr(drawn(10, 10, seed=i))[0] for i in (1, 2))
    s = torch.logspace(0, -9, 10, dtype=torch.float64)
    found = polar(held(U @ torch.diag(s) @ V.mT), 10, 10)[0, :10, :10]
    visible = (s > NULL).double()
    assert int(visible.sum()) == 6
    torch.testing.assert_close(found, U @ torch.diag(visible) @ V.mT, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_null_space_never_reaches_the_padding(rank: int) -> None:
    A = drawn(10, 9, rank)
    H = polar(held(A), 10, 9)
    assert torch.isfinite(H).all()
    U, _, Vh = torch.linalg.svd(A)
    torch.testing.assert_close(H[0, :10, :9], U[:, :rank] @ Vh[:rank])
    for found in (H, shrink(held(A), 10, 9, torch.full((1,), 0.1, dtype=torch.float64))):
        assert not found[:, 10:].any()
        assert not found[:, :, 9:].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_a_matrix_that_isnt_finite_leaves_its_neighbours_alone(bad: float) -> None:
    A, wrong = drawn(6, 5), drawn(6, 5, seed=1)
    wrong[2, 3] = bad
    threshold = torch.ones(2, dtype=torch.float64)
    for mixed, clean in (
        (polar(held(A, wrong), 6, 5), polar(held(A, A), 6, 5)),
        (shrink(held(A, wrong), 6, 5, threshold), shrink(held(A, A), 6, 5, threshold)),
        (singular_values(held(A, wrong)), singular_values(held(A, A))),
    ):
        assert torch.equal(mixed[0], clean[0])
    if not math.isfinite(bad):
        assert singular_values(held(A, wrong))[1].isnan().all()


def test_single_precision_is_computed_in_double() -> None:
    A = drawn(10, 10).float()
    U, _, Vh = torch.linalg.svd(A.double())
    found = polar(held(A), 10, 10)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0, :10, :10], (U @ Vh).float(), rtol=1e-6, atol=1e-6)
