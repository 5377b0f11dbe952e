"""What this machine has: CPUs, GPUs, memory, file systems; the number of packs that fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from sweeper import trainable
from sweeper.errors import ClusterError, UsageError
from sweeper.grid.grid import Grid

_ROUNDING = 1e-9
"""The rounding error that a quotient may have: 0.3 is stored as a little less than 3/10."""

GPU = "cuda"
"""The device of a pack that asks for a GPU, by its name in torch."""

CGROUP = Path("/proc/self/cgroup")
"""Lists the control groups of this process: one line each, ``number:controllers:path``."""

CGROUPS = Path("/sys/fs/cgroup")
"""The folder with the limits of all control groups; absent where there are none."""


SHARED = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "fuse.",
    "afs",
    "wekafs",
    "9p",
    "virtiofs",
    "pvfs2",
    "orangefs",
)
"""The beginnings of the types of file systems that several machines can share."""


def mount_of(folder: Path) -> Any:
    """Return the file system that holds `folder`, as psutil lists it; None if unknown.

    Its attributes are device, mountpoint, fstype and opts.
    """
    there = folder.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if there.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint), default=None)


def token_file() -> Path:
    """Return the file with the token of Ray clusters, which may not exist."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def local_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1  # macOS has no affinity


def local_gpus(grid: Grid) -> int:
    """Return the number of this machine's GPUs that the trainable of `grid` can use.

    A trainable without a function `device_count` counts as one that can use one GPU, unless its
    `device` answers with the CPU.
    """
    module = trainable.load(grid.file.trainable, grid.config.code)
    count: Callable[[str], int] | None = getattr(module, "device_count", None)
    return count(GPU) if count else int(not module.device(GPU).startswith("cpu"))


def device(grid: Grid) -> str:
    """Return the device that the grid's resources ask for."""
    return GPU if grid.file.resources.gpu > 0 else "cpu"


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


def check_room(grid: Grid) -> None:
    """Check that this machine has room for one pack of `grid`.

    Raises:
        ClusterError: It has none.
    """
    resources = grid.file.resources
    if slots(local_cpus(), resources.cpu) < 1:
        raise no_room(resources.cpu, resources.gpu)


def no_room(cpu: float, gpu: float) -> ClusterError:
    """Return the error that a pack with `cpu` and `gpu` doesn't fit on this machine."""
    return ClusterError(
        f"resources: cpu {cpu:g}, gpu {gpu:g}: this machine has no room for one pack. "
        "Lower resources.cpu or resources.gpu."
    )


def local_workers(grid: Grid) -> int:
    """Return the number of packs that run at the same time on this machine, at least 1."""
    resources = grid.file.resources
    fits = slots(local_cpus(), resources.cpu)
    if resources.gpu:
        fits = min(fits, gpu_slots(local_gpus(grid), resources.gpu))
    return max(1, fits)


def local_memory(grid: Grid, workers: int) -> int:
    """Return the bytes that each of `workers` packs at the same time may use on this machine.

    They share its RAM, or those of a GPU the GPU's memory, if the trainable has a function
    `device_memory` that tells it.
    """
    gpu = grid.file.resources.gpu
    if gpu:
        module = trainable.load(grid.file.trainable, grid.config.code)
        tell: Callable[[str], int] | None = getattr(module, "device_memory", None)
        if tell is not None and (memory := tell(GPU)):
            return memory // max(1, min(workers, slots(1, gpu)))
    return machine_memory() // max(1, workers)


def machine_memory(cgroup: Path = CGROUP, root: Path = CGROUPS) -> int:
    """Return the bytes of RAM that this process may use: those of its control group, if limited.

    A container and a job of Slurm are limited so.

    Args:
        cgroup: The file with the control groups of this process.
        root: The folder with the limits of all control groups.
    """
    limits: list[int] = [psutil.virtual_memory().total]
    for line in _lines(cgroup):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            group = Path(controllers, path.strip("/"))
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            for folder in (group, *group.parents):
                limits += [int(text) for text in _lines(root / folder / name) if text.isdigit()]
    return min(limits)


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; none if it can't be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def slots(available: float, per_pack: float) -> int:
    """Return the number of packs that fit into `available`, each of which takes `per_pack`."""
    return int(available / per_pack + _ROUNDING)


def gpu_slots(gpus: float, per_pack: float) -> int:
    """Return the number of packs that fit on `gpus` GPUs.

    A pack that takes a part of a GPU isn't spread over two: of 0.4 there are two per GPU.
    """
    return slots(gpus, per_pack) if per_pack >= 1 else int(gpus) * slots(1, per_pack)
