"""Faults of many kinds, injected into real launches: what is lost, and how soon they go on.

Each launch that ends by a fault is launched again until its sweep is done. Then its rows are
compared with those of an undisturbed sweep. A row of the table per kind of fault: the number of
faults, rows lost and doubled, trials that are bit-equal to the undisturbed ones, the seconds from
the fault to the first new committed row, those from the last fault of a sweep to its end, the first
line of the message, and what the user had to do.

    kills        SIGKILL of the driver
    workers      SIGKILL of a worker: the child process that trains and the worker of Ray, in turns
    terms        SIGTERM of the driver: packs save a checkpoint and end
    raylets      SIGKILL of the raylet
    heads        SIGKILL of the control service of a cluster, which is started for each launch
    disks        a disk that becomes full, and has room again for the next launch (as root)
    requests     failing requests to a bucket: 503, connections cut, answers that end early
    answers      lost answers of puts to a bucket
    cuts         power cuts: copies of the image of a disk under load, mounted elsewhere (as root)
    tune-kills, tune-workers, tune-raylets
                 the same for plain Ray Tune with the same trials, checkpoints and logged steps, and
                 `Tuner.restore` (`tune_faults.py`)

Kinds run one after the other. Only processes that were started here are ever struck.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import chaos, fault_kinds, power_cuts, storage_faults, tune_faults
from benchmarks.injected import Campaign, Kind, Result, inject, table

GRID = """
name: chaos
fixed:
  task: {{name: sparse_recovery, n: 100, s: 5, N: 30}}
  optimizer: {{name: gd, lr: 0.1}}
  regularizer.name: l1
  steps: {steps}
grid:
  product:
    regularizer.strength: {{logspace: [1.0e-5, 1.0e-2, 4]}}
seeds: 4
stop: {{after_generalization: false}}
checkpoint: {{every_s: {every_s}}}
resources: {{pack: 4}}
"""
"""Four packs of 4 trials."""

COUNTS = {
    "kills": 3,
    "workers": 3,
    "terms": 3,
    "raylets": 3,
    "heads": 1,
    "disks": 0,
    "requests": 50,
    "answers": 20,
    "cuts": 0,
    "tune-kills": 3,
    "tune-workers": 3,
    "tune-raylets": 1,
}
"""Faults of each kind by default. Those of 0 need root."""


class Bench:
    """The undisturbed sweeps, and the jobs by kind.

    Args:
        folder: For all files.
        args: The options.
    """

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self._folder, self._args = folder, args

    def run(self, name: str, count: int) -> Result:
        """Inject `count` faults of the kind `name`."""
        folder = self._folder / name
        folder.mkdir()
        special: dict[str, Callable[[], Result]] = {
            "cuts": lambda: power_cuts.cut(
                *self._undisturbed("cuts", self._args.cut_steps, 0.3),
                folder,
                count,
                self._args.seed,
                self._args.minutes,
            ),
            "requests": lambda: storage_faults.fail_requests(
                *self._usual(), folder, count, self._args.seed
            ),
            "answers": lambda: storage_faults.lose_answers(
                *self._usual(), folder, count, self._args.seed
            ),
        }
        if name in special:
            return special[name]()
        if name.startswith("tune-"):
            return tune_faults.compare(
                name,
                folder,
                self._args.steps,
                count,
                self._args.seed,
                self._args.window,
                self._args.per_sweep,
            )
        return self._strike(name, folder, count)

    def _strike(self, name: str, folder: Path, count: int) -> Result:
        grid, reference = self._usual()
        dice = random.Random(self._args.seed)
        make: dict[str, Callable[[], Kind]] = {
            "kills": partial(fault_kinds.Signal, "SIGKILL of the driver", signal.SIGKILL),
            "workers": fault_kinds.Worker,
            "terms": partial(fault_kinds.Signal, "SIGTERM of the driver", signal.SIGTERM),
            "raylets": fault_kinds.Raylet,
            "heads": fault_kinds.Head,
            "disks": lambda: fault_kinds.FullDisk(space(Path(reference)), dice),
        }
        kind = make[name]()

        def campaign(home: Path, dice: random.Random) -> Campaign:
            return Campaign(kind, grid, home, dice, self._args.window)

        per_sweep = 1 if name == "disks" else self._args.per_sweep
        return inject(campaign, reference, folder, count, self._args.seed, per_sweep)

    def _usual(self) -> tuple[Path, str]:
        return self._undisturbed("usual", self._args.steps, 1.0)

    def _undisturbed(self, name: str, steps: int, every_s: float) -> tuple[Path, str]:
        """Return a grid file and the store with its undisturbed sweep."""
        grid = self._folder / f"{name}.yaml"
        reference = str(self._folder / f"{name}-undisturbed")
        if not grid.exists():
            grid.write_text(GRID.format(steps=steps, every_s=every_s))
            taken = chaos.undisturbed(grid, reference)
            print(f"undisturbed, {steps} steps: {taken:.1f} s", flush=True)
        return grid, reference


def space(folder: Path) -> int:
    """Return the bytes that the files of a folder take on a disk of pages of 4096 bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // 4096) * 4096 for size in sizes)


def main() -> None:
    """Parse, inject and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, count in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", dest=name)
    parser.add_argument("--only", nargs="+", choices=COUNTS, help="no other kinds than these")
    parser.add_argument("--steps", type=int, default=300_000, help="steps of a trial")
    parser.add_argument("--cut-steps", type=int, default=20_000, help="the same for power cuts")
    parser.add_argument("--minutes", type=float, default=12, help="the longest time for power cuts")
    parser.add_argument("--window", type=float, default=2.0, help="seconds of training to a fault")
    parser.add_argument("--per-sweep", type=int, default=5, help="the most faults of a sweep")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="keep all files in this folder")
    parser.add_argument("-o", "--output", type=Path, help="write the figures here, as JSON")
    args = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, args)
        for name in args.only or COUNTS:
            if count := vars(args)[name]:
                begun = time.monotonic()
                results.append(bench.run(name, count))
                print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
            if args.output:
                args.output.write_text(json.dumps(report(results), indent=1) + "\n")
    print(table(results))
    sys.exit(any(one.broken for one in results if not one.kind.startswith("Ray Tune")))


def report(results: list[Result]) -> dict[str, object]:
    """Return the results with the date and the machine, for JSON."""
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    faults = [one.as_dict() for one in results]
    return {"at": time.strftime("%Y-%m-%d %H:%M"), "machine": machine, "faults": faults}


if __name__ == "__main__":
    main()
