"""Kills launches at random moments and checks that nobody can tell from the rows.

Real `sweeper launch` processes on a local Ray are killed with SIGKILL, the driver alone, one
worker alone, or the driver with everything of its Ray, and launched again until the sweep is
done; then once more from an empty store, until enough was killed. At the end of each sweep:
no (trial, step) occurs twice, no logged step is missing, and every row is bit-equal to a sweep
that nobody killed. A reader asks SQL in a loop all the while.

After a driver alone was killed the next launch starts at once, beside what is left of the old
one: its late commits must be refused.

Only processes that were started here are ever killed: a launch carries a mark of its own in its
environment, which all that it starts inherits.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks import stored
from benchmarks.invariants import (
    NAME,
    Reader,
    claims,
    differences,
    faults,
    late_commits,
    launches,
    ledger_of,
)
from benchmarks.launched import Process
from sweeper import api

Who = Literal["driver", "worker", "both"]

GRID = """
name: chaos
fixed: {steps: 20_000}
grid:
  - product:
      task.name: [sparse_recovery]
      task.n: [200]
      task.N: [80]
      model.depth: [1, 3]
      model.init_scale: [1.0e-2]
      regularizer.name: [l1]
      regularizer.strength: {logspace: [1.0e-4, 1.0e-2, 2]}
  - product:
      task.name: [modular_arithmetic]
      task.p: [11]
      model.d: [32]
      model.width: [64]
      optimizer.weight_decay: [0.01, 0.1, 0.3, 1]
seeds: 8
checkpoint: {every_s: 2}
resources: {pack: 16}
"""
"""Four packs of 16 trials, two of each family, some 40 s of one core's work."""


@dataclass
class Kill:
    """One kill: who, when (seconds after the start of the launch), what was left 3 s later."""

    who: Who
    launch: int
    after_s: float
    step_s: float
    left: int = 0


def wait_for_claim(launched: Process, store: str, launch: int) -> bool:
    """Wait until a worker of the launch has a pack; return whether that came before its end."""
    while launched.process.poll() is None:
        if Path(store, NAME, "log").exists() and claims(store, launch):
            return True
        time.sleep(0.1)
    return False


def wait_for_checkpoint(launched: Process, store: str) -> bool:
    """Wait until some pack is half-way with a checkpoint; return whether one was before the end."""
    while launched.process.poll() is None:
        book = ledger_of(store)
        packs = book.state.packs.values() if book is not None else []
        if any(p.open and p.checkpoint is not None for p in packs):
            return True
        time.sleep(0.05)
    return False


