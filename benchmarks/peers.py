"""Two grids end to end, through sweeper and as one would train them without it.

    sparse  1000 trials of sparse recovery (n=100, s=5, N=30, l1), strengths times seeds, 20,000
            steps in float64
    mlp     64 trials of addition modulo 23 by an MLP, weight decays times seeds, 3,000 steps in
            float32

Each side (`benchmarks.peers_side`, and `sweeper launch` on a fresh store) is a process with all it
starts, timed from its start to its end, on all cores. sweeper trains the whole grid. Slow sides
train two smaller numbers of its trials: the slope between them is what one more trial costs,
what is left their start-up, and the line through both says how long they need for the whole
grid. Sides are interleaved; figures are medians over rounds.

All sides log the same metrics at the same steps and have to agree, or the run stops: no equal
work. In float64 the losses at the end, to 1e-6. In float32 rounding grows exponentially while a
network memorizes: the losses up to step 20 to 1e-3, and for every trial t1, the first logged step
with train accuracy 0.99, give or take one logged step. `tests/test_peers.py` holds the networks
to each other in float64, where they agree to 1e-6 for as long as it looks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import plain, plain_mlp, processes, stored
from benchmarks.peers_side import SIDES, Cell
from sweeper.compile.loading import load_grid
from sweeper.store.schema import logged_steps
from sweeper.trainables.data.pairs import split_of, table
from sweeper.trainables.families.modular_arithmetic import base_weights

WHOLE = ("sweeper", "vmap")
"""Sides that are fast enough for the whole grid."""

EARLY = 20
"""Steps over which networks agree in float32."""

POINTS = 50
"""Logged steps per decade."""

Array = NDArray[np.float64]
Times = dict[str, dict[int, list[float]]]
"""Side to number of trials to the wall seconds of each round."""

SPARSE = """
name: peers
fixed:
  task: {{name: sparse_recovery, n: 100, s: 5, N: 30}}
  optimizer: {{name: gd, lr: 0.1}}
  regularizer.name: l1
  steps: {steps}
  dtype: {dtype}
grid:
  product:
    regularizer.strength: {knobs}
seeds: {seeds}
stop: {{after_generalization: false}}
"""

MLP = """
name: peers
fixed:
  task: {{name: modular_arithmetic, p: 23, operation: add}}
  optimizer: {{name: adamw, lr: 1.0e-2}}
  steps: {steps}
  dtype: {dtype}
grid:
  product:
    optimizer.weight_decay: {knobs}
