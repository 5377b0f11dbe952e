"""The chain of a pack: the records of its attempts, numbered from 1.

A chain belongs to the attempt that claimed it last. The owner appends with one put-if-absent and
reads nothing; everybody else can only claim. If another record already has the next number, the
owner has lost the pack, or reads back its own record: the answer to an earlier put was lost.

Each record names the SHA-256 of the record before it, the first one the sweep and the pack. Records
that don't follow the last one that was accepted are skipped: a record that a power cut tore, one
that was damaged later, or one that a worker wrote for a deleted sweep of the same name. So every
reader accepts the same records, and no record is ever deleted or moved. After a damaged record the
chain goes on from the last whole one, as after the death of a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

from sweeper.errors import StoreError
from sweeper.store import records
from sweeper.store.files import Files
from sweeper.store.records import Record

FOLDER = "chains"
DIGITS = 9

MOST_AHEAD = 64
"""The most records of a long chain that are asked for at once."""

VERSION = 2
"""Format of the records: a line of JSON and its SHA-256."""


@dataclass(slots=True)
class Chain:
    """What was read of a chain.

    Attributes:
        pack_id: The pack.
        head: SHA-256 of the last accepted record; before the first, of the sweep and the pack.
        accepted: Number of the last accepted record; 0 before the first.
        number: Number of the last record that was looked at, accepted or skipped.
        skipped: Paths of the records that don't belong to the chain.
    """

    pack_id: str
    head: str
    accepted: int = 0
    number: int = 0
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def first(cls, sweep: str, pack_id: str) -> Chain:
        """Return the chain of a pack before its first record; `sweep` is the sweep's id."""
        return cls(pack_id, _digest(f"{sweep}/{pack_id}".encode()))

    def path(self, number: int) -> str:
        """Return the path of a record."""
        return f"{FOLDER}/{self.pack_id}/{number:0{DIGITS}d}.json"

    def accept(self, files: Files, raw: bytes) -> Record | None:
        """Take the next record, `raw`; return it, or None if it doesn't belong to the chain.

        A record that seems damaged is read once more, in case the damage is one of the transfer.
        """
        self.number += 1
        path = self.path(self.number)
        record = self._following(raw)
        if record is None:
            raw = files.read(path) or b""
            record = self._following(raw)
        if record is None:
            self.skipped.append(path)
            return None
        self.head = _digest(raw)
        self.accepted = self.number
        return record

    def _following(self, raw: bytes) -> Record | None:
        with suppress(StoreError):
            record = records.decode("", raw, VERSION)
            if record.get("prev") == self.head:
                return record
        return None

    def append(self, files: Files, record: Record) -> Record | None:
        """Append `record`, or return the record by which another attempt took the chain.

        Args:
            files: The sweep's folder.
            record: The record, with its kind and a nonce that tells it from all others.

        Raises:
            StoreError: The store can't be written.
        """
        content = records.encode({**record, "prev": self.head}, VERSION)
        while (there := records.put(files, self.path(self.number + 1), content)) is not None:
            if (other := self.accept(files, there)) is not None:
                return other
        self.number += 1
        self.accepted = self.number
        self.head = _digest(content)
        return None


def follow(files: Files, chains: Iterable[Chain]) -> Iterator[tuple[Chain, Record]]:
    """Yield the new records of `chains`, those of one chain in their order.

    On object storage many records are read at once, and of a long chain more and more.
    """
    waiting = list(chains)
    ahead = 1
    while waiting:
        asked = [(c, c.number + k) for c in waiting for k in range(1, ahead + 1)]
        raws = files.read_many([chain.path(number) for chain, number in asked])
        longer: dict[int, Chain] = {}
        for (chain, number), raw in zip(asked, raws, strict=True):
            if raw is None or number != chain.number + 1:
                longer.pop(id(chain), None)
                continue
            record = chain.accept(files, raw)
            longer[id(chain)] = chain
            if record is not None:
                yield chain, record
        waiting = list(longer.values())
        ahead = min(2 * ahead, MOST_AHEAD)


def begun(files: Files) -> set[str]:
    """Return the packs that have a chain."""
    return set(files.folders(FOLDER))


def _digest(raw: bytes) -> str:
    return sha256(raw).hexdigest()
