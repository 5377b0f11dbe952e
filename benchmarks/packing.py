"""Trial-steps per second on one core by pack size, beside the machine's own matrix rate.

Runs the blocks that a launch trains, through `sweeper.trainables.loop.BLOCKS`, on one thread.
Rounds are interleaved: each measures the matrix rate, both plain loops and every pack size for a
moment, so that a neighbour on a shared machine slows all of them; figures are medians of ratios
within a round. Flops count matrix products only.

    solo       one trial, autograd and a torch.optim optimizer
    numpy      one trial, the gradient written out (linear models of depth 1)
    shared     sparse recovery, trials of one data set, in float64
    float32    the same in single precision, beside a solo loop in single precision
    20 sets    the same, trials spread over 20 data sets
    depth      factors of the model

Every family by pack size beside itself alone: `benchmarks.families`.

Before it times anything it checks that a pack ends where the plain loops end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import families, plain
from benchmarks.rates import SLICE, Step, matrix_step, rate
from sweeper.compile.loading import load_grid
from sweeper.config.fields import Values
from sweeper.grid.grid import Grid
from sweeper.packing import Pack, Run
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.data import pairs
from sweeper.trainables.families import modular_arithmetic, sparse_recovery

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

SPARSE = """
name: packing
fixed: {{task: {{name: sparse_recovery, n: 100, s: 5, N: 30}}, model.depth: {depth},
         model.init_scale: {init}, regularizer.name: l1, steps: 1000, dtype: {dtype}}}
grid:
  product:
    regularizer.strength: {strengths}
seeds: {seeds}
"""

MLP = """
name: packing
fixed: {{task: {{name: modular_arithmetic, p: 23}}, model: {{d: 64, width: 128}}, steps: 1000}}
grid:
  product:
    optimizer.weight_decay: {decays}
