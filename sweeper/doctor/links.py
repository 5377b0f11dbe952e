"""What records say of each other: launches, attempts, parents and compacted packs that exist."""

from __future__ import annotations

from collections.abc import Iterator

from sweeper.config.messages import counted
from sweeper.doctor.findings import REPAIR, Finding, some
from sweeper.store.ledger import Ledger
from sweeper.store.state import PackState

CHECK = "records"


def check(ledger: Ledger) -> Iterator[Finding]:
    """Yield packs whose records speak of others that don't exist, as after a lost record."""
    state = ledger.state
    packs: dict[str, list[str]] = {}
    for pack in state.packs.values():
        if not pack.void:
            for reason in _of_pack(ledger, pack):
                packs.setdefault(reason, []).append(pack.id)
    for reason, mine in packs.items():
        what = f"{counted(len(mine), 'pack')} {reason}: {some(mine)}."
        yield Finding("error", CHECK, ledger.files.uri, what, REPAIR, frozenset(mine))
    for part in state.compacted:
        owners = state.compacted_by[part.path]
        if strangers := sorted(i for i in owners if i not in state.packs):
            reason = f"rows of packs that no record lists: {some(strangers)}."
        elif unfinished := sorted(i for i in owners if not state.packs[i].done):
            reason = f"packs that aren't finished by their own records: {some(unfinished)}."
        else:
            continue
        yield Finding(
            "error",
            CHECK,
            ledger.files.location(part.path),
            f"compacted from {reason}",
            REPAIR,
            frozenset(owners),
        )


def _of_pack(ledger: Ledger, pack: PackState) -> Iterator[str]:
    state = ledger.state
    launches = {attempt.record["launch_id"] for attempt in pack.attempts}
    if lost := sorted(launches - state.launches.keys()):
        yield f"trained in a launch that no record names ({some(lost)})"
    if lost := sorted(set(pack.parents) - state.packs.keys()):
        yield f"going on from a pack that no record lists ({some(lost)})"
    numbers = [attempt.number for attempt in pack.attempts]
    if sorted(set(numbers)) != numbers:
        yield "with attempts that aren't in order"
    known = set(numbers)
    strangers = {n for n, _ in (*pack.parts, *pack.ends) if n not in known}
    if strangers:
        yield "with rows of an attempt that never began"
