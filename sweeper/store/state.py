"""The state of a sweep: the effect of the records of its ledger.

The root log concerns several packs; each pack has a chain of records of its own
(`sweeper.store.ledger`). The effects of the two commute: a void pack stays void whatever its chain
holds, and only packs whose chain is closed are compacted.

Records of the root log:
    drive    a process took the sweep over; only its records may follow in the root log
    launch   a driver began: the grid, its plan, the settings, the provenance
    packs    the trials of each pack, before they are trained
    void     packs that no longer count, e.g. because one of their files is damaged
    compact  many metrics parts were rewritten as few
    lost     stands in place of a damaged record, without an effect (`sweeper doctor --repair`)

Records of the chain of a pack (in stores of formats 1 and 2 also of the root log):
    claim    a worker took the pack: attempt number and the step it resumes from
    rows     metrics, ends and a checkpoint of one attempt, all at once
    split    the pack was replaced by smaller ones
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sweeper.store.records import Record

IN_CHAINS = ("claim", "rows", "split")
"""The kinds of records of the chain of a pack."""


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


Listed = list[tuple[int, "Part"]]
"""(Attempt number, file) of each file of a pack, in the order of the records."""


@dataclass(slots=True)
class PackState:
    """The state of one pack.

    Attributes:
        id: The pack.
        size: Number of its trials.
        path: The Parquet file that lists them.
        parents: The packs that it continues.
        half_of: The pack that was split into this one and others; empty for none.
        place: Sorts packs: after those that were listed before, and after the one it is a half of.
        halves: The packs that it was split into.
        attempts: In order.
        checkpoint: The last one: path, size, sha256, step, attempt.
        done: Whether every trial of the last attempt ended.
        failed: Number of failed trials.
        split_at: Step from which smaller packs replace it; None if it wasn't split.
        void: Whether none of its rows and ends count.
        early: Returns the files of `parts` and `ends` that a snapshot lists, when they are needed.
    """

    id: str
    size: int
    path: str
    parents: tuple[str, ...] = ()
    half_of: str = ""
    place: tuple[int, ...] = ()
    halves: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    checkpoint: Record | None = None
    done: bool = False
    failed: int = 0
    split_at: int | None = None
    void: bool = False
    early: Callable[[], tuple[Listed, Listed]] | None = None
    _parts: Listed = field(default_factory=list)
    _ends: Listed = field(default_factory=list)

    @property
    def parts(self) -> Listed:
        """(Attempt number, metrics part) of each part, in order."""
        self._load()
        return self._parts

    @property
    def ends(self) -> Listed:
        """(Attempt number, file of ends) of each file, in order."""
        self._load()
        return self._ends

    def _load(self) -> None:
        if self.early is not None:
            parts, ends = self.early()
            self._parts[:0], self._ends[:0] = parts, ends
            self.early = None

    @property
    def closed(self) -> bool:
        """Whether nothing follows in its chain."""
        return self.done or self.split_at is not None

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
    """The state of a sweep after some of its records.

    Attributes:
        launches: By id, in order.
        packs: By id.
        files: Path to checksum of the files that list packs.
        starts: Path to entry of the checkpoints that packs were planned to continue from.
        driver: Id of the process that took the sweep over last; None before the first.
        chained: Whether packs have chains: always in format 3, in stores of formats 1 and 2 from
            the first ``drive`` on. The programs that wrote those stores refuse this record.
        compacted: Parts that replaced others.
        compacted_packs: The packs whose rows are in these parts.
        compacted_by: Compacted file to the packs whose rows are in it.
        replaced: (Unix time, path) of each part that was replaced.
        voided: The packs that records voided.
        listed: Number of packs that the root log has listed.
    """

    launches: dict[str, Record] = field(default_factory=dict)
    packs: dict[str, PackState] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    starts: dict[str, Record] = field(default_factory=dict)
    driver: str | None = None
    chained: bool = False
    compacted: list[Part] = field(default_factory=list)
    compacted_packs: set[str] = field(default_factory=set)
    compacted_by: dict[str, set[str]] = field(default_factory=dict)
    replaced: list[tuple[float, str]] = field(default_factory=list)
    voided: set[str] = field(default_factory=set)
    listed: int = 0

    @property
    def launch(self) -> Record | None:
        """The latest launch."""
        return next(reversed(self.launches.values()), None)

    @property
    def ordered(self) -> list[PackState]:
        """The packs in the order in which they were planned, each before its halves."""
        return sorted(self.packs.values(), key=lambda pack: pack.place)

    def split_from(self, pack_id: str) -> tuple[str, ...]:
        """Return the packs that were split one after the other until `pack_id` came out."""
        before: tuple[str, ...] = ()
        while (pack_id := self.packs[pack_id].half_of) != "":
            before = (pack_id, *before)
        return before

    def checkpoints(self, paths: Iterable[str]) -> list[Record]:
        """Return the entries of those of the checkpoints `paths` that the records name."""
        wanted = set(paths)
        saved = [p.checkpoint for p in self.packs.values() if p.checkpoint] if wanted else []
        known = self.starts | {entry["path"]: entry for entry in saved}
        return [known[path] for path in sorted(wanted & known.keys())]

    def fold(self, record: Record) -> None:
        """Apply the next record of the root log.

        Raises:
            ValueError: The record is of an unknown kind, or has no place in the root log.
        """
        kind = record["kind"]
        if kind == "launch":
            self._launch(record)
        elif kind == "packs":
            self._list(record)
        elif kind == "void":
            self._void(record["pack_ids"])
        elif kind == "compact":
            self._compact(record)
        elif kind == "drive":
            self.driver = str(record["driver"])
            self.chained = True
        elif kind == "lost":
            pass
        elif kind in IN_CHAINS and not self.chained:
            self.fold_pack(self.packs[record["pack_id"]], record)
        else:
            raise ValueError(f"its kind {kind!r} is unknown")

    def fold_pack(self, pack: PackState, record: Record) -> None:
        """Apply the next record of the chain of `pack`.

        Raises:
            ValueError: The record is of an unknown kind.
        """
        kind = record["kind"]
        if kind == "claim":
            pack.attempts.append(Attempt(record["attempt"], record["resumed_at"], record))
            pack.done = False
        elif kind == "split":
            pack.split_at = record["split_at"]
            self._list(record, pack)
        elif kind == "rows":
            if record.get("part") and pack.id not in self.compacted_packs:
                pack.parts.append((record["attempt"], _part(record["part"])))
            if record.get("ends"):
                pack.ends.append((record["attempt"], _part(record["ends"])))
                pack.failed += record["ends"].get("failed", 0)
            if record.get("checkpoint"):
                pack.checkpoint = record["checkpoint"]
            pack.done = pack.done or bool(record.get("done"))
        else:
            raise ValueError(f"its kind {kind!r} is unknown")

    def _launch(self, record: Record) -> None:
        """Add a launch; the record of one that it is shown beside may be lost."""
        beside = record.get("beside", ())
        known = [i for i in beside if i in self.launches]
        if len(known) < len(beside):
            record = {**record, "beside": known}
        self.launches[record["launch_id"]] = record

    def _list(self, record: Record, parent: PackState | None = None) -> None:
        self.files[record["path"]] = record["sha256"]
        self.starts |= {entry["path"]: entry for entry in record.get("starts", ())}
        for number, listed in enumerate(record["packs"]):
            place = (self.listed,) if parent is None else (*parent.place, number)
            self.listed += parent is None
            pack = PackState(
                listed["id"], listed["size"], record["path"], tuple(listed.get("parents", ()))
            )
            pack.place = place
            self.packs[pack.id] = pack
            if parent is None:
                self.voided.discard(pack.id)  # in formats 1 and 2 a pack could be listed again
            else:
                pack.half_of, pack.void = parent.id, parent.void or pack.id in self.voided
                parent.halves.append(pack.id)

    def _void(self, pack_ids: Iterable[str]) -> None:
        gone = set(pack_ids)
        self.voided |= gone
        todo = [i for i in gone if i in self.packs]  # halves may not have been read yet
        while todo:
            pack = self.packs[todo.pop()]
            pack.void = True
            todo += pack.halves
        if gone & self.compacted_packs:  # all of a compacted file's packs are voided together
            self.compacted = [p for p in self.compacted if not gone & self.compacted_by[p.path]]
            self.compacted_packs -= gone

    def _compact(self, record: Record) -> None:
        removed = set(record["removed"])
        self.compacted = [p for p in self.compacted if p.path not in removed]
        self.replaced += [(record.get("at", 0.0), path) for path in record["removed"]]
        self.compacted += [_part(p) for p in record["added"]]
        for pack_id in record["pack_ids"]:
            if pack_id in self.packs:
                self.packs[pack_id].parts.clear()
        self.compacted_packs |= set(record["pack_ids"])
        self.compacted_by |= {p["path"]: set(record["pack_ids"]) for p in record["added"]}

    def parts(self) -> Iterator[tuple[Part, int | None]]:
        """Yield every metrics part that counts, with the last step that counts (None: all)."""
        for part in self.compacted:
            yield part, None
        for pack in self.ordered:
            yield from self.valid(pack)

    def ends(
        self, packs: Iterable[PackState] | None = None
    ) -> Iterator[tuple[str, int, Part, int | None]]:
        """Yield (pack, attempt, file, cutoff) of every file of ends that counts.

        Of all packs, or of some.
        """
        for pack in self.ordered if packs is None else packs:
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
