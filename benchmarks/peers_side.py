"""One side of `benchmarks.peers`: the first trials of a grid, trained without sweeper.

    ray             plain Ray Tune: one Ray trial each, actors reused, loggers off, `tune.report`
                    at every logged step
    ray_once        the same, but it reports once, at its end: the least that Ray Tune can do
    optuna          a study over the grid, `n_jobs` threads
    optuna_workers  a study over the grid, one process per core, a journal file between them
    joblib          loky, one process per core
    vmap            ensembles of the trials that share their data (`torch.func`), by joblib
    torch           a plain loop in one process: autograd and torch.optim
    numpy           a plain loop in one process, the gradient written out (sparse recovery only)

Every worker has one thread. Nothing of sweeper's is imported here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import plain

SIDES = ("ray", "ray_once", "optuna", "optuna_workers", "joblib", "vmap", "torch", "numpy")

Cell = tuple[float, int]
"""What a grid varies, a strength or a decay, and the seed."""

Rows = Sequence[Any]
"""The metrics of one trial at each logged step."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Problem:
    """A grid and how one trial of it is trained.

    Args:
        path: File that `benchmarks.peers` wrote: data of every seed, cells, steps, logged steps.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with np.load(path) as file:
            arrays = dict(file)
        self.kind = str(arrays["kind"])
        self.steps = int(arrays["steps"])
        self.logged = frozenset(arrays["logged"].tolist())
        pairs = zip(arrays["knob"].tolist(), arrays["seed"].tolist(), strict=True)
        self.cells: list[Cell] = list(pairs)
        self.data: dict[int, Any] = {}
        for seed in dict.fromkeys(arrays["seed"].tolist()):
            mine = {k.split(":")[1]: v for k, v in arrays.items() if k.startswith(f"{seed}:")}
            self.data[seed] = plain.Data(**mine) if self.kind == "sparse" else _mlp().Data(mine)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of a row's numbers."""
        return plain.METRICS if self.kind == "sparse" else _mlp().METRICS

    def trial(self, cell: Cell, report: Any = None) -> Rows:
        """Train one trial in a plain torch loop."""
        _one_thread()
        train = plain.torch_trial if self.kind == "sparse" else _mlp().torch_trial
        rows: Rows = train(self.data[cell[1]], cell[0], self.steps, self.logged, report)
        return rows

    def numpy_trial(self, cell: Cell) -> Rows:
        """Train one trial in a plain numpy loop."""
        return plain.numpy_trial(self.data[cell[1]], cell[0], self.steps, self.logged)

    def ensemble(self, knobs: Sequence[float], seed: int) -> list[Rows]:
        """Train the trials of one seed as one ensemble."""
        _one_thread()
        train: Any = plain.ensemble if self.kind == "sparse" else _mlp().ensemble
        rows: list[Rows] = train(self.data[seed], knobs, self.steps, self.logged)
        return rows


def _mlp() -> Any:
    """Return the module of the networks; it imports torch, which the numpy loop needn't."""
    from benchmarks import plain_mlp

    return plain_mlp


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def ray_tune(problem: Problem, cells: Sequence[Cell], *, once: bool) -> list[Rows]:
    """Train with plain Ray Tune; return the rows, or the last one where each was reported."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    path, metrics, n_logged = problem.path, problem.metrics, len(problem.logged)

    def train(config: dict[str, Any]) -> None:
        rows = Problem(path).trial(config["cell"][1:], None if once else tune.report)
        if once:
            tune.report({"rows": [list(map(float, row)) for row in rows]})

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        num_cpus=CORES,
        object_store_memory=80 << 20,
    )
    with tempfile.TemporaryDirectory() as scratch:
        grid = [(i, *cell) for i, cell in enumerate(cells)]
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"cell": tune.grid_search(grid)},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        )
        found: dict[int, Rows] = {}
        for result in tuner.fit():
            last = result.metrics
            assert once or last["training_iteration"] == n_logged
            rows = last["rows"] if once else [[last[name] for name in metrics]]
            found[result.config["cell"][0]] = rows
    ray.shutdown()
    return [found[i] for i in range(len(cells))]


def optuna_threads(problem: Problem, cells: Sequence[Cell]) -> list[Rows]:
    """Train with Optuna's GridSampler over the numbers of the cells, threads side by side."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[int, Rows] = {}

    def objective(trial: Any) -> float:
        index = trial.suggest_int("cell", 0, len(cells) - 1)
        found[index] = problem.trial(cells[index])
        return float(found[index][-1][1])

    sampler = optuna.samplers.GridSampler({"cell": list(range(len(cells)))}, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=len(cells), n_jobs=CORES)
    return [found[i] for i in range(len(cells))]


