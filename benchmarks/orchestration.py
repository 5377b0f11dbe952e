"""What a trial costs when all of it is orchestration, up to a million of them.

    empty     `sweeper launch` on Ray of trials that train nothing (`benchmarks.empty`): seconds,
              the driver's memory, files. One more trial is the slope between two sizes
    million   a million of them: `sweeper launch --inline` makes the sweep, and then `plan`,
              `launch` and `status` find it finished
    plan      `sweeper plan` of a million trials of sparse recovery that no store has; it probes
    pack      what a pack of 512 costs outside of training, step by step, in this process

All commands are processes of their own, timed from start to end. The finished sweep is real: each
of its trials went through the same worker, sink and ledger as any other. Memory is the largest
resident set of the command's own process; Ray's are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from sweeper.compile.loading import load_grid
from sweeper.engine import commands, worker
from sweeper.engine.driver import Runner, inline
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.store import plan_index, tables
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.compaction import compact, sweep_out
from sweeper.store.lease import open_sweep
from sweeper.store.ledger import Ledger
from sweeper.store.sink import Claim, Sink

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 10
MILLION = 1_000_000

EMPTY = """
name: empty
trainable: benchmarks.empty
fixed: {{steps: 1}}
grid:
  product:
    task.x: {{range: [1, {end}]}}
seeds: {seeds}
"""

SPARSE = """
name: sparse
fixed:
  task: {name: sparse_recovery, n: 100, s: 5, N: 30}
  regularizer.name: l1
  steps: 20_000
grid:
  product:
    regularizer.strength: {logspace: [1e-6, 1e-1, 1000]}
    optimizer.lr: {logspace: [0.001, 0.1, 100]}
seeds: 10
"""


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


def command(*words: str) -> tuple[float, int, str]:
    """Run `sweeper` to its end; return its wall seconds, its peak memory in KB, what it said."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeper.cli", *words],
            env=environment(),
            cwd=ROOT,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, peak_kb(process.pid))
            time.sleep(0.01)
        wall = time.perf_counter() - begun
        said.seek(0)
        text = said.read().decode()
    if process.returncode:
        raise RuntimeError(f"sweeper {' '.join(words)}\n{text}")
    return wall, peak, text


def written(scratch: Path, text: str) -> tuple[str, str]:
    """Return the path of a grid file of this text, and a store that isn't there yet."""
    where = Path(tempfile.mkdtemp(dir=scratch))
    (where / "grid.yaml").write_text(text)
    return str(where / "grid.yaml"), str(where / "sweeps")


def footprint(store: str) -> tuple[int, int]:
    """Return how many files a store has, and their bytes."""
    files = [f for f in Path(store).rglob("*") if f.is_file()]
    return len(files), sum(f.stat().st_size for f in files)


