"""What a store holds that can be built on: how trials ended, and what is damaged.

Each file is read once, and its checksum proven on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from sweeper import parts
from sweeper.files import Files
from sweeper.ledger import Ledger, Part, State
from sweeper.worker import ends_table

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


def survey(ledger: Ledger, *, proven: bool = True) -> Survey:
    """Return what the files that the ledger lists hold.

    Args:
        ledger: The sweep's ledger.
        proven: Prove the checksums of the metrics, too; else their sizes.
    """
    state, files = ledger.state, ledger.files
    look = parts.corrupt if proven else parts.damaged
    alive = [pack for pack in state.packs.values() if not pack.void]
    listings = {pack.path for pack in alive}
    messages = {path: parts.corrupt(files, {"path": path, "sha256": sha})
                for path, sha in state.files.items() if path in listings}  # fmt: skip
    damage = [message for message in messages.values() if message]
    void: set[str] = set()
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
