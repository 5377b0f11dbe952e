"""The ledger of a sweep: a numbered, append-only log, the single source of truth for readers.

A record is one file ``log/<number>.json``, written by put-if-absent. Of two writers that want the
same number one wins, and the other reads the winner's record before it tries the next number. So a
writer that appends has read every record before its own; this keeps out a worker that lost its
pack but still runs. A file that no record names is ignored.

Damaged records at the end of the log count as absent if no whole one follows: a power cut before
they were acknowledged may leave them. The next launch moves them to ``damaged/``.

Records:
    launch   a driver began: the grid, its plan, the settings, the provenance
    packs    the trials of each pack, before they are trained
    claim    a worker took a pack: attempt number and the step it resumes from
    rows     metrics, ends and a checkpoint of one attempt, all at once
    split    a pack was replaced by smaller ones
    void     packs that no longer count, e.g. because one of their files is damaged
    compact  many metrics parts were rewritten as few
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sweeper.errors import StoreError
from sweeper.store import records
from sweeper.store.files import MARK, Files
from sweeper.store.schema import FORMAT

Record = records.Record

DIGITS = 12
META = MARK
DAMAGED = "damaged"
"""The folder of damaged records that were moved aside."""

POLL_S = 0.5
"""Seconds between two reads of a ledger that is followed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A Parquet file of metrics.

    Attributes:
        path: Below the sweep's folder.
        size: In bytes.
        sha256: Of the whole file.
        rows: Number of rows.
        min_step: Smallest step of its rows.
        max_step: Largest step of its rows.
        columns: Metrics beyond the common ones.
    """

    path: str
    size: int
    sha256: str
    rows: int
    min_step: int
    max_step: int
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A worker's claim on a pack.

    Attributes:
        number: From 1, in the order of the claims.
        resumed_at: Step of the checkpoint it starts from; -1 from the beginning. Rows of
            earlier attempts after this step no longer count.
        record: The whole claim.
    """

    number: int
    resumed_at: int
    record: Record


