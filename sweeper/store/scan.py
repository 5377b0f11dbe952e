"""What a store holds that can be built on: how trials ended, what they reached, what is damaged.

Each file is read once, and its checksum proven on the way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.criterion import Criterion
from sweeper.store import tables as parts
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger, Part, State
from sweeper.store.outcomes import ends_table

BATCH = 1 << 20
"""Rows of metrics that are looked at together: finding their trials has a price of its own."""

ENDED = ("trial_id", "status", "last_step", "steps")
"""What is asked of an end; tracebacks and times are left in the files."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a ledger's files hold.

    Attributes:
        ends: The ends that count: trial_id, status, last_step, steps, pack_id, attempt.
        void: Packs that are damaged, or went on from one that is; their trials are new again.
        damage: What is wrong with them.
    """

    ends: pa.Table
    void: frozenset[str]
    damage: tuple[str, ...]


def survey(
    ledger: Ledger, *, proven: bool = True, unusable: Mapping[str, str] | None = None
) -> Survey:
    """Return what the files that the ledger lists hold.

    Args:
        ledger: The sweep's ledger.
        proven: Prove the checksums of the metrics, too; else their sizes.
        unusable: Packs that are damaged besides, and what is wrong with each.
    """
    state, files = ledger.state, ledger.files
    look = parts.corrupt if proven else parts.damaged
    alive = [pack for pack in state.packs.values() if not pack.void]
    listings = {pack.path for pack in alive}
    messages = {
        path: parts.corrupt(files, {"path": path, "sha256": sha})
        for path, sha in state.files.items()
        if path in listings
    }
    damage = [message for message in messages.values() if message]
    void = set(unusable or ())
    damage += (unusable or {}).values()
    tables: dict[str, pa.Table] = {}
    for pack in alive:
        found = [m for _, part in pack.parts if (m := look(files, part))]
        found += [m for _, part in pack.ends if (m := _end(files, part, tables))]
        damage += found
        if found or messages[pack.path]:
            void.add(pack.id)
    for part in state.compacted:
        if message := look(files, part):
            damage.append(message)
            void |= state.compacted_by[part.path]
    _spread(state, void)
    counted = list(state.ends(pack for pack in alive if pack.id not in void))
    ends = [parts.upto(tables[part.path], cutoff, "last_step") for _, _, part, cutoff in counted]
    return Survey(
        ends_table(ends, [pack for pack, *_ in counted], [attempt for _, attempt, *_ in counted]),
        frozenset(i for i in void if not state.packs[i].void),
        tuple(damage),
    )


def damaged_checkpoints(ledger: Ledger, packs: Iterable[str]) -> dict[str, str]:
    """Return those of the packs whose checkpoint can't be read, and what is wrong with it."""
    found = {}
    for pack_id in packs:
        saved = ledger.state.packs[pack_id].checkpoint
        if saved is not None and (message := parts.corrupt(ledger.files, saved)):
            found[pack_id] = message
    return found


def _end(files: Files, part: Part, tables: dict[str, pa.Table]) -> str | None:
    """Read a file of ends into `tables`; return what is wrong with it."""
    raw, message = parts.proven(files, part)
    if message is None:
        tables[part.path] = parts.table(raw, ENDED)
    return message


def _spread(state: State, void: set[str]) -> None:
    """Add to `void` what went on from a damaged pack, or shares a file with it."""
    before = 0
    while before < len(void):
        before = len(void)
        void |= {p.id for p in state.packs.values() if not void.isdisjoint(p.parents)}
        for part in state.compacted:
            if not void.isdisjoint(state.compacted_by[part.path]):
                void |= state.compacted_by[part.path]


def reached(
    ledger: Ledger, ids: pa.ChunkedArray, criteria: Sequence[Criterion], of: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return of which trials the stored metrics reach both thresholds of their criterion.

    None under a rule that takes whole curves: nothing stops by it.

    Args:
        ledger: The sweep's ledger.
        ids: The trials.
        criteria: What may be asked for.
        of: For each trial, which of `criteria` is.
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
    tables: list[pa.Table] = []
    n = 0
    for part, cutoff in ledger.state.parts():
        rows = parts.upto(parts.read(ledger.files, part), cutoff)
        tables.append(rows.select([c for c in rows.column_names if c in {"trial_id", *names}]))
        n += rows.num_rows
        if n >= BATCH:
            yield pa.concat_tables(tables, promote_options="default")
            tables, n = [], 0
    if tables:
        yield pa.concat_tables(tables, promote_options="default")
