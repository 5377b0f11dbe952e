"""The toy addition of Omnigrok: the inputs of its decoder, and the loss of its outputs.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, Fig. 6 and Table 1
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.trainables.config.toy import toy_pairs
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.losses import Loss, squares


def data_of(trial: Trial) -> Data:
    """Return the pairs of `trial`: R_i + R_j, and all targets, its own first."""
    v: Any = trial.values
    return _data(
        data_seed(trial),
        v["task.symbols"],
        v["task.N"],
        v["task.latent"],
        v["task.noise"],
        v["task.labels"],
        v["task.outputs"],
        v["task.m"],
    )


def representation(seed: int, p: int, latent: int, noise: float, messiness: float) -> Tensor:
    """Return R = m R_random + (1 - m) R_linear, ``[p, latent]``."""
    messy, noisy = (
        torch.rand(p, latent, generator=stream(seed, purpose, p, latent), dtype=torch.float64) * 2
        - 1
        for purpose in ("random representation", "linear representation")
    )
    linear = noise * noisy
    linear[:, 0] = torch.linspace(-1, 1, p, dtype=torch.float64)
    return messiness * messy + (1 - messiness) * linear


@lru_cache(maxsize=512)
def _data(
    seed: int,
    p: int,
    N: int,
    latent: int,
    noise: float,
    labels: str,
    outputs: int,
    messiness: float,
) -> Data:
    R = representation(seed, p, latent, noise, messiness)
    i, j = torch.triu_indices(p, p)
    label = (i + j) % p if labels == "remainder" else i + j
    classes = p if labels == "remainder" else 2 * p - 1
    targets = torch.randn(
        classes, outputs, generator=stream(seed, "targets", classes, outputs), dtype=torch.float64
    )
    others = (label[:, None] + torch.arange(classes)) % classes
    every = targets[others]  # [pairs, classes, outputs]
    order = torch.randperm(toy_pairs(p), generator=stream(seed, "toy pairs", p))
    train, test = order[:N].sort().values, order[N:].sort().values
    return Data(
        *(
            Examples((R[i[part]] + R[j[part]],), every[part])
            for part in (train, test if len(test) else train)
        )
    )


def loss_of(values: Any) -> Loss:  # noqa: ARG001
    """Return the mean squared error; an example is right if its own target is the nearest."""
    return Loss(lambda outputs, targets: squares(outputs, targets[:, :, 0]), _nearest)


def _nearest(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return whether the first of ``targets``, [B, N, classes, o], is strictly the nearest."""
    off = (outputs[:, :, None] - targets).square().sum(dim=3)
    return (off <= off[:, :, :1]).sum(dim=2) == 1
