"""Stores made by hand: any history of a ledger, without training anything."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweeper.store import tables
from sweeper.store.files import Files
from sweeper.store.lease import LEASE
from sweeper.store.ledger import Ledger
from sweeper.store.packs import pack_table
from sweeper.store.records import Record
from sweeper.store.schema import ENDS, METRICS, finite_or_null

ACCURACY: Record = {"metric": "acc", "train": 0.99, "test": 0.99, "rule": "threshold", "gap": 1000}
PROVENANCE: Record = {
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": None,
    "versions": {"python": "3.11.2", "torch": "2.13.0"},
    "host": "driver",
}


def config(**changes: Any) -> dict[str, Any]:
    """Return a flat config of a modular-arithmetic trial; ``__`` in a name stands for a dot."""
    values: dict[str, Any] = {
        "task.name": "modular_arithmetic",
        "task.p": 23,
        "model.name": "mlp",
        "model.depth": 1,
        "regularizer.name": "l1",
        "regularizer.strength": 1e-3,
        "regularizer.terms.l1.strength": None,
        "selection.name": "uniform",
        "selection.fraction": 0.6,
        "optimizer.name": "adamw",
        "optimizer.lr": 1e-2,
        "optimizer.betas": [0.9, 0.98],
        "dtype": "float32",
    }
    return values | {name.replace("__", "."): value for name, value in changes.items()}


@dataclass(frozen=True)
class Planned:
    """One row of a plan."""

    trial_id: str
    cell_id: str = "c"
    seed: int = 0
    config: Mapping[str, Any] = field(default_factory=config)


@dataclass
class Made:
    """A store in the making.

    Attributes:
        ledger: Its ledger, up to date.
    """

    ledger: Ledger
    _counter: int = 0

    @classmethod
    def at(cls, uri: str | Path, name: str = "demo") -> Made:
        """Begin a store."""
        files = Files.at(f"{uri}/{name}", create=True)
        return cls(Ledger.create(files, {"name": name, "points_per_decade": 50}))

    def launch(
        self,
        trials: Sequence[Planned],
        *,
        steps: int = 1000,
        criteria: Mapping[str, Record] | None = None,
        after_generalization: bool = True,
    ) -> str:
        """Record a launch that plans `trials`; return its id."""
        self._counter += 1
        launch_id = f"launch-{self._counter}"
        columns = {
            "trial_id": pa.array([t.trial_id for t in trials], pa.string()),
            "cell_id": pa.array([t.cell_id for t in trials], pa.string()),
            "seed": pa.array([t.seed for t in trials], pa.int64()),
        }
        for path in sorted({path for t in trials for path in t.config}):
            values = [t.config.get(path) for t in trials]
            nothing = all(v is None for v in values)
            columns[path] = pa.array(values, pa.float64() if nothing else None)
        path = f"plans/{self._counter}.parquet"
        entry = tables.write(self.ledger.files, path, pa.table(columns), steps=None)
        self.ledger.append(
            {
                "kind": "launch",
                "launch_id": launch_id,
                "at": time.time(),
                "plan": entry,
                "trainable": "trainables.grokking",
                "steps": steps,
                "grid": "",
                "criteria": dict(criteria or {"modular_arithmetic": ACCURACY}),
                "stop": {"after_generalization": after_generalization, "diverged": True},
                "provenance": PROVENANCE,
                "seeds": sorted({t.seed for t in trials}),
            }
        )
        return launch_id

    def pack(self, trial_ids: Sequence[str], *, start: str | None = None) -> str:
        """Record a pack of `trial_ids` that go on from the checkpoint `start`; return its id."""
        self._counter += 1
        pack_id = f"pack-{self._counter}"
        path = f"packs/{self._counter}.parquet"
        ids, starts = (
            pa.array(x, pa.string()) for x in (list(trial_ids), [start] * len(trial_ids))
        )
        table = pack_table([pack_id], [len(trial_ids)], ids, starts)
        entry = tables.write(self.ledger.files, path, table, steps=None)
        packs = [{"id": pack_id, "size": len(trial_ids), "parents": []}]
        self.ledger.append(
            {"kind": "packs", "packs": packs, "path": path, "sha256": entry["sha256"]}
        )
        return pack_id

    def claim(self, pack_id: str, launch_id: str, *, resumed_at: int = -1) -> int:
        """Record a claim; return its attempt."""
        attempt = self.ledger.state.packs[pack_id].attempt + 1
        self.ledger.append_to(
            pack_id,
            {
                "kind": "claim",
                "attempt": attempt,
                "launch_id": launch_id,
                "resumed_at": resumed_at,
                "at": 1_700_000_000.0,
                "host": f"host-{attempt}",
                "device": "cpu",
                "pack_size": self.ledger.state.packs[pack_id].size,
            },
        )
        return attempt

    def rows(
        self,
        pack_id: str,
        attempt: int,
        rows: Sequence[Mapping[str, Any]] = (),
        ends: Sequence[Mapping[str, Any]] = (),
        *,
        done: bool = False,
        checkpoint: tuple[str, int] | None = None,
    ) -> None:
        """Record metrics `rows` (trial_id, step, metrics) and `ends` of one attempt."""
        self._counter += 1
        record: Record = {"kind": "rows", "attempt": attempt}
        if rows:
            names = [*METRICS, *sorted({name for row in rows for name in row} - set(METRICS))]
            table = pa.table({name: _column(name, rows) for name in names})
            record["part"] = self._write("metrics", table, "step")
            record["part"]["columns"] = names[len(METRICS) :]
        if ends:
            full = [{"error": None, "wall_s": 1.5, **end} for end in ends]
            table = pa.Table.from_pylist(full, schema=pa.schema(list(ENDS.items())))
            record["ends"] = self._write("ends", table, "last_step")
        if checkpoint is not None:
            path, step = checkpoint
            self.ledger.files.write(path, b"state")
            record["checkpoint"] = {
                "path": path,
                "size": 5,
                "step": step,
                "attempt": attempt,
                "sha256": sha256(b"state").hexdigest(),
            }
        if done:
            record["done"] = True
        self.ledger.append_to(pack_id, record)

    def append_table(self, pack_id: str, attempt: int, table: pa.Table) -> None:
        """Record the metrics `table`, made elsewhere, of one attempt."""
        self._counter += 1
        entry = self._write("metrics", table, "step")
        self.ledger.append_to(pack_id, {"kind": "rows", "attempt": attempt, "part": entry})

    def lease(self, launch_id: str, *, age_s: float = 0.0) -> None:
        """Write the lease of a driver."""
        lease = {"launch_id": launch_id, "host": "h", "pid": 1, "at": time.time() - age_s}
        self.ledger.files.write(LEASE, json.dumps(lease).encode())

    def _write(self, folder: str, table: pa.Table, steps: str) -> Record:
        path = f"{folder}/{self._counter}.parquet"
        return tables.write(self.ledger.files, path, table, steps=steps)


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row.get(name) for row in rows]
    if name in ("trial_id", "step"):
        return pa.array(values, METRICS[name])
    return finite_or_null([float("nan") if v is None else v for v in values])


def curve(trial_id: str, steps: Sequence[int], **metrics: Sequence[float | None]) -> list[Record]:
    """Return the rows of one trial: at each of `steps` one value of every metric."""
    return [
        {"trial_id": trial_id, "step": step, **{name: v[k] for name, v in metrics.items()}}
        for k, step in enumerate(steps)
    ]


def end(trial_id: str, status: str, last_step: int, steps: int | None = None) -> Record:
    """Return the end of one trial."""
    return {
        "trial_id": trial_id,
        "status": status,
        "last_step": last_step,
        "steps": last_step if steps is None else steps,
    }
