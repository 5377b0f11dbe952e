"""A power cut takes nothing that was acknowledged, and a relaunch ends with the undisturbed rows.

The store lies on an ext4 file system of its own, on a loop device. A copy of the device's image,
taken while the launch is stopped, holds what the disk would hold after a power cut: what was synced,
and whatever else happened to be written back.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import invariants
from benchmarks.invariants import NAME
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.worker import run_inline

pytestmark = [pytest.mark.long, pytest.mark.root]

CUTS = int(os.environ.get("SWEEPER_POWER_CUTS", "10"))

GRID = """
name: chaos
fixed: {steps: 40_000}
grid:
  product:
    task.name: [sparse_recovery]
    model.depth: [2]
    model.init_scale: [1.0e-2]
    regularizer.name: [l1]
    regularizer.strength: {logspace: [1.0e-4, 1.0e-2, 2]}
seeds: 4
checkpoint: {every_s: 0.3}
resources: {pack: 2}
"""


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Mount an image; the folder in it that belongs to the test."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder / "store"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def records(store: Path) -> int:
    """Return the number of whole records of the ledger in a store."""
    return sum(1 for _ in invariants.records(str(store)))


def test_what_was_acknowledged_survives_power_cuts(tmp_path: Path) -> None:
    grid = tmp_path / "chaos.yaml"
    grid.write_text(GRID)
    reference = str(tmp_path / "reference")
    commands.launch(load_grid(grid, []), reference, Runner(run_inline, 1))
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    rng = random.Random(0)
    copies: list[tuple[Path, int]] = []
    with mounted(image, tmp_path / "disk") as store:
        while len(copies) < CUTS:
            shutil.rmtree(store, ignore_errors=True)
            launch = [sys.executable, "-m", "sweeper.cli", "launch", str(grid), "--inline"]
            driver = subprocess.Popen([*launch, "--yes", "--quiet", "--store", str(store)])
            try:
                while driver.poll() is None and not (store / NAME / "log").exists():
                    time.sleep(0.01)
                while driver.poll() is None and len(copies) < CUTS:
                    time.sleep(rng.uniform(0.05, 1.0))
                    driver.send_signal(signal.SIGSTOP)
                    copy = tmp_path / f"cut-{len(copies)}.img"
                    seen = records(store)
                    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
                    driver.send_signal(signal.SIGCONT)
                    copies.append((copy, seen))
            finally:
                driver.kill()
                driver.wait()
    recovered = 0
    for copy, seen in copies:
        with mounted(copy, tmp_path / "after") as store:
            # the writer may have been stopped before the folder of its last record was synced
            assert records(store) >= seen - 1
            commands.launch(load_grid(grid, []), str(store), Runner(run_inline, 1))
            assert invariants.faults(str(store), 50, 40_000) == []
            assert invariants.differences(str(store), reference) == []
            recovered += 1
        copy.unlink()
    assert recovered == CUTS
