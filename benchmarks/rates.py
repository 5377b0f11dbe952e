"""How fast things are on this machine, measured for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

SLICE = 0.15
"""Seconds that one thing is measured for in a round."""

Step = Callable[[], Any]


def rate(
    step: Step, seconds: float = SLICE, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the steps per second of `step`, measured for some `seconds` of a `clock`."""
    step()
    count, done, begun = 1, 0, clock()
    while True:
        for _ in range(count):
            step()
        done += count
        elapsed = clock() - begun
        if elapsed >= seconds:
            return done / elapsed
        count = max(1, min(2 * count, int((seconds - elapsed) * done / elapsed)))


def matrix_step(dtype: torch.dtype, n: int = 512) -> tuple[Step, float]:
    """Return a square matrix product and its flops."""
    A, B, C = (torch.rand(n, n, dtype=dtype) for _ in range(3))
    return (lambda: torch.mm(A, B, out=C)), 2.0 * n**3