def optuna_worker(path: str, n: int, journal: str) -> dict[int, Rows]:
    """Be one process of a study over the first `n` cells; return what was trained here."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    problem = Problem(path)
    found: dict[int, Rows] = {}

    def objective(trial: Any) -> float:
        index = trial.suggest_int("cell", 0, n - 1)
        found[index] = problem.trial(problem.cells[index])
        return float(found[index][-1][1])

    study = optuna.create_study(
        study_name="grid",
        storage=optuna.storages.JournalStorage(JournalFileBackend(journal)),
        sampler=optuna.samplers.GridSampler({"cell": list(range(n))}, seed=0),
        load_if_exists=True,
    )
    study.optimize(objective)  # ends when the grid is exhausted
    return found


def optuna_workers(problem: Problem, cells: Sequence[Cell]) -> list[Rows]:
    """Train with Optuna in one process per core."""
    import joblib

    with tempfile.TemporaryDirectory() as scratch:
        journal = str(Path(scratch, "journal"))
        work = [joblib.delayed(optuna_worker)(problem.path, len(cells), journal)] * CORES
        found = [item for one in joblib.Parallel(CORES)(work) for item in one.items()]
    rows = dict(found)
    return [rows[i] for i in range(len(cells))]


def by_joblib(problem: Problem, cells: Sequence[Cell]) -> list[Rows]:
    """Train with joblib, one process per core."""
    import joblib

    work = [joblib.delayed(problem.trial)(cell) for cell in cells]
    return list(joblib.Parallel(CORES)(work))


def ensembles(problem: Problem, cells: Sequence[Cell]) -> list[Rows]:
    """Train the cells of each seed as an ensemble, ensembles spread over processes."""
    import joblib

    seeds = list(dict.fromkeys(seed for _, seed in cells))
    groups = [[i for i, cell in enumerate(cells) if cell[1] == seed] for seed in seeds]
    work = [
        joblib.delayed(problem.ensemble)([cells[i][0] for i in group], seed)
        for group, seed in zip(groups, seeds, strict=True)
    ]
    found: dict[int, Rows] = {}
    for group, rows in zip(groups, joblib.Parallel(CORES)(work), strict=True):
        found |= dict(zip(group, rows, strict=True))
    return [found[i] for i in range(len(cells))]


TRAIN: dict[str, Callable[[Problem, Sequence[Cell]], list[Rows]]] = {
    "ray": lambda problem, cells: ray_tune(problem, cells, once=False),
    "ray_once": lambda problem, cells: ray_tune(problem, cells, once=True),
    "optuna": optuna_threads,
    "optuna_workers": optuna_workers,
    "joblib": by_joblib,
    "vmap": ensembles,
    "torch": lambda problem, cells: [problem.trial(cell) for cell in cells],
    "numpy": lambda problem, cells: [problem.numpy_trial(cell) for cell in cells],
}


def main() -> None:
    """Be one side: train, and write the rows, ``[trials, logged steps, metrics]``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("problem")
    parser.add_argument("trials", type=int)
    parser.add_argument("output")
    args = parser.parse_args()
    problem = Problem(args.problem)
    rows: NDArray[np.float64] = np.asarray(TRAIN[args.side](problem, problem.cells[: args.trials]))
    np.save(args.output, rows)


if __name__ == "__main__":
    main()
