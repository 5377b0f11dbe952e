"""Where the seconds of a small launch go, beside the least that Ray needs for as much.

    floor   a plain script: import Ray and Tune, `ray.init`, one Tune run of two trials that do
            nothing, `ray.shutdown`
    launch  `sweeper launch grids/smoke.yaml` on a fresh store
    phase   `sweeper phase` of what it trained: the first answer

Each a process of its own, from its start to its end; rounds are interleaved, figures are medians.
The parts of a launch come from launches in which the driver notes the moments; the ledger says
when packs were claimed and committed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks import processes, stored
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials

GRID = processes.ROOT / "grids" / "smoke.yaml"

FLOOR = """
import logging, os, tempfile, warnings
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
import ray
from ray import tune
warnings.simplefilter("ignore")
ray.init(
    address="local", include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20,
    num_cpus=len(os.sched_getaffinity(0)), logging_level=logging.ERROR,
)
with tempfile.TemporaryDirectory() as scratch:
    tune.Tuner(
        tune.with_resources(lambda config: {"done": True}, {"cpu": 1}),
        param_space={"i": tune.grid_search([0, 1])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=scratch, verbose=0),
    ).fit()
ray.shutdown()
"""

NOTED = """
import json, sys, time
moments = {}
from sweeper import cli
from sweeper.compile import loading
from sweeper.engine import commands, driver, progress
from sweeper.engine import ray as launch_ray
moments["imports"] = time.time()
def noted(module, attribute):
    inner = getattr(module, attribute)
    def outer(*args, **options):
        moments["before " + attribute] = time.time()
        result = inner(*args, **options)
        moments[attribute] = time.time()
        return result
    setattr(module, attribute, outer)
for module, attribute in (
    (driver, "begin"), (launch_ray.ray, "init"), (launch_ray.Cluster, "_watched"),
    (launch_ray.ray, "shutdown"),
):
    noted(module, attribute)
path, leave = sys.argv.pop(), cli._leave
def left(code):
    with open(path, "w") as file:
        json.dump(moments, file)
    leave(code)
cli._leave = left
cli.main()
"""
"""A launch that leaves its moments, in seconds since 1970, in the file of its last argument."""


def launched(scratch: Path) -> tuple[float, float]:
    """Return the seconds of a launch, and of the phase table after it."""
    wall, store = processes.launch(GRID.read_text(), scratch)
    phase = processes.timed(
        [
            sys.executable,
            "-m",
            "sweeper.cli",
            "phase",
            "smoke",
            "--x",
            "regularizer.strength",
            "--y",
            "selection.tau",
            "--store",
            store,
        ]
    )
    return wall, phase


def parts(scratch: Path) -> dict[str, float]:
    """Return the seconds of each part of a launch, in their order."""
    where = Path(tempfile.mkdtemp(dir=scratch))
    begun = time.time()
    processes.timed(
        [
            sys.executable,
            "-c",
            NOTED,
            "launch",
            str(GRID),
            "--store",
            str(where / "sweeps"),
            "--quiet",
            str(where / "moments.json"),
        ]
    )
    ended = time.time()
    at = json.loads((where / "moments.json").read_text())
    book = stored.open_sweep(str(where / "sweeps"), "smoke")
    packs = [attempt for pack in book.state.packs.values() for attempt in pack.attempts]
    claimed = min(attempt.record["at"] for attempt in packs)
    done = max(attempt.record["at"] for attempt in packs) + _last_end(book)
    moments = {
        "": begun,
        "Python and imports, all but Tune": at["imports"],
        "the grid file, the plan, the ledger": at["begin"],
        "Ray starts; Tune is imported beside": at["init"],
        "Tune starts; its workers import Tune, then torch": claimed,
        "packs are trained": done,
        "Tune notices and ends": at["_watched"],
        "compaction, counts": at["before shutdown"],
        "Ray ends": at["shutdown"],
        "exit": ended,
    }
    return {name: b - a for (_, a), (name, b) in pairwise(moments.items())}


def _last_end(book: Ledger) -> float:
    """Return the seconds that the pack claimed last took."""
    last = max(
        (a.record["at"], pack.id) for pack in book.state.packs.values() for a in pack.attempts
    )[1]
    ends = ended_trials(book)
    walls = dict(zip(ends["pack_id"].to_pylist(), ends["wall_s"].to_pylist(), strict=True))
    return float(walls[last])


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    walls: dict[str, list[float]] = {"floor": [], "launch": [], "phase": [], "first answer": []}
    items: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="startup-") as scratch:
        launched(Path(scratch))  # what the first one reads from disk, the others find in memory
        for _ in range(args.rounds):
            walls["floor"].append(processes.timed([sys.executable, "-c", FLOOR]))
            launch, phase = launched(Path(scratch))
            walls["launch"].append(launch)
            walls["phase"].append(phase)
            walls["first answer"].append(launch + phase)
            for name, seconds in parts(Path(scratch)).items():
                items.setdefault(name, []).append(seconds)
    print(f"{'':50} {'s':>6}")
    for name, each in walls.items():
        print(f"{name:50} {median(each):6.2f}   of {', '.join(f'{s:.2f}' for s in each)}")
    print("\nthe parts of a launch")
    for name, each in items.items():
        print(f"{name:50} {median(each):6.2f}")
    if args.output:
        found = {"walls_s": walls, "parts_s": items}
        Path(args.output).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