seeds: {seeds}
"""


def pack_of(text: str, folder: Path) -> Pack[GrokkingConfig]:
    """Return all trials of a grid as one pack."""
    path = folder / "packing.yaml"
    path.write_text(text)
    grid: Grid = load_grid(path, [])
    run = Run(steps=grid.steps, criteria=grid.criteria, threads=1)
    return Pack("benchmark", tuple(grid.trials()), GrokkingConfig, run)


def sparse_pack(
    size: int, sets: int, depth: int, folder: Path, dtype: str = "float64"
) -> Pack[GrokkingConfig]:
    """Return `size` trials that differ in their strength, over `sets` data sets."""
    strengths = [float(s) for s in np.geomspace(1e-5, 1e-2, -(-size // sets))]
    seeds = list(range(min(sets, size)))
    init = 1e-6 if depth == 1 else 0.1
    return pack_of(
        SPARSE.format(depth=depth, init=init, strengths=strengths, seeds=seeds, dtype=dtype), folder
    )


def mlp_pack(size: int, folder: Path) -> Pack[GrokkingConfig]:
    """Return `size` networks that differ in weight decay and seed."""
    decays = [float(d) for d in np.geomspace(0.01, 3, -(-size // min(size, 8)))]
    return pack_of(MLP.format(decays=decays, seeds=list(range(min(size, 8)))), folder)


class Packed:
    """The blocks of a pack, stepped as the fused loop steps them."""

    def __init__(self, pack: Pack[GrokkingConfig]) -> None:
        sparse = pack.trials[0].values["task.name"] == "sparse_recovery"
        make = sparse_recovery.blocks if sparse else modular_arithmetic.blocks
        self.trials = len(pack.trials)
        self.blocks = make(pack, range(self.trials))
        self.taken = 0

    def __call__(self) -> None:
        """Take one step of every trial."""
        for block in self.blocks:
            block.step(self.taken)
        self.taken += 1

    def train_loss(self) -> dict[int, float]:
        """Return position to train loss."""
        return {
            p: float(loss)
            for block in self.blocks
            for p, loss in zip(block.positions, block.metrics()["train_loss"], strict=True)
            if p >= 0
        }


class SoloSparse:
    """One linear trial as one writes it first."""

    def __init__(self, values: Values, seed: int, depth: int) -> None:
        data = plain.draw(seed)
        dtype = getattr(torch, str(values["dtype"]))
        self.X, self.y = (torch.from_numpy(one).to(dtype) for one in (data.X, data.y))
        self.strength = float(values["regularizer.strength"])  # type: ignore[arg-type]
        init = float(values["model.init_scale"])  # type: ignore[arg-type]
        shape = (self.X.shape[1],)
        self.factors = [
            torch.full(shape, init, dtype=dtype, requires_grad=True) for _ in range(depth)
        ]
        self.optimizer = torch.optim.SGD(self.factors, lr=plain.LR)

    def __call__(self) -> Tensor:
        """Take one step; return the loss before it."""
        a = self.factors[0]
        for factor in self.factors[1:]:
            a = a * factor
        fit = 0.5 * (self.X @ a - self.y).square().sum()
        loss = fit + self.strength * a.abs().sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return fit.detach()


class NumpySparse:
    """One linear trial of depth 1 with the gradient written out."""

    def __init__(self, values: Values, seed: int) -> None:
        data = plain.draw(seed)
        self.X, self.y, self.Xt = data.X, data.y, np.ascontiguousarray(data.X.T)
        self.strength = float(values["regularizer.strength"])  # type: ignore[arg-type]
        self.a = np.full(data.X.shape[1], plain.INIT)
        self.r, self.g, self.s = np.empty_like(data.y), np.empty_like(self.a), np.empty_like(self.a)

    def __call__(self) -> None:
        """Take one step."""
        np.dot(self.X, self.a, out=self.r)
        self.r -= self.y
        np.dot(self.Xt, self.r, out=self.g)
        np.sign(self.a, out=self.s)
        self.s *= self.strength
        self.g += self.s
        self.g *= plain.LR
        self.a -= self.g

    def train_loss(self) -> float:
        """Return the train loss now."""
        residual = self.X @ self.a - self.y
        return float(residual @ residual) / 2


class SoloMlp:
    """One network as one writes it first: a module, cross-entropy, torch.optim.AdamW."""

    def __init__(self, pack: Pack[GrokkingConfig], position: int) -> None:
        trial = pack.trials[position]
        v: Any = trial.values
        start = modular_arithmetic.base_weights(
            trial.seed, v["task.p"], v["model.d"], v["model.width"], v["model.depth"]
        )
        self.W = [w.float().requires_grad_() for w in start]
        a, b, c = pairs.table_of(v)
        train, _ = pairs.split_of(trial)
        self.a, self.b, self.c = a[train], b[train], c[train]
        self.optimizer = torch.optim.AdamW(
            self.W,
            lr=v["optimizer.lr"],
            betas=v["optimizer.betas"],
            weight_decay=v["optimizer.weight_decay"],
        )

    def loss(self) -> Tensor:
        """Return the train loss now."""
        W = self.W
        x = torch.nn.functional.embedding(self.a, W[0]) * torch.nn.functional.embedding(
            self.b, W[1]
        )
        for layer in W[2:-1]:
            x = torch.relu(x @ layer.T)
        return torch.nn.functional.cross_entropy(x @ W[-1].T, self.c)

    def __call__(self) -> Tensor:
        """Take one step; return the loss before it."""
        with torch.enable_grad():
            loss = self.loss()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


def check(folder: Path) -> None:
    """Check that packs end where the plain loops end.

    Raises:
        SystemExit: They don't.
    """
    for depth in (1, 2, 3):
        pack = sparse_pack(17, 3, depth, folder)
        packed = Packed(pack)
        for _ in range(500):
            packed()
        found = packed.train_loss()
        for i in (0, 7, 16):
            trial = pack.trials[i]
            solo = SoloSparse(trial.values, trial.seed, depth)
            for _ in range(500):
                solo()
            _same(f"sparse, depth {depth}", found[i], float(solo()), 1e-9)
            if depth == 1:
                bare = NumpySparse(trial.values, trial.seed)
                for _ in range(500):
                    bare()
                _same("sparse, numpy", found[i], bare.train_loss(), 1e-9)
    pack = mlp_pack(9, folder)
    packed = Packed(pack)
    with torch.no_grad():
        for _ in range(50):
            packed()
        found = packed.train_loss()
    for i in (0, 8):
        solo_mlp = SoloMlp(pack, i)
        for _ in range(50):
            solo_mlp()
        _same("mlp", found[i], float(solo_mlp.loss().detach()), 1e-3)


def _same(what: str, a: float, b: float, tolerance: float) -> None:
    if abs(a - b) > tolerance * abs(b):
        raise SystemExit(f"{what}: the pack ends at {a}, the plain loop at {b}: no equal work")


def sparse_flops() -> float:
    """Return the flops of the two products of a linear trial-step."""
    return 4.0 * plain.N_MEASURED * plain.N_VECTOR


def mlp_flops(pack: Pack[GrokkingConfig]) -> float:
    """Return the flops of the six products of a network's trial-step."""
    v: Any = pack.trials[0].values
    N = len(pairs.split_of(pack.trials[0])[0])
    d, h, p, depth = (int(v[k]) for k in ("model.d", "model.width", "task.p", "model.depth"))
    return 6.0 * N * (d * h + (depth - 1) * h * h + h * p)