def empty(sizes: Sequence[int], rounds: int, scratch: Path) -> dict[str, Any]:
    """Launch empty trials on Ray; print what one more of them costs."""
    runs: dict[int, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for n in sizes:
            grid, store = written(scratch, EMPTY.format(end=n + 1, seeds=1))
            wall, peak, _ = command("launch", grid, "--store", store, "--yes", "--quiet")
            left = footprint(store)[0]
            ledger = open_sweep(store, "empty")
            compact(ledger, min_parts=1)
            sweep_out(ledger, grace_s=-1)  # as after the hour that replaced files stay
            files, size = footprint(store)
            runs[n].append(
                {"wall_s": wall, "peak_kb": peak, "files_left": left, "files": files, "bytes": size}
            )
    found = {n: {k: median(r[k] for r in mine) for k in mine[0]} for n, mine in runs.items()}
    print(
        f"{'empty trials':>12} {'wall s':>8} {'driver MB':>10} {'files/100':>10} "
        f"{'compacted':>10} {'store B/trial':>14}"
    )
    for n, m in found.items():
        print(
            f"{n:12,d} {m['wall_s']:8.2f} {m['peak_kb'] / 1024:10.1f} "
            f"{100 * m['files_left'] / n:10.2f} {100 * m['files'] / n:10.2f} "
            f"{m['bytes'] / n:14.0f}"
        )
    more = []
    for few, many in pairwise(sizes):
        a, b = found[few], found[many]
        slope = {
            "from": few,
            "to": many,
            "ms": 1e3 * (b["wall_s"] - a["wall_s"]) / (many - few),
            "driver_kb": (b["peak_kb"] - a["peak_kb"]) / (many - few),
        }
        print(
            f"one more trial, {few:,} to {many:,}: {slope['ms']:.3f} ms, "
            f"{slope['driver_kb']:.2f} KB of the driver"
        )
        more.append(slope)
    return {"launched": found, "marginal": more}


def million(n: int, scratch: Path) -> dict[str, Any]:
    """Make a finished sweep of `n` empty trials, and ask for it again."""
    grid, store = written(scratch, EMPTY.format(end=n // SEEDS + 1, seeds=SEEDS))
    asked = {
        "plan, fresh": ("plan", grid, "--store", store),
        "launch --inline": ("launch", grid, "--store", store, "--yes", "--quiet", "--inline"),
        "plan, finished": ("plan", grid, "--store", store),
        "launch, finished": ("launch", grid, "--store", store),
        "status": ("status", "empty", "--store", store),
    }
    found = {}
    for name, words in asked.items():
        wall, peak, said = command(*words)
        if "finished" in name and "; nothing to do" not in said:
            raise RuntimeError(f"{name} said: {said}")
        found[name] = {"wall_s": wall, "peak_kb": peak}
        print(f"{n:,} empty trials, {name:16}: {wall:7.2f} s, {peak / 1024:7.1f} MB")
    files, size = footprint(store)
    print(f"its store: {files:,} files, {size / n:.0f} bytes per trial")
    return {"trials": n, **found, "files": files, "bytes": size}


def plan(scratch: Path) -> dict[str, Any]:
    """Plan a million trials of sparse recovery."""
    grid, store = written(scratch, SPARSE)
    wall, peak, said = command("plan", grid, "--store", store)
    if not said.startswith(f"{MILLION} trials: 0 done, {MILLION} new"):
        raise RuntimeError(said)
    print(f"{MILLION:,} trials of sparse recovery, plan: {wall:.2f} s, {peak / 1024:.1f} MB")
    return {"wall_s": wall, "peak_kb": peak}


STEPS: dict[str, tuple[Any, str]] = {
    "the log: read on from the last pack": (Ledger, "refresh"),
    "the log: open it, in a fresh process": (Ledger, "open"),
    "the log: is it still the same": (Ledger, "is_current"),
    "claim": (Claim, "take"),
    "the listing: find the pack": (plan_index.Listing, "rows"),
    "the listing and the plan: decode them, once": (tables, "content"),
    "the plan: find the trials": (plan_index.PlanIndex, "rows"),
    "make the trials": (worker, "trials_of"),
    "the sink: begin": (Sink, "__enter__"),
    "the sink: take rows": (Sink, "write"),
    "the sink: take ends": (Sink, "end"),
    "files and record of the last commit": (Checkpoints, "finish"),
    "the sink: end": (Sink, "__exit__"),
    "all of it": (worker, "run_pack"),
}
"""Function by what it does for a pack. Some are part of others: of a claim and of a commit, too,
is to read on in the log."""


@contextmanager
def watched(seconds: dict[str, float]) -> Iterator[None]:
    """Add up the seconds within each of `STEPS`."""
    plain = {name: (owner, label, vars(owner)[label]) for name, (owner, label) in STEPS.items()}
    for name, (owner, label, function) in plain.items():
        method = isinstance(function, classmethod)
        timed = _timed(function.__func__ if method else function, name, seconds)
        setattr(owner, label, classmethod(timed) if method else timed)
    try:
        yield
    finally:
        for owner, label, function in plain.values():
            setattr(owner, label, function)


def _timed(
    function: Callable[..., Any], name: str, seconds: dict[str, float]
) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[name] += time.perf_counter() - begun

    return timed


def pack(packs: int, scratch: Path) -> dict[str, Any]:
    """Run packs of 512 empty trials in this process; print what each step of one costs."""
    text, store = written(scratch, EMPTY.format(end=512 * packs // SEEDS + 1, seeds=SEEDS))
    grid = load_grid(Path(text), [])
    seconds: dict[str, float] = defaultdict(float)

    def launcher(tasks: Sequence[PackTask]) -> None:
        with watched(seconds):
            run_inline(tasks)

    begun = time.perf_counter()
    outcome = commands.launch(grid, store, Runner(launcher, 1, inline(grid).device))
    wall = time.perf_counter() - begun
    n = -(-outcome.counts.trials // 512)
    each = {name: 1e3 * seconds[name] / n for name in STEPS}
    print(f"\n{n} packs of 512, in {wall:.2f} s with planning; ms per pack:")
    for name, ms in each.items():
        print(f"  {ms:8.3f}  {name}")
    return {"packs": n, "ms": each}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--empty",
        type=int,
        nargs="*",
        default=[2000, 20_000, 100_000],
        help="numbers of empty trials to launch on Ray, ascending",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of those launches")
    parser.add_argument(
        "--million", type=int, default=MILLION, help="trials of the finished sweep; 0 for none"
    )
    parser.add_argument("--packs", type=int, default=200, help="packs to itemise; 0 for none")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    report: dict[str, Any] = {"at": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        scratch = Path(folder)
        if args.empty:
            report["empty"] = empty(args.empty, args.rounds, scratch)
        report["plan"] = plan(scratch)
        if args.million:
            report["million"] = million(args.million, scratch)
        if args.packs:
            report["pack"] = pack(args.packs, scratch)
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
