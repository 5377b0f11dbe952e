"""All records of a sweep, read from the first one on, past those that are damaged.

Other readers begin at a snapshot and refuse a root log with a damaged record in its middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.config.messages import counted
from sweeper.doctor.findings import REPAIR, Finding, some
from sweeper.errors import DamagedRecordError, StoreError
from sweeper.store import chain, records, snapshots
from sweeper.store.chain import Chain
from sweeper.store.files import Files
from sweeper.store.ledger import DAMAGED, META, META_FIELDS, Ledger, record_path, root_records
from sweeper.store.records import Record
from sweeper.store.schema import FORMAT
from sweeper.store.state import PackState

ROUNDS = 5
"""Times that a snapshot and the records are read on, until both end at the same record."""


@dataclass(slots=True)
class Reading:
    """All records of a sweep.

    Attributes:
        ledger: The ledger, folded from the first record on, without the records that are lost; or
            from `snapshot` on.
        lost: Path to reason of each record of the root log that has no effect though later ones
            have one.
        replaced: The records that stand in place of lost ones since an earlier repair.
        snapshot: The last whole snapshot, if it holds the effect of all lost records.
        damaged_snapshots: Snapshots that are damaged, or differ from the records.
        findings: What is wrong.
    """

    ledger: Ledger
    lost: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    snapshot: str | None = None
    damaged_snapshots: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read(files: Files) -> Reading:
    """Read all records of the sweep in `files`.

    Raises:
        StoreError: Its ``sweep.json`` is missing or damaged, or the store can't be read.
    """
    reading = Reading(Ledger(files, _meta(files)))
    _read_root(reading)
    _read_chains(reading)
    _check_snapshots(reading)
    if reading.snapshot is not None:  # then all readers see the sweep through it
        reading.ledger = Ledger.open(files)
        _read_chains(reading)
    reading.findings += _root_findings(reading)
    reading.findings += _chain_findings(reading.ledger)
    return reading


def _meta(files: Files) -> Record:
    raw = files.read(META)
    where = files.location(META)
    if raw is None:
        raise StoreError(f"{where}: missing. Restore it from a backup.")
    meta = records.json_object(where, raw)
    wrong = [name for name, kind in META_FIELDS.items() if not isinstance(meta.get(name), kind)]
    if wrong:
        raise StoreError(
            f"{where}: damaged: {', '.join(wrong)} must be given. Restore it from a backup."
        )
    if meta["format"] > FORMAT:
        raise StoreError(
            f"{where}: format {meta['format']}, written by a newer sweeper. This one reads up to "
            f"{FORMAT}: upgrade it."
        )
    return meta


def _read_root(reading: Reading) -> None:
    """Read the root log to its end, past records that are missing or can't be read or applied."""
    ledger = reading.ledger
    present = root_records(ledger.files)
    last = max(present, default=0)
    if not present and ledger.files.paths("metrics"):
        reading.lost[record_path(1)] = "missing, as are all others"
    while True:
        path = record_path(ledger.number + 1)
        try:
            ledger.refresh_root()
        except DamagedRecordError as error:
            path = record_path(ledger.number + 1)
            reason = str(error).removeprefix(f"{ledger.files.location(path)}: damaged: ")
            reading.lost[path] = f"damaged: {reason.partition('. Restore')[0]}"
        else:
            if ledger.torn or ledger.number >= last:
                return
            reading.lost[record_path(ledger.number + 1)] = "missing"
        ledger.pass_over()


def _read_chains(reading: Reading) -> None:
    """Read the chains of all packs, those of void ones last: their effect is nil."""
    ledger = reading.ledger
    packs = ledger.state.packs
    while True:
        try:
            ledger.refresh()
            todo = [pack.id for pack in packs.values() if pack.void]
            while todo := [i for i in todo if i not in ledger.chains]:
                ledger.follow(todo)
                todo = [half for i in todo for half in packs[i].halves]
        except DamagedRecordError as error:
            text = str(error).partition(". Restore")[0]
            place, _, message = text.partition(": ")
            reading.findings.append(
                Finding(
                    "error",
                    "chains",
                    place,
                    f"{message}.",
                    "A newer sweeper may have written it: upgrade this one.",
                )
            )
        else:
            return


def _check_snapshots(reading: Reading) -> None:
    """Compare each snapshot, read on to the end, with the state of all records."""
    ledger = reading.ledger
    files = ledger.files
    for path in reversed(files.paths(snapshots.FOLDER)):
        saved = snapshots.read(files, ledger.uid, path)
        where = files.location(path)
        if saved is None:
            if files.size(path) is not None:  # else a newer one has replaced it meanwhile
                reading.damaged_snapshots.append(path)
                reading.findings.append(
                    Finding("warning", "snapshots", where, "damaged; readers pass it over.")
                )
            continue
        for number in range(ledger.number + 1, saved[1] + 1):
            reading.lost[record_path(number)] = "missing"
        if reading.lost:
            if reading.snapshot is None and all(_number(one) <= saved[1] for one in reading.lost):
                reading.snapshot = path
            continue
        other = Ledger(files, ledger.meta)
        other.state, other.number, other.chains = saved
        if (where_not := _difference(other, ledger)) is not None:
            reading.damaged_snapshots.append(path)
            reading.findings.append(
                Finding(
                    "error",
                    "snapshots",
                    where,
                    f"differs from the records that it stands for: {where_not}.",
                    REPAIR,
                )
            )


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])


