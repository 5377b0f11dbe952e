"""Packs of trials, trained in this process with a sink and checkpoints that live in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from sweeper.config.resolve import broken, resolve
from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.packing import Pack, Run, pack_id
from sweeper.store.checkpoint import Checkpoints, Saved
from sweeper.store.sink import Sink
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.loop import train

STRICT = Criterion(metric="error", train=1e-9, test=1e-9)
"""Out of reach: trials run to the horizon."""

SPARSE = {"task.name": "sparse_recovery", "task.n": 20, "task.s": 2, "task.N": 10}
MATRIX = {
    "task.name": "matrix_completion",
    "task.n1": 6,
    "task.n2": 5,
    "task.rank": 1,
    "task.N": 20,
}
DENSE = {
    "task.name": "teacher_student",
    "task.N": 20,
    "task.N_test": 15,
    "task.hidden": 12,
    "model.width": 20,
}
MODULAR = {"task.name": "modular_arithmetic", "task.p": 7, "model.d": 12, "model.width": 20}


def values(given: dict[str, Any]) -> dict[str, Any]:
    """Return the resolved config of `given`."""
    resolved = resolve(GrokkingConfig, given)
    problems = [p.message for p in resolved.problems]
    problems += [m for _, m in broken(GrokkingConfig, resolved.values)]
    assert not problems, problems
    assert not resolved.dropped, resolved.dropped
    return dict(resolved.values)


def trial(given: dict[str, Any], seed: int = 0, **more: Any) -> Trial:
    """Return a trial; ``__`` in a keyword stands for a dot."""
    given = given | {name.replace("__", "."): value for name, value in more.items()}
    return Trial.of(GrokkingConfig, values(given), seed, trainable="trainables.grokking")


def pack(
    trials: Sequence[Trial], steps: int = 60, criterion: Criterion = STRICT, **run: Any
) -> Pack[GrokkingConfig]:
    """Return a pack that runs `trials` for `steps`."""
    tasks = GrokkingConfig.parts["task"]
    settings: dict[str, Any] = {
        "points_per_decade": 20,
        "criteria": dict.fromkeys(tasks, criterion),
    }
    return Pack(
        pack_id([t.id for t in trials]),
        tuple(trials),
        GrokkingConfig,
        Run(steps=steps, **(settings | run)),
    )


class KilledError(Exception):
    """The process died here."""


@dataclass
class Memory:
    """What a run leaves behind; stands in for the sink and for the checkpoints.

    Attributes:
        start_from: States to begin with.
        kill_at: Call of `due` at which to save, and then die; counted from 0.
        rows: (trial, step) to the row's metrics.
        ends: Trial to (status, last logged step, steps).
        saved: The last checkpoint.
    """

    start_from: Sequence[Saved] = ()
    kill_at: int | None = None
    rows: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    ends: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    saved: bytes | None = None
    calls: int = 0

    def write(self, step: int, trial_ids: Sequence[str], **metrics: Any) -> None:
        for i, trial_id in enumerate(trial_ids):
            assert (trial_id, step) not in self.rows
            row = {name: float(column[i]) for name, column in metrics.items()}
            self.rows[trial_id, step] = row

    def end(self, trial_ids: Sequence[str], status: str, *, last_step: int, steps: int) -> None:
        for trial_id in trial_ids:
            assert trial_id not in self.ends
            self.ends[trial_id] = (status, last_step, steps)

    def start(self) -> list[Saved]:
        return list(self.start_from)

    def due(self) -> bool:
        self.calls += 1
        return self.calls - 1 == self.kill_at

    def keeps(self, trial_id: str) -> bool:
        return True

    def save(self, step: int, payload: bytes) -> None:
        self.saved = payload
        raise KilledError

    def finish(self, step: int, payload: bytes | None) -> None:
        self.saved = payload

    def of(self, trial_id: str) -> list[tuple[int, str, str]]:
        """Return every number of a trial, exactly: (step, column, hexadecimal float)."""
        return [
            (step, name, float(number).hex())
            for (owner, step), row in sorted(self.rows.items())
            if owner == trial_id
            for name, number in sorted(row.items())
        ]

    def column(self, trial_id: str, name: str) -> np.ndarray:
        """Return one column of a trial by step."""
        return np.array([r[name] for (i, _), r in sorted(self.rows.items()) if i == trial_id])


def run(pack: Pack[GrokkingConfig], memory: Memory | None = None) -> Memory:
    """Train `pack` and return what it leaves behind."""
    memory = memory or Memory()
    try:
        train(pack, cast("Sink", memory), cast("Checkpoints", memory))
    except KilledError:
        assert memory.kill_at is not None
    return memory


def killed_and_resumed(make: Callable[[], Pack[GrokkingConfig]], kill_at: int) -> Memory:
    """Train a pack that dies right after the checkpoint at `kill_at`, then is taken up again.

    As the engine does it: the second attempt gets the trials that hadn't ended at the checkpoint.
    """
    first = run(make(), Memory(kill_at=kill_at))
    whole = make()
    if first.saved is None or len(first.ends) == len(whole.trials):
        raise AssertionError(f"nothing was left to resume at {kill_at}")
    left = tuple(t for t in whole.trials if t.id not in first.ends)
    saved = Saved(first.saved, tuple(t.id for t in left))
    second = Memory(start_from=[saved], rows=dict(first.rows), ends=dict(first.ends))
    return run(Pack(whole.id, left, whole.config_type, whole.run), second)


def same(a: Memory, b: Memory, trials: Sequence[Trial]) -> None:
    """Check that two runs have the same rows and ends of `trials`, bit for bit."""
    for t in trials:
        assert a.of(t.id), "no rows to compare"
        assert a.of(t.id) == b.of(t.id), dict(t.values)
        assert a.ends[t.id] == b.ends[t.id]
