"""The kills of `benchmarks.faults` on plain Ray Tune, with the same trials: `tune_side.py`.

The rows are those in the files `result.json` that Tune writes for each trial. After a kill of the
driver or the raylet the user runs the script again with `Tuner.restore`. Tune is told to retry a
trial whose worker died, without a limit. If the restored run fails, the user deletes the experiment
and begins anew.
"""

from __future__ import annotations

import json
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fault_kinds, invariants, plain
from benchmarks.injected import Campaign, Kind, Record, Result, inject
from benchmarks.launched import Process
from benchmarks.tune_side import NAME
from sweeper.store.schema import logged_steps

STRENGTHS, SEEDS, POINTS = 4, 4, 50

EVERY_S = 1.0
"""Seconds between checkpoints."""


def compare(
    name: str, folder: Path, steps: int, count: int, seed: int, window: float, per_sweep: int
) -> Result:
    """Inject faults of the kind `name` into Ray Tune; see `injected.inject`."""
    problem, reference = undisturbed(folder.parent, steps)
    kind: Kind = {"tune-kills": Kill, "tune-workers": Worker, "tune-raylets": Raylet}[name]()

    def campaign(home: Path, dice: random.Random) -> Campaign:
        return TuneCampaign(kind, problem, home, dice, window)

    return inject(campaign, reference, folder, count, seed, per_sweep)


def undisturbed(folder: Path, steps: int) -> tuple[Path, str]:
    """Return the file with the trials, and the folder with the undisturbed experiment."""
    problem, reference = folder / "tune.npz", folder / "tune-undisturbed"
    if not problem.exists():
        save(problem, steps)
        begun = time.monotonic()
        first = start(problem, str(reference), reference.with_suffix(".log"))
        try:
            code = first.process.wait()
        finally:
            first.kill_all()
        assert code == 0, reference.with_suffix(".log").read_text()[-2000:]
        print(f"Ray Tune, undisturbed, {steps} steps: {time.monotonic() - begun:.1f} s", flush=True)
    return problem, str(reference)


def save(problem: Path, steps: int) -> None:
    """Write the trials of `benchmarks.faults.GRID` for `tune_side`."""
    data = [plain.draw(seed) for seed in range(SEEDS)]
    strengths = [float(f"{s:.6e}") for s in np.geomspace(1e-5, 1e-2, STRENGTHS)]
    cells = [(strength, seed) for strength in strengths for seed in range(SEEDS)]
    np.savez(
        problem,
        X=[d.X for d in data],
        y=[d.y for d in data],
        signal=[d.signal for d in data],
        strength=[strength for strength, _ in cells],
        seed=[seed for _, seed in cells],
        logged=logged_steps(POINTS, steps),
        steps=steps,
        every_s=EVERY_S,
    )


def start(problem: Path, storage: str, log: Path, *options: str) -> Process:
    """Start or restore an experiment."""
    Path(storage).mkdir(exist_ok=True)
    command = ["-m", "benchmarks.tune_side", str(problem), storage, *options]
    return Process.python(command, log, without=("TUNE_", "RAY_"))  # sweeper sets some


def start_or_restore(problem: Path, storage: str, log: Path) -> Process:
    """Restore the experiment if Tune has written one that can be restored, else start it."""
    begun = any(Path(storage, NAME).glob("experiment_state-*.json"))
    return start(problem, storage, log, *["--restore"] * begun)


class Kill(fault_kinds.Signal):
    """SIGKILL of the driver."""

    remedy = "a script with Tuner.restore"

    def __init__(self) -> None:
        super().__init__("Ray Tune: SIGKILL of the driver", signal.SIGKILL)

    start = staticmethod(start_or_restore)  # type: ignore[assignment]


class Raylet(fault_kinds.Raylet):
    """SIGKILL of the raylet."""

    name = "Ray Tune: SIGKILL of the raylet"
    remedy = "a script with Tuner.restore"

    start = staticmethod(start_or_restore)  # type: ignore[assignment]


class Worker(fault_kinds.Worker):
    """SIGKILL of the actor that trains a trial."""

    name = "Ray Tune: SIGKILL of a worker"
    levels = (0,)

    start = staticmethod(start_or_restore)  # type: ignore[assignment]


class TuneCampaign(Campaign):
    """One experiment from an empty folder to its end, with faults on the way.

    A trial takes the place of a pack. When its rows were reported is read from the file into which
    the trial writes it, and which rows there are from Tune's.
    """

    def known(self) -> list[Record]:
        """Return the beginnings of trials and their reports so far."""
        known: list[Record] = []
        for path in sorted(Path(self.store, "trace").glob("*.jsonl")):
            for line in path.read_text().splitlines():
                with suppress(ValueError):  # the last line of a worker that was killed
                    known.append(json.loads(line))
        return sorted(known, key=lambda record: float(record["at"]))

    def compared(self, reference: str) -> invariants.Comparison:
        """Compare the rows; one that is there twice with the same numbers is only doubled."""
        mine, other = rows(self.store), rows(reference)
        lost = doubled = equal = 0
        for cell, expected in other.items():
            have = mine.get(cell, {})
            lost += len(expected.keys() - have.keys())
            doubled += sum(len(each) - 1 for each in have.values())
            equal += {s: set(each) for s, each in have.items()} == {
                s: set(each) for s, each in expected.items()
            }
        return invariants.Comparison(lost, doubled, len(other), equal)


def rows(storage: str) -> dict[int, dict[int, list[tuple[Any, ...]]]]:
    """Return the rows that Tune's files have, by cell and step."""
    every: dict[int, dict[int, list[tuple[Any, ...]]]] = {}
    for path in Path(storage, NAME).glob("*/result.json"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if "step" in row:
                numbers = tuple(row[name] for name in plain.METRICS)
                cell = every.setdefault(row["cell_index"], {})
                cell.setdefault(row["step"], []).append(numbers)
    return every
