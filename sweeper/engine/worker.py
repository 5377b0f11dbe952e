"""What a worker does with a pack, and the launcher that does it in this process.

The launcher on Ray (`sweeper.engine.ray`) calls the same `run_pack`, elsewhere. All that comes
back goes through the store, so a driver may die at any time.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sweeper import trainable
from sweeper.config import plugins as own
from sweeper.config.fields import Config, chosen_leaves, defaults
from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.errors import DrainedError, StoreError, SupersededError
from sweeper.packing import Pack, Run, pack_id
from sweeper.store import plan_index as roster
from sweeper.store import tables as parts
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger, Record, State
from sweeper.store.outcomes import ended_trials
from sweeper.store.sink import Claim, Sink, stop_requested

ERROR_LINES = 20
"""Lines of a traceback that are kept."""


@dataclass(frozen=True, slots=True)
class PackTask:
    """One pack to train: everything else stands in the store.

    Attributes:
        sweep: URI of the sweep's folder.
        launch_id: The launch that wants it.
        pack_id: The pack.
        device: Torch's name of the device.
        threads: Threads on a CPU.
    """

    sweep: str
    launch_id: str
    pack_id: str
    device: str = "cpu"
    threads: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for the way to a worker."""
        return asdict(self)


Launcher = Callable[[Sequence[PackTask]], None]
"""Runs every task once and returns; what became of them stands in the store."""


def run_inline(tasks: Sequence[PackTask]) -> None:
    """Run the packs one after the other in this process."""
    for task in tasks:
        run_pack(task)


def run_pack(task: PackTask) -> None:
    """Train one pack until all its trials have ended, or until it is drained or superseded.

    A trial that raises is `failed` and its traceback is kept; its pack-mates are trained in
    smaller packs.

    Raises:
        StoreError: The store can't be read or written.
    """
    idle = _IDLE.pop(task.sweep, None)
    ledger = idle if idle is not None and idle.is_current() else Ledger.open(Files.at(task.sweep))
    ledger.refresh()
    queue = [task.pack_id]
    while queue:
        queue = _attempt(ledger, task, queue.pop(0)) + queue
    _IDLE.clear()
    _IDLE[task.sweep] = ledger


_IDLE: dict[str, Ledger] = {}
"""The ledger of the last pack of this process, while no pack uses it: the next one reads on."""


def _attempt(ledger: Ledger, task: PackTask, pack_id_: str) -> list[str]:
    """Train one attempt; return the smaller packs that take over, if any."""
    if stop_requested(ledger.files, task.launch_id):
        return []
    launch = ledger.state.launches[task.launch_id]
    module = trainable.load(launch["trainable"])
    task = replace(task, device=module.device(task.device))
    about = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": task.device,
        "pack_size": ledger.state.packs[pack_id_].size,
    }
    try:
        claim = Claim.take(ledger, pack_id_, task.launch_id, about)
        listed = ledger.state.packs[pack_id_].path
        rows = roster.listing(ledger.files, listed, ledger.state.files[listed]).rows(pack_id_)
        pack = _pack(ledger, launch, module.Config, rows, task, pack_id_)
        if pack is None:  # the grid shrank: nothing of it is wanted any more
            claim.commit({"kind": "rows", "done": True})
            return []
        with Sink(claim) as sink:
            checkpoints = Checkpoints(
                sink,
                every_s=launch["checkpoint"]["every_s"],
                keep=launch["checkpoint"]["keep"],
                resume=ledger.state.packs[pack_id_].checkpoint,
                starts=_starts(ledger, rows, pack.trial_ids),
                trial_ids=pack.trial_ids,
            )
            return _train(module, pack, sink, checkpoints)
    except (SupersededError, DrainedError):
        return []


