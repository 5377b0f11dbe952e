"""Products that trials of a data set share: right, and the same bits whatever the layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sweeper.trainables.batch.shared import COLUMNS, TILE, Shared, by_columns, slots

SIZES = [(30, 100), (40, 100), (8, 16), (16, 8), (70, 33), (5, 7), (100, 260)]
"""N and n: with and without padding, few rows and many."""


def products(
    X: Tensor, y: Tensor, trials: Tensor, dtype: torch.dtype, back: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return r and g of `trials`, ``[D, M, n]``, without padding."""
    _, M, n = trials.shape
    shared = Shared(X, slots(M, dtype), dtype=dtype, device="cpu")
    a, g = shared.vectors(shared.n), shared.vectors(shared.n)
    a[:, :M, :n] = trials.to(dtype)
    fit = shared.fit(a, g, -y)
    if back is not None:
        fit = shared.projected(fit, back)
    assert fit.gradient() is g
    assert not a[:, M:].any()
    assert not g[..., n:].any()
    return fit.r[:, :M, : X.shape[1]].contiguous(), g[:, :M, :n].contiguous()


@pytest.mark.parametrize("M", [1, 8, 20, COLUMNS, COLUMNS + 7])
@pytest.mark.parametrize(("N", "n"), SIZES)
def test_products_are_those_of_the_matrices(N: int, n: int, M: int) -> None:
    g = torch.Generator().manual_seed(0)
    X, Y = (torch.randn(3, N, n, generator=g, dtype=torch.float64) for _ in range(2))
    y = torch.randn(3, N, generator=g, dtype=torch.float64)
    a = torch.randn(3, M, n, generator=g, dtype=torch.float64)
    r, grad = products(X, y, a, torch.float64)
    torch.testing.assert_close(r, torch.einsum("dNn,dMn->dMN", X, a) - y[:, None])
    torch.testing.assert_close(grad, torch.einsum("dNn,dMN->dMn", X, r))
    _, other = products(X, y, a, torch.float64, back=Y)
    torch.testing.assert_close(other, torch.einsum("dNn,dMN->dMn", Y, r))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("N", "n"), SIZES)
def test_no_bit_depends_on_how_many_trials_share_the_data(
    N: int, n: int, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(1)
    X = torch.randn(2, N, n, generator=g, dtype=torch.float64)
    y = torch.randn(2, N, generator=g, dtype=torch.float64)
    a = torch.randn(2, 300, n, generator=g, dtype=torch.float64)
    whole = products(X, y, a, dtype)
    for start, stop in ((0, 1), (299, 300), (5, 22), (40, 104), (17, 137), (0, 270)):
        some = products(X, y, a[:, start:stop], dtype)
        assert all(p.equal(w[:, start:stop]) for p, w in zip(some, whole, strict=True))
    alone = products(X[1:], y[1:], a[1:, 7:8], dtype)
    assert all(p[0].equal(w[1, 7:8]) for p, w in zip(alone, whole, strict=True))


def test_many_trials_are_columns_in_whole_tiles() -> None:
    assert not by_columns(COLUMNS - 1, torch.float64)
    assert by_columns(COLUMNS, torch.float64)
    assert not by_columns(4 * COLUMNS, torch.float32)
    assert slots(COLUMNS + 1, torch.float64) == COLUMNS + TILE
    assert slots(17, torch.float64) == slots(17, torch.float32) == 24
    assert slots(9, torch.float64) == 16
