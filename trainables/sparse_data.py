"""Instances of sparse recovery: the signal a*, the measurements X, their values y.

Two ways to draw: streams of our own, and `numpy_legacy`, which follows the published code's
order of draws and reproduces its instances (papers' law 12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from trainables.streams import stream


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance, in float64 on the CPU.

    Attributes:
        X: Measurements, ``[N, n]``.
        y: Their values, ``[N]``.
        signal: a*, ``[n]``.
    """

    X: Tensor
    y: Tensor
    signal: Tensor


@lru_cache(maxsize=4096)
def instance(
    *, seed: int, n: int, s: int, N: int, signal: str, snr: float | None, tau: float, rng: str
) -> Instance:
    """Return the instance of these fields.

    ``floor(tau * N)`` rows of X are rows of the identity, at distinct random places as long as
    there are any; the others are N(0, 1/N). With an `snr`, y carries Gaussian noise of variance
    (s / n) / (N * snr).
    """
    draw = _legacy if rng == "numpy_legacy" else _streams
    return draw(seed, n, s, N, signal, snr, int(tau * N))


def _streams(
    seed: int, n: int, s: int, N: int, signal: str, snr: float | None, n_coherent: int
) -> Instance:
    g = stream(seed, "signal", n, s)
    places = torch.randperm(n, generator=g)[:s]
    values = torch.randn(s, generator=g, dtype=torch.float64)
    a = torch.zeros(n, dtype=torch.float64)
    a[places] = (values.sign() if signal == "rademacher" else values) / math.sqrt(n)
    X = torch.randn(N, n, generator=stream(seed, "measurements", N, n), dtype=torch.float64)
    X /= math.sqrt(N)
    g = stream(seed, "coherent rows", n)
    columns = torch.randperm(n, generator=g)
    if n_coherent > n:
        columns = torch.cat([columns, torch.randint(n, (n_coherent - n,), generator=g)])
    X[:n_coherent] = torch.eye(n, dtype=torch.float64)[columns[:n_coherent]]
    y = X @ a
    if snr is not None:
        noise = torch.randn(N, generator=stream(seed, "noise", N), dtype=torch.float64)
        y = y + noise * math.sqrt(s / n / (N * snr))
    return Instance(X, y, a)


def _legacy_signal(seed: int, n: int, s: int, signal: str) -> np.ndarray:
    random = np.random.RandomState(seed % 2**32)
    places = random.choice(n, s, replace=False)
    values = random.randn(s)
    a = np.zeros(n)
    a[places] = (np.sign(values) if signal == "rademacher" else values) / np.sqrt(n)
    return a


def _legacy(
    seed: int, n: int, s: int, N: int, signal: str, snr: float | None, n_coherent: int
) -> Instance:
    """Draw as the published code: every piece from a fresh Mersenne Twister of the same seed."""
    a = _legacy_signal(seed, n, s, signal)
    random = np.random.RandomState(seed % 2**32)
    X = np.zeros((N, n))
    if n_coherent:
        first = min(n_coherent, n)
        columns = random.choice(n, first, replace=False) if n_coherent <= n else np.arange(n)
        if n_coherent > n:
            columns = np.concatenate([columns, random.choice(n, n_coherent - n, replace=True)])
        X[np.arange(n_coherent), columns] = 1.0
    X[n_coherent:] = random.randn(N - n_coherent, n) * np.sqrt(1 / N)
    y = X @ a
    if snr is not None:
        drawn = [np.sum(_legacy_signal(i * seed, n, s, signal) ** 2) for i in range(100 * n)]
        sigma = np.sqrt(np.mean(drawn) / (N * snr))
        y = y + sigma * np.random.RandomState(seed % 2**32).randn(N)
    return Instance(torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(a))