@dataclass(slots=True)
class PackState:
    """The state of one pack.

    Attributes:
        id: The pack.
        size: Number of its trials.
        path: The Parquet file that lists them.
        attempts: In order.
        parts: (attempt number, metrics part).
        ends: (attempt number, file of ends, with the same fields as a part).
        checkpoint: The last one: path, size, sha256, step, attempt.
        done: Whether every trial of the last attempt ended.
        failed: Number of failed trials.
        split_at: Step from which smaller packs replace it; None if it wasn't split.
        void: Whether none of its rows and ends count.
    """

    id: str
    size: int
    path: str
    parents: tuple[str, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)
    parts: list[tuple[int, Part]] = field(default_factory=list)
    ends: list[tuple[int, Part]] = field(default_factory=list)
    checkpoint: Record | None = None
    done: bool = False
    failed: int = 0
    split_at: int | None = None
    void: bool = False

    @property
    def attempt(self) -> int:
        """Number of the last attempt; 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0

    @property
    def open(self) -> bool:
        """Whether it still has work."""
        return not (self.done or self.void or self.split_at is not None)

    @property
    def last_step(self) -> int:
        """The last step that its last attempt committed or resumed at; -1 before the first."""
        if not self.attempts:
            return -1
        last = self.attempts[-1]
        if self.parts and self.parts[-1][0] == last.number:
            return self.parts[-1][1].max_step
        return last.resumed_at

    def cutoff(self, attempt: int) -> int | None:
        """Return the last step up to which rows of `attempt` count; None for all."""
        later = [a.resumed_at for a in self.attempts if a.number > attempt]
        if self.split_at is not None:
            later.append(self.split_at)
        return min(later, default=None)


@dataclass(slots=True)
class State:
    """The state of a sweep after its records, in order.

    Attributes:
        launches: By id, in order.
        packs: By id, in order.
        files: Path to checksum of the files that list packs.
        compacted: Parts that replaced others.
        compacted_packs: The packs whose rows are in these parts.
        compacted_by: Compacted file to the packs whose rows are in it.
        replaced: (Unix time, path) of each part that was replaced.
    """

    launches: dict[str, Record] = field(default_factory=dict)
    packs: dict[str, PackState] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    compacted: list[Part] = field(default_factory=list)
    compacted_packs: set[str] = field(default_factory=set)
    compacted_by: dict[str, set[str]] = field(default_factory=dict)
    replaced: list[tuple[float, str]] = field(default_factory=list)

    @property
    def launch(self) -> Record | None:
        """The latest launch."""
        return next(reversed(self.launches.values()), None)

    def fold(self, record: Record) -> None:
        """Apply the next record."""
        kind = record["kind"]
        if kind == "launch":
            self.launches[record["launch_id"]] = record
        elif kind == "packs":
            self._list(record)
        elif kind == "void":
            self._void(record)
        elif kind == "compact":
            self._compact(record)
        elif kind in ("claim", "rows", "split"):
            self._fold_pack(self.packs[record["pack_id"]], kind, record)
        else:
            raise ValueError(f"its kind {kind!r} is unknown")

    def _fold_pack(self, pack: PackState, kind: str, record: Record) -> None:
        if kind == "claim":
            pack.attempts.append(Attempt(record["attempt"], record["resumed_at"], record))
            pack.done = False
        elif kind == "split":
            pack.split_at = record["split_at"]
            self._list(record)
        elif kind == "rows":
            for name, kept in (("part", pack.parts), ("ends", pack.ends)):
                if record.get(name):
                    kept.append((record["attempt"], _part(record[name])))
            pack.failed += (record.get("ends") or {}).get("failed", 0)
            if record.get("checkpoint"):
                pack.checkpoint = record["checkpoint"]
            pack.done = pack.done or bool(record.get("done"))

    def _list(self, record: Record) -> None:
        self.files[record["path"]] = record["sha256"]
        for pack in record["packs"]:
            parents = tuple(pack.get("parents", ()))
            self.packs[pack["id"]] = PackState(pack["id"], pack["size"], record["path"], parents)

    def _void(self, record: Record) -> None:
        gone = set(record["pack_ids"])
        for pack_id in gone:
            self.packs[pack_id].void = True
        if gone & self.compacted_packs:  # all of a compacted file's packs are voided together
            self.compacted = [p for p in self.compacted if not gone & self.compacted_by[p.path]]
            self.compacted_packs -= gone

    def _compact(self, record: Record) -> None:
        removed = set(record["removed"])
        self.compacted = [p for p in self.compacted if p.path not in removed]
        self.replaced += [(record.get("at", 0.0), path) for path in record["removed"]]
        self.compacted += [_part(p) for p in record["added"]]
        for pack_id in record["pack_ids"]:
            self.packs[pack_id].parts.clear()
        self.compacted_packs |= set(record["pack_ids"])
        self.compacted_by |= {p["path"]: set(record["pack_ids"]) for p in record["added"]}

    def parts(self) -> Iterator[tuple[Part, int | None]]:
        """Yield every metrics part that counts, with the last step that counts (None: all)."""
        for part in self.compacted:
            yield part, None
        for pack in self.packs.values():
            yield from self.valid(pack)

    def ends(
        self, packs: Iterable[PackState] | None = None
    ) -> Iterator[tuple[str, int, Part, int | None]]:
        """Yield (pack, attempt, file, cutoff) of every file of ends that counts.

        Of all packs, or of some.
        """
        for pack in self.packs.values() if packs is None else packs:
            for attempt, part in pack.ends:
                cutoff = pack.cutoff(attempt)
                if not pack.void and (cutoff is None or part.min_step <= cutoff):
                    yield pack.id, attempt, part, cutoff

    @staticmethod
    def valid(pack: PackState) -> Iterator[tuple[Part, int | None]]:
        """Yield the parts of `pack` that count, as `parts` does."""
        if pack.void:
            return
        for attempt, part in pack.parts:
            cutoff = pack.cutoff(attempt)
            if cutoff is None or part.max_step <= cutoff:
                yield part, None
            elif part.min_step <= cutoff:
                yield part, cutoff


def _part(record: Record) -> Part:
    fields = {k: record[k] for k in ("path", "size", "sha256", "rows", "min_step", "max_step")}
    return Part(**fields, columns=tuple(record.get("columns", ())))


class Ledger:
    """The log of one sweep and its folded state.

    Attributes:
        files: The sweep's folder.
        meta: What is fixed for the store: format, name, points_per_decade.
        state: Everything up to record `number`.
        number: The last record read; 0 before the first.
        torn: The damaged records behind it, which count as absent.
    """

    def __init__(self, files: Files, meta: Record) -> None:
        self.files = files
        self.meta = meta
        self.state = State()
        self.number = 0
        self.torn: list[str] = []
        self._last = b""

    @classmethod
    def open(cls, files: Files) -> Ledger:
        """Return the ledger in the folder `files`, read to its end.

        Raises:
            StoreError: No sweep is there, a newer program wrote it, or a record is damaged.
        """
        raw = files.read(META)
        if raw is None:
            raise StoreError(f"{files.uri}: no sweep. See `sweeper ls`.")
        meta = records.json_object(files.location(META), raw)
        if meta.get("format", 0) > FORMAT:
            raise StoreError(
                f"{files.location(META)}: format {meta['format']}, written by a newer sweeper. "
                f"This one reads up to {FORMAT}: upgrade it. Nothing was changed."
            )
        if not {"format", "name", "points_per_decade"} <= meta.keys():
            raise StoreError(
                f"{files.location(META)}: damaged: it must hold format, name and "
                "points_per_decade. Restore it from a backup; nothing was changed."
            )
        ledger = cls(files, meta)
        ledger.refresh()
        ledger.check_no_gap()
        return ledger

    def is_current(self) -> bool:
        """Return whether the folder still holds this log, so that reading can continue.

        The folder may hold another sweep by now, or an older state of this one.
        """
        raw = self.files.read(META)
        return (
            raw is not None
            and records.json_object(self.files.location(META), raw) == self.meta
            and (self.number == 0 or self.files.read(_path(self.number)) == self._last)
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
        missing = _path(self.number + 1)
        later = list(filter(_RECORD.fullmatch, self.files.paths("log", after=missing)))
        if later and self.files.size(missing) is None:
            raise StoreError(
                f"{self.files.location(missing)}: missing, though {later[0]} is there. Restore it "
                "from a backup; nothing was changed."
            )
        if self.number == 0 and self.files.paths("metrics") and self.files.size(missing) is None:
            raise StoreError(
                f"{self.files.location('log')}: empty, though the sweep was launched. Restore it "
                "from a backup; nothing was changed."
            )

    def refresh(self) -> bool:
        """Read the new records; return whether there were any."""
        before = self.number
        self.torn = []
        while (raw := self.files.read(path := _path(self.number + 1))) is not None:
            try:
                record = self._decoded(path, raw)
            except StoreError:
                self.torn = self._damaged_from(path)
                if not self.torn:
                    raise
                break
            self._fold(path, record)
            self._last = raw
            self.number += 1
        return self.number > before

    def _decoded(self, path: str, raw: bytes) -> Record:
        return records.decode(self.files.location(path), raw, self.meta["format"])

    def _fold(self, path: str, record: Record) -> None:
        try:
            self.state.fold(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise records.damage(self.files.location(path), reason) from None

    def _damaged_from(self, path: str) -> list[str]:
        """Return the records from `path` on if all of them are damaged, else nothing."""
        paths = [path, *filter(_RECORD.fullmatch, self.files.paths("log", after=path))]
        for later in paths[1:]:
            with suppress(StoreError):
                if (raw := self.files.read(later)) is not None:
                    self._decoded(later, raw)
                    return []
        return paths

    def repair(self) -> list[str]:
        """Move the damaged records at the end of the log aside; return their paths before.

        Only for the sweep's driver: nobody else may be writing.
        """
        moved = list(self.torn)
        for path in reversed(moved):
            self.files.write(path.replace("log/", f"{DAMAGED}/", 1), self.files.read(path) or b"")
            self.files.delete(path)
        self.refresh()
        return moved

    def append(self, record: Record, guard: Callable[[State], None] | None = None) -> None:
        """Append `record` once `guard` accepts the state it will follow.

        The written record has one more key, ``nonce``: 16 random hexadecimal digits. They identify
        a record that was written although the storage's answer was lost.

        Args:
            record: The record, with its kind.
            guard: Raises if the record must not be written after all; called again whenever
                another writer was faster.

        Raises:
            StoreError: The store can't be written, or a record is damaged.
        """
        record = {**record, "nonce": secrets.token_hex(8)}
        content = records.encode(record, self.meta["format"])
        while True:
            self.refresh()
            if self.torn:
                raise StoreError(
                    f"{self.files.location(self.torn[0])}: damaged, and the last record. Launch "
                    f"the sweep again: that moves it to {DAMAGED}/."
                )
            if guard is not None:
                guard(self.state)
            if self._write(_path(self.number + 1), content):
                self.state.fold(record)
                self._last = content
                self.number += 1
                return

    def _write(self, path: str, content: bytes) -> bool:
        """Create `path`, and return whether it has our `content` afterwards.

        If the answer to a write is lost, the storage's client reports an error. If the client
        sends the request again, it reports that the file exists. The file's content decides.
        """
        try:
            return self.files.create(path, content) or self.files.read(path) == content
        except StoreError as error:
            with suppress(StoreError):
                if self.files.read(path) == content:
                    return True
            raise error


def first_record() -> str:
    """Return the path of the first record of every log."""
    return _path(1)


_RECORD = re.compile(rf"log/\d{{{DIGITS}}}\.json")  # other programs may leave files there


def _path(number: int) -> str:
    return f"log/{number:0{DIGITS}d}.json"
