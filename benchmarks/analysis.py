"""What it costs to ask a large store: delays, cells and the phase picture of a million trials.

The sweeps are synthetic (`benchmarks.synthetic`): written in the store's own format, with t1 and
t2 known beforehand. Every query is a process of its own, as a user starts it, timed from start to
end with its peak memory; what it says is compared with what is known, or the run stops.

    large      --trials N with --rows M logged steps each, as compaction leaves them
    floor      the bytes that `delays` can't do without: DuckDB sums the two columns of the
               criterion and the steps over all rows, and does nothing else
    sunk       a tenth of the trials as packs write them, in some parts each; then compacted
    small      10^3 trials with 10^3 logged steps
    help       `sweeper --help`, beside an empty Python process and typer alone
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.synthetic import Synthetic
from sweeper import sql

ROOT = Path(__file__).resolve().parent.parent
SWEEPER = (sys.executable, "-m", "sweeper.cli")
X, Y = "regularizer.strength", "selection.tau"
FLUSHES = 4
"""Parts that each pack of the sunk store writes."""

FLOOR = """
import sys
from sweeper import sql
paths = ", ".join(map(sql.literal, sys.argv[1:]))
with sql.connect() as connection:
    print(connection.sql("select sum(step), sum(train_error), sum(test_error) "
                         f"from read_parquet([{paths}])").fetchall())
"""

MAKE = """
import sys
from benchmarks.synthetic import Synthetic
if __name__ == "__main__":
    where, name, trials, rows, flushes = sys.argv[1:]
    made = Synthetic.planned(where, name, int(trials), int(rows))
    made.sink(int(flushes)) if int(flushes) else made.compacted()
    made.save()
"""

COMPACT = """
import sys
from sweeper.store import lease
from sweeper.store.compaction import compact
print(compact(lease.open_sweep(sys.argv[1], sys.argv[2])))
"""


def timed(*command: str) -> dict[str, float]:
    """Run a command to its end; return its wall and core seconds and its peak memory in GB."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)[:300]}\n{said}")
    return {
        "wall_s": wall,
        "core_s": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss / 1e6,
    }


def python(script: str, scratch: Path, *args: str) -> dict[str, float]:
    """Run a Python text as a process, as `timed`."""
    path = scratch / "script.py"
    path.write_text(script)
    return timed(sys.executable, str(path), *args)


def repeated(times: int, *command: str) -> dict[str, float]:
    """Return the medians of `timed` over some runs."""
    runs = [timed(*command) for _ in range(times)]
    return {key: median(run[key] for run in runs) for key in runs[0]}


def ask(store: Path, name: str, query: str, out: Path, times: int = 1) -> dict[str, float]:
    """Run `sweeper sql` into a Parquet file."""
    return repeated(times, *SWEEPER, "sql", name, query, "--store", str(store), "-o", str(out))


def check_delays(made: Synthetic, path: Path) -> None:
    """Stop unless `delays` says of every trial what is known."""
    known = made.expected()
    found = pq.read_table(path).sort_by("trial_id").select(known.column_names)
    if not found.equals(known):
        raise SystemExit("delays aren't those that the trials were made with")


def check_cells(made: Synthetic, path: Path) -> None:
    """Stop unless `cells` counts what is known, and has the median where nothing is censored."""
    with sql.connect() as connection:
        for name, table in (
            ("known", made.expected()),
            ("plan", made.plan),
            ("found", pq.read_table(path)),
        ):
            connection.register(name, table)
        wrong = connection.sql(
            "with own as (select cell_id, count(*) as n, count(t1) as m, count(t2) as g, "
            "quantile_disc(t2, 0.5) as t2 from known join plan using (trial_id) group by cell_id) "
            "select count(*) from own full join found using (cell_id) where n is distinct from "
            "n_seeds or m is distinct from n_memorized or g is distinct from n_generalized "
            "or (g = n and own.t2 is distinct from found.t2)"
        ).fetchall()
    if wrong != [(0,)]:
        raise SystemExit(f"{wrong[0][0]} cells aren't those that the trials were made with")


