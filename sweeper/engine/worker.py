"""The work of a worker on one pack, and the launcher that does it in this process.

The launcher on Ray (`sweeper.engine.ray`) calls the same `run_pack` in its workers. All results go
through the store, so a driver may die at any time.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import pyarrow as pa

from sweeper import trainable
from sweeper.config import plugins
from sweeper.config.decoding import trials_of
from sweeper.config.fields import Config
from sweeper.config.messages import counted
from sweeper.criterion import Criterion
from sweeper.engine.deaths import ALONE, Death, Observer, verdict
from sweeper.engine.task import PackTask
from sweeper.errors import DiedError, DrainedError, StoreError, SupersededError, redact
from sweeper.packing import Pack, Run, pack_id
from sweeper.store import plan_index, tables
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.packs import pack_table
from sweeper.store.records import Record
from sweeper.store.sink import FLUSH_S, Claim, Sink, stop_requested

ERROR_LINES = 20
"""The most lines of a traceback that are kept."""


def run_inline(tasks: Sequence[PackTask]) -> None:
    """Run the packs one after the other in this process."""
    for task in tasks:
        run_pack(task)


def run_pack(
    task: PackTask, *, death: Death | None = None, observer: Observer | None = None
) -> None:
    """Train one pack until all its trials have ended, or until it is drained or superseded.

    A trial that raises is `failed`, and its traceback is kept. The other trials of its pack are
    trained in smaller packs.

    Args:
        task: Names the pack. If it was split before, the smaller packs are trained.
        death: How the process before this one died, if it died while it did the same task.
        observer: Receives the pack that is in training.

    Raises:
        StoreError: The store can't be read or written.
    """
    ledger = _idle_ledgers.pop(task.sweep, None)
    if ledger is None or _is_over(ledger, task.pack_id) or not ledger.is_current():
        ledger = Ledger.open(Files.at(task.sweep), chains=False)
    ledger.refresh_root()
    for pack in task.split_from:  # each lists the next one
        ledger.follow([pack])
    queue = _open_packs(ledger, task.pack_id)
    while queue:
        smaller = _attempt(ledger, task, queue.pop(0), death, observer or ALONE)
        queue = smaller + queue
    _idle_ledgers.clear()
    _idle_ledgers[task.sweep] = ledger


def _is_over(ledger: Ledger, pack: str) -> bool:
    """Return whether `ledger` knows the pack as one without work, though it is to be trained."""
    return pack in ledger.state.packs and not ledger.state.packs[pack].open


_idle_ledgers: dict[str, Ledger] = {}
"""Sweep to the ledger that this process read for its last pack; at most one.

