"""Every family: trial-steps per second of one core by pack size, beside the machine's matrix rate.

`alone` is a pack of one: the same code, so that the ratio is what packing is worth. Flops are
torch's own count of the matrix products of a step, backward pass and padding included; work
outside of products isn't counted; `--items` says what that is (`benchmarks.items`). Rounds are
interleaved, figures are medians of ratios within a round.
A new family is an entry of `FAMILIES`: a grid with one axis that trials of a pack differ in.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import items
from benchmarks.rates import matrix_step, rate
from sweeper.compile.loading import load_grid
from sweeper.packing import Pack, Run, pack_order
from sweeper.trainables import loop

RELU = (
    "{task: {name: teacher_student, teacher: gaussian, inputs: 50, hidden: 200, depth: 1,"
    " outputs: 2, activation: relu}, model: {width: 200, depth: 1, activation: relu, bias: false,"
    " init: fan_out}, optimizer: {name: adam, lr: 1.0e-3}, "
)
"""The start of what is fixed for students of ReLU teachers, as in figures 10 and 11 of [N25]."""

FAMILIES: dict[str, tuple[str, str]] = {
    "sparse recovery": (
        "{task: {name: sparse_recovery, n: 100, s: 5, N: 30}, regularizer.name: l1}",
        "regularizer.strength",
    ),
    "diagonal network": (
        "{task: {name: sparse_recovery, n: 100, s: 4, N: 40}, model.name: diagonal,"
        " regularizer.name: l2_sq}",
        "regularizer.strength",
    ),
    "matrix completion": (
        "{task: {name: matrix_completion}, regularizer.name: nuclear}",
        "regularizer.strength",
    ),
    "factorised U V^T": (
        "{task: {name: matrix_completion, N: 80}, model.name: factorised,"
        " regularizer.name: l2_sq, optimizer.lr: 0.01}",
        "regularizer.strength",
    ),
    "matrix sensing": (
        "{task: {name: matrix_sensing}, regularizer.name: nuclear}",
        "regularizer.strength",
    ),
    "modular addition, mlp": ("{task: {name: modular_arithmetic}}", "optimizer.weight_decay"),
    "mod 97, matrices, batches of 2048": (
        "{task: {name: modular_arithmetic, p: 97}, selection.fraction: 0.4, optimizer: {name: adam,"
        " batch: 2048, drop_last: false}, model: {embedding: matrix, width: 64, init: fan_out}}",
        "optimizer.weight_decay",
    ),
    "toy addition, sphere": (
        "{task: {name: toy_addition}, optimizer.constant_norm: true}",
        "model.init_scale",
    ),
    "modular addition, transformer": (
        "{task: {name: modular_arithmetic, p: 29},"
        " model: {name: transformer, d: 48, heads: 4, mlp: 128}}",
        "optimizer.weight_decay",
    ),
    "the same, 2 layers with norms": (
        "{task: {name: modular_arithmetic, p: 29}, model: {name: transformer, d: 48, heads: 4,"
        " mlp: 192, layers: 2, layer_norm: true, operator_token: true}}",
        "optimizer.weight_decay",
    ),
    "permutations, mlp": ("{task: {name: symmetric_group, degree: 4}}", "optimizer.weight_decay"),
    "teacher, student": ("{task: {name: teacher_student}}", "optimizer.weight_decay"),
    "the same at constant norm": (
        "{task: {name: teacher_student}, optimizer.constant_norm: true}",
        "model.init_scale",
    ),
    "ReLU student, l1": (RELU + "regularizer.name: l1}", "regularizer.strength"),
    "ReLU student, nuclear": (RELU + "regularizer.name: nuclear}", "regularizer.strength"),
    "ReLU student, Sobolev": (RELU + "regularizer.name: sobolev}", "regularizer.strength"),
    "ReLUs of one variable": (
        "{task: {name: relu_regression}, regularizer.name: l2_sq}",
        "regularizer.strength",
    ),
    "digits, 200 images": (
        "{task: {name: digits, N: 200}, optimizer.batch: 200}",
        "optimizer.weight_decay",
    ),
    "mnist, batches of 200": (
        "{task: {name: mnist, N: 1000}, optimizer.batch: 200}",
        "optimizer.weight_decay",
    ),
    "film reviews, lstm": (
        "{task: {name: imdb, N: 300, length: 40}, model: {d: 16, width: 16}}",
        "optimizer.weight_decay",
    ),
    "molecules, message passing": ("{task: {name: qm9}}", "optimizer.weight_decay"),
}
"""Name of a family to its fixed values and the axis that its trials differ in."""

SIZES = (1, 8, 32, 128)


def pack_of(family: str, size: int, folder: Path) -> Pack[Any]:
    """Return `size` trials of a family, over at most 8 seeds."""
    fixed, axis = FAMILIES[family]
    seeds = min(size, 8)
    values = [float(v) for v in np.geomspace(1e-4, 1e-1, -(-size // seeds))]
    path = folder / "family.yaml"
    path.write_text(
        f"name: family\nfixed: {fixed}\ngrid: {{product: {{{axis}: {values}}}}}\n"
        f"seeds: {list(range(seeds))}\n"
    )
    grid = load_grid(path, ["fixed.steps=1000"])
    run = Run(steps=grid.steps, criteria=grid.criteria, threads=1)
    trials = tuple(grid.trials())
    order = pack_order(grid.config, grid.table())  # as a launch has them: shared data together
    return Pack("benchmark", tuple(trials[i] for i in order), grid.config, run)


def flops_of(pack: Pack[Any]) -> float:
    """Return the flops of the products of one step of a pack."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        for block in loop._blocks(pack, range(len(pack.trials))):
            block.step(0)
    return float(counter.get_total_flops())


