"""The files of a store, read and checked: the ends of trials, the damage, the thresholds reached.

`scan` reads each file once and proves its checksum on the way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.criterion import Criterion
from sweeper.errors import StoreError
from sweeper.store import tables
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ends_table
from sweeper.store.state import Part, State

BATCH = 1 << 20
"""Rows of metrics per batch: the lookup of their trials costs the same for few and many."""

ENDED = ("trial_id", "status", "last_step", "steps")
"""Columns that are read of a file of ends; tracebacks and times are left in it."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The part of a store that a launch can build on.

    Attributes:
        ends: The ends that count: trial_id, status, last_step, steps, pack_id, attempt.
        void: Packs that are damaged or went on from a damaged one; their trials are new again.
        damage: One message per damaged file.
    """

    ends: pa.Table
    void: frozenset[str]
    damage: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """One reading of all files that a ledger lists.

    Attributes:
        state: The ledger's state when the files were read.
        tables: Path to content of each intact file of ends.
        void: Packs with a damaged file.
        damage: One message per damaged file.
    """

    state: State
    tables: Mapping[str, pa.Table]
    void: frozenset[str]
    damage: tuple[str, ...]

    def result(self, unusable: Mapping[str, str] | None = None) -> ScanResult:
        """Return the ends and the packs that count; reads no file.

        Args:
            unusable: Further damaged packs, each with a message, as `damaged_checkpoints`
                returns them.
        """
        unusable = unusable or {}
        state = self.state
        void = spread(state, {*self.void, *unusable})
        counted = list(state.ends(p for p in state.ordered if not (p.void or p.id in void)))
        ends = [
            tables.upto(self.tables[part.path], cutoff, "last_step")
            for _, _, part, cutoff in counted
        ]
        return ScanResult(
            ends_table(ends, [pack for pack, *_ in counted], [n for _, n, *_ in counted]),
            frozenset(i for i in void if not state.packs[i].void),
            (*self.damage, *unusable.values()),
        )


def scan(ledger: Ledger, *, proven: bool = True) -> Scan:
    """Read the files that the ledger lists.

    Args:
        ledger: The sweep's ledger.
        proven: Whether to prove the checksums of the metrics; without it, only their sizes.
    """
    state, files = ledger.state, ledger.files
    check = tables.corrupt if proven else tables.damaged
    alive = [pack for pack in state.packs.values() if not pack.void]
    listings = {
        path: tables.corrupt(files, {"path": path, "sha256": state.files[path]})
        for path in dict.fromkeys(pack.path for pack in alive)
    }
    damage = [message for message in listings.values() if message]
    void: set[str] = set()
    ends: dict[str, pa.Table] = {}
    for pack in alive:
        messages = [message for _, part in pack.parts if (message := check(files, part))]
        messages += [message for _, part in pack.ends if (message := _end(files, part, ends))]
        damage += messages
        if messages or listings[pack.path]:
            void.add(pack.id)
    for part in state.compacted:
        if message := check(files, part):
            damage.append(message)
            void |= state.compacted_by[part.path]
    return Scan(state, ends, frozenset(void), tuple(damage))


def damaged_checkpoints(ledger: Ledger, packs: Iterable[str]) -> dict[str, str]:
    """Return the packs whose checkpoint can't be read, each with a message."""
    messages = {}
    for pack_id in packs:
        saved = ledger.state.packs[pack_id].checkpoint
        if saved is not None and (message := tables.corrupt(ledger.files, saved)):
            messages[pack_id] = message
    return messages


def _end(files: Files, part: Part, ends: dict[str, pa.Table]) -> str | None:
    """Read a file of ends into `ends`; return a message if it is damaged."""
    raw, message = tables.proven(files, part)
    if message is None:
        try:
            with tables.decoding(files, part.path):
                ends[part.path] = tables.shaped(part.path, tables.table(raw, ENDED), ENDED)
        except StoreError as error:
            return str(error).removesuffix(f" {tables.REMEDY}")
    return message


def spread(state: State, damaged: Set[str]) -> set[str]:
    """Return the damaged packs, and those that went on from one or share a file with one."""
    void = set(damaged)
    before = 0
    while before < len(void):
        before = len(void)
        void |= {p.id for p in state.packs.values() if not void.isdisjoint(p.parents)}
        for part in state.compacted:
            if not void.isdisjoint(state.compacted_by[part.path]):
                void |= state.compacted_by[part.path]
    return void


def reached(
    ledger: Ledger, ids: pa.ChunkedArray, criteria: Sequence[Criterion], of: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return for each trial whether its stored metrics reach both thresholds of its criterion.

    Always false under a rule that reads whole curves: no trial stops by such a rule.

    Args:
        ledger: The sweep's ledger.
        ids: The trials.
        criteria: The criteria of all trials.
        of: For each trial, the index of its criterion in `criteria`.
    """
    wanted = ids.combine_chunks().dictionary_encode()
    row = wanted.indices.to_numpy()
    mine = np.empty(len(wanted.dictionary), dtype=np.int64)
    mine[row] = of
    sides = {side: np.zeros(len(mine), dtype=bool) for side in ("train", "test")}
    for rows in _metrics(ledger, {f"{side}_{c.metric}" for c in criteria for side in sides}):
        at = pc.index_in(rows["trial_id"], wanted.dictionary).fill_null(-1).to_numpy()
        for number, criterion in enumerate(criteria):
            ours = (at >= 0) & (mine[at] == number)
            for side, holds in (("train", criterion.train_holds), ("test", criterion.test_holds)):
                if (name := f"{side}_{criterion.metric}") in rows.column_names:
                    values = rows[name].to_numpy(zero_copy_only=False)
                    sides[side][at[ours & holds(values)]] = True
    return cast("NDArray[np.bool_]", (sides["train"] & sides["test"])[row])


def _metrics(ledger: Ledger, names: Collection[str]) -> Iterator[pa.Table]:
    """Yield the metrics that count, trial_id and the columns `names`, many files at once."""
    batch: list[pa.Table] = []
    n = 0
    for part, cutoff in ledger.state.parts():
        rows = tables.upto(tables.read(ledger.files, part), cutoff)
        batch.append(rows.select([c for c in rows.column_names if c in {"trial_id", *names}]))
        n += rows.num_rows
        if n >= BATCH:
            yield pa.concat_tables(batch, promote_options="default")
            batch, n = [], 0
    if batch:
        yield pa.concat_tables(batch, promote_options="default")