It outlives a task because Ray gives each task to a fresh call. The next task reads only the new
records of the root log and the chain of its own pack. A ledger that is in use is taken out, so a
pack that raises leaves none behind.
"""


def _open_packs(ledger: Ledger, pack_id_: str) -> list[str]:
    """Return the pack, or the open packs that it was split into; read their chains."""
    ledger.follow([pack_id_])
    pack = ledger.state.packs[pack_id_]
    if pack.split_at is None:
        return [pack_id_]
    family = [i for half in pack.halves for i in _open_packs(ledger, half)]
    return [i for i in family if ledger.state.packs[i].open]


def _attempt(
    ledger: Ledger, task: PackTask, pack_id_: str, death: Death | None, observer: Observer
) -> list[str]:
    """Train one attempt; return the smaller packs that take over, if any."""
    if stop_requested(ledger.files, task.launch_id):
        return []
    launch = ledger.state.launches[task.launch_id]
    module = trainable.load(launch["trainable"], launch.get("code"))
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
        rows = plan_index.listing(ledger.files, listed, ledger.state.files[listed]).rows(pack_id_)
        pack = _pack(ledger, launch, module.Config, rows, task, pack_id_)
        if pack is None:  # the grid has shrunk: none of the trials is wanted any more
            claim.commit({"kind": "rows", "done": True})
            return []
        with Sink(claim, launch.get("flush_s", FLUSH_S)) as sink, observer.training(sink):
            saved = ledger.state.packs[pack_id_].checkpoint
            starts = _starts(ledger, rows, pack.trial_ids)
            begun = _last_logged(
                pack, [saved] if saved else [entry for entry, _ in starts.values()]
            )
            error = verdict(ledger.state.packs[pack_id_], task.launch_id, death)
            if error is not None:
                return _give_up(sink, pack, begun, error)
            checkpoints = Checkpoints(
                sink,
                every_s=launch["checkpoint"]["every_s"],
                keep=launch["checkpoint"]["keep"],
                resume=saved,
                starts=starts,
                trial_ids=pack.trial_ids,
            )
            return _train(module, pack, sink, checkpoints, begun, observer)
    except (SupersededError, DrainedError):
        return []


def _last_logged(pack: Pack[Any], checkpoints: Sequence[Record]) -> int:
    """Return the last step whose rows the checkpoints of a pack include; -1 if there is none."""
    step = max((entry["step"] for entry in checkpoints), default=-1)
    return max((one for one in pack.run.logged_steps() if one <= step), default=-1)


def _train(
    module: Any,
    pack: Pack[Any],
    sink: Sink,
    checkpoints: Checkpoints,
    begun: int = -1,
    observer: Observer = ALONE,
) -> list[str]:
    try:
        with _own_signals() as interrupts:
            module.train(pack, sink, checkpoints)
        left = [i for i in pack.trial_ids if i not in sink.ended]
        if left:
            trials = counted(len(left), "trial")
            raise RuntimeError(f"{module.__name__}.train returned before {trials} ended")
        if not sink.claim.ledger.state.packs[sink.claim.pack_id].done:
            sink.flush(done=True)
    except (SupersededError, DrainedError, StoreError):
        raise
    except DiedError as error:
        sink.flush()
        if observer.outlives_trials:
            raise
        return _give_up(sink, pack, begun, str(error))
    except BaseException as error:
        if error in interrupts:
            raise
        if (cause := _storage_error(error)) is not None:
            raise cause from None
        sink.check()  # the trainable may have replaced the sink's error by one of its own
        text = "".join(traceback.format_exception(error)).strip().split("\n")
        return _give_up(sink, pack, begun, "\n".join(text[-ERROR_LINES:]))
    return []


def _give_up(sink: Sink, pack: Pack[Any], begun: int, error: str) -> list[str]:
    """Split the pack and return its halves, or end its only trial as failed.

    Args:
        sink: The sink of the attempt.
        pack: The pack.
        begun: The last logged step before the attempt; -1 if it began from scratch.
        error: The error of the trial.
    """
    if len(pack.trials) > 1:
        return _split(sink, pack)
    last_step = max(sink.last_step, begun)
    sink.end(
        pack.trial_ids, "failed", last_step=last_step, steps=max(last_step, 0), error=redact(error)
    )
    sink.flush(done=True)
    return []


@contextmanager
def _own_signals() -> Iterator[list[BaseException]]:
    """Yield a list of the errors that handlers of signals raise within the context.

    Such an error, e.g. the `KeyboardInterrupt` of Ctrl-C, ends the launch. An error of the same
    class that a trial raises itself doesn't.
    """
    raised: list[BaseException] = []

    def noting(handler: Callable[[int, FrameType | None], Any]) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                raised.append(error)
                raise

        return handle

    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    callables = {number: handler for number, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        callables = {}  # another thread handles no signals
    for number, handler in callables.items():
        signal.signal(number, noting(handler))
    try:
        yield raised
    finally:
        for number, handler in callables.items():
            signal.signal(number, handler)


def _storage_error(error: BaseException | None) -> StoreError | None:
    """Return the storage error that `error` was raised from, or None if the trials failed.

    An error that was only being handled (`__context__`) is no cause: the trainable may have dealt
    with it before it failed for another reason.
    """
    while error is not None and not isinstance(error, StoreError):
        error = error.__cause__
    return error


def _split(sink: Sink, pack: Pack[Any]) -> list[str]:
    """Replace the pack by its halves, which go on from its last checkpoint."""
    claim = sink.claim
    files, state = claim.ledger.files, claim.ledger.state
    listed = state.packs[claim.pack_id].path
    rows = plan_index.listing(files, listed, state.files[listed]).rows(claim.pack_id)
    before = dict(zip(rows["trial_id"].to_pylist(), rows["start"].to_pylist(), strict=True))
    saved = state.packs[claim.pack_id].checkpoint
    split_at = saved["step"] if saved else -1
    alive = [i for i in pack.trial_ids if sink.ended_at.get(i, split_at + 1) > split_at]
    middle = -(-len(alive) // 2)
    halves = [half for half in (alive[:middle], alive[middle:]) if half]
    ids = [pack_id(half, salt=claim.prefix) for half in halves]  # not those of a lost split
    starts = pa.array([saved["path"] if saved else before[i] for i in alive], pa.string())
    table = pack_table(ids, [len(half) for half in halves], pa.array(alive, pa.string()), starts)
    entry = tables.write(files, f"packs/{claim.prefix}.parquet", table, steps=None)
    packs = [
        {"id": i, "size": len(h), "parents": [claim.pack_id]}
        for i, h in zip(ids, halves, strict=True)
    ]
    claim.commit(
        {
            "kind": "split",
            "split_at": split_at,
            "packs": packs,
            "starts": state.checkpoints(starts.drop_null().to_pylist()),
            "path": entry["path"],
            "sha256": entry["sha256"],
        }
    )
    return ids


def run_of(launch: Record, points_per_decade: int, device: str, threads: int) -> Run:
    """Return the run settings in the record of a launch."""
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
    plan = plan_index.plan(ledger.files, launch["plan"]).rows(wanted)
    columns = [(part, f"{part}.name") for part in config.parts]
    names = [(part, n) for part, c in columns for n in plan[c].unique().to_pylist() if n]
    config = plugins.with_plugins(config, names)
    trials = tuple(trials_of(config, plan))
    if not trials:
        return None
    run = run_of(launch, ledger.meta["points_per_decade"], task.device, task.threads)
    return Pack(id_, trials, config, run)


def _starts(
    ledger: Ledger, rows: pa.Table, trial_ids: Sequence[str]
) -> dict[str, tuple[Record, list[str]]]:
    starts: dict[str, tuple[Record, list[str]]] = {}
    if rows["start"].null_count == rows.num_rows:
        return starts
    wanted = set(trial_ids)
    listed = [row for row in rows.to_pylist() if row["start"] and row["trial_id"] in wanted]
    entries = {e["path"]: e for e in ledger.state.checkpoints(row["start"] for row in listed)}
    for row in listed:
        entry = entries.get(row["start"])
        if entry is None:
            raise StoreError(
                f"{ledger.files.location(row['start'])}: missing, though a trial continues "
                "from this checkpoint. Launch again."
            )
        starts.setdefault(row["start"], (entry, []))[1].append(row["trial_id"])
    return starts
