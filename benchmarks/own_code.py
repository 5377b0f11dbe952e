"""What sweeper adds to a user's own training, beside plain Ray Tune.

    trials   200 trials of one second, with 100 logged rows each: whole processes, start-up included
    rows     trials that only log, 10,000 rows each: rows per second, from the slope between two
             numbers of trials
    script   what a trial of a script costs beside the script by hand: a launch with --inline of 12
             trials that do nothing, minus 12 starts of the script

Each side is a process with all it starts, on all cores, one after the other in turn. Every side has
to have stored each row once, or the run stops.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import processes
from sweeper.api import query

GRID = """
name: own
trainable: {trainable}
fixed: {{steps: {rows}, seconds: {seconds}}}
grid: {{product: {{number: {{range: [0, {trials}]}}}}}}
stop: {{after_generalization: false}}
"""

SIDES = {
    "function": "benchmarks.own_trial:train",
    "script": str(Path(__file__).with_name("own_trial.py")),
}


def sweeper(side: str, trials: int, seconds: float, rows: int, scratch: Path, *more: str) -> float:
    """Launch trials of a function or a script; return the wall seconds."""
    grid = GRID.format(trainable=SIDES[side], rows=rows, seconds=seconds, trials=trials)
    wall, store = processes.launch(grid, scratch, *more)
    n = query(store, "own", "select count(*) as n from metrics")["n"][0].as_py()
    if n != trials * rows:
        raise RuntimeError(f"{side}: {n} rows instead of {trials * rows}")
    return wall


def tune(trials: int, seconds: float, rows: int) -> float:
    """Run the trials on plain Ray Tune; return the wall seconds."""
    for name in [name for name in os.environ if name.startswith(("TUNE_", "RAY_AIR_"))]:
        del os.environ[name]  # sweeper, imported here, set them; Tune has its own defaults
    words = [str(trials), str(seconds), str(rows)]
    return processes.timed([sys.executable, "-m", "benchmarks.own_tune", *words])


def compare(trials: int, seconds: float, rows: int, scratch: Path) -> dict[str, float]:
    """Return the wall seconds of each side."""
    walls = {
        "ray tune": tune(trials, seconds, rows),
        "function": sweeper("function", trials, seconds, rows, scratch),
        "script": sweeper("script", trials, seconds, rows, scratch),
    }
    for side, wall in walls.items():
        print(f"{trials} trials of {seconds:g} s, {rows} rows, {side:8}: {wall:7.1f} s")
    return walls


def rates(few: int, many: int, rows: int, scratch: Path) -> dict[str, float]:
    """Return the rows per second that each side takes in."""
    small, large = (compare(trials, 0, rows, scratch) for trials in (few, many))
    found = {side: (many - few) * rows / (large[side] - small[side]) for side in small}
    for side, rate in found.items():
        print(f"{side:8}: {rate:9,.0f} rows per second")
    return found


def script(trials: int, scratch: Path) -> dict[str, float]:
    """Return the seconds that a trial of a script takes by hand and in a sweep."""
    by_hand = [
        processes.timed([sys.executable, SIDES["script"], "--seconds", "0", "--steps", "1"])
        for _ in range(trials)
    ]
    few, many = (sweeper("script", n, 0, 1, scratch, "--inline") for n in (2, 2 + trials))
    found = {"by hand": median(by_hand), "swept": (many - few) / trials}
    print(f"a script by hand {found['by hand']:.3f} s, as a trial {found['swept']:.3f} s")
    return found


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=200, help="trials of one second")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of a trial that only logs")
    parser.add_argument("--numbers", type=int, nargs=2, default=[4, 24], help="of such trials")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    report: dict[str, Any] = {"at": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory(prefix="own-") as folder:
        scratch = Path(folder)
        report["script"] = script(12, scratch)
        few, many = args.numbers
        report["rows"] = rates(few, many, args.rows, scratch)
        report["trials"] = compare(args.trials, 1.0, 100, scratch)
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
