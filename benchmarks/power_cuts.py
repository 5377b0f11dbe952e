"""Power cuts of a launch: copies of the image of a disk under load, mounted elsewhere. As root.

The store lies on an ext4 file system of its own, on a loop device. A copy of the device's image,
taken while the driver is stopped, holds what the disk would hold after a power cut: the synced
files, and others that happened to be written back. The copy is mounted, and the launch is repeated
there, in this process: times count from there on, without the start of Python.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import invariants
from benchmarks.injected import Fault, Result, first_line, first_row, seconds
from benchmarks.launched import Process
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.worker import run_inline
from sweeper.errors import SweeperError

DISK = 48 << 20
"""Bytes of the disk."""

BATCH = 50
"""The most cuts of a launch."""

PAUSE_S = (0.05, 1.0)
"""Least and longest seconds between two cuts."""


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Mount an image; yield a folder in it."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder / "store"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut(grid: Path, reference: str, folder: Path, count: int, seed: int, minutes: float) -> Result:
    """Cut the power of launches `count` times, or for so many minutes; return what happened.

    Args:
        grid: The grid file.
        reference: Store with the undisturbed sweep.
        folder: For images and mounts.
        count: Number of cuts.
        seed: Of the moments.
        minutes: After so long no launch is begun.
    """
    result = Result("power cut")
    dice = random.Random(seed)
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    begun = time.monotonic()
    while result.injected < count and time.monotonic() - begun < 60 * minutes:
        copies = load(grid, image, folder, dice, min(BATCH, count - result.injected))
        for copy, seen in copies:
            if time.monotonic() - begun < 60 * minutes:
                result.problems += relaunch(result, grid, reference, copy, seen)
            copy.unlink()
        print(
            f"  power cut: {result.injected}, {result.lost} lost, {result.doubled} doubled, "
            f"{result.equal} of {result.trials} equal, first row {seconds(result.first_row_s)} s, "
            f"end {seconds(result.done_s)} s",
            *result.problems,
            flush=True,
        )
    return result


def load(
    grid: Path, image: Path, folder: Path, dice: random.Random, most: int
) -> list[tuple[Path, int]]:
    """Launch once on the disk; return copies of its image, each with the records until then."""
    copies: list[tuple[Path, int]] = []
    with mounted(image, folder / "disk") as store:
        shutil.rmtree(store, ignore_errors=True)
        driver = Process.start(grid, str(store), "--inline", log=folder / "loaded.log")
        try:
            while driver.process.poll() is None and not invariants.launches(str(store)):
                time.sleep(0.01)
            while driver.process.poll() is None and len(copies) < most:
                time.sleep(dice.uniform(*PAUSE_S))
                driver.process.send_signal(signal.SIGSTOP)
                seen = sum(1 for _ in invariants.records(str(store)))
                copy = folder / f"cut-{len(copies)}.img"
                subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
                driver.process.send_signal(signal.SIGCONT)
                copies.append((copy, seen))
        finally:
            driver.kill_all()
    return copies


def relaunch(result: Result, grid: Path, reference: str, copy: Path, seen: int) -> list[str]:
    """Launch on a copy; add what happened to the result, and return what must not happen."""
    problems, message = [], ""
    with mounted(copy, copy.parent / "after") as folder:
        store = str(folder)
        have = sum(1 for _ in invariants.records(store))
        if have < seen - 1:  # it was stopped before the folder of its last record was synced
            problems.append(f"{seen - have} records are gone")
        fault = Fault(time.time())
        try:
            commands.launch(load_grid(grid, []), store, Runner(run_inline, 1))
        except SweeperError as error:
            message = str(error)
            problems.append(message)
        ended = time.time()
        compared = invariants.compare(store, reference)
        at = first_row(invariants.records(store), fault)
    result.injected += 1
    result.first_row_s += [at - fault.at] if at is not None else []
    result.done_s.append(ended - fault.at)
    result.messages[first_line(message)] += 1
    result.actions["launch again"] += 1
    result.add(compared)
    return problems
