"""The estimate of a launch: trials, packs, time and memory, without training.

For a new store no trial is enumerated: a million cells are counted by static group.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeper import trainable
from sweeper.config.fields import Config, build
from sweeper.config.messages import described
from sweeper.config.trial import Trial
from sweeper.engine.commands import check_cells, peek
from sweeper.engine.driver import Runner
from sweeper.engine.planner import Counts, pack_size, plan_launch
from sweeper.engine.resources import (
    check_gpu,
    check_room,
    local_memory,
    local_workers,
    machine_memory,
)
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid, StaticGroup
from sweeper.packing import Pack, Run, pack_id
from sweeper.store.lease import join
from sweeper.store.visible import hidden_by
from sweeper.trainable import Trainable

PROBES = 4
"""The number of static groups, largest first, that are timed: about 0.2 s each."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The work and the cost of a launch on this machine.

    Attributes:
        counts: The trials of the grid by status.
        n_packs: Number of packs to run.
        workers: Number of packs that run at the same time.
        seconds: Estimated wall time of the training. It is an upper bound: it counts every trial
            up to the horizon. None if no trial could be timed.
        memory: Bytes of the largest pack.
        damage: One message per damaged file of the store.
        hidden: Number of stored trials that the views won't show after the launch.
        outdated: As in `Plan`.
        failures: For each timed static group whose trials can't take a step: why. They would fail.
    """

    counts: Counts
    n_packs: int
    workers: int
    seconds: float | None
    memory: int
    damage: tuple[str, ...] = ()
    hidden: int = 0
    failures: tuple[str, ...] = ()
    outdated: int = 0


def estimate(grid: Grid, where: str, runner: Runner | None = None) -> Estimate:
    """Return the estimate of a launch of `grid` into the store `where`.

    Args:
        grid: The grid.
        where: URI of the store.
        runner: The workers of a cluster; None for those of this machine. The time of a step is
            measured on this machine in any case.

    Raises:
        UsageError: The grid has no cells, or asks for a GPU that this machine doesn't have.
        ClusterError: This machine has no room for one pack.
        StoreError: The store can't be read.
    """
    check_cells(grid)
    if runner is None:
        check_gpu(grid)
        check_room(grid)
    workers = local_workers(grid) if runner is None else runner.workers
    known = None if runner is None else runner.memory
    share = local_memory(grid, workers) if known is None else known
    module = trainable.load(grid.file.trainable, grid.config.code)
    groups = grid.static_counts()
    sizes = [
        min(
            g.trials,
            pack_size(grid, module, build(grid.config, g.values), g.trials, workers, share),
        )
        for g in groups
    ]
    ledger = peek(join(where, grid.name))
    if ledger is None:
        counts = Counts(grid.n_trials, 0, grid.n_trials, 0)
        packs = sum(-(-g.trials // size) for g, size in zip(groups, sizes, strict=True))
        damage: tuple[str, ...] = ()
        hidden = outdated = 0
    else:
        plan = plan_launch(grid, ledger, workers=workers, memory=share)
        counts, packs, damage = plan.counts, plan.n_packs, tuple(plan.damage)
        hidden, outdated = hidden_by(ledger, plan.table), plan.outdated
    steps = counts.new * grid.steps
    per_step, failures = _timed(grid, module, groups, sizes) if steps else (0.0, ())
    seconds = None if per_step is None else steps * per_step / workers
    memory = max(
        (
            module.memory_bytes(build(grid.config, g.values)) * size
            for g, size in zip(groups, sizes, strict=True)
        ),
        default=0,
    )
    return Estimate(counts, packs, workers, seconds, memory, damage, hidden, failures, outdated)


def _timed(
    grid: Grid, module: Trainable, groups: list[StaticGroup], sizes: list[int]
) -> tuple[float | None, tuple[str, ...]]:
    """Return the seconds of one step of one trial, and why some trials can't take one.

    The seconds are averaged over the trials of the probed groups; None if none can take a step.
    """
    order = sorted(range(len(groups)), key=lambda i: -groups[i].trials)[:PROBES]
    seconds, total = 0.0, 0
    failures: dict[str, None] = {}
    for i in order:
        needed, has = module.memory_bytes(build(grid.config, groups[i].values)), machine_memory()
        if needed > has and not grid.file.resources.gpu:
            failures[
                f"it needs {needed / 2**30:.3g} GB, and this machine has {has / 2**30:.3g}"
            ] = None
            continue
        try:
            pack = _sample(grid, groups[i], sizes[i])
            each = module.probe(pack) / len(pack.trials)
        except UsageError as error:
            failures[str(error)] = None
            continue
        except (Exception, SystemExit) as error:  # whatever a user's code does
            failures[described(error)] = None
            continue
        seconds += each * groups[i].trials
        total += groups[i].trials
    return seconds / total if total else None, tuple(failures)


def _sample(grid: Grid, group: StaticGroup, size: int) -> Pack[Config]:
    """Return a pack like those of `group`: one cell, one seed per data set of such a pack."""
    sets = max(1, round(size * group.sets / group.trials))
    seeds = sorted(k % sets for k in range(size))
    name = grid.file.trainable
    trials = tuple(Trial.of(grid.config, group.values, seed, trainable=name) for seed in seeds)
    run = Run(steps=grid.steps, criteria=grid.criteria)
    return Pack(pack_id([t.id for t in trials]), trials, grid.config, run)


def axis_sizes(grid: Grid) -> dict[str, int]:
    """Return axis to number of different values, for each axis of `grid`."""
    return {path: len(grid.axis_values(path)) for path in grid.axes}
