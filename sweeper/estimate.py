"""What a launch would do and cost, without doing it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sweeper import store, sweep, trainable
from sweeper.grid import Grid
from sweeper.packing import Pack, Run
from sweeper.sweep import Agenda, Counts


def local_workers(grid: Grid) -> int:
    """Return how many packs run at the same time on this machine."""
    return max(1, int(len(os.sched_getaffinity(0)) // grid.file.resources.cpu))


def device(grid: Grid) -> str:
    """Return the device that the grid's resources ask for."""
    return "cuda" if grid.file.resources.gpu > 0 else "cpu"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a launch would cost.

    Attributes:
        counts: The trials.
        packs: Packs to run.
        workers: Packs at the same time.
        seconds: Estimated wall time, an upper bound: every trial up to the horizon; None
            without a probe.
        memory: Bytes of the largest pack.
    """

    counts: Counts
    packs: int
    workers: int
    seconds: float | None
    memory: int


def plan(grid: Grid, where: str) -> Agenda:
    """Return what launching `grid` into the store `where` on this machine would do."""
    ledger = sweep.peek(store.join(where, grid.name))
    return sweep.agenda(grid, ledger, workers=local_workers(grid))


def estimate(grid: Grid, agenda: Agenda, *, probes: int = 4) -> Estimate:
    """Return the cost of `agenda`, from a run of some 0.2 s of up to `probes` of its packs.

    Packs that weren't probed are taken to cost as much per trial-step as those that were.
    """
    module = trainable.load(grid.file.trainable)
    by_id = None
    seconds = 0.0
    per_trial: list[float] = []
    memory = 0
    packs = list(agenda.packs.values())
    chosen = packs[:: max(1, len(packs) // probes)][:probes]
    for rows in chosen:
        ids = rows["trial_id"].to_pylist()
        if by_id is None:
            by_id = {t: i for i, t in enumerate(agenda.table["trial_id"].to_pylist())}
        trials = sweep.trials_of(grid.config, agenda.table.take([by_id[i] for i in ids]))
        run = Run(steps=grid.steps, criteria=grid.criteria)
        pack: Pack[Grid] = Pack("probe", tuple(trials), grid.config, run)  # type: ignore[type-var]
        memory = max(memory, module.memory_bytes(pack.config) * len(trials))
        per_trial.append(module.probe(pack) / len(trials))
    if per_trial:
        seconds = sum(per_trial) / len(per_trial) * agenda.counts.new * grid.steps / agenda.workers
    return Estimate(agenda.counts, agenda.n_packs, agenda.workers, seconds, memory)


def axis_sizes(grid: Grid) -> dict[str, int]:
    """Return each axis of `grid` and how many different values it takes."""
    values: dict[str, set[object]] = {path: set() for path in sweep.axes(grid)}
    for slab in grid.slabs:
        for path, seen in values.items():
            on_axis = [a for a in slab.axes if path in a.paths]
            seen |= set(on_axis[0].column(path)) if on_axis else {slab.constants.get(path)}
    return {path: len(seen - {None}) or 1 for path, seen in values.items()}


