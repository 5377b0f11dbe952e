"""Norms of all weights of a trial together."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from sweeper.trainables.batch.weights import Weights
from sweeper.trainables.optim.norms import SHORT, total_norm


@pytest.mark.parametrize("of", ["value", "grad"])
@pytest.mark.parametrize("columns", [64, 2 * SHORT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_is_that_of_all_weights_of_each_trial(
    dtype: torch.dtype, columns: int, of: Literal["value", "grad"]
) -> None:
    weights = Weights((3,), [(2, columns), (5,)], [(2, columns), (8,)], dtype=dtype, device="cpu")
    g = torch.Generator().manual_seed(0)
    for weight in weights.each:
        real = weight.real(getattr(weight, of))
        real.copy_(torch.randn(real.shape, generator=g, dtype=dtype))
    norms = total_norm(weights, of)
    assert norms.dtype == torch.float64
    for i in range(3):
        parts = [getattr(weight, of)[i].double().flatten() for weight in weights.each]
        assert float(norms[i]) == pytest.approx(float(torch.cat(parts).norm()), rel=1e-6)