def _train(module: Any, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> list[str]:
    try:
        module.train(pack, sink, checkpoints)
        left = [i for i in pack.trial_ids if i not in sink.ended]
        if left:
            raise RuntimeError(f"{module.__name__}.train returned before {len(left)} trials ended")
        if not sink.claim.ledger.state.packs[sink.claim.pack_id].done:
            sink.flush(done=True)
    except (SupersededError, DrainedError, StoreError):
        raise
    except (Exception, SystemExit) as error:
        if len(pack.trials) > 1:
            return _split(sink, pack)
        lines = traceback.format_exception(error)
        text = "".join(lines).strip().split("\n")
        steps = max(sink.last_step, 0)
        sink.end(
            pack.trial_ids,
            "failed",
            last_step=sink.last_step,
            steps=steps,
            error="\n".join(text[-ERROR_LINES:]),
        )
        sink.flush(done=True)
    return []


def _split(sink: Sink, pack: Pack[Any]) -> list[str]:
    """Replace the pack by its halves, which go on from its last checkpoint."""
    claim = sink.claim
    saved = claim.ledger.state.packs[claim.pack_id].checkpoint
    split_at = saved["step"] if saved else -1
    alive = [i for i in pack.trial_ids if sink.ended_at.get(i, split_at + 1) > split_at]
    half = -(-len(alive) // 2)
    halves = [alive[:half], alive[half:]]
    ids = [pack_id(h, salt=claim.pack_id) for h in halves if h]
    table = pa.concat_tables(
        listing(i, h, [saved["path"] if saved else None] * len(h))
        for i, h in zip(ids, [h for h in halves if h], strict=True)
    )
    path = f"packs/{claim.pack_id}-{claim.attempt}.parquet"
    entry = parts.write(claim.ledger.files, path, table, steps=None)
    packs = [
        {"id": i, "size": len(h), "parents": [claim.pack_id]}
        for i, h in zip(ids, [h for h in halves if h], strict=True)
    ]
    claim.commit(
        {
            "kind": "split",
            "split_at": split_at,
            "packs": packs,
            "path": path,
            "sha256": entry["sha256"],
        }
    )
    return ids


def listing(pack: str, trial_ids: Sequence[str], starts: Sequence[str | None]) -> pa.Table:
    """Return the rows that list one pack in a packs file.

    Args:
        pack: Its id.
        trial_ids: Its trials in order.
        starts: For each the checkpoint of another pack that it goes on from, or None.
    """
    return pa.table(
        {
            "pack_id": pa.array([pack] * len(trial_ids), pa.string()),
            "position": pa.array(range(len(trial_ids)), pa.int64()),
            "trial_id": pa.array(trial_ids, pa.string()),
            "start": pa.array(starts, pa.string()),
        }
    )


def pack_rows(ledger: Ledger, pack_ids: Sequence[str]) -> pa.Table:
    """Return the listed trials of packs: pack_id, position, trial_id, start; in order."""
    wanted = pa.array(pack_ids, pa.string())
    paths = sorted({ledger.state.packs[i].path for i in pack_ids})
    tables = []
    for path in paths:
        entry = {"path": path, "sha256": ledger.state.files[path]}
        table = parts.read(ledger.files, entry)
        tables.append(table.filter(pc.is_in(table["pack_id"], wanted)))
    if not tables:
        return listing("", [], [])
    return pa.concat_tables(tables).sort_by([("pack_id", "ascending"), ("position", "ascending")])


def run_of(launch: Record, points_per_decade: int, device: str, threads: int) -> Run:
    """Return the run settings that a launch recorded."""
    return Run(
        steps=launch["steps"],
        points_per_decade=points_per_decade,
        criteria={t: Criterion(**c) for t, c in launch["criteria"].items()},
        after_generalization=launch["stop"]["after_generalization"],
        diverged=launch["stop"]["diverged"],
        device=device,
        threads=threads,
        metrics=tuple(launch.get("metrics", ())),  # older records have none
    )


def _pack(
    ledger: Ledger, launch: Record, config: type[Config], rows: pa.Table, task: PackTask, id_: str
) -> Pack[Any] | None:
    """Return the pack of the listed trials that are in the launch's grid and haven't ended."""
    done = set(ended_trials(ledger, [id_])["trial_id"].to_pylist())
    wanted = [i for i in rows["trial_id"].to_pylist() if i not in done]
    plan = roster.plan(ledger.files, launch["plan"]).rows(wanted)
    columns = [(part, f"{part}.name") for part in config.parts]
    names = [(part, n) for part, c in columns for n in plan[c].unique().to_pylist() if n]
    config = own.extended(config, names)
    trials = tuple(trials_of(config, plan))
    if not trials:
        return None
    run = run_of(launch, ledger.meta["points_per_decade"], task.device, task.threads)
    return Pack(id_, trials, config, run)


def trials_of(config: type[Config], plan: pa.Table) -> list[Trial]:
    """Return the trials of rows of a plan, each with exactly the fields that apply to it.

    Fields that are younger than the plan have their defaults.
    """
    names = [plan[f"{part}.name"].to_pylist() for part in config.parts]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, choices in enumerate(zip(*names, strict=True) if names else [()] * plan.num_rows):
        groups.setdefault(choices, []).append(row)
    if len(groups) == 1:
        return list(_alike(config, next(iter(groups)), plan))
    trials: dict[int, Trial] = {}
    for choices, rows in groups.items():
        found = _alike(config, choices, plan.take(pa.array(rows)))
        trials |= zip(rows, found, strict=True)
    return [trials[row] for row in range(plan.num_rows)]


def _alike(config: type[Config], choices: tuple[str, ...], plan: pa.Table) -> Iterator[Trial]:
    """Yield the trials of the rows of a plan that make the same choices for the parts."""
    names = {f"{part}.name": name for part, name in zip(config.parts, choices, strict=True)}
    paths = [*names, *chosen_leaves(config, names)]
    older = [p for p in paths if p in plan.column_names]
    younger = [p for p in paths if p not in plan.column_names]
    usual = defaults(config, names) if younger else {}
    new = {p: usual[p] for p in younger}
    columns = [_values(plan[p]) for p in ("trial_id", "cell_id", "seed", *older)]
    for trial_id, cell_id, seed, *values in zip(*columns, strict=True):
        yield Trial(trial_id, cell_id, seed, dict(zip(older, values, strict=True)) | new)


def _values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if not pa.types.is_list(column.type):
        return values
    return [None if v is None else tuple(v) for v in values]


def _starts(
    ledger: Ledger, rows: pa.Table, trial_ids: Sequence[str]
) -> dict[str, tuple[Record, list[str]]]:
    found: dict[str, tuple[Record, list[str]]] = {}
    if rows["start"].null_count == rows.num_rows:
        return found
    checkpoints = {
        p.checkpoint["path"]: p.checkpoint for p in ledger.state.packs.values() if p.checkpoint
    }
    wanted = set(trial_ids)
    for row in rows.select(["trial_id", "start"]).to_pylist():
        if row["start"] is not None and row["trial_id"] in wanted:
            entry = checkpoints.get(row["start"])
            if entry is None:
                raise StoreError(
                    f"{ledger.files.location(row['start'])}: the checkpoint to go on from is gone."
                )
            found.setdefault(row["start"], (entry, []))[1].append(row["trial_id"])
    return found


def open_packs(state: State) -> list[str]:
    """Return the packs that have work left, in the order of the ledger."""
    return [p.id for p in state.packs.values() if p.open]
