"""The state of a sweep's ledger at one moment, as tables that SQL can join.

Only files that the ledger lists are looked at, and only rows that count: those of an attempt
that another one took over from end where the other one began.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.errors import StoreError
from sweeper.store import tables
from sweeper.store.lease import is_fresh, read_lease
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.records import Record
from sweeper.store.schema import METRICS, empty
from sweeper.store.state import PackState, Part
from sweeper.store.visible import planned_hash

IDS = {"trial_id": pa.string(), "cell_id": pa.string(), "seed": pa.int64()}
"""Columns of every plan; the flat config stands behind them."""

PROVEN_BYTES = 256 << 20
"""Bytes of metrics whose checksums every reader proves: a quarter of a second."""

MEMBERS = {"trial_id": pa.string(), "number": pa.int64(), "start_step": pa.int64()}
"""One row per (trial, pack): the pack's place in the ledger, and the step from which the trial
continues there (-1: from its beginning; null: unknown)."""

PACKS = {"number": pa.int64(), "pack_id": pa.string(), "max_step": pa.int64()}
"""One row per pack: its place in the ledger and its largest logged step (-1: none)."""

ATTEMPTS = pa.schema(
    {
        "claim": pa.int64(),
        "number": pa.int64(),
        "pack_id": pa.string(),
        "attempt": pa.int64(),
        "latest": pa.bool_(),
        "running": pa.bool_(),
        "pack_size": pa.int64(),
        "host": pa.string(),
        "device": pa.string(),
        "started_at": pa.timestamp("us"),
        "horizon": pa.int64(),
        "stops": pa.struct({"after_generalization": pa.bool_(), "diverged": pa.bool_()}),
        "git_commit": pa.string(),
        "dirty": pa.string(),
        "versions": pa.map_(pa.string(), pa.string()),
    }
)
"""One row per claim of a pack. `claim` counts them in the order of the packs and then of their
attempts; `number` is the pack's place in the ledger."""


@dataclass(frozen=True, slots=True)
class Source:
    """Metrics files of one shape.

    Attributes:
        parts: The files.
        columns: What the task adds to the common columns.
        pack_id: Their pack, if some of its trials went on elsewhere; else None.
        cutoff: Last step that counts; None for all.
    """

    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    pack_id: str | None
    cutoff: int | None


def check(ledger: Ledger) -> None:
    """Check that every file that counts is there and whole.

    Proves every checksum as long as that is instant (`PROVEN_BYTES`), and sizes beyond.

    Raises:
        StoreError: Some aren't; names each.
    """
    listed = [part for part, _ in ledger.state.parts()]
    listed += [part for _, _, part, _ in ledger.state.ends()]
    proven = sum(part.size for part in listed) <= PROVEN_BYTES
    look = tables.corrupt if proven else tables.damaged
    errors = [message for part in listed if (message := look(ledger.files, part))]
    if errors:
        raise StoreError("\n".join([*errors, tables.REMEDY]))


def launches(ledger: Ledger, *, everything: bool) -> list[Record]:
    """Return the launches whose trials are shown: the latest and those beside it, or all."""
    known = ledger.state.launches
    if everything or not known:
        return list(known.values())
    last = next(reversed(known.values()))
    return [*(known[i] for i in last.get("beside", ())), last]


def plans(shown: Iterable[Record]) -> list[Record]:
    """Return the entries of the plans of some launches, the latest first.

    Of plans of the same trials (``<hash of their ids>-<launch>.parquet``) only the latest: a launch
    writes the plan again where that of an earlier one is damaged.
    """
    latest: dict[str, Record] = {}
    for record in shown:
        entry = record["plan"]
        trials = planned_hash(entry)
        latest.pop(trials, None)
        latest[trials] = entry
    return list(reversed(latest.values()))