def queries(store: Path, name: str, scratch: Path) -> dict[str, dict[str, float]]:
    """Ask for delays, cells and the picture; check what comes out."""
    made = Synthetic.saved(str(store), name)
    out = scratch / "out.parquet"
    found = {"delays": ask(store, name, "select * from delays", out)}
    check_delays(made, out)
    found["cells"] = ask(store, name, "select * from cells", out)
    check_cells(made, out)
    picture = scratch / "phase.png"
    found["phase"] = timed(
        *SWEEPER, "phase", name, "--x", X, "--y", Y, "--store", str(store), "-o", str(picture)
    )
    found["all"] = {
        "wall_s": sum(one["wall_s"] for one in found.values()),
        "core_s": sum(one["core_s"] for one in found.values()),
        "peak_gb": max(one["peak_gb"] for one in found.values()),
    }
    return found


def files(store: Path, name: str) -> list[str]:
    """Return the metrics files of a sweep that count."""
    ledger = Synthetic.saved(str(store), name).ledger
    return [ledger.files.location(part.path) for part, _ in ledger.state.parts()]


def large(args: argparse.Namespace, store: Path, scratch: Path) -> dict[str, Any]:
    """Measure the large store and its floor."""
    made = python(MAKE, scratch, str(store), "large", str(args.trials), str(args.rows), "0")
    paths = files(store, "large")
    python(FLOOR, scratch, *paths)  # into the page cache
    found = queries(store, "large", scratch)
    found["floor"] = python(FLOOR, scratch, *paths)
    size = sum(Path(path).stat().st_size for path in paths)
    shutil.rmtree(store)
    return {"made": made, "files": len(paths), "bytes": size, **found}


def sunk(args: argparse.Namespace, store: Path, scratch: Path) -> dict[str, Any]:
    """Measure a store before and after its compaction."""
    trials = max(10, args.trials // 10)
    made = python(MAKE, scratch, str(store), "sunk", str(trials), str(args.rows), str(FLUSHES))
    before, count = queries(store, "sunk", scratch), len(files(store, "sunk"))
    compacted = python(COMPACT, scratch, str(store), "sunk")
    after = queries(store, "sunk", scratch)
    shutil.rmtree(store)
    return {
        "made": made,
        "files": count,
        **before,
        "compaction": compacted,
        **{f"{name}, compacted": one for name, one in after.items()},
    }


def small(store: Path, scratch: Path) -> dict[str, Any]:
    """Measure a small store, and the imports that every query needs."""
    python(MAKE, scratch, str(store), "small", "1000", "1000", "0")
    out = scratch / "out.parquet"
    found = {"delays": ask(store, "small", "select * from delays", out, times=5)}
    check_delays(Synthetic.saved(str(store), "small"), out)
    found["cells"] = ask(store, "small", "select * from cells", out, times=5)
    check_cells(Synthetic.saved(str(store), "small"), out)
    needed = "import duckdb, numpy, pyarrow.compute, pyarrow.parquet, pydantic, typer"
    found["imports"] = repeated(5, sys.executable, "-c", needed)
    return found


def start() -> dict[str, Any]:
    """Measure `sweeper --help` and its floor."""
    return {
        "help": repeated(9, *SWEEPER, "--help"),
        "typer": repeated(9, sys.executable, "-c", "import typer, rich.markdown, rich.table"),
        "python": repeated(9, sys.executable, "-c", ""),
    }


def show(title: str, figures: dict[str, Any]) -> None:
    print(f"\n{title}\n{'':20} {'wall s':>8} {'core s':>8} {'peak GB':>8}")
    for name, one in figures.items():
        if isinstance(one, dict):
            print(f"{name:20} {one['wall_s']:8.2f} {one['core_s']:8.2f} {one['peak_gb']:8.2f}")
        else:
            print(f"{name:20} {one:8,}")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=100, help="logged steps of a trial")
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args(argv)
    report: dict[str, Any] = {
        "at": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
    with tempfile.TemporaryDirectory(prefix="analysis-") as folder:
        scratch = Path(folder)
        report["start"] = start()
        show("start", report["start"])
        report["small"] = small(scratch / "small", scratch)
        show("10^3 trials, 10^3 rows each", report["small"])
        report["sunk"] = sunk(args, scratch / "sunk", scratch)
        show(f"{args.trials // 10:,} trials as packs write them", report["sunk"])
        report["large"] = large(args, scratch / "large", scratch)
        show(f"{args.trials:,} trials, {args.rows} rows each", report["large"])
    ratio = report["large"]["delays"]["wall_s"] / report["large"]["floor"]["wall_s"]
    print(f"\ndelays take {ratio:.1f} times as long as reading their columns")
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