class Series:
    """One line of the table: pack sizes against a solo loop and the matrix rate."""

    def __init__(
        self,
        name: str,
        packs: dict[int, Packed],
        solo: Step,
        gemm: tuple[Step, float],
        flops: float,
        bare: Step | None = None,
    ) -> None:
        self.name, self.packs, self.solo, self.gemm = name, packs, solo, gemm
        self.flops, self.bare = flops, bare
        self.rounds: list[dict[str, float]] = []

    def round(self) -> None:
        """Measure everything once."""
        one: dict[str, float] = {"solo": rate(self.solo)}
        if self.bare is not None:
            one["numpy"] = rate(self.bare)
        for size, packed in self.packs.items():
            before = rate(self.gemm[0], SLICE / 2)
            steps = rate(packed)
            after = rate(self.gemm[0], SLICE / 2)
            one[str(size)] = steps * packed.trials
            one[f"gemm {size}"] = (before + after) / 2 * self.gemm[1]
        self.rounds.append(one)

    def summary(self) -> list[dict[str, Any]]:
        """Return one row per pack size: medians over the rounds."""
        return [self._row(size) for size in self.packs]

    def _row(self, size: int) -> dict[str, Any]:
        key, gemm = str(size), f"gemm {size}"

        def middle(of: Callable[[dict[str, float]], float]) -> float:
            return median(of(one) for one in self.rounds)

        bare = None if self.bare is None else middle(lambda r: r[key] / r["numpy"])
        return {
            "series": self.name,
            "pack": size,
            "times_numpy": bare,
            "trial_steps_per_s": middle(lambda r: r[key]),
            "times_solo": middle(lambda r: r[key] / r["solo"]),
            "gemm_fraction": middle(lambda r: r[key] * self.flops / r[gemm]),
            "gemm_gflops": middle(lambda r: r[gemm]) / 1e9,
            "solo_steps_per_s": middle(lambda r: r["solo"]),
        }


def series(sizes: Sequence[int], folder: Path) -> list[Series]:
    """Return every line of the table."""
    found = []
    double, single = matrix_step(torch.float64), matrix_step(torch.float32)
    for depth in (1, 2, 3):
        for sets in (1, 20) if depth == 1 else (1,):
            packs = {
                b: sparse_pack(b, sets, depth, folder) for b in sizes if b % sets == 0 or sets == 1
            }
            if sets > 1:
                packs = {
                    b * sets: sparse_pack(b * sets, sets, depth, folder)
                    for b in (1, 8, 32)
                    if b * sets <= 2 * max(sizes)
                }
            first = next(iter(packs.values())).trials[0]
            solo = SoloSparse(first.values, first.seed, depth)
            bare = NumpySparse(first.values, first.seed) if depth == 1 else None
            what = "shared" if sets == 1 else f"{sets} sets"
            built = {b: Packed(p) for b, p in packs.items()}
            name = f"sparse, depth {depth}, {what}"
            found.append(Series(name, built, solo, double, sparse_flops(), bare))
    packs = {b: sparse_pack(b, 1, 1, folder, "float32") for b in sizes}
    first = packs[min(packs)].trials[0]
    found.append(
        Series(
            "sparse, depth 1, float32",
            {b: Packed(p) for b, p in packs.items()},
            SoloSparse(first.values, first.seed, 1),
            single,
            sparse_flops(),
        )
    )
    mlps = {b: mlp_pack(b, folder) for b in sizes if b <= 256}
    first_mlp = next(iter(mlps.values()))
    with torch.no_grad():
        built = {b: Packed(p) for b, p in mlps.items()}
    solo_mlp = SoloMlp(first_mlp, 0)
    found.append(Series("mlp p=23", built, solo_mlp, single, mlp_flops(first_mlp)))
    return found


def measured(sizes: Sequence[int], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Return all rows of the table."""
    rows = []
    for one in series(sizes, folder):
        for _ in range(rounds):
            one.round()
        rows += one.summary()
        print(f"  {one.name}", flush=True)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    print(
        f"\n{'':26} {'pack':>5} {'trial-steps/s':>14} {'x solo':>7} {'x numpy':>8} {'of gemm':>8}"
    )
    for r in rows:
        bare = f"{r['times_numpy']:8.1f}" if r["times_numpy"] is not None else f"{'':8}"
        print(
            f"{r['series']:26} {r['pack']:5d} {r['trial_steps_per_s']:14,.0f} "
            f"{r['times_solo']:7.1f} {bare} {100 * r['gemm_fraction']:6.0f} %"
        )
    best = max((r for r in rows if r["times_numpy"]), key=lambda r: r["times_solo"])
    print(
        f"at its best, a pack of {best['pack']}: {best['times_solo']:.0f} times the torch loop, "
        f"{best['times_numpy']:.1f} times the numpy loop"
    )
    for width, name in ((64, "sparse, depth 1, shared"), (32, "mlp")):
        gemm = median(r["gemm_gflops"] for r in rows if r["series"].startswith(name))
        print(f"the machine's matrix rate in float{width}, 512 x 512, one core: {gemm:.0f} Gflop/s")


def main() -> None:
    """Parse and run."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--family",
        nargs="*",
        default=[],
        choices=families.FAMILIES,
        help="measure these families only",
    )
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        every = families.measured(args.rounds, Path(scratch), args.family)
        if not args.family:
            check(Path(scratch))
            rows = measured(args.sizes, args.rounds, Path(scratch))
    if not args.family:
        show(rows)
    families.show(every)
    if args.output:
        report = {
            "at": time.strftime("%Y-%m-%d"),
            "rows": [] if args.family else rows,
            "families": every,
        }
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
