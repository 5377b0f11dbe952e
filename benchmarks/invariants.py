"""What has to hold of a sweep whatever was killed: every logged step once, and the same bits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import stored
from sweeper import api
from sweeper.errors import StoreError
from sweeper.store import chain
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.records import decode
from sweeper.store.schema import logged_steps

NAME = "chaos"
"""The sweep's name."""


class Reader(threading.Thread):
    """Asks the views of a sweep in a loop, and keeps what is wrong.

    Attributes:
        reads: Answers so far.
        problems: Errors, duplicates and gaps that it saw.
    """

    def __init__(self, store: str, points_per_decade: int, steps: int) -> None:
        super().__init__(daemon=True)
        self.store, self.logged = store, logged_steps(points_per_decade, steps)
        self.reads = 0
        self.problems: list[str] = []
        self._over = threading.Event()

    def run(self) -> None:
        """Read until stopped."""
        while not self._over.wait(0.3):
            if not Path(self.store, NAME, "log").exists():
                continue
            try:
                table = api.query(
                    self.store,
                    NAME,
                    "select trial_id, list(step order by step) as steps from metrics group by all",
                )
            except Exception as error:
                self.problems.append(f"{type(error).__name__}: {error}")
                continue
            self.reads += 1
            for row in table.to_pylist():
                if row["steps"] != list(self.logged[: len(row["steps"])]):
                    self.problems.append(f"{row['trial_id']}: {len(row['steps'])} steps, not 0..k")

    def stop(self) -> None:
        """Stop reading."""
        self._over.set()
        if self.ident is not None:
            self.join()


def ledger_of(store: str) -> Ledger | None:
    """Return the ledger of the sweep, or None while there is none."""
    with suppress(StoreError):
        return stored.open_sweep(store, NAME)
    return None


def records(store: str) -> Iterator[dict[str, Any]]:
    """Yield the whole records of the ledger: those of the root log, then those of each chain.

    Nothing while there is no sweep.
    """
    try:
        files = Files.at(f"{store}/{NAME}")
    except StoreError:
        return
    for folder in ("log", chain.FOLDER):
        paths = sorted(files.paths(folder))
        for path, raw in zip(paths, files.read_many(paths), strict=True):
            with suppress(StoreError):  # a power cut tore it
                yield decode(path, raw or b"", chain.VERSION)


def claims(store: str, launch: int) -> list[dict[str, Any]]:
    """Return the claims of the `launch`-th launch of the store, from 0."""
    every = list(records(store))
    ids = [r["launch_id"] for r in every if r["kind"] == "launch"]
    if launch >= len(ids):
        return []
    return [r for r in every if r["kind"] == "claim" and r["launch_id"] == ids[launch]]


def launches(store: str) -> int:
    """Return how many launches the ledger knows."""
    return sum(r["kind"] == "launch" for r in records(store))


def late_commits(store: str) -> int:
    """Return how many records of an attempt stand behind a newer claim of its pack: 0 is right."""
    newest: dict[str, int] = {}
    late = 0
    for record in records(store):
        if record["kind"] == "claim":
            newest[record["pack_id"]] = record["attempt"]
        elif "attempt" in record:
            late += record["attempt"] < newest[record["pack_id"]]
    return late


def faults(store: str, points_per_decade: int, steps: int) -> list[str]:
    """Return duplicates and gaps among the rows of a finished sweep, in words."""
    book = stored.open_sweep(store, NAME)
    logged = logged_steps(points_per_decade, steps)
    seen: dict[str, list[int]] = {}
    table = stored.rows(book)
    for trial, step in zip(table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True):
        seen.setdefault(trial, []).append(step)
    found = []
    last = {r["trial_id"]: r["last_step"] for r in stored.ends(book).to_pylist()}
    for trial in stored.plan(book)["trial_id"].to_pylist():
        have = seen.get(trial, [])
        twice = [s for s, n in Counter(have).items() if n > 1]
        missing = {s for s in logged if s <= last.get(trial, -1)} - set(have)
        if twice or missing or trial not in last or sorted(have)[-1:] != [last[trial]]:
            found.append(f"{trial}: twice {twice[:3]}, missing {sorted(missing)[:3]}")
    return found


def differences(store: str, reference: str) -> list[str]:
    """Return in what a sweep differs from one that nobody killed; nothing if bit-equal."""
    mine, other = (stored.open_sweep(where, NAME) for where in (store, reference))
    found = []
    tables: dict[str, tuple[pa.Table, pa.Table]] = {
        "rows": (stored.rows(mine), stored.rows(other)),
        "ends": (stored.ends(mine), stored.ends(other)),
    }
    for name, (a, b) in tables.items():
        if a.num_rows != b.num_rows:
            found.append(f"{name}: {a.num_rows}, not {b.num_rows}")
        else:
            found += [f"{name}: {c}" for c in b.column_names if not a[c].equals(b[c])]
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the rows of a sweep differ from those of an undisturbed one.

    Attributes:
        lost: Number of rows that are missing.
        doubled: Number of rows with the trial and step of another row.
        trials: Number of trials of the undisturbed sweep.
        equal: Number of trials whose rows and ends have equal bits.
    """

    lost: int
    doubled: int
    trials: int
    equal: int


def compare(store: str, reference: str) -> Comparison:
    """Compare a finished sweep with an undisturbed one."""
    mine, other = (by_trial(where) for where in (store, reference))
    lost = doubled = equal = 0
    for trial, (rows, ends) in other.items():
        have, ended = mine.get(trial, ([], []))
        counts = Counter(row["step"] for row in have)
        lost += len({row["step"] for row in rows} - counts.keys())
        doubled += sum(n - 1 for n in counts.values())
        equal += repr((have, ended)) == repr((rows, ends))  # NaN equals NaN
    return Comparison(lost, doubled, len(other), equal)


def by_trial(store: str) -> dict[str, tuple[list[Any], list[Any]]]:
    """Return the rows and the ends of each trial of a sweep, by its id."""
    book = stored.open_sweep(store, NAME)
    grouped: dict[str, tuple[list[Any], list[Any]]] = {}
    for place, table in enumerate((stored.rows(book), stored.ends(book))):
        ordered = table.select(sorted(table.column_names))
        for row in ordered.to_pylist():
            grouped.setdefault(row["trial_id"], ([], []))[place].append(row)
    return grouped
