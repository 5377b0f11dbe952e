"""Repairs that can't do harm: they are made as the sweep's only driver, and delete no result.

A damaged record before whole ones is moved aside, and a record ``lost`` without effect takes its
number. Whatever depended on it is void: the next launch trains it again. Snapshots are deleted
first, because they may hold the effect of the lost record.
"""

from __future__ import annotations

import secrets
import time

from sweeper.config.messages import counted
from sweeper.doctor import reading
from sweeper.doctor.examine import Examination, examine
from sweeper.doctor.reading import Reading
from sweeper.errors import StoreError
from sweeper.store import records, snapshots
from sweeper.store.files import Files
from sweeper.store.lease import alone, driving
from sweeper.store.ledger import DAMAGED, Ledger, move_aside
from sweeper.store.scan import spread

ROUNDS = 10
"""The most times that packs are voided and the sweep is examined again."""


def repair(files: Files, name: str) -> tuple[list[str], Examination]:
    """Mend the sweep in `files`; return what was done, and its examination afterwards.

    Raises:
        BusyError: A launch of the sweep is running.
        StoreError: The store can't be read or written.
    """
    first = examine(files, name)
    if first.reading is None:
        return [], first
    done: list[str] = []
    with alone(files):
        again = reading.read(files)  # nobody drives it from here on
        done += _drop_snapshots(again)
        done += _replace_lost(again)
    if again.ledger.torn or first.void or done or (first.litter and first.litter.old):
        done += _drive(files, name)
    return done, examine(files, name)


def _drop_snapshots(read: Reading) -> list[str]:
    """Move damaged snapshots aside; delete all if they may hold the effect of lost records."""
    files = read.ledger.files
    moved = [_moved(files, path) for path in read.damaged_snapshots]
    if read.lost and read.snapshot is None:
        for path in files.paths(snapshots.FOLDER):
            files.delete(path)
    return moved


def _replace_lost(read: Reading) -> list[str]:
    """Put a record without effect in place of each lost one that no snapshot holds."""
    ledger = read.ledger
    files, done = ledger.files, []
    if read.snapshot is not None:
        return []
    for path, reason in read.lost.items():
        moved = _moved(files, path) if files.size(path) is not None else f"{path} was missing"
        record = {
            "kind": "lost",
            "at": time.time(),
            "why": reason,
            "sweep": ledger.uid,
            "nonce": secrets.token_hex(8),
        }
        content = records.encode(record, ledger.meta["format"])
        if records.put(files, path, content) is not None:
            raise StoreError(
                f"{files.location(path)}: another process has written it. Run it again."
            )
        done.append(f"{moved}; a record without effect takes its place")
    return done


def _moved(files: Files, path: str) -> str:
    """Move a file to the folder of damaged ones; return a sentence about it."""
    return f"{path} was moved to {move_aside(files, path)}"


def _drive(files: Files, name: str) -> list[str]:
    """Repair what only a driver may: the end of the root log, packs to void, old files."""
    ledger = Ledger.open(files)
    done = []
    with driving(ledger, f"doctor-{secrets.token_hex(4)}"):
        done += [f"{path} was moved to {DAMAGED}/" for path in ledger.moved]
        for _ in range(ROUNDS):
            now = examine(files, name)
            if not now.void:
                break
            ledger.refresh()
            packs = spread(ledger.state, now.void)
            why = [finding.line for finding in now.findings if finding.packs]
            ledger.append({"kind": "void", "pack_ids": sorted(packs), "why": why})
            done.append(f"{counted(len(packs), 'pack')} made void: the next launch trains them")
        old = now.litter.old if now.litter else ()
        for entry in old:
            files.delete(entry.path)
        if old:
            size = sum(entry.size for entry in old)
            done.append(f"{counted(len(old), 'file')} that no record needs deleted: {size} bytes")
    return done
