"""Whole processes under the clock: from their start to their end, start-up included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sweeper.engine.resources import local_cpus

ROOT = Path(__file__).resolve().parent.parent
CORES = local_cpus()


def environment() -> dict[str, str]:
    """Return our environment, with one thread a process and without settings of sweeper's."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    extra = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    drop = ("SWEEPER_STORE", "SWEEPER_ADDRESS", "RAY_ADDRESS")
    return {k: v for k, v in os.environ.items() if k not in drop} | extra


def timed(command: Sequence[str]) -> float:
    """Run a command to its end; return its wall seconds.

    Raises:
        RuntimeError: It failed; with what it printed.
    """
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    wall = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout.decode()}")
    return wall


def launch(grid: str, scratch: Path, *extra: str) -> tuple[float, str]:
    """Run `sweeper launch` on a fresh store; return its wall seconds and the store."""
    where = tempfile.mkdtemp(dir=scratch)
    path = Path(where, "grid.yaml")
    path.write_text(grid)
    store = str(Path(where, "sweeps"))
    wall = timed(
        [
            sys.executable,
            "-m",
            "sweeper.cli",
            "launch",
            str(path),
            "--store",
            store,
            "--yes",
            "--quiet",
            *extra,
        ]
    )
    return wall, store
