"""What a trial costs through sweeper, beside three ways to do without.

The same trials (sparse recovery, n=100, s=5, N=30, l1, 2000 steps, strengths times seeds) as

    ray       plain Ray Tune: one Ray trial each, actors reused, loggers off, `tune.report` at
              every logged step
    ray_once  the same, but it reports once, at its end: the least that Ray Tune can do
    torch     a plain loop in one process: autograd and torch.optim.SGD
    numpy     a plain loop in one process, the gradient written out, nothing allocated in a step
    sweeper   `sweeper launch` on a fresh store, on as many CPUs as there are

Each in a process of its own, timed from its start to its end, start-up included; rounds are
interleaved, figures are medians over them. All measure the same metrics at the same steps, take
every step, and have to end with the same losses. The marginal cost of a trial is the slope
between two numbers of trials. Slow sides run fewer trials: their cost is linear in them.

With --empty: the cost of trials that train nothing, and what they leave behind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import plain
from sweeper.schema import logged_steps

ROOT = Path(__file__).resolve().parent.parent
STEPS = 2000
POINTS = 50
SEEDS = 10
RTOL = 1e-6
"""Relative difference that final losses may have: rounding, after 2000 steps."""

SIDES = ("ray", "ray_once", "torch", "numpy", "sweeper")

GRID = """
name: overhead
fixed:
  task: {{name: sparse_recovery, n: 100, s: 5, N: 30}}
  optimizer: {{name: gd, lr: 0.1}}
  regularizer.name: l1
  steps: 2000
grid:
  product:
    regularizer.strength: {strengths}
seeds: {seeds}
stop: {{after_generalization: false}}
"""

EMPTY = """
name: empty
trainable: benchmarks.empty
fixed: {{steps: 1}}
grid:
  product:
    task.x: {{range: [1, {n}]}}