def _difference(one: Ledger, other: Ledger) -> str | None:
    """Return the place where the states of two ledgers differ; None if they are equal."""
    for _ in range(ROUNDS):
        one.refresh()
        other.refresh()
        if one.number == other.number and _heads(one) == _heads(other):
            break
    mine, theirs = _comparable(one), _comparable(other)
    return next((name for name in theirs if mine.get(name) != theirs[name]), None)


def _heads(ledger: Ledger) -> dict[str, int]:
    packs = ledger.state.packs
    return {
        i: followed.accepted
        for i, followed in ledger.chains.items()
        if followed.accepted and i in packs and not packs[i].void
    }


def _comparable(ledger: Ledger) -> dict[str, Any]:
    """Return the state by name: of void packs only that they are void."""
    state = ledger.state
    return {
        "launches": state.launches,
        "driver": state.driver,
        "compacted files": state.compacted,
        "compacted packs": state.compacted_packs,
        "replaced files": state.replaced,
        "void packs": state.voided,
        **{f"pack {pack.id}": _of_pack(pack) for pack in state.packs.values() if not pack.void},
    }


def _of_pack(pack: PackState) -> dict[str, Any]:
    same = ("size", "path", "parents", "half_of", "place", "halves", "checkpoint", "done")
    return {
        **{name: getattr(pack, name) for name in (*same, "failed", "split_at", "void")},
        "attempts": [(one.number, one.resumed_at, one.record) for one in pack.attempts],
        "parts": pack.parts,
        "ends": pack.ends,
    }


def _root_findings(reading: Reading) -> Iterator[Finding]:
    ledger = reading.ledger
    files = ledger.files
    for path, reason in reading.lost.items():
        if reading.snapshot is not None:
            yield Finding(
                "warning",
                "root log",
                files.location(path),
                f"{reason}. {reading.snapshot} holds its effect: nothing is lost as long as that "
                "file is there.",
                "Copy the sweep to a safe place.",
            )
        else:
            yield Finding(
                "error",
                "root log",
                files.location(path),
                f"{reason}, though later records follow.",
                "Restore it from a backup, or give up the packs that it speaks of: `sweeper doctor "
                "NAME --repair`.",
            )
    for path in ledger.torn:
        yield Finding(
            "error",
            "root log",
            files.location(path),
            "damaged, and no whole record follows. It counts as absent.",
            f"The next launch moves it to {DAMAGED}/.",
        )
    for number, path in root_records(files).items():
        if number <= ledger.number and path not in reading.lost:
            record = _root_record(ledger, path)
            if record["kind"] == "lost":
                reading.replaced.append(path)
                message = f"in place of a lost record ({record['why']})."
                yield Finding("note", "root log", files.location(path), message)
            if record.get("sweep", ledger.uid) != ledger.uid:
                yield Finding(
                    "note",
                    "root log",
                    files.location(path),
                    "written for a deleted sweep of this name. It has no effect.",
                )


def _root_record(ledger: Ledger, path: str) -> Mapping[str, Any]:
    return ledger.decoded(path, ledger.files.read(path) or b"")


_OF_CHAIN = re.compile(rf"{chain.FOLDER}/([^/]+)/(\d{{{chain.DIGITS}}})\.json")


def _chain_findings(ledger: Ledger) -> Iterator[Finding]:
    """Yield records of chains that have no effect: damaged, foreign, behind a gap, of no pack."""
    files, packs = ledger.files, ledger.state.packs
    orphans: set[str] = set()
    behind: dict[str, str] = {}
    for path in files.paths(chain.FOLDER):
        if (match := _OF_CHAIN.fullmatch(path)) is None:
            continue
        pack_id, number = match[1], int(match[2])
        if pack_id not in packs:
            orphans.add(pack_id)
        elif pack_id in ledger.chains and number > ledger.chains[pack_id].number:
            behind.setdefault(pack_id, path)
    for pack_id, path in behind.items():
        followed = ledger.chains[pack_id]
        followed_again = files.size(followed.path(followed.number + 1)) is not None
        if not followed_again:  # else it grew meanwhile
            yield Finding(
                "note" if packs[pack_id].void else "warning",
                "chains",
                files.location(followed.path(followed.number + 1)),
                f"missing, though {path} follows. Later records don't count.",
                "" if packs[pack_id].void else "The next launch continues the pack from before.",
            )
    for followed in ledger.chains.values():
        yield from _skipped(ledger, followed)
    if orphans:
        ledger.refresh()  # a launch may have listed them meanwhile
        orphans -= packs.keys() | ledger.state.voided
    if orphans:
        yield Finding(
            "warning",
            "chains",
            files.location(chain.FOLDER),
            f"records of {counted(len(orphans), 'pack')} that no record lists: "
            f"{some(sorted(orphans))}. They don't count.",
            REPAIR,
            frozenset(orphans),
        )


def _skipped(ledger: Ledger, followed: Chain) -> Iterator[Finding]:
    pack = ledger.state.packs[followed.pack_id]
    for path in followed.skipped:
        raw = ledger.files.read(path) or b""
        try:
            records.decode(path, raw, chain.VERSION)
        except DamagedRecordError:
            message = f"damaged: {len(raw)} bytes that don't match their checksum. It counts as "
            message += "absent."
        else:
            message = "of another attempt, or follows a damaged record. It doesn't count."
        lost = pack.open and path > followed.path(followed.accepted)
        yield Finding(
            "warning" if lost else "note",
            "chains",
            ledger.files.location(path),
            message,
            "The next launch continues the pack from the records before." if lost else "",
        )
