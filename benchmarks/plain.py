"""How trials of sparse recovery are trained without sweeper.

A linear model, an l1 penalty, gradient descent: as `sweeper.trainables.families.sparse_recovery`
does it, and with the metrics that it logs, at the same steps. In a plain loop, one trial at a time;
or as torch's page on model ensembling teaches it [T], many at once.

References:
    [T] https://docs.pytorch.org/tutorials/intermediate/ensembling.html
"""

from __future__ import annotations

import copy
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
    from sweeper.trainables.data.sparse_data import instance

    one = instance(
        seed=seed,
        n=N_VECTOR,
        s=N_NONZERO,
        N=N_MEASURED,
        signal="gaussian",
        snr=None,
        tau=0.0,
        rng="torch",
    )
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
        train**2 / 2,
        test**2 / 2,
        train / math.sqrt(float(data.y @ data.y)),
        test / math.sqrt(float(data.signal @ data.signal)),
        float(np.abs(a).sum()),
        math.sqrt(float(a @ a)),
    )


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


def ensemble(
    data: Data, strengths: Sequence[float], steps: int, logged: frozenset[int]
) -> list[list[tuple[float, ...]]]:
    """Return the rows of trials that share their data, trained as one ensemble.

    Args:
        data: The instance.
        strengths: Of the l1 penalty of each trial.
        steps: Optimizer steps.
        logged: Steps at which to measure.
    """
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.full((X.shape[1],), INIT, dtype=torch.float64))

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return X @ self.a

    X, y = torch.from_numpy(data.X), torch.from_numpy(data.y)
    models = [Linear() for _ in strengths]
    one = copy.deepcopy(models[0]).to("meta")
    params, buffers = stack_module_state(models)

    def loss(params: Any, buffers: Any, strength: Any, X: Any, y: Any) -> Any:
        residual = functional_call(one, (params, buffers), (X,)) - y
        return 0.5 * residual.square().sum() + strength * params["a"].abs().sum()

    gradients = vmap(grad(loss), in_dims=(0, 0, 0, None, None))
    strength = torch.tensor(strengths, dtype=torch.float64)
    rows: list[list[tuple[float, ...]]] = [[] for _ in strengths]
    with torch.no_grad():
        for step in range(steps + 1):
            if step in logged:
                each = params["a"].numpy()
                for row, a, residual in zip(rows, each, each @ data.X.T - data.y, strict=True):
                    row.append(measure(data, a, residual))
            change = gradients(params, buffers, strength, X, y)
            params = {name: value - LR * change[name] for name, value in params.items()}
    return rows
