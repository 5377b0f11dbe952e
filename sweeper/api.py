"""The functions behind the commands, for use from Python.

>>> grid = sweeper.load_grid("grids/smoke.yaml", ["seeds=2"])
>>> sweeper.launch(grid, "sweeps", inline=True)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeper import (
    compile,
    document,
    gridfile,
    jsonschema,
    launch_ray,
    overrides,
    store,
    sweep,
    trainable,
)
from sweeper.errors import ConfigError, UsageError
from sweeper.grid import Grid
from sweeper.launch import run_inline
from sweeper.packing import Pack, Run
from sweeper.sweep import Agenda, Counts, Launched, Outcome


def load_grid(path: str | Path, changes: Sequence[str] = ()) -> Grid:
    """Return the grid in the file at `path` with the overrides `changes`.

    Raises:
        ConfigError: All mistakes of the file and the overrides together.
    """
    read = document.read(Path(path))
    changed = overrides.apply(read, changes)
    file = gridfile.validate(changed)
    try:
        config = trainable.load(file.trainable).Config
    except UsageError as error:
        raise ConfigError(f"{changed.place('trainable')}: {error}") from None
    text = Path(path).read_text() + "".join(f"\n# override: {c}" for c in changes)
    return compile.compile_grid(changed, file, config, text)


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


def plan(grid: Grid, where: str, *, workers: int | None = None) -> tuple[Agenda, int]:
    """Return what launching `grid` into the store `where` would do, and the number of workers."""
    workers = workers or local_workers(grid)
    return sweep.agenda(grid, sweep.peek(store.join(where, grid.name)), workers=workers), workers


def estimate(grid: Grid, agenda: Agenda, workers: int, *, probes: int = 4) -> Estimate:
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
        seconds = sum(per_trial) / len(per_trial) * agenda.counts.new * grid.steps / workers
    return Estimate(agenda.counts, agenda.n_packs, workers, seconds, memory)


def launch(
    grid: Grid,
    where: str,
    *,
    address: str = "local",
    inline: bool = False,
    max_concurrent: int | None = None,
    announce: Callable[[Agenda], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Outcome:
    """Train every trial of `grid` that the store `where` doesn't hold yet.

    Args:
        grid: What is wanted.
        where: URI of the store.
        address: ``local`` starts Ray on this machine; ``auto`` and ``host:port`` join a cluster.
        inline: Train in this process instead, one pack after the other.
        max_concurrent: Most packs at the same time; null for as many as there is room for.
        announce: Called with what is to be done, before anything is written; may raise.
        started: Called once the packs are in the ledger.

    Returns:
        How it ended; its `exit_code` is the command's.

    Raises:
        SweeperError: With a remedy.
    """
    resources = grid.file.resources
    if inline:
        return sweep.launch(
            grid, where, run_inline, workers=1, device=device(grid),
            announce=announce, started=started,
        )  # fmt: skip
    with launch_ray.Cluster(address) as cluster:
        room = cluster.room(resources.cpu, resources.gpu)
        workers = min(room, max_concurrent) if max_concurrent else room
        return sweep.launch(
            grid, where,
            lambda tasks: cluster.run(
                tasks, cpu=resources.cpu, gpu=resources.gpu, max_concurrent=workers
            ),
            workers=workers, device=device(grid), announce=announce, started=started,
        )  # fmt: skip


def axis_sizes(grid: Grid) -> dict[str, int]:
    """Return each axis of `grid` and how many different values it takes."""
    values: dict[str, set[object]] = {path: set() for path in sweep.axes(grid)}
    for slab in grid.slabs:
        for path, seen in values.items():
            on_axis = [a for a in slab.axes if path in a.paths]
            seen |= set(on_axis[0].column(path)) if on_axis else {slab.constants.get(path)}
    return {path: len(seen - {None}) or 1 for path, seen in values.items()}


def schema() -> dict[str, object]:
    """Return the JSON schema of grid files for the default trainable."""
    return jsonschema.json_schema(trainable.load("trainables.grokking").Config)


def stop(where: str, name: str) -> str:
    """Ask the launch at work on the sweep `name` to drain; return what was done."""
    ledger = store.open_sweep(where, name)
    lease = store.read_lease(ledger.files)
    if lease is None or not store.is_fresh(lease):
        return f"no launch is at work on {name}"
    sweep.request_stop(ledger.files, lease["launch_id"])
    return f"process {lease['pid']} on {lease['host']} drains: packs save and end"


def retry(where: str, name: str) -> int:
    """Make the failed trials of the sweep `name` new again; return how many there were."""
    ledger = store.open_sweep(where, name)
    failed = [p for p in ledger.state.packs.values() if p.failed and not p.void]
    if failed:
        ledger.append({"kind": "void", "pack_ids": [p.id for p in failed], "why": ["retry"]})
    return sum(p.failed for p in failed)
