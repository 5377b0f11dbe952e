"""The CPUs and GPUs of this machine, and the number of packs that fit into them."""

from __future__ import annotations

import os
from collections.abc import Callable

from sweeper import trainable
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid

_ROUNDING = 1e-9
"""The rounding error that a quotient may have: 0.3 is stored as a little less than 3/10."""

GPU = "cuda"
"""The device of a pack that asks for a GPU, by its name in torch."""


def local_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1  # macOS has no affinity


def local_gpus(grid: Grid) -> int:
    """Return the number of this machine's GPUs that the trainable of `grid` can use.

    A trainable without a function `device_count` counts as one that can use one GPU, unless its
    `device` answers with the CPU.
    """
    module = trainable.load(grid.file.trainable)
    count: Callable[[str], int] | None = getattr(module, "device_count", None)
    return count(GPU) if count else int(not module.device(GPU).startswith("cpu"))


def check_gpu(grid: Grid) -> None:
    """Check that this machine has a GPU if `grid` asks for one.

    Raises:
        UsageError: It has none.
    """
    gpu = grid.file.resources.gpu
    if gpu and not local_gpus(grid):
        raise UsageError(
            f"resources.gpu = {gpu:g}: no GPU found on this machine. Set resources.gpu=0 to train "
            "on CPUs, or launch on a cluster that has GPUs: --address HOST:PORT. If this machine "
            "has a GPU, install a build of torch that supports it."
        )


def local_workers(grid: Grid) -> int:
    """Return the number of packs that run at the same time on this machine, at least 1."""
    resources = grid.file.resources
    fits = slots(local_cpus(), resources.cpu)
    if resources.gpu:
        fits = min(fits, slots(local_gpus(grid), resources.gpu))
    return max(1, fits)


def slots(available: float, per_pack: float) -> int:
    """Return the number of packs that fit into `available`, each of which takes `per_pack`."""
    return int(available / per_pack + _ROUNDING)
