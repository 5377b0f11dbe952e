"""How cost grows, each over three decades, on one core: a plot and the fitted exponents.

    trials  seconds of a whole launch in this process: planned, trained, logged, compacted
    steps   the same, by its horizon
    pack    seconds of one step of a pack, by its number of trials
    memory  bytes that a pack of trials of different seeds adds to a process, and `memory_bytes`
            times its trials, by which packs are planned

Fixed costs hide growth at small sizes, so there are two exponents: over all, and over the last
decade. 1 is proportional.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.rates import rate
from sweeper.compile.loading import load_grid
from sweeper.config.decoding import trials_of
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.worker import run_inline
from sweeper.grid.grid import Grid
from sweeper.packing import Pack, Run, pack_order
from sweeper.trainables import grokking, loop
from sweeper.trainables.batch.weights import Block

FIGURE = Path(__file__).with_name("growth.png")


@dataclass(frozen=True)
class Family:
    """Trials to measure with.

    Attributes:
        name: For the legend.
        fixed: The section `fixed` of its grid, in one line.
        axis: What trials of a seed differ in.
        trials: Numbers of trials of a launch, of `trial_steps` steps.
        trial_steps: Their steps.
        steps: Horizons of a launch of `step_trials` trials.
        step_trials: Their number.
        packs: Numbers of trials of a pack.
    """

    name: str
    fixed: str
    axis: str
    trials: tuple[int, ...]
    trial_steps: int
    steps: tuple[int, ...]
    step_trials: int
    packs: tuple[int, ...]


FAMILIES = (
    Family(
        "sparse recovery",
        "task: {name: sparse_recovery, n: 100, s: 5, N: 30}, regularizer.name: l1",
        "regularizer.strength",
        (10, 100, 1000, 10_000),
        200,
        (100, 1000, 10_000, 100_000),
        32,
        (2, 8, 32, 128, 512, 2048, 8192),
    ),
    Family(
        "modular addition, MLP",
        "task: {name: modular_arithmetic, p: 23}",
        "optimizer.weight_decay",
        (1, 10, 100, 1000),
        10,
        (10, 100, 1000, 10_000),
        1,
        (1, 4, 16, 64, 256, 1024),
    ),
)

Points = list[tuple[float, float]]


def grid_of(family: Family, scratch: Path, trials: int, steps: int, seeds: int) -> Grid:
    """Return a grid of at least `trials` trials: values of the axis times seeds."""
    count = -(-trials // seeds)
    values = np.geomspace(1e-4, 1e-2, count).tolist()
    path = scratch / "growth.yaml"
    path.write_text(
        f"name: growth\nfixed: {{{family.fixed}, steps: {steps}}}\n"
        f"grid: {{product: {{{family.axis}: {values}}}}}\nseeds: {seeds}\n"
        "stop: {after_generalization: false}\n"
    )
    return load_grid(path, [])


def launched(family: Family, trials: int, steps: int) -> float:
    """Return the seconds of a launch in this process."""
    with tempfile.TemporaryDirectory(prefix="growth-") as scratch:
        grid = grid_of(family, Path(scratch), trials, steps, min(10, trials))
        begun = time.perf_counter()
        commands.launch(grid, str(Path(scratch, "store")), Runner(run_inline, 1))
        return time.perf_counter() - begun


def pack_of(family: Family, trials: int, seeds: int) -> Pack[Any]:
    """Return a pack of `trials` trials of as many seeds, in the order of a launch."""
    with tempfile.TemporaryDirectory(prefix="growth-") as scratch:
        grid = grid_of(family, Path(scratch), trials, 1000, seeds)
    table = grid.table()
    rows = table.take(pack_order(grid.config, table))
    chosen = tuple(trials_of(grid.config, rows)[:trials])
    return Pack("growth", chosen, grid.config, Run(steps=1000, criteria=grid.criteria))


def stepped(family: Family, trials: int) -> float:
    """Return the seconds of one step of a pack."""
    pack = pack_of(family, trials, min(10, trials))
    blocks = loop._blocks(pack, range(trials))
    taken = iter(range(1 << 40))

    def step() -> None:
        now = next(taken)
        for block in blocks:
            block.step(now)

    with torch.no_grad():
        return 1 / rate(step, 0.5)


def held(family: Family, trials: int) -> tuple[int, int]:
    """Return the bytes that a pack adds to a process of its own, and its estimate.

    To be called before anything else has left freed memory in this process.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        pack = pack_of(family, trials, trials)
        estimate = trials * grokking.memory_bytes(pack.config)
        _two_steps(pack, 1)  # what is loaded once is no growth
        before = psutil.Process().memory_info().rss
        blocks = _two_steps(pack, trials)
        most = psutil.Process().memory_info().rss
        del blocks
        os.write(writer, json.dumps([most - before, estimate]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        measured, estimate = json.load(told)
    os.waitpid(child, 0)
    return measured, estimate


def _two_steps(pack: Pack[Any], trials: int) -> list[Block]:
    """Return the blocks of the first trials of `pack`, two steps on."""
    with torch.no_grad():
        blocks = loop._blocks(pack, range(trials))
        for taken in range(2):
            for block in blocks:
                block.step(taken)
    return blocks


def exponents(points: Points) -> tuple[float, float]:
    """Return the fitted exponents: over all points, and over the last decade."""
    x, y = np.log(np.array(points)).T
    last = x >= x[-1] - np.log(10) - 1e-9
    return float(np.polyfit(x, y, 1)[0]), float(np.polyfit(x[last], y[last], 1)[0])


def measure(family: Family, memory: dict[int, tuple[int, int]]) -> dict[str, Points]:
    """Measure one family; print as it goes.

    Args:
        family: The family.
        memory: What `held` says of each of its packs.
    """
    found: dict[str, Points] = {}

    def each(what: str, sizes: Sequence[int], cost: Callable[[int], float]) -> None:
        found[what] = [(n, cost(n)) for n in sizes]
        total, last = exponents(found[what])
        shown = ", ".join(f"{n:g}: {c:.3g}" for n, c in found[what])
        print(
            f"{family.name:24} {what:9} {shown}; exponent {total:.2f}, last decade {last:.2f}",
            flush=True,
        )

    launched(family, 1, 1)  # what is loaded once is no growth
    each("trials", family.trials, lambda n: launched(family, n, family.trial_steps))
    each("steps", family.steps, lambda n: launched(family, family.step_trials, n))
    each("pack", family.packs, lambda n: stepped(family, n))
    each("memory", tuple(memory), lambda n: memory[n][0])
    each("estimate", tuple(memory), lambda n: memory[n][1])
    return found


LABELS = {
    "trials": ("trials", "seconds of a launch"),
    "steps": ("steps", "seconds of a launch"),
    "pack": ("trials of a pack", "seconds of a step"),
    "memory": ("trials of a pack", "bytes"),
}


def draw(found: dict[str, dict[str, Points]], path: Path) -> None:
    """Draw all panels: measured points, and the power law of the last decade over two."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    for axes, (what, (x, y)) in zip(figure.subplots(2, 2).flat, LABELS.items(), strict=True):
        for colour, (name, series) in zip(("C0", "C1"), found.items(), strict=False):
            _line(axes, series[what], colour, name)
            if what == "memory":
                n, estimate = zip(*series["estimate"], strict=True)
                axes.plot(n, estimate, ":", color=colour, label=f"{name}: memory_bytes")
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)


def _line(axes: Axes, points: Points, colour: str, name: str) -> None:
    x, y = np.array(points).T
    slope = exponents(points)[1]
    axes.plot(x, y, "o", color=colour, label=f"{name}: exponent {slope:.2f}")
    near = x >= x[-1] / 100
    law = y[-1] * (x[near] / x[-1]) ** slope
    axes.plot(x[near], law, "-", color=colour, alpha=0.5, linewidth=1)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where the plot goes")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    memory = [{n: held(family, n) for n in family.packs[1:]} for family in FAMILIES]
    found = {f.name: measure(f, m) for f, m in zip(FAMILIES, memory, strict=True)}
    draw(found, args.figure)
    print(args.figure)
    if args.output:
        Path(args.output).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
