"""Kills of users' scripts in a sweep: the driver, the worker, the script itself, at random moments.

Each script of `docs/examples/scripts` is swept once undisturbed. Then its launch is disturbed: at a
random moment one process is killed with SIGKILL. After the death of a driver the sweep is launched
again. When the sweep has ended, each (trial, step) has to be there once; how many trials have rows
with equal bits depends on the script. Once it has ended, it begins anew from an empty store, until
enough was killed.

Only processes of the launches are killed (`benchmarks.launched`).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.invariants import claims, compare, launches
from benchmarks.launched import ROOT, Process

SCRIPTS = ROOT / "docs" / "examples" / "scripts"
WHO = ("driver", "worker", "script")
PAUSE_S = (0.5, 8.0)
"""The range of the seconds between a claim or a kill and the next kill."""


def start(name: str, store: str, overrides: Sequence[str]) -> Process:
    """Start a launch of a script's grid, as the sweep `chaos`."""
    return Process.start(SCRIPTS / f"{name}.yaml", store, "name=chaos", *overrides)


def strike(launched: Process, who: str, name: str, store: str) -> bool:
    """Kill; return whether there was anybody to kill."""
    if who == "driver":
        launched.process.kill()
        launched.process.wait()
        return True
    family = {p.pid: p for p in launched.family()}
    if who == "worker":
        pids = {c["pid"] for c in claims(store, launches(store) - 1)} & family.keys()
    else:
        pids = set()
        for process in family.values():
            with suppress(psutil.Error):
                if process.cmdline()[1:] == [str(SCRIPTS / f"{name}.py")]:
                    pids.add(process.pid)
    for pid in sorted(pids)[:1]:
        with suppress(psutil.Error):
            family[pid].send_signal(signal.SIGKILL)
            return True
    return False


def disturbed(
    name: str, store: str, wanted: list[str], draw: random.Random, overrides: Sequence[str]
) -> Counter[str]:
    """Run one sweep to its end; kill the `wanted` on the way, which are taken off the list."""
    killed: Counter[str] = Counter()
    launched = start(name, store, overrides)
    try:
        while True:
            until = time.monotonic() + draw.uniform(*PAUSE_S)
            while launched.process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            if launched.process.poll() is not None:
                launched.kill_all()  # of a killed driver
                if launched.process.returncode == 0:
                    return killed
                launched = start(name, store, overrides)
                _wait_for_claim(launched, store)
            elif (
                wanted
                and Path(store, "chaos", "log").exists()
                and strike(launched, wanted[0], name, store)
            ):
                killed[wanted.pop(0)] += 1
    finally:
        launched.kill_all()


def _wait_for_claim(launched: Process, store: str) -> None:
    before = launches(store)
    while launched.process.poll() is None and launches(store) == before:
        time.sleep(0.1)


def campaign(name: str, kills: int, seed: int, overrides: Sequence[str], scratch: Path) -> Any:
    """Return the figures of one script."""
    draw = random.Random(seed)
    reference = str(scratch / f"{name}-reference")
    undisturbed = start(name, reference, overrides)
    undisturbed.process.wait()
    undisturbed.kill_all()
    wanted = [WHO[k % len(WHO)] for k in range(kills)]
    killed: Counter[str] = Counter()
    lost = doubled = trials = equal = sweeps = 0
    while wanted:
        store = str(scratch / f"{name}-{sweeps}")
        killed += disturbed(name, store, wanted, draw, overrides)
        found = compare(store, reference)
        lost, doubled = lost + found.lost, doubled + found.doubled
        trials, equal, sweeps = trials + found.trials, equal + found.equal, sweeps + 1
        shutil.rmtree(store)
    print(
        f"{name:18} {sum(killed.values())} kills ({dict(killed)}) in {sweeps} sweeps: {lost} rows "
        f"lost, {doubled} doubled; {equal} of {trials} trials bit-equal",
        flush=True,
    )
    return {
        "killed": dict(killed),
        "sweeps": sweeps,
        "lost": lost,
        "doubled": doubled,
        "trials": trials,
        "equal": equal,
    }


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="scripts; all without a name")
    parser.add_argument("--kills", type=int, default=20, help="kills of each script's launches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--override", action="append", default=[], help="of the grids: KEY=VALUE")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    names = args.names or sorted(path.stem for path in SCRIPTS.glob("*.py"))
    with tempfile.TemporaryDirectory(prefix="own-kills-") as folder:
        report = {
            name: campaign(name, args.kills, args.seed, args.override, Path(folder))
            for name in names
        }
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
