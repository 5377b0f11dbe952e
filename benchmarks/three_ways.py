"""The same transformer as a script, as a function, and fused: equal rows, and the time of each.

One grid of weight decays times seeds, launched three times with the same steps, each as a process
of its own on all cores. The rows of all three have to agree to 1e-6 up to step `EARLY` (after that,
rounding grows while a network memorizes), or the run stops. Times are whole launches, and slopes
between two numbers of seeds: what a further trial costs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import processes
from sweeper.api import query

EARLY = 50
"""The step up to which the rows have to agree."""

TOLERANCE = 1e-6

PLAIN = """
name: three
trainable: {trainable}
fixed: {{steps: {steps}}}
grid: {{product: {{weight_decay: [0.1, 0.3, 1.0, 3.0]}}}}
seeds: {seeds}
stop: {{after_generalization: false}}
"""

FUSED = """
name: three
fixed:
  steps: {steps}
  dtype: float64
  task: {{name: "benchmarks.three_trainings:Sums"}}
  model: {{name: "benchmarks.three_trainings:Transformer"}}
  selection: {{name: "benchmarks.three_trainings:Scattered", fraction: 0.6}}
  optimizer: {{name: adamw, lr: 1.0e-3, betas: [0.9, 0.98]}}
grid: {{product: {{optimizer.weight_decay: [0.1, 0.3, 1.0, 3.0]}}}}
seeds: {seeds}
stop: {{after_generalization: false}}
"""

GRIDS = {
    "script": PLAIN.replace("{trainable}", str(Path(__file__).with_name("three_trainings.py"))),
    "function": PLAIN.replace("{trainable}", "benchmarks.three_trainings:train"),
    "fused": FUSED,
}


def launched(side: str, steps: int, seeds: int, scratch: Path) -> tuple[float, NDArray[np.float64]]:
    """Launch a side; return its wall seconds and its early rows, by weight decay, seed and step."""
    wall, store = processes.launch(GRIDS[side].format(steps=steps, seeds=seeds), scratch)
    decay = "t.optimizer.weight_decay" if side == "fused" else "t.weight_decay"
    rows = query(
        store,
        "three",
        "select train_loss, test_loss, train_acc, test_acc from metrics join trials as t using "
        f"(trial_id) where step <= {EARLY} order by {decay}, seed, step",
    )
    table: NDArray[np.float64] = np.stack([rows[c].to_numpy() for c in rows.column_names], axis=1)
    return wall, table


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs=2, default=[1, 4])
    parser.add_argument("-o", "--output", help="write the figures here, as JSON")
    args = parser.parse_args()
    few, many = args.seeds
    report: dict[str, Any] = {"at": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory(prefix="three-") as folder:
        reference = None
        for side in GRIDS:
            small, _ = launched(side, args.steps, few, Path(folder))
            large, rows = launched(side, args.steps, many, Path(folder))
            reference = rows if reference is None else reference
            apart = float(np.abs(rows - reference).max())
            if rows.shape != reference.shape or apart > TOLERANCE:
                raise RuntimeError(f"{side}: rows differ by {apart:g}")
            each = (large - small) / (4 * (many - few))
            print(
                f"{side:9} {4 * many} trials of {args.steps} steps: {large:6.1f} s; a further "
                f"trial {each:6.2f} s; early rows differ by {apart:.1e} from the script's"
            )
            report[side] = {"wall_s": large, "per_trial_s": each, "apart": apart}
    if args.output:
        Path(args.output).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
