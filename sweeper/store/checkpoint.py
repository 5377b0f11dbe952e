"""Checkpoints of a pack: opaque bytes, committed together with the rows before them.

The trainable decides their content; loading it must execute no code. All rows up to a checkpoint's
step are committed with it, so an attempt that resumes there loses and repeats no row.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from sweeper.errors import DrainedError
from sweeper.store import tables
from sweeper.store.records import Record
from sweeper.store.sink import Sink

Keep = Literal["all", "censored", "none"]


@dataclass(frozen=True, slots=True)
class Saved:
    """A state to start from.

    Attributes:
        payload: The bytes given to `Checkpoints.save`.
        trial_ids: The trials of this pack whose state it holds.
    """

    payload: bytes
    trial_ids: tuple[str, ...]


class Checkpoints:
    """Saves the states of a pack, and returns those to start from.

    Args:
        sink: The sink of the same attempt.
        every_s: Seconds between two checkpoints.
        keep: The trials whose final states are kept.
        resume: This pack's own checkpoint, as the ledger lists it, or None.
        starts: If `resume` is None: other packs' checkpoints, each with the trials that go on
            from it.

    Attributes:
        every_s: As above.
        keep: As above.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        every_s: float,
        keep: Keep,
        resume: Record | None,
        starts: Mapping[str, tuple[Record, Sequence[str]]],
        trial_ids: Sequence[str],
    ) -> None:
        self._sink = sink
        self.every_s = every_s
        self.keep = keep
        self._resume = resume
        self._starts = starts
        self._trial_ids = tuple(trial_ids)
        self._last = time.monotonic()

    def start(self) -> list[Saved]:
        """Return the states to start from; trials in none of them start from scratch."""
        files = self._sink.claim.ledger.files
        if self._resume is not None:
            return [Saved(tables.content(files, self._resume), self._trial_ids)]
        return [
            Saved(tables.content(files, entry), tuple(trial_ids))
            for entry, trial_ids in self._starts.values()
        ]

    def due(self) -> bool:
        """Return whether it is time to save: the interval is over, or a stop was requested."""
        return self._sink.stopping or time.monotonic() - self._last >= self.every_s

    def keeps(self, trial_id: str) -> bool:
        """Return whether the final state of an ended trial is kept."""
        status = self._sink.ended.get(trial_id)
        return status != "failed" and (
            self.keep == "all" or (self.keep == "censored" and status == "censored")
        )

    def save(self, step: int, payload: bytes) -> None:
        """Commit `payload` as the state at `step`, with all rows written so far.

        Raises:
            DrainedError: A stop was requested; the state is saved.
        """
        self._commit(step, payload, done=False)
        if self._sink.stopping:
            raise DrainedError

    def finish(self, step: int, payload: bytes | None) -> None:
        """Commit the last rows, and `payload` as the final state of the trials it keeps."""
        if payload is None:
            self._sink.flush(done=True)
        else:
            self._commit(step, payload, done=True)

    def _commit(self, step: int, payload: bytes, *, done: bool) -> None:
        claim = self._sink.claim
        files = claim.ledger.files
        before = claim.ledger.state.packs[claim.pack_id].checkpoint
        path = f"checkpoints/{claim.prefix}-{step}.pt"
        files.write(path, payload)
        entry = {
            "path": path,
            "size": len(payload),
            "sha256": sha256(payload).hexdigest(),
            "step": step,
            "attempt": claim.attempt,
        }
        self._sink.flush(checkpoint=entry, done=done)
        if before is not None and before["path"] != path:
            files.delete(before["path"])
        self._last = time.monotonic()