def plan(ledger: Ledger, shown: Sequence[Record]) -> pa.Table:
    """Return the trials that the launches `shown` planned, with their flat config.

    Each once, as the last plan has it.
    """
    planned = [tables.read(ledger.files, entry) for entry in plans(shown)]
    if not planned:
        return empty(IDS)
    table = pa.concat_tables(planned, promote_options="permissive")
    if len(planned) == 1:
        return table
    ids = table["trial_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return table.take(pa.array(np.sort(np.unique(ids, return_index=True)[1])))


def ends(ledger: Ledger) -> pa.Table:
    """Return how trials ended, with the order of the ledger as `number`."""
    table = ended_trials(ledger).combine_chunks()
    return table.append_column("number", pa.array(range(table.num_rows), pa.int64()))


def members(ledger: Ledger) -> pa.Table:
    """Return which trials are in which pack; see `MEMBERS`."""
    packs = _packs(ledger)
    saved = {p.checkpoint["path"]: p.checkpoint["step"] for p in packs if p.checkpoint}
    names = pa.array([p.id for p in packs], pa.string())
    paths, steps = pa.array(saved, pa.string()), pa.array(saved.values(), pa.int64())
    lists = []
    for path in {p.path: None for p in packs}:
        rows = tables.read(ledger.files, {"path": path, "sha256": ledger.state.files[path]})
        number = pc.index_in(rows["pack_id"], value_set=names).cast(pa.int64())
        goes_on = steps.take(pc.index_in(rows["start"], value_set=paths))
        start = pc.if_else(rows["start"].is_null(), pa.scalar(-1, pa.int64()), goes_on)
        lists.append(pa.table([rows["trial_id"], number, start], schema=_schema(MEMBERS)))
    if not lists:
        return empty(MEMBERS)
    table = pa.concat_tables(lists)
    return table.filter(table["number"].is_valid()) if table["number"].null_count else table


def packs(ledger: Ledger) -> pa.Table:
    """Return the packs that count; see `PACKS`."""
    counted = _packs(ledger)
    largest = [max((part.max_step for _, part in p.parts), default=-1) for p in counted]
    return pa.table([range(len(counted)), [p.id for p in counted], largest], schema=_schema(PACKS))


def _packs(ledger: Ledger) -> list[PackState]:
    """Return the packs that count; the place of each is its number."""
    return [p for p in ledger.state.ordered if not p.void]


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    return pa.schema(list(columns.items()))


def attempts(ledger: Ledger) -> pa.Table:
    """Return every claim of a pack, with its host, device and code; see `ATTEMPTS`."""
    lease = read_lease(ledger.files)
    driver = lease["launch_id"] if lease is not None and is_fresh(lease) else None
    rows = [
        {"number": number, **row}
        for number, pack in enumerate(_packs(ledger))
        for row in _claims(pack, ledger, driver)
    ]
    return pa.Table.from_pylist([{"claim": n, **row} for n, row in enumerate(rows)], ATTEMPTS)


def _claims(pack: PackState, ledger: Ledger, driver: str | None) -> Iterator[Record]:
    for attempt in pack.attempts:
        claim = attempt.record
        launch = ledger.state.launches.get(claim["launch_id"], {})
        about = launch.get("provenance", {})
        at = claim.get("at")
        latest = attempt is pack.attempts[-1]
        yield {
            "pack_id": pack.id,
            "attempt": attempt.number,
            "latest": latest,
            "running": latest and pack.open and claim["launch_id"] == driver,
            "pack_size": claim.get("pack_size", pack.size),
            "host": claim.get("host"),
            "device": claim.get("device"),
            "started_at": at and datetime.fromtimestamp(at, UTC).replace(tzinfo=None),
            "horizon": launch.get("steps"),
            "stops": launch.get("stop"),
            "git_commit": about.get("git_commit"),
            "dirty": about.get("dirty"),
            "versions": list(about.get("versions", {}).items()),
        }


def sources(ledger: Ledger, shared: frozenset[str]) -> list[Source]:
    """Return the metrics files that count, those of one shape together.

    Args:
        ledger: The sweep's ledger.
        shared: Packs some of whose trials went on elsewhere, see `Source.pack_id`.
    """
    owner = {part.path: p.id for p in ledger.state.packs.values() for _, part in p.parts}
    shapes: dict[tuple[tuple[str, ...], str | None, int | None], list[Part]] = {}
    for part, cutoff in ledger.state.parts():
        pack_id = owner.get(part.path)
        columns = tuple(sorted(set(part.columns) - set(METRICS)))
        key = (columns, pack_id if pack_id in shared else None, cutoff)
        shapes.setdefault(key, []).append(part)
    return [Source(tuple(group), *key) for key, group in shapes.items()]


def live(ledger: Ledger) -> frozenset[str]:
    """Return the metrics files that may hold the last rows of a trial that hasn't ended."""
    packs = [p for p in ledger.state.packs.values() if not p.void and not p.done]
    paths = {part.path for p in packs for _, part in p.parts}
    if ledger.state.compacted_packs & {p.id for p in packs}:
        paths |= {part.path for part in ledger.state.compacted}
    return frozenset(paths)


def criteria(shown: Sequence[Record]) -> dict[str, Record]:
    """Return task to the criterion that the last launch with that task recorded."""
    latest: dict[str, Record] = {}
    for record in shown:
        latest |= record["criteria"]
    return latest