def measured(rounds: int, folder: Path, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return a row for each family and pack size."""
    rows = []
    for family in only or FAMILIES:
        packs = {size: pack_of(family, size, folder) for size in SIZES}
        flops = {size: flops_of(pack) / size for size, pack in packs.items()}
        found: list[dict[int, tuple[float, float]]] = []
        for _ in range(rounds):
            one = {}
            for size, pack in packs.items():
                dtype = getattr(torch, str(pack.trials[0].values["dtype"]))
                with torch.no_grad():
                    one[size] = (len(pack.trials) / loop.probe(pack), matrix_rate(dtype))
            found.append(one)
        for size in SIZES:
            rows.append(  # noqa: PERF401
                {
                    "family": family,
                    "pack": size,
                    "trial_steps_per_s": median(one[size][0] for one in found),
                    "times_alone": median(one[size][0] / one[1][0] for one in found),
                    "gemm_fraction": median(
                        one[size][0] * flops[size] / one[size][1] for one in found
                    ),
                    "mflop": flops[size] / 1e6,
                }
            )
        print(f"  {family}", flush=True)
    return rows


def matrix_rate(dtype: torch.dtype) -> float:
    """Return the flops per second of square matrix products."""
    step, flops = matrix_step(dtype)
    return rate(step) * flops


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"\n{'family':26} {'pack':>5} {'trial-steps/s':>14} {'x alone':>8} {'of gemm':>8}")
    for r in rows:
        print(
            f"{r['family']:26} {r['pack']:5d} {r['trial_steps_per_s']:14,.0f} "
            f"{r['times_alone']:8.2f} {100 * r['gemm_fraction']:6.0f} %"
        )
    slower = sorted({r["family"] for r in rows if r["pack"] > 1 and r["times_alone"] < 1})
    print(f"slower packed than alone: {', '.join(slower) or 'none'}")


def itemised(size: int, folder: Path, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return what a step of each family in packs of `size` is made of."""
    rows = []
    for family in only or FAMILIES:
        pack = pack_of(family, size, folder)
        rows.append({"family": family, **items.measured(pack, flops_of(pack))})
        print(f"  {family}", flush=True)
    return rows


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--items", action="store_true", help="itemise a step of each family")
    parser.add_argument("--size", type=int, default=32, help="of the packs that are itemised")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--family", nargs="*", default=[], choices=FAMILIES)
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if args.items:
            rows = itemised(args.size, Path(scratch), args.family)
            items.show(rows)
        else:
            rows = measured(args.rounds, Path(scratch), args.family)
            show(rows)
    if args.output:
        Path(args.output).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