seeds: {seeds}
stop: {{after_generalization: false}}
"""


@dataclass(frozen=True)
class Kind:
    """A grid.

    Attributes:
        name: sparse or mlp.
        text: Its file, with blanks for steps, knobs and seeds.
        knob: Path of what it varies beside the seed.
        knobs: The values.
        seeds: Number of seeds; the trials of one seed share their data.
        steps: Optimizer steps.
        metrics: What is logged.
        dtype: Of its numbers.
        sizes: Side to the numbers of trials that it trains; by default `few`.
        few: Numbers of trials of a slow side.
    """

    name: str
    text: str
    knob: str
    knobs: tuple[float, ...]
    seeds: int
    steps: int
    metrics: tuple[str, ...]
    few: tuple[int, ...]
    dtype: str
    sizes: dict[str, tuple[int, ...]]

    @property
    def trials(self) -> int:
        """Trials of the grid."""
        return len(self.knobs) * self.seeds

    @property
    def cells(self) -> list[Cell]:
        """(knob, seed) of every trial: the first ones have different seeds."""
        return [(knob, seed) for knob in self.knobs for seed in range(self.seeds)]

    @property
    def logged(self) -> tuple[int, ...]:
        """Steps at which all sides measure."""
        return logged_steps(POINTS, self.steps)

    def of(self, side: str) -> tuple[int, ...]:
        """Return the numbers of trials that `side` trains."""
        return self.sizes.get(side, self.few)

    def file(self, trials: int | None = None) -> str:
        """Return the grid file of the first `trials` trials, whole knobs."""
        count = -(-(trials or self.trials) // self.seeds)
        return self.text.format(
            steps=self.steps, dtype=self.dtype, knobs=list(self.knobs[:count]), seeds=self.seeds
        )


def kinds(steps: int | None, times: int = 1) -> dict[str, Kind]:
    """Return the grids.

    Args:
        steps: Cut them to so many steps; None for all.
        times: Multiplies the numbers of trials of slow sides.
    """
    strengths = tuple(float(f"{s:.6e}") for s in np.geomspace(1e-5, 1e-2, 100))
    decays = tuple(float(f"{d:.3g}") for d in np.geomspace(0.03, 3, 8))
    sparse = Kind(
        "sparse",
        SPARSE,
        "regularizer.strength",
        strengths,
        10,
        steps or 20_000,
        plain.METRICS,
        (8, 16),
        "float64",
        {
            "numpy": (20, 80),
            "torch": (2, 4),
            "optuna": (2, 4),
            "vmap": (1000,),
            "sweeper": (10, 1000),
        },
    )
    mlp = Kind(
        "mlp",
        MLP,
        "optimizer.weight_decay",
        decays,
        8,
        steps or 3000,
        plain_mlp.METRICS,
        (8, 16),
        "float32",
        {"numpy": (), "torch": (2, 6), "optuna": (2, 6), "vmap": (64,), "sweeper": (8, 64)},
    )
    return {kind.name: _longer(kind, times) for kind in (sparse, mlp)}


def _longer(kind: Kind, times: int) -> Kind:
    """Return `kind` with slow sides that train so many times as many trials."""

    def more(side: str) -> tuple[int, ...]:
        sizes = [min(kind.trials, times * n) for n in kind.of(side)]
        return tuple(dict.fromkeys(sizes)) if side not in WHOLE else kind.of(side)

    return replace(kind, sizes={side: more(side) for side in (*SIDES, "sweeper")})


def save(kind: Kind, path: Path, scratch: Path) -> None:
    """Write what the sides read: the grid, and what sweeper draws for each seed."""
    knob, seed = zip(*kind.cells, strict=True)
    arrays: dict[str, Any] = {
        "kind": kind.name,
        "steps": kind.steps,
        "logged": kind.logged,
        "knob": knob,
        "seed": seed,
    }
    if kind.name == "sparse":
        for s in range(kind.seeds):
            one = plain.draw(s)
            arrays |= {f"{s}:X": one.X, f"{s}:y": one.y, f"{s}:signal": one.signal}
    else:
        file = scratch / "mlp.yaml"
        file.write_text(kind.file(kind.seeds))
        for trial in load_grid(file, []).trials():
            v: Any = trial.values
            a, b, _ = table(v["task.operation"], v["task.p"])
            for side, chosen in zip(("train", "test"), split_of(trial), strict=True):
                arrays[f"{trial.seed}:{side}"] = np.stack([a[chosen], b[chosen]], axis=1)
            sizes = (v["task.p"], v["model.d"], v["model.width"], v["model.depth"])
            for i, weight in enumerate(base_weights(trial.seed, *sizes)):
                arrays[f"{trial.seed}:w{i}"] = weight.numpy().astype(kind.dtype)
    np.savez(path, **arrays)


def sweeper_rows(kind: Kind, store: str, trials: int) -> Array:
    """Return the rows in the store, ``[trials, logged steps, metrics]``."""
    book = stored.open_sweep(store, "peers")
    table = stored.rows(book)
    n = len(kind.logged)
    assert np.array_equal(
        table["step"].to_numpy().reshape(-1, n), np.tile(kind.logged, (len(table) // n, 1))
    )
    ids = table["trial_id"].to_pylist()[::n]
    each = np.stack([table[name].to_numpy() for name in kind.metrics], axis=1)
    by_id = dict(zip(ids, each.reshape(len(ids), n, -1), strict=True))
    plan = stored.plan(book)
    cells = zip(plan[kind.knob].to_pylist(), plan["seed"].to_pylist(), strict=True)
    found = {c: by_id[i] for c, i in zip(cells, plan["trial_id"].to_pylist(), strict=True)}
    return np.stack([found[cell] for cell in kind.cells[:trials]])


def run(kind: Kind, side: str, trials: int, scratch: Path) -> tuple[float, Array]:
    """Run one side; return its wall seconds and its rows."""
    if side == "sweeper":
        wall, store = processes.launch(kind.file(trials), scratch)
        return wall, sweeper_rows(kind, store, trials)
    output = scratch / "rows.npy"
    wall = processes.timed(
        [
            sys.executable,
            "-m",
            "benchmarks.peers_side",
            side,
            str(scratch / f"{kind.name}.npz"),
            str(trials),
            str(output),
        ]
    )
    return wall, np.load(output)


def check(kind: Kind, side: str, rows: Array, reference: Array) -> float:
    """Return the largest relative difference of losses that have to agree.

    Args:
        kind: The grid.
        side: For the message.
        rows: ``[trials, logged steps, metrics]``, or the last step alone.
        reference: sweeper's of the whole grid.

    Raises:
        SystemExit: They differ: the sides didn't do the same work.
    """
    expected = reference[: len(rows)]
    last_only = side == "ray"
    if rows.shape != (expected[:, -1:] if last_only else expected).shape:
        raise SystemExit(f"{kind.name}: {side} logged {rows.shape}: no equal work")
    if kind.name == "sparse":
        worst, most = _difference(rows[:, -1, :2], expected[:, -1, :2]), 1e-6
    elif last_only:  # it keeps no curve: the last row, as far as rounding lets it agree
        same = np.abs(rows[:, -1, 2] - expected[:, -1, 2]).max()
        worst, most = float(same), 0.02
    else:
        early = np.array(kind.logged) <= EARLY
        worst, most = _difference(rows[:, early, :2], expected[:, early, :2]), 1e-3
        if np.abs(_t1(rows) - _t1(expected)).max() > 1:
            raise SystemExit(f"{kind.name}: {side}: another t1: no equal work")
    if not worst <= most:
        raise SystemExit(f"{kind.name}: {side} differs by {worst:.1e}: no equal work")
    return worst


def _difference(a: Array, b: Array) -> float:
    return float((np.abs(a - b) / np.abs(b)).max())


def _t1(rows: Array) -> NDArray[np.int64]:
    """Return the index of the first logged step with train accuracy 0.99; behind all for none."""
    holds = rows[:, :, 2] >= 0.99
    first: NDArray[np.int64] = np.where(holds.any(axis=1), holds.argmax(axis=1), holds.shape[1])
    return first


def compare(kind: Kind, sides: Sequence[str], rounds: int, scratch: Path) -> dict[str, Any]:
    """Run all sides in interleaved rounds; print the table and return it."""
    save(kind, scratch / f"{kind.name}.npz", scratch)
    times: Times = {}
    worst: dict[str, float] = {}
    reference: Array | None = None
    for _ in range(rounds):
        for side in ("sweeper", *sides):
            for trials in reversed(kind.of(side)):
                wall, rows = run(kind, side, trials, scratch)
                if reference is None:
                    reference = rows
                worst[side] = max(worst.get(side, 0.0), check(kind, side, rows, reference))
                times.setdefault(side, {}).setdefault(trials, []).append(wall)
                print(f"  {kind.name} {side} {trials}: {wall:.2f} s", flush=True)
    return report(kind, times, worst)


def report(kind: Kind, times: Times, worst: dict[str, float]) -> dict[str, Any]:
    """Print and return what each side needs for the whole grid."""
    ours = median(times["sweeper"][kind.trials])
    found: dict[str, Any] = {}
    print(f"\n{kind.name}: {kind.trials} trials x {kind.steps} steps on {processes.CORES} CPUs")
    print(
        f"{'side':15} {'measured':>24} {'start-up s':>11} {'s/trial':>9} {'whole grid s':>13} "
        f"{'x sweeper':>10} {'differs by':>11}"
    )
    for side, by_size in times.items():
        wall = {n: median(each) for n, each in by_size.items()}
        (few, a), *_, (many, b) = sorted(wall.items())[:: len(wall) - 1 or 1] * 2
        slope = (b - a) / (many - few) if many > few else None
        whole = wall.get(kind.trials)
        if whole is None:
            assert slope is not None
            whole = b + slope * (kind.trials - many)
        start = a - slope * few if slope is not None else None
        measured = ", ".join(f"{n}: {s:.1f} s" for n, s in sorted(wall.items()))
        print(
            f"{side:15} {measured:>24} {_cell(start, '.1f'):>11} {_cell(slope, '.3f'):>9} "
            f"{whole:13.1f} {whole / ours:10.1f} {worst[side]:11.0e}"
        )
        found[side] = {
            "wall_s": {str(n): [round(s, 3) for s in each] for n, each in by_size.items()},
            "start_s": start,
            "s_per_trial": slope,
            "whole_s": whole,
            "ratio": whole / ours,
            "difference": worst[side],
        }
    return {"trials": kind.trials, "steps": kind.steps, "sides": found}


def _cell(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--grids", nargs="+", choices=("sparse", "mlp"), default=["sparse", "mlp"])
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=1, help="interleaved repetitions")
    parser.add_argument("--steps", type=int, help="cut all trials to so many steps")
    parser.add_argument(
        "--times", type=int, default=1, help="slow sides train so many times as many trials"
    )
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    result: dict[str, Any] = {"at": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count()}
    for name in args.grids:
        kind = kinds(args.steps, args.times)[name]
        with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
            result[name] = compare(kind, args.sides, args.rounds, Path(scratch))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