def sleep_while_running(launched: Process, seconds: float) -> bool:
    """Sleep; return whether the launch is still running then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if launched.process.poll() is not None:
            return False
        time.sleep(min(0.05, max(0.0, until - time.monotonic())))
    return True


def strike(launched: Process, who: Who, store: str, launch: int) -> bool:
    """Kill; return whether there was anybody to kill."""
    family = {p.pid: p for p in launched.family()}
    if who == "both":
        launched.kill_all()
    elif who == "driver":
        launched.process.kill()
        launched.process.wait()
    else:
        book = ledger_of(store)
        assert book is not None
        mine = {c["pack_id"]: c["pid"] for c in claims(store, launch)}
        busy = [pid for pack, pid in mine.items() if book.state.packs[pack].open and pid in family]
        if not busy:
            return False
        family[busy[0]].send_signal(signal.SIGKILL)
    return True


class Campaign:
    """One sweep from an empty store to its end, killed on the way.

    Args:
        grid: The grid file.
        store: An empty folder's path.
        random: Says when and whom.
        window: Kills come this many seconds after a worker got a pack, uniformly.
    """

    def __init__(self, grid: Path, store: str, dice: random.Random, window: float) -> None:
        self.grid, self.store, self.dice, self.window = grid, store, dice, window
        self.kills: list[Kill] = []
        self.processes: list[Process] = []

    def run(self, most: int) -> None:
        """Launch and kill until the sweep is done; the launch after `most` kills is spared.

        Raises:
            RuntimeError: A launch that nobody killed failed.
        """
        try:
            while not self._launch(most):
                pass
        finally:
            for one in self.processes:
                one.kill_all()

    def _launch(self, most: int) -> bool:
        """Launch once, kill; return whether the sweep is done."""
        number = launches(self.store)
        launched = Process.start(self.grid, self.store)
        self.processes.append(launched)
        while len(self.kills) < most:
            early = self.dice.random() < 0.15
            if early:
                alive = sleep_while_running(launched, self.dice.uniform(0.2, 5))
            else:
                alive = wait_for_claim(launched, self.store, number)
                alive = alive and sleep_while_running(launched, self.dice.uniform(0.1, self.window))
            if not alive:
                break
            who: Who = self.dice.choice(["driver", "worker", "both"])
            if who == "worker" and launches(self.store) <= number:
                who = "driver"
            begun = launched.age
            if not strike(launched, who, self.store, number):
                continue
            kill = Kill(who, number, begun, self.window)
            self.kills.append(kill)
            if who != "worker":
                time.sleep(self.dice.choice([0.0, 3.0]))  # with and without overlap
                kill.left = len(launched.family())
                return False
        code = launched.process.wait()
        if code:
            log = Path(f"{self.store}.log").read_text()[-2000:]
            raise RuntimeError(f"a launch that nobody killed ended with {code}: {log}")
        return True

    def leftovers(self) -> list[str]:
        """Return the names of processes that outlive their killed launches."""
        names = []
        for one in self.processes:
            for process in one.family():
                with suppress(psutil.Error):
                    names.append(process.name())
        return names

    def report(self) -> None:
        """Print every kill, and where the attempts of each launch began."""
        for number in range(launches(self.store)):
            began = [
                f"{c['pack_id'][:4]}#{c['attempt']}@{c['resumed_at']}"
                for c in claims(self.store, number)
            ]
            print(f"  launch {number}: attempts from step: {' '.join(began) or 'none'}")
            for kill in self.kills:
                if kill.launch == number:
                    left = f", {kill.left} processes left" if kill.who != "worker" else ""
                    print(f"    {kill.who} killed after {kill.after_s:.1f} s{left}")


def undisturbed(grid: Path, store: str) -> float:
    """Launch once to the end, killing nobody; return the seconds it took."""
    launched = Process.start(grid, store)
    try:
        code = launched.process.wait()
    finally:
        launched.kill_all()
    if code:
        raise RuntimeError(Path(f"{store}.log").read_text()[-2000:])
    return launched.age


def chaos(grid: Path, folder: Path, kills: int, seed: int, window: float) -> dict[str, Any]:
    """Kill `kills` times, over as many sweeps as that takes; print and return what was found."""
    loaded = api.load_grid(grid, [])
    points, steps = loaded.file.log.points_per_decade, loaded.steps
    reference = str(folder / "reference")
    seconds = undisturbed(grid, reference)
    n = stored.rows(stored.open_sweep(reference, NAME)).num_rows
    print(f"undisturbed: {seconds:.0f} s, {n} rows", flush=True)
    dice = random.Random(seed)
    total: Counter[str] = Counter()
    sweeps, bad = 0, faults(reference, points, steps)
    while sum(total[w] for w in ("driver", "worker", "both")) < kills:
        store = str(folder / f"killed-{sweeps}")
        reader = Reader(store, points, steps)
        campaign = Campaign(grid, store, dice, window)
        reader.start()
        done = sum(total[w] for w in ("driver", "worker", "both"))
        campaign.run(kills - done)
        reader.stop()
        total.update(k.who for k in campaign.kills)
        found = [*faults(store, points, steps), *differences(store, reference), *reader.problems]
        late = late_commits(store)
        total.update(
            reads=reader.reads,
            late=late,
            launches=len(campaign.processes),
            resumed=sum(
                c["resumed_at"] > 0 for i in range(launches(store)) for c in claims(store, i)
            ),
        )
        print(
            f"sweep {sweeps}: {len(campaign.kills)} kills, {len(campaign.processes)} launches, "
            f"{reader.reads} reads, {late} late commits, "
            f"{'bit-equal' if not found else found[:5]}",
            flush=True,
        )
        campaign.report()
        bad += found + [f"{late} late commits"] * bool(late)
        sweeps += 1
    print(
        f"\n{dict(total)} in {sweeps} sweeps: {bad or 'no duplicate, no gap, all rows bit-equal'}"
    )
    return {"sweeps": sweeps, "counts": dict(total), "problems": bad}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--launches", type=int, default=20, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    parser.add_argument("--grid", type=Path, help=f"a grid named {NAME}, with a fixed pack size")
    parser.add_argument("--window", type=float, default=8.0, help="seconds of training to a kill")
    parser.add_argument("--keep", type=Path, help="keep the stores in this folder")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        grid = args.grid or folder / "chaos.yaml"
        if args.grid is None:
            grid.write_text(GRID)
        report = chaos(grid, folder, args.launches, args.seed, args.window)
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(1 if report["problems"] else 0)


if __name__ == "__main__":
    main()
