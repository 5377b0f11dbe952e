"""Trials of sparse recovery under plain Ray Tune, with checkpoints, for `benchmarks.tune_faults`.

Each trial is a numpy loop that reports its metrics at every logged step, and a checkpoint with the
first report after each second. It begins from the checkpoint that Tune gives it. With ``--restore``
the experiment of an earlier process goes on, by `Tuner.restore`.

Nothing of sweeper's is imported here.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plain

NAME = "experiment"

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Trace:
    """A file that says when a trial began and when it has reported, for `benchmarks.tune_faults`.

    Its lines have the keys of the records of sweeper's ledger.
    """

    def __init__(self, folder: Path, trial: str) -> None:
        folder.mkdir(exist_ok=True)
        self._about = {"pack_id": trial, "attempt": time.time(), "pid": os.getpid()}
        self._file = (folder / f"{trial}-{self._about['attempt']}.jsonl").open("a")
        self._write({"kind": "claim"})

    def rows(self, *, done: bool) -> None:
        """Say that rows were reported."""
        self._write({"kind": "rows", "part": {}, "done": done})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps({**line, "at": time.time(), **self._about}) + "\n")
        self._file.flush()


def train(config: dict[str, Any]) -> None:
    """Train the trial of one cell; is called in an actor of Tune."""
    from ray import tune

    index, strength, seed = config["cell"]
    with np.load(config["problem"]) as file:
        steps, every_s = int(file["steps"]), float(file["every_s"])
        logged = frozenset(file["logged"].tolist())
        data = plain.Data(file["X"][seed], file["y"][seed], file["signal"][seed])
    Xt = np.ascontiguousarray(data.X.T)
    a, begin = np.full(data.X.shape[1], plain.INIT), 0
    if (saved := tune.get_checkpoint()) is not None:
        with saved.as_directory() as folder, np.load(Path(folder, "state.npz")) as state:
            a, begin = state["a"], int(state["step"])
    trace = Trace(Path(config["trace"]), str(index))
    due = time.monotonic() + every_s
    for step in range(begin, steps + 1):
        residual = data.X @ a - data.y
        if step in logged and (step > begin or saved is None):
            row = dict(zip(plain.METRICS, plain.measure(data, a, residual), strict=True))
            report = {"step": step, "cell_index": index, **row}
            if time.monotonic() >= due:
                with tempfile.TemporaryDirectory() as folder:
                    np.savez(Path(folder, "state.npz"), a=a, step=step)
                    tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))
                due = time.monotonic() + every_s
            else:
                tune.report(report)
            trace.rows(done=step == steps)
        a -= plain.LR * (Xt @ residual + strength * np.sign(a))


def main() -> None:
    """Run or restore the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("problem", help="file of `benchmarks.tune_faults`")
    parser.add_argument("storage", help="folder for the experiment")
    parser.add_argument("--restore", action="store_true", help="go on with the experiment")
    args = parser.parse_args()
    import ray
    from ray import tune

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        num_cpus=CORES,
        object_store_memory=80 << 20,
    )
    trainable = tune.with_resources(train, {"cpu": 1})
    if args.restore:
        tuner = tune.Tuner.restore(
            str(Path(args.storage, NAME)), trainable, resume_unfinished=True, resume_errored=True
        )
    else:
        with np.load(args.problem) as file:
            cells = list(zip(file["strength"].tolist(), file["seed"].tolist(), strict=True))
        space = {
            "cell": tune.grid_search([(i, *cell) for i, cell in enumerate(cells)]),
            "problem": args.problem,
            "trace": str(Path(args.storage, "trace")),
        }
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name=NAME,
                storage_path=args.storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
    results = tuner.fit()
    ray.shutdown()
    if results.errors:
        raise SystemExit(f"{len(results.errors)} trials failed: {results.errors[0]}")


if __name__ == "__main__":
    main()