"""


def cells(trials: int) -> list[tuple[float, int]]:
    """Return (strength, seed) of every trial."""
    count = -(-trials // SEEDS)
    strengths = [float(f"{s:.6e}") for s in np.geomspace(1e-5, 1e-2, count)]
    return [(s, seed) for s in strengths for seed in range(SEEDS)][:trials]


def logged() -> frozenset[int]:
    return frozenset(logged_steps(POINTS, STEPS))


def loop(side: str, trials: int, data_path: str) -> list[float]:
    """Train in this process; return the last logged train losses."""
    data, steps = plain.load(data_path), logged()
    if side == "torch":
        import torch

        torch.set_num_threads(1)
    train = plain.torch_trial if side == "torch" else plain.numpy_trial
    return [train(data[seed], s, STEPS, steps)[-1][0] for s, seed in cells(trials)]


def ray_tune(trials: int, data_path: str, *, once: bool) -> list[float]:
    """Train with plain Ray Tune; return the last reported train losses."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    def train(config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        data = plain.load(data_path)[config["seed"]]
        steps = logged()
        report = None if once else tune.report
        rows = plain.torch_trial(data, config["strength"], STEPS, steps, report)
        if once:
            tune.report(dict(zip(plain.METRICS, rows[-1], strict=True)))

    ray.init(
        address="local", include_dashboard=False, log_to_driver=False,
        num_cpus=len(os.sched_getaffinity(0)), object_store_memory=80 << 20,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        grid = [{"index": i, "strength": s, "seed": k} for i, (s, k) in enumerate(cells(trials))]
        tuner = tune.Tuner(
            tune.with_resources(
                lambda config: train(config["cell"]), {"cpu": 1}
            ),
            param_space={"cell": tune.grid_search(grid)},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        )  # fmt: skip
        results = tuner.fit()
        found = {r.config["cell"]["index"]: r.metrics["train_loss"] for r in results}
    ray.shutdown()
    return [float(found[i]) for i in range(trials)]


def run_side(args: argparse.Namespace) -> None:
    """Be one of the sides without sweeper: train, and write the final losses."""
    if args.side.startswith("ray"):
        losses = ray_tune(args.trials[0], args.data, once=args.side == "ray_once")
    else:
        losses = loop(args.side, args.trials[0], args.data)
    Path(args.output).write_text(json.dumps(losses))


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    extra = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    drop = ("SWEEPER_STORE", "SWEEPER_ADDRESS", "RAY_ADDRESS")
    return {k: v for k, v in os.environ.items() if k not in drop} | extra


def peak_kb(pid: int) -> int:
    """Return the most memory that process `pid` ever had resident, in KB; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in status.split("\n") if x.startswith("VmHWM")), 0)


def timed(command: Sequence[str]) -> tuple[float, int]:
    """Run a command to its end; return its wall seconds and its peak memory in KB."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_kb(process.pid))
        time.sleep(0.01)
    wall = time.perf_counter() - begun
    if process.returncode:
        assert process.stdout is not None
        raise RuntimeError(f"{' '.join(command)}\n{process.stdout.read().decode()}")
    return wall, peak


def launch(grid: str, scratch: Path, *extra: str) -> tuple[float, int, str]:
    """Run `sweeper launch` on a fresh store; return seconds, peak KB of the driver, the store."""
    where = tempfile.mkdtemp(dir=scratch)
    path = Path(where, "grid.yaml")
    path.write_text(grid)
    target = str(Path(where, "sweeps"))
    command = [sys.executable, "-m", "sweeper.cli", "launch", str(path), "--store", target,
               "--yes", "--quiet", *extra]  # fmt: skip
    return *timed(command), target


def sweeper_losses(store: str, trials: int) -> tuple[list[float], float]:
    """Return the last logged train losses, and the core seconds of all packs together."""
    from benchmarks import stored

    book = stored.open_sweep(store, "overhead")
    table = stored.rows(book)
    last = table.filter(np.equal(table["step"].to_numpy(), max(logged())))
    loss = dict(zip(last["trial_id"].to_pylist(), last["train_loss"].to_pylist(), strict=True))
    plan = stored.plan(book)
    at = zip(plan["regularizer.strength"].to_pylist(), plan["seed"].to_pylist(), strict=True)
    found = dict(zip(at, (loss[i] for i in plan["trial_id"].to_pylist()), strict=True))
    busy = stored.busy_seconds(book)
    return [found[cell] for cell in cells(trials)], busy


def once(side: str, trials: int, scratch: Path) -> dict[str, Any]:
    """Run one side; return seconds and losses."""
    if side == "sweeper":
        strengths = list(dict.fromkeys(s for s, _ in cells(trials)))
        seeds = list(range(SEEDS))
        grid = GRID.format(strengths=strengths, seeds=seeds)
        wall, _, store = launch(grid, scratch)
        losses, busy = sweeper_losses(store, trials)
        return {"wall": wall, "losses": losses, "busy": busy}
    out = scratch / "losses.json"
    wall, _ = timed([
        sys.executable, "-m", "benchmarks.overhead", "--side", side, "--trials", str(trials),
        "--data", str(scratch / "data.npz"), "-o", str(out),
    ])  # fmt: skip
    return {"wall": wall, "losses": json.loads(out.read_text())}


def sizes(trials: Sequence[int], side: str) -> tuple[int, ...]:
    """Return the numbers of trials that a side runs: sweeper all, slow sides fewer."""
    first = trials[0]
    fewer = {"ray": (first // 5, first), "ray_once": (first // 5, first),
             "torch": (first // 10, first // 2), "numpy": (first // 2, 5 * first)}  # fmt: skip
    return tuple(trials) if side == "sweeper" else fewer[side]


def agree(runs: dict[tuple[str, int], list[dict[str, Any]]]) -> float:
    """Check that trials that several sides ran end alike; return the largest difference.

    Raises:
        SystemExit: They don't: the sides didn't do the same work.
    """
    known: dict[tuple[float, int], float] = {}
    worst = 0.0
    for (_, trials), results in sorted(runs.items(), key=lambda item: item[0][0] != "numpy"):
        for result in results:
            for cell, loss in zip(cells(trials), result["losses"], strict=True):
                reference = known.setdefault(cell, loss)
                worst = max(worst, abs(loss - reference) / reference)
    if worst > RTOL:
        raise SystemExit(f"final losses differ by {worst:.1e} between the sides: no equal work")
    return worst


def compare(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run all sides in interleaved rounds and print the table."""
    plain.save(str(scratch / "data.npz"), range(SEEDS))
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for turn in range(args.rounds):
        for side in args.sides:
            for trials in sizes(args.trials, side):
                if turn and side.startswith("ray") and not args.ray_every_round:
                    continue
                runs.setdefault((side, trials), []).append(once(side, trials, scratch))
                print(f"  {side} {trials}: {runs[side, trials][-1]['wall']:.2f} s", flush=True)
    worst = agree(runs)
    wall = {key: median(r["wall"] for r in results) for key, results in runs.items()}
    marginal = {}
    for side in args.sides:
        few, *_, many = sizes(args.trials, side)
        marginal[side] = (wall[side, many] - wall[side, few]) / (many - few)
    report: dict[str, Any] = {
        "trials": args.trials, "rounds": args.rounds, "largest_difference": worst,
        "wall_s": {f"{s} {n}": round(w, 3) for (s, n), w in wall.items()},
        "all_wall_s": {f"{s} {n}": [round(r["wall"], 3) for r in results]
                       for (s, n), results in runs.items()},
        "marginal_ms": {s: round(1e3 * m, 3) for s, m in marginal.items()},
    }  # fmt: skip
    print(f"\nfinal train losses agree to {worst:.0e} (relative)\n")
    print(f"{'side':10} {'trials':>7} {'wall s':>8} {'trials/s':>9} {'marginal ms/trial':>18}")
    for (side, trials), seconds in wall.items():
        print(f"{side:10} {trials:7d} {seconds:8.2f} {trials / seconds:9.1f} "
              f"{1e3 * marginal[side]:18.2f}")  # fmt: skip
    if "sweeper" in args.sides:
        report |= _ratios(args, runs, wall, marginal)
    return report


def _ratios(
    args: argparse.Namespace,
    runs: dict[tuple[str, int], list[dict[str, Any]]],
    wall: dict[tuple[str, int], float],
    marginal: dict[str, float],
) -> dict[str, Any]:
    """Print and return what is gained."""
    first, many = args.trials[0], args.trials[-1]
    cores = len(os.sched_getaffinity(0))
    busy = {n: median(r["busy"] for r in runs["sweeper", n]) for n in (first, many)}
    per_core = (busy[many] - busy[first]) / (many - first)
    found: dict[str, Any] = {
        "end_to_end": {s: wall[s, first] / wall["sweeper", first]
                       for s in args.sides if s != "sweeper" and (s, first) in wall},
        "marginal": {s: m / marginal["sweeper"] for s, m in marginal.items() if s != "sweeper"},
        "core_ms_per_trial": 1e3 * per_core,
        "per_core": {s: marginal[s] / per_core for s in ("torch", "numpy") if s in marginal},
    }  # fmt: skip
    print(
        f"\nsweeper is faster by a factor of            (on {cores} CPUs, of those that share it)"
    )
    for side, ratio in found["end_to_end"].items():
        print(f"  {ratio:8.1f}  than {side}, end to end, {first} trials, start-up included")
    for side, ratio in found["marginal"].items():
        print(f"  {ratio:8.1f}  than {side}, one more trial, wall clock")
    for side, ratio in found["per_core"].items():
        print(f"  {ratio:8.1f}  than {side}, one more trial on one core, from claim to last commit")
    return found


def empty(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Launch trials that train nothing; print what one more of them costs."""
    rows = []
    for _ in range(args.rounds):
        for n in args.empty:
            wall, peak, store = launch(EMPTY.format(n=n + 1), scratch)
            files = [f for f in Path(store).rglob("*") if f.is_file()]
            size = sum(f.stat().st_size for f in files)
            rows.append({"trials": n, "wall": wall, "peak_kb": peak, "files": len(files),
                         "bytes": size})  # fmt: skip
            print(f"  empty {n}: {wall:.2f} s, driver {peak} KB", flush=True)
    middle = {
        n: {k: median(r[k] for r in rows if r["trials"] == n) for k in rows[0]} for n in args.empty
    }
    print(
        f"\n{'empty trials':>12} {'wall s':>8} {'driver MB':>10} {'files':>6} {'store B/trial':>14}"
    )
    for n, m in middle.items():
        print(f"{n:12d} {m['wall']:8.2f} {m['peak_kb'] / 1024:10.1f} {m['files']:6.0f} "
              f"{m['bytes'] / n:14.0f}")  # fmt: skip
    few, many = min(args.empty), max(args.empty)
    more = many - few
    found = {
        "ms_per_trial": 1e3 * (middle[many]["wall"] - middle[few]["wall"]) / more,
        "kb_per_trial": (middle[many]["peak_kb"] - middle[few]["peak_kb"]) / more,
    }
    print(f"one more trial, from {few} to {many}: {found['ms_per_trial']:.3f} ms, "
          f"{found['kb_per_trial']:.2f} KB of the driver's memory")  # fmt: skip
    return {"empty": found, "empty_runs": rows}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 1000, 5000],
                        help="numbers of trials, multiples of 10")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--ray-every-round", action="store_true", help="not in the first only")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--empty", type=int, nargs="*", default=[2000, 10_000, 20_000],
                        help="numbers of empty trials")  # fmt: skip
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    parser.add_argument("--side", choices=SIDES[:-1], help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run_side(args)
        return
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        report: dict[str, Any] = {"at": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count()}
        if args.trials[0]:
            report |= compare(args, Path(scratch))
        if args.empty:
            report |= empty(args, Path(scratch))
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
