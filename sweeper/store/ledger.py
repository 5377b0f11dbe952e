"""The ledger of a sweep, the single source of truth for readers: a root log and a chain per pack.

A record is one file, written by put-if-absent, and never changed, moved or deleted. A file that no
record names is ignored.

The root log (``log/<number>.json``) holds the records that concern several packs. Of two writers
that want the same number one wins, and the other reads the winner's record before it tries the
next number. So a writer that appends has read every record before its own. Only the process that
took the sweep over last (record ``drive``) launches, compacts and voids.

The chain of a pack (``chains/<pack>/<number>.json``, see `sweeper.store.chain`) holds the records
of its attempts. So a commit of one pack never waits for another pack.

Damaged records at the end of the root log count as absent if no whole one follows: a power cut
before they were acknowledged may leave them. The next launch moves them to ``damaged/``.

`sweeper.store.state` lists the records and their effects.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from sweeper.errors import BusyError, StoreError, SupersededError
from sweeper.store import chain, records, snapshots
from sweeper.store.chain import Chain
from sweeper.store.files import MARK, Files
from sweeper.store.records import Record
from sweeper.store.schema import FORMAT
from sweeper.store.state import State

DIGITS = 12
META = MARK
META_FIELDS = {"format": int, "name": str, "points_per_decade": int}
"""The fields that `META` must hold, and their types."""

DAMAGED = "damaged"
"""The folder of damaged records that were moved aside."""

SNAPSHOT_RECORDS = 1000
"""Number of new records from which on a snapshot is worth its cost."""

SNAPSHOT_S = 60.0
"""Seconds between two snapshots of a running launch."""

POLL_S = 0.5
"""Seconds between two reads of a ledger that is followed."""


class Ledger:
    """The records of one sweep and its folded state.

    Attributes:
        files: The sweep's folder.
        meta: What is fixed for the store: format, name, points_per_decade.
        state: The effect of all records that were read.
        number: The last record of the root log that was read; 0 before the first.
        chains: Pack to its chain, for the packs that were followed.
        torn: The damaged records at the end of the root log, which count as absent.
        moved: The damaged records that this process has moved aside.
        unsaved: Number of records that were read and are in no snapshot.
        driver: The id under which this process drives the sweep; None if it doesn't.
    """

    def __init__(self, files: Files, meta: Record) -> None:
        self.files = files
        self.meta = meta
        self.state = State(chained=meta["format"] >= 3)
        self.number = 0
        self.chains: dict[str, Chain] = {}
        self.torn: list[str] = []
        self.moved: list[str] = []
        self.unsaved = 0
        self.driver: str | None = None
        self._before: str | None = None
        self._taking = False
        self._last = b""

    @classmethod
    def open(cls, files: Files, *, chains: bool = True) -> Ledger:
        """Return the ledger in the folder `files`, read to its end.

        Args:
            files: The sweep's folder.
            chains: Whether to read the chains of all packs; a worker follows only its own.

        Raises:
            StoreError: No sweep is there, a newer program wrote it, or a record is damaged.
        """
        raw = files.read(META)
        if raw is None:
            raise StoreError(f"{files.uri}: no sweep. See `sweeper ls`.")
        meta = records.json_object(files.location(META), raw)
        if isinstance(meta.get("format"), int) and meta["format"] > FORMAT:
            raise StoreError(
                f"{files.location(META)}: format {meta['format']}, written by a newer sweeper. "
                f"This one reads up to {FORMAT}: upgrade it. Nothing was changed."
            )
        if not all(isinstance(meta.get(name), kind) for name, kind in META_FIELDS.items()):
            raise StoreError(
                f"{files.location(META)}: damaged: it must hold format, name and "
                "points_per_decade. Restore it from a backup; nothing was changed."
            )
        ledger = cls(files, meta)
        with snapshots.collecting_no_garbage():
            ledger._read(chains=chains)
        return ledger

    def _read(self, *, chains: bool) -> None:
        if (saved := snapshots.load(self.files, self.uid)) is not None:
            self.state, self.number, self.chains = saved
            self._last = self.files.read(record_path(self.number)) or b""
        self.refresh_root()
        self.check_no_gap()
        if chains:
            self.refresh()

    def is_current(self) -> bool:
        """Return whether the folder still holds this log, so that reading can continue.

        The folder may hold another sweep by now, or an older state of this one.
        """
        raw = self.files.read(META)
        return (
            raw is not None
            and records.json_object(self.files.location(META), raw) == self.meta
            and (self.number == 0 or self.files.read(record_path(self.number)) == self._last)
        )

    @classmethod
    def create(cls, files: Files, meta: Record) -> Ledger:
        """Return the ledger in `files`; create it with `meta` if there is none."""
        files.create(META, records.json_line({"format": FORMAT, **meta}))
        return cls.open(files)

    def check_no_gap(self) -> None:
        """Check that no record is missing.

        Raises:
            StoreError: A record is missing, since a later one or files of one exist.
        """
        missing = record_path(self.number + 1)
        later = list(filter(_RECORD.fullmatch, self.files.paths("log", after=missing)))
        if later and self.files.size(missing) is None:
            raise StoreError(
                f"{self.files.location(missing)}: missing, though {later[0]} is there. Restore it "
                "from a backup, or run `sweeper doctor`; nothing was changed."
            )
        if self.number == 0 and self.files.paths("metrics") and self.files.size(missing) is None:
            raise StoreError(
                f"{self.files.location('log')}: empty, though the sweep was launched. Restore it "
                "from a backup, or run `sweeper doctor`; nothing was changed."
            )

    def refresh(self) -> bool:
        """Read the new records of the root log and of all chains; return whether there were any.

        A row that was there while this ran is in the state afterwards: the root log is read again
        after the chains, for a pack may have been split or voided meanwhile.
        """
        changed = self.refresh_root()
        while self._follow_open():
            changed = True
            if not self.refresh_root():
                break
        return changed

    def _follow_open(self) -> bool:
        """Follow the chains of all open packs, and of the packs that they were split into."""
        packs = [pack.id for pack in self.state.packs.values() if pack.open]
        begun: set[str] | None = None
        changed = False
        while packs:
            if begun is None and any(i not in self.chains for i in packs):
                begun = chain.begun(self.files)
            changed |= self.follow(i for i in packs if i in self.chains or i in (begun or ()))
            packs = [half for i in packs for half in self.state.packs[i].halves]
        return changed

    def follow(self, packs: Iterable[str]) -> bool:
        """Read the new records of the chains of `packs`; return whether there were any."""
        changed = False
        for followed, record in chain.follow(self.files, [self._chain(i) for i in packs]):
            self._fold_pack(followed, record)
            changed = True
        return changed

    def _chain(self, pack_id: str) -> Chain:
        if pack_id not in self.chains:
            self.chains[pack_id] = Chain.first(self.uid, pack_id)
        return self.chains[pack_id]

    def _fold_pack(self, followed: Chain, record: Record) -> None:
        pack = self.state.packs[followed.pack_id]
        self.unsaved += 1
        with self._named(followed.path(followed.accepted)):
            self.state.fold_pack(pack, record)

    @property
    def records(self) -> int:
        """Number of records that were read and count, of the root log and of all chains."""
        return self.number + sum(followed.accepted for followed in self.chains.values())

    def save_snapshot(self) -> None:
        """Write a snapshot if many records are in none, so that the next reader is fast."""
        if self.unsaved >= SNAPSHOT_RECORDS:
            snapshots.save(self.files, self.uid, self.state, self.number, self.chains)
            self.unsaved = 0

    @property
    def skipped(self) -> list[str]:
        """The records at the ends of chains of open packs that don't continue these chains."""
        return [
            path
            for followed in self.chains.values()
            if self.state.packs[followed.pack_id].open
            for path in followed.skipped
            if path > followed.path(followed.accepted)
        ]

    def refresh_root(self) -> bool:
        """Read the new records of the root log; return whether there were any."""
        before = self.number
        self.torn = []
        while (raw := self.files.read(path := record_path(self.number + 1))) is not None:
            try:
                record = self.decoded(path, raw)
            except StoreError:
                self.torn = self._damaged_from(path)
                if not self.torn:
                    raise
                break
            if record.get("sweep", self.uid) == self.uid:  # else of a deleted sweep's driver
                with self._named(path):
                    self.state.fold(record)
            self._last = raw
            self.number += 1
            self.unsaved += 1
        return self.number > before

    def pass_over(self) -> None:
        """Count the next record of the root log as read, without an effect: it is lost."""
        self.number += 1

    @property
    def name(self) -> str:
        """The name of the sweep: that of its folder, also after a rename or a copy."""
        return self.files.uri.rpartition("/")[2]

    @property
    def uid(self) -> str:
        """The id of the sweep."""
        return str(self.meta.get("uid", self.meta["name"]))

    def decoded(self, path: str, raw: bytes) -> Record:
        """Return the record of the root log at `path` with the content `raw`.

        Raises:
            DamagedRecordError: It is damaged.
        """
        return records.decode(self.files.location(path), raw, self.meta["format"])

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        """Raise an error that was met in folding the record `path` as a `StoreError`."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise records.damage(self.files.location(path), reason) from None

    def _damaged_from(self, path: str) -> list[str]:
        """Return the records from `path` on if all of them are damaged, else nothing."""
        paths = [path, *filter(_RECORD.fullmatch, self.files.paths("log", after=path))]
        for later in paths[1:]:
            with suppress(StoreError):
                if (raw := self.files.read(later)) is not None:
                    self.decoded(later, raw)
                    return []
        return paths

    def repair(self) -> list[str]:
        """Move the damaged records at the end of the log aside; return their paths before.

        Only for the sweep's driver: nobody else may be writing.
        """
        self.refresh_root()
        moved = list(self.torn)
        for path in reversed(moved):
            move_aside(self.files, path)
        self.refresh_root()
        self.moved += moved
        return moved

    def append(self, record: Record, guard: Callable[[State], None] | None = None) -> None:
        """Append `record` to the root log once `guard` accepts the state it will follow.

        The written record has two more keys: ``nonce``, 16 random hexadecimal digits that identify
        a record that was written although the storage's answer was lost; and ``sweep``, the
        sweep's id.

        Args:
            record: The record, with its kind.
            guard: Raises if the record must not be written after all; called again whenever
                another writer was faster.

        Raises:
            BusyError: Another process took over the sweep that this one drove.
            StoreError: The store can't be written, or a record is damaged.
        """
        if self._taking:
            self._take_over()

        def driven(state: State) -> None:
            if self.driver not in (None, state.driver):
                raise BusyError(
                    f"{self.files.uri}: another process has taken this sweep over, and goes on."
                )
            if guard is not None:
                guard(state)

        self._append(record, driven)

    def _append(self, record: Record, guard: Callable[[State], None]) -> None:
        record = {**record, "sweep": self.uid, "nonce": secrets.token_hex(8)}
        content = records.encode(record, self.meta["format"])
        while True:
            self.refresh_root()
            if self.torn:
                raise StoreError(
                    f"{self.files.location(self.torn[0])}: damaged, and the last record. Launch "
                    f"the sweep again: that moves it to {DAMAGED}/."
                )
            guard(self.state)
            if records.put(self.files, record_path(self.number + 1), content) is None:
                self.state.fold(record)
                self._last = content
                self.number += 1
                return

    def take_over(self, before: str | None, *, at_once: bool) -> None:
        """Drive the sweep from now on: no other process may, before it takes the sweep over itself.

        Args:
            before: The driver that this process takes the sweep over from.
            at_once: Whether to append the record of it now. Without it, the first record that this
                process appends comes after it.

        Raises:
            BusyError: Yet another process has taken the sweep over already.
        """
        self.driver = secrets.token_hex(8)
        self._before = before
        self._taking = True
        if at_once:
            self._take_over()

    def _take_over(self) -> None:
        """Append the record by which this process takes the sweep over."""

        def guard(state: State) -> None:
            if state.driver != self._before:
                raise BusyError(
                    f"{self.files.uri}: another process has just begun to launch this sweep. Wait "
                    "for it, or stop it with `sweeper stop`."
                )

        about = {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time()}
        self._append({"kind": "drive", "driver": self.driver, **about}, guard)
        self._taking = False

    def append_to(self, pack_id: str, record: Record) -> None:
        """Append `record` to the chain of a pack, which was followed to its end.

        Raises:
            SupersededError: The pack has no work left, or another attempt took it.
            StoreError: The store can't be written.
        """
        if not self.state.packs[pack_id].open:
            raise SupersededError(pack_id)
        followed = self._chain(pack_id)
        record = {**record, "pack_id": pack_id, "nonce": secrets.token_hex(8)}
        other = followed.append(self.files, record)
        self._fold_pack(followed, record if other is None else other)
        if other is not None:
            raise SupersededError(pack_id)


def move_aside(files: Files, path: str) -> str:
    """Move a damaged file to the folder of damaged ones; return its path there."""
    name = path.rpartition("/")[2]
    aside = f"{DAMAGED}/{name}"
    while not files.create(aside, files.read(path) or b""):  # one of that name was moved before
        aside = f"{DAMAGED}/{secrets.token_hex(4)}-{name}"
    files.delete(path)
    return aside


def first_record() -> str:
    """Return the path of the first record of every log."""
    return record_path(1)


def root_records(files: Files) -> dict[int, str]:
    """Return number to path of the records of the root log that exist, whole or not, ascending."""
    paths = filter(_RECORD.fullmatch, files.paths("log"))
    return {int(path.rpartition("/")[2].partition(".")[0]): path for path in paths}


_RECORD = re.compile(rf"log/\d{{{DIGITS}}}\.json")  # other programs may leave files there


def record_path(number: int) -> str:
    """Return the path of a record of the root log."""
    return f"log/{number:0{DIGITS}d}.json"
