"""The sink of a pack: it streams the rows of the pack's trials to the store.

The store holds rows of trials, not of packs; `pack_id` and `attempt` are kept as provenance. A
thread of the sink commits buffered rows every few seconds, so that readers see them in time
however long a step takes. Rows, ends and a checkpoint that belong together are one record of the
ledger: a reader sees all of them or none.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sweeper.errors import StoreError, SupersededError
from sweeper.store import tables
from sweeper.store.files import Files
from sweeper.store.ledger import META, Ledger
from sweeper.store.records import Record
from sweeper.store.schema import ENDED, ENDS, METRICS, finite_or_null

FLUSH_S = 2.0
"""Longest time that a row waits for its commit on a disk, in seconds; readers are promised 5."""

MOST_FLUSH_S = 45.0
"""The same on object storage, where readers are promised a minute."""

STOP_S = 5.0
"""Longest time in seconds until a worker on object storage sees that it has to stop."""

COMMITS_PER_S = 100
"""The most commits per second of all packs together on object storage: each has its price."""

STOP = "stop"
"""Folder of the files ``stop/<launch>``; such a file makes running packs save and end."""


Row = tuple[int | np.ndarray, pa.Array, Mapping[str, np.ndarray]]
"""Step, trials, and one value per trial of each metric; or one step per row of a single trial."""

End = tuple[pa.Array, Record]
"""Trials, and the status, last_step, steps, error and wall_s that they share."""


class Claim:
    """This worker's right to write for one pack, until another attempt takes it.

    Attributes:
        ledger: The sweep's ledger.
        pack_id: The pack.
        attempt: The number of this attempt.
        launch_id: The launch of the worker.
        started: Monotonic clock at the claim, in seconds.
        prefix: The names of this attempt's files begin with it; no other attempt's do.
    """

    def __init__(self, ledger: Ledger, pack_id: str, attempt: int, launch_id: str) -> None:
        self.ledger = ledger
        self.pack_id = pack_id
        self.attempt = attempt
        self.launch_id = launch_id
        self.started = time.monotonic()
        self.prefix = f"{pack_id}-{attempt}-{secrets.token_hex(4)}"

    @classmethod
    def take(cls, ledger: Ledger, pack_id: str, launch_id: str, about: Record) -> Claim:
        """Claim the next attempt of `pack_id`; `about` adds host, device and the like.

        Raises:
            SupersededError: The pack has no work left.
        """
        ledger.follow([pack_id])
        while True:
            pack = ledger.state.packs[pack_id]
            if not pack.open:
                raise SupersededError(pack_id)
            number = pack.attempt + 1
            saved = pack.checkpoint
            record = {
                "kind": "claim",
                "attempt": number,
                "launch_id": launch_id,
                "resumed_at": saved["step"] if saved else -1,
                "at": time.time(),
                **about,
            }
            try:
                ledger.append_to(pack_id, record)
            except SupersededError:  # the owner or another worker was faster
                ledger.follow([pack_id])
                continue
            return cls(ledger, pack_id, number, launch_id)

    def commit(self, record: Record) -> None:
        """Append `record` for this attempt.

        Raises:
            SupersededError: A newer attempt exists, or the pack is void; nothing was written.
        """
        self.ledger.append_to(self.pack_id, {**record, "attempt": self.attempt})


def stop_requested(files: Files, launch_id: str) -> bool:
    """Return whether the launch was asked to stop."""
    return files.size(f"{STOP}/{launch_id}") is not None


def flush_s(files: Files, workers: int) -> float:
    """Return the longest time in seconds that a row waits for its commit.

    Args:
        files: The sweep's folder.
        workers: Number of packs that run at the same time.
    """
    if files.root is not None:
        return FLUSH_S
    return min(MOST_FLUSH_S, max(FLUSH_S, workers / COMMITS_PER_S))


class Sink:
    """Takes the rows and ends of one attempt. Use it as a context manager.

    Args:
        claim: The attempt.
        flush_s: Longest time in seconds that a row waits for its commit.

    Attributes:
        claim: The attempt.
        ended: Trial to status, for the trials that ended so far.
        ended_at: Trial to last logged step, for the same trials.
        last_step: Step of the last rows taken; -1 before the first.
        stopping: Whether a stop was requested: the pack should save and end soon.
    """

    def __init__(self, claim: Claim, flush_s: float = FLUSH_S) -> None:
        """Begin without rows."""
        self.claim = claim
        self._flush_s = flush_s
        self.ended: dict[str, str] = {}
        self.ended_at: dict[str, int] = {}
        self.stopping = False
        self.last_step = -1
        self._rows: list[Row] = []
        self._texts: tuple[list[str], pa.Array] = ([], pa.array([], pa.string()))
        self._ends: list[End] = []
        self._sequence = 0
        self._oldest: float | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        """Held while rows and ends are taken, never during a commit: training doesn't wait."""
        self._committing = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wake.set()
        self._thread.join()

    def write(self, step: int, trial_ids: Sequence[str], **metrics: Any) -> None:
        """Take one row per trial.

        Args:
            step: Optimizer steps taken before these metrics were measured.
            trial_ids: The trials, in the order of the metrics.
            metrics: Column name to one number per trial; NaN and infinities are stored as null.
        """
        with self._lock:
            self.check()
            columns = {k: np.asarray(v, dtype=np.float64) for k, v in metrics.items()}
            self._rows.append((step, self._text(trial_ids), columns))
            self.last_step = step
            self._oldest = self._oldest or time.monotonic()

    def write_curve(self, trial_id: str, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Take several rows of one trial.

        Args:
            trial_id: The trial.
            rows: The step and the metrics of each row, in ascending order of the steps. A metric
                that a row lacks is null there.
        """
        names = dict.fromkeys(name for _, metrics in rows for name in metrics)
        columns = {
            name: np.array([metrics.get(name, np.nan) for _, metrics in rows], dtype=np.float64)
            for name in names
        }
        steps = np.array([step for step, _ in rows], dtype=np.int64)
        with self._lock:
            self.check()
            self._rows.append((steps, pa.array([trial_id] * len(rows), pa.string()), columns))
            self.last_step = int(steps[-1])
            self._oldest = self._oldest or time.monotonic()

    def end(
        self,
        trial_ids: Sequence[str],
        status: str,
        *,
        last_step: int,
        steps: int,
        error: str | None = None,
    ) -> None:
        """Record that trials ended: no row of theirs follows.

        Args:
            trial_ids: The trials.
            status: One of `sweeper.store.schema.ENDED`.
            last_step: Their last logged step.
            steps: Optimizer steps they were trained for.
            error: The traceback, if they failed.
        """
        if status not in ENDED:
            raise ValueError(f"status {status!r} must be one of {ENDED}")
        wall_s = time.monotonic() - self.claim.started
        with self._lock:
            self.check()
            self.ended |= dict.fromkeys(trial_ids, status)
            self.ended_at |= dict.fromkeys(trial_ids, last_step)
            end = {
                "status": status,
                "last_step": last_step,
                "steps": steps,
                "error": error,
                "wall_s": wall_s,
            }
            self._ends.append((pa.array(list(trial_ids), pa.string()), end))
            self._oldest = self._oldest or time.monotonic()

    def flush(self, *, checkpoint: Record | None = None, done: bool = False) -> None:
        """Commit everything taken so far, together with `checkpoint`.

        Raises:
            StoreError: The store can't be written. Every later call raises the same error, for it
                is unknown which rows were committed.
        """
        with self._committing:
            with self._lock:
                self.check()
                rows, ends, self._rows, self._ends = self._rows, self._ends, [], []
                self._oldest = None
            try:
                self._commit(rows, ends, checkpoint, done)
            except BaseException as error:
                self._error = error
                raise

    def check(self) -> None:
        """Raise the error of an earlier commit, if one failed."""
        if self._error is not None:
            raise self._error

    def _commit(
        self, rows: list[Row], ends: list[End], checkpoint: Record | None, done: bool
    ) -> None:
        record: Record = {"kind": "rows", "at": time.time()}
        files = self.claim.ledger.files
        name = f"{self.claim.prefix}-{self._sequence}.parquet"
        if rows:
            record["part"] = tables.write_metrics(files, f"metrics/{name}", _metrics(rows))
        if ends:
            record["ends"] = tables.write(files, f"ends/{name}", _ended(ends), steps="last_step")
            failed = sum(len(ids) for ids, end in ends if end["status"] == "failed")
            record["ends"]["failed"] = failed
        if checkpoint is not None:
            record["checkpoint"] = checkpoint
        if done:
            record["done"] = True
        if len(record) > 2:
            self.claim.commit(record)
            self._sequence += 1

    def _text(self, trial_ids: Sequence[str]) -> pa.Array:
        """Return the ids as an Arrow array, made once while the same trials are alive."""
        ids = list(trial_ids)
        if ids != self._texts[0]:
            self._texts = (ids, pa.array(ids, pa.string()))
        return self._texts[1]

    def _run(self) -> None:
        files = self.claim.ledger.files
        pause = self._flush_s / 4 if files.root is not None else min(STOP_S, self._flush_s)
        while not self._wake.wait(pause):
            try:
                self.stopping = self.stopping or stop_requested(files, self.claim.launch_id)
                oldest = self._oldest
                if oldest is not None and time.monotonic() - oldest > self._flush_s - pause:
                    self._see_void()
                    self.flush()
            except BaseException as error:  # raised again where the pack is trained
                self._error = self._error or error
                return

    def _see_void(self) -> None:
        """Read the root log, so that `flush` raises if the pack is void by now.

        Raises:
            StoreError: The sweep was deleted.
        """
        with self._committing:
            ledger = self.claim.ledger
            if ledger.files.size(META) is None:
                raise StoreError(f"{ledger.files.uri}: the sweep was deleted or moved.")
            ledger.refresh_root()


def _metrics(taken: list[Row]) -> pa.Table:
    """Return rows as a table of metrics."""
    counts = [len(ids) for _, ids, _ in taken]
    steps = [np.broadcast_to(step, n) for (step, _, _), n in zip(taken, counts, strict=True)]
    columns: dict[str, Any] = {
        "trial_id": pa.chunked_array([ids for _, ids, _ in taken], pa.string()),
        "step": pa.array(np.concatenate(steps).astype(np.int64)),
    }
    names = list(METRICS)[2:]
    names += sorted({c for _, _, row in taken for c in row} - set(METRICS))
    for name in names:
        pieces = [
            row[name] if name in row else np.full(n, np.nan)
            for (_, _, row), n in zip(taken, counts, strict=True)
        ]
        columns[name] = finite_or_null(np.concatenate(pieces))
    return pa.table(columns)


def _ended(taken: list[End]) -> pa.Table:
    """Return ends as a table."""
    counts = [len(ids) for ids, _ in taken]
    which = pa.array(np.repeat(np.arange(len(counts)), counts))
    columns = {
        name: pa.array([end[name] for _, end in taken], kind).take(which)
        for name, kind in ENDS.items()
        if name != "trial_id"
    }
    ids = pa.chunked_array([ids for ids, _ in taken], pa.string())
    return pa.table({"trial_id": ids, **columns})
