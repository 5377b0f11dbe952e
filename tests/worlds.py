"""The states of the model of the ledger's protocol (`tests.protocol`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

Id = int
"""Number of an interned record. A record contains the id of the one before it, so an id stands for
a whole history, as a chain of hashes does."""

ROTTEN = -1
TRIALS = {"P": "ab", "V": "ab", "P0": "a", "P1": "b", "Q": "c"}
HALVES = {"P": ("P0", "P1")}


class BrokenError(Exception):
    """A condition doesn't hold."""


@dataclass(frozen=True)
class Rec:
    """A record of a chain; `step` is that of the rows, or the one that a claim resumes at."""

    pack: str
    prev: Id
    owner: tuple[int, int]
    kind: str
    attempt: int
    step: int
    flag: str = ""


@dataclass(frozen=True)
class Worker:
    """A worker: what it does next, and what it has read of the chain of its pack."""

    does: str = "idle"
    pack: str = ""
    number: int = 0
    head: Id = 0
    attempt: int = 0
    after: int = 0
    put: Id = 0
    life: int = 0


@dataclass(frozen=True)
class Reader:
    """A reader: the root records that it read, the heads of chains, and the rows to expect."""

    does: str = "idle"
    root: int = 0
    heads: tuple[tuple[str, int, Id], ...] = ()
    must: frozenset[tuple[str, int]] = frozenset()
    may: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True)
class World:
    """Everything that decides what can happen next."""

    live: frozenset[tuple[str, int, Id]] = frozenset()
    root: tuple[tuple[str, ...], ...] = (("packs", "P"),)
    snapshot: tuple[int, tuple[tuple[str, int, Id], ...]] = (0, ())
    workers: tuple[Worker, ...] = ()
    reader: Reader = Reader()
    late: frozenset[tuple[str, int, Id]] = frozenset()
    faults: tuple[tuple[str, int], ...] = ()
    acknowledged: frozenset[Id] = frozenset()
    rotted: bool = False


def spend(world: World, fault: str) -> World | None:
    """Return the world with one fault of this kind less to come; None if there is none left."""
    left = dict(world.faults)
    if left.get(fault, 0) < 1:
        return None
    left[fault] -= 1
    return replace(world, faults=tuple(sorted(left.items())))


def turn(world: World, i: int, worker: Worker) -> World:
    return replace(world, workers=(*world.workers[:i], worker, *world.workers[i + 1 :]))
