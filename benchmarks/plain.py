"""How the same trials are trained without sweeper: one trial at a time, in a plain loop.

Sparse recovery, a linear model, an l1 penalty, gradient descent: as `trainables.sparse_recovery`
does it, and with the metrics that it logs, at the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LR = 0.1
INIT = 1e-6
N_VECTOR, N_NONZERO, N_MEASURED = 100, 5, 30

METRICS = ("train_loss", "test_loss", "train_error", "test_error", "l1", "l2")


@dataclass(frozen=True)
class Data:
    """One instance: X a* = y."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    signal: NDArray[np.float64]


def draw(seed: int) -> Data:
    """Return the instance that sweeper draws for `seed`."""
    from trainables.sparse_data import instance

    one = instance(
        seed=seed, n=N_VECTOR, s=N_NONZERO, N=N_MEASURED, signal="gaussian", snr=None, tau=0.0,
        rng="torch",
    )  # fmt: skip
    return Data(one.X.numpy(), one.y.numpy(), one.signal.numpy())


def save(path: str, seeds: Sequence[int]) -> None:
    """Draw the instances of `seeds` and write them to `path`."""
    data = [draw(seed) for seed in seeds]
    np.savez(path, X=[d.X for d in data], y=[d.y for d in data], signal=[d.signal for d in data])


def load(path: str) -> list[Data]:
    """Return the instances written to `path`."""
    with np.load(path) as file:
        return [Data(*one) for one in zip(file["X"], file["y"], file["signal"], strict=True)]


def measure(data: Data, a: NDArray[np.float64], residual: NDArray[np.float64]) -> tuple[float, ...]:
    """Return `METRICS` at `a`, whose residual is X a - y."""
    train = math.sqrt(float(residual @ residual))
    difference = a - data.signal
    test = math.sqrt(float(difference @ difference))
    return (
        train**2 / 2, test**2 / 2, train / math.sqrt(float(data.y @ data.y)),
        test / math.sqrt(float(data.signal @ data.signal)), float(np.abs(a).sum()),
        math.sqrt(float(a @ a)),
    )  # fmt: skip


def numpy_trial(
    data: Data, strength: float, steps: int, logged: frozenset[int]
) -> list[tuple[float, ...]]:
    """Return the rows of a trial whose gradient is written out; nothing is allocated in a step."""
    X, y = data.X, data.y
    Xt = np.ascontiguousarray(X.T)
    a = np.full(X.shape[1], INIT)
    residual, g, sign = np.empty_like(y), np.empty_like(a), np.empty_like(a)
    rows = []
    for step in range(steps + 1):
        np.dot(X, a, out=residual)
        residual -= y
        if step in logged:
            rows.append(measure(data, a, residual))
        np.dot(Xt, residual, out=g)
        np.sign(a, out=sign)
        sign *= strength
        g += sign
        g *= LR
        a -= g
    return rows


def torch_trial(
    data: Data, strength: float, steps: int, logged: frozenset[int], report: Any = None
) -> list[tuple[float, ...]]:
    """Return the rows of a trial as one writes it first: autograd and `torch.optim.SGD`.

    Args:
        data: The instance.
        strength: Of the l1 penalty.
        steps: Optimizer steps.
        logged: Steps at which to measure.
        report: Called with each row as a dictionary; None for nothing.
    """
    import torch

    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    a = torch.full((X.shape[1],), INIT, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([a], lr=LR)
    rows = []
    for step in range(steps + 1):
        residual = X @ a - y
        if step in logged:
            row = measure(data, a.detach().numpy(), residual.detach().numpy())
            rows.append(row)
            if report is not None:
                report({"step": step, **dict(zip(METRICS, row, strict=True))})
        optimizer.zero_grad()
        loss = 0.5 * residual.square().sum() + strength * a.abs().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return rows
