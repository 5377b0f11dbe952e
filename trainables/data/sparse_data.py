"""Instances of sparse recovery: the signal a*, the measurements X, their values y.

Two ways to draw: streams of our own, and `numpy_legacy`, which follows the published code's
order of draws and reproduces its instances.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
    [B25] Boursier et al., 2025. arXiv 2505.20172
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sweeper.trainables.config import share
from sweeper.trainables.data.streams import stream


@dataclass(frozen=True, slots=True)
class SparseInstance:
    """One instance, in float64 on the CPU.

    Attributes:
        X: Measurements, ``[N, n]``.
        y: Their values, ``[N]``.
        signal: a*, ``[n]``.
        pinv: Pseudo-inverse of X, ``[n, N]``.
        ls_linf: ||a_LS - a*||_inf of the least-squares solution a_LS = X^+ y.
        null_floor: ||(I - X^+ X) a*|| / ||a*||, the share of a* that X does not measure.
        coherence: Largest abs(X_ij) / ||X_i||: mu(M^T, Phi) of [N25] 1.2, as X = M Phi.
    """

    X: Tensor
    y: Tensor
    signal: Tensor
    pinv: Tensor
    ls_linf: float
    null_floor: float
    coherence: float


@lru_cache(maxsize=128)
def instance(
    *,
    seed: int,
    n: int,
    s: int,
    N: int,
    signal: str,
    snr: float | None,
    tau: float,
    rng: str,
    group_size: int = 1,
    design: str = "gaussian",
) -> SparseInstance:
    """Return the instance of these fields.

    ``floor(tau * N)`` rows of X are rows of the identity, at distinct random places as long as
    there are any; the others are N(0, 1/N), or a `series`. With an `snr`, y has Gaussian noise of
    variance (s / n) / (N * snr).
    """
    if rng == "numpy_legacy":
        X, y, a = _legacy(seed, n, s, N, signal, snr, tau)
    else:
        X, y, a = _streams(seed, n, s, N, signal, snr, tau, group_size, design)
    pinv = torch.linalg.pinv(X)
    unseen = a - pinv @ (X @ a)
    return SparseInstance(
        X,
        y,
        a,
        pinv,
        ls_linf=float((pinv @ y - a).abs().max()),
        null_floor=float(unseen.norm() / a.norm()),
        coherence=float((X.abs().amax(dim=1) / X.norm(dim=1)).max()),
    )


Drawn = tuple[Tensor, Tensor, Tensor]


def _streams(
    seed: int,
    n: int,
    s: int,
    N: int,
    signal: str,
    snr: float | None,
    tau: float,
    group_size: int = 1,
    design: str = "gaussian",
) -> Drawn:
    n_coherent = share(tau, N)
    g = stream(seed, "signal", n, s)
    groups = torch.randperm(n // group_size, generator=g)[: s // group_size]
    places = (groups[:, None] * group_size + torch.arange(group_size)).flatten()
    values = torch.randn(s, generator=g, dtype=torch.float64)
    a = torch.zeros(n, dtype=torch.float64)
    a[places] = (values.sign() if signal == "rademacher" else values) / math.sqrt(n)
    X = (
        series(seed, N, n)
        if design == "fourier"
        else torch.randn(N, n, generator=stream(seed, "measurements", N, n), dtype=torch.float64)
    )
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
    return X, y, a


def series(seed: int, N: int, n: int) -> Tensor:
    """Return sqrt(2) (cos x, sin x, cos 2x, sin 2x, ...), n of them, at N random points x."""
    drawn = torch.rand(N, generator=stream(seed, "points", N), dtype=torch.float64)
    x = 2 * math.pi * drawn[:, None]
    k = torch.arange(1, n // 2 + 2, dtype=torch.float64)
    waves = torch.stack([torch.cos(x * k), torch.sin(x * k)], dim=-1)
    return math.sqrt(2) * waves.flatten(1)[:, :n]


def _legacy_signal(seed: int, n: int, s: int, signal: str) -> np.ndarray:
    random = np.random.RandomState(seed % 2**32)
    places = random.choice(n, s, replace=False)
    values = random.randn(s)
    a = np.zeros(n)
    a[places] = (np.sign(values) if signal == "rademacher" else values) / np.sqrt(n)
    return a


def _legacy(seed: int, n: int, s: int, N: int, signal: str, snr: float | None, tau: float) -> Drawn:
    """Draw as the published code: every piece from a fresh Mersenne Twister of the same seed."""
    n_coherent = int(tau * N)
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
    return torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(a)
