"""Regression on a function of one variable that is a sum of few ReLUs.

References:
    [B25] Boursier, Pesme, Dragomir, 2025. arXiv 2505.20172, Fig. 3. The paper does not give the
        function of its three ReLUs; this one is random.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from sweeper.config.trial import Trial
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.losses import Loss, half_squares

END = 2.0
"""Inputs are in [-END, END]."""

HALF_SQUARE = Loss(half_squares, relative=True)
"""Half the mean of the squared errors: F of [B25]."""


def data_of(trial: Trial) -> Data:
    """Return the examples of `trial`: random points to train on, a grid to test on."""
    v: Any = trial.values
    return _data(data_seed(trial), v["task.N"], v["task.N_test"], v["task.hidden"])


def loss_of(values: Any) -> Loss:  # noqa: ARG001
    """Return half the mean of the squared errors."""
    return HALF_SQUARE


@lru_cache(maxsize=512)
def _data(seed: int, N: int, N_test: int, hidden: int) -> Data:
    g = stream(seed, "relu function", hidden)
    u = torch.randn(hidden, generator=g, dtype=torch.float64)
    v = torch.randint(0, 2, (hidden,), generator=g).double() * 2 - 1
    kinks = _uniform(hidden, g)
    points = (
        _uniform(N, stream(seed, "points", N)),
        torch.linspace(-END, END, N_test, dtype=torch.float64),
    )
    return Data(
        *(
            Examples((x[:, None],), (torch.relu((x[:, None] - kinks) * v) @ u)[:, None])
            for x in points
        )
    )


def _uniform(count: int, g: torch.Generator) -> torch.Tensor:
    """Return numbers of U[-END, END], ``[count]``."""
    return (2 * torch.rand(count, generator=g, dtype=torch.float64) - 1) * END
