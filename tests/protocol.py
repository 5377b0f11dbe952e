"""A model of the ledger's protocol, and a search through all states that it can reach.

A step of the model is one operation on the storage: one put-if-absent, the reading of one chain, or
of the root log. A put may be done and answered, be done without an answer, or be done at any later
time. Workers crash, take packs from workers that live, and go on after that. Records rot. In every
state, and for everything that a reader saw, the conditions of `check` and `finished` must hold.

`explore` visits all states breadth first, up to a limit. A mutant is the model without one of its
rules; `tests/test_protocol.py` requires that each mutant breaks a condition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from tests.worlds import (
    HALVES,
    ROTTEN,
    TRIALS,
    BrokenError,
    Id,
    Reader,
    Rec,
    Worker,
    World,
    spend,
    turn,
)


@dataclass
class Model:
    """The protocol, with the rules in `without` taken away."""

    faults: Mapping[str, int]
    workers: int = 2
    plan: tuple[tuple[int, str], ...] = ((1, ""), (2, "done"))
    packs: tuple[str, ...] = ("P",)
    without: str = ""
    _records: list[Rec] = field(default_factory=lambda: [Rec("", 0, (0, 0), "", 0, 0)])
    _ids: dict[Rec, Id] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fold = cache(self._fold)

    def start(self) -> World:
        """Return the first state."""
        return World(
            root=tuple(("packs", pack) for pack in self.packs),
            workers=(Worker(),) * self.workers,
            faults=tuple(sorted(self.faults.items())),
        )

    def record(self, rec: Rec) -> Id:
        if rec not in self._ids:
            self._ids[rec] = len(self._records)
            self._records.append(rec)
        return self._ids[rec]

    # ---------------------------------------------------------------- chains

    def origin(self, pack: str) -> Id:
        return self.record(Rec(pack, 0, (0, 0), "origin", 0, 0))

    def follows(self, rid: Id, head: Id) -> bool:
        if rid == ROTTEN:
            return False
        return self._records[rid].prev == head

    def follow(
        self, live: frozenset[tuple[str, int, Id]], pack: str, at: int, head: Id
    ) -> tuple[int, Id]:
        """Return the number that was read last, and the last record that was accepted."""
        there = {n: rid for p, n, rid in live if p == pack}
        while at + 1 in there:
            at += 1
            if self.follows(there[at], head):
                head = there[at]
        return at, head

    def history(self, rid: Id) -> list[Id]:
        out = []
        while self._records[rid].kind != "origin":
            out.append(rid)
            rid = self._records[rid].prev
        return out[::-1]

    def _fold(
        self, head: Id
    ) -> tuple[tuple[tuple[int, int], ...], tuple[Id, ...], int, bool, int | None]:
        """Return attempts with their starts, rows, the last checkpoint, closed, and split_at."""
        claims, rows, saved, closed, split = [], [], 0, False, None
        for rid in self.history(head):
            rec = self._records[rid]
            if rec.kind == "claim":
                claims.append((rec.attempt, rec.step))
            elif rec.kind == "rows":
                rows.append(rid)
                saved = rec.step if rec.flag == "saved" else saved
                closed = closed or rec.flag == "done"
            else:
                closed, split = True, rec.step
        return tuple(claims), tuple(rows), saved, closed, split

    def view(
        self, root: tuple[tuple[str, ...], ...], heads: Mapping[str, Id]
    ) -> list[tuple[str, int]]:
        """Return the rows (trial, step) that count, each as often as it does."""
        void = {r[1] for r in root if r[0] == "void"}
        packed = {r[1]: r[2:] for r in root if r[0] == "compact"}
        todo = [(r[1], False) for r in root if r[0] == "packs"]
        rows: list[tuple[str, int]] = []
        while todo:
            pack, dead = todo.pop()
            dead = dead or pack in void
            claims, records, _, _, split = self.fold(heads.get(pack, self.origin(pack)))
            if split is not None:
                todo += [(half, dead and self.without != "spread") for half in HALVES[pack]]
            if dead:
                continue
            steps = [int(step) for step in packed.get(pack, ())]
            if pack not in packed or self.without == "compacted":
                for rid in records:
                    rec = self._records[rid]
                    limits = [start for number, start in claims if number > rec.attempt]
                    limits += [] if split is None else [split]
                    if not limits or rec.step <= min(limits):
                        steps.append(rec.step)
            rows += [(trial, step) for step in steps for trial in TRIALS[pack]]
        return rows

    def heads(self, world: World) -> dict[str, Id]:
        heads: dict[str, Id] = {}
        todo = [r[1] for r in world.root if r[0] == "packs"]
        while todo:
            pack = todo.pop()
            heads[pack] = self.follow(world.live, pack, 0, self.origin(pack))[1]
            if self.fold(heads[pack])[4] is not None:
                todo += HALVES[pack]
        return heads

    # ---------------------------------------------------------------- conditions

    def check(self, world: World) -> None:
        """Check what holds in every state.

        Raises:
            BrokenError: A row counts twice, a trial has a gap, or an acknowledged row is lost.
        """
        heads = self.heads(world)
        rows = self.view(world.root, heads)
        if len(rows) != len(set(rows)):
            raise BrokenError("a row counts twice")
        if any(step > 1 and (trial, step - 1) not in rows for trial, step in rows):
            raise BrokenError("a trial has a gap")
        void = {r[1] for r in world.root if r[0] == "void"}
        for rid in world.acknowledged:
            rec = self._records[rid]
            if world.rotted or rec.pack in void or rec.pack not in heads:
                continue
            claims, records, *_ = self.fold(heads[rec.pack])
            again = any(n > rec.attempt and start < rec.step for n, start in claims)
            if rid not in records and not again:
                raise BrokenError("an acknowledged row is lost")

    def over(self, world: World) -> bool:
        """Return whether every trial has every step."""
        heads = self.heads(world)
        void = {r[1] for r in world.root if r[0] == "void"}
        wanted = {
            t for r in world.root if r[0] == "packs" and r[1] not in void for t in TRIALS[r[1]]
        }
        return sorted(self.view(world.root, heads)) == sorted(
            (trial, step) for trial in wanted for step, _ in self.plan
        )

    # ---------------------------------------------------------------- steps

    def steps(self, world: World) -> Iterator[World]:
        """Yield the states that can follow."""
        for i in range(len(world.workers)):
            yield from self.work(world, i)
        yield from self.drive(world)
        yield from self.read(world)
        for pack, n, rid in world.late:
            taken = any(p == pack and k == n for p, k, _ in world.live)
            live = world.live if taken else world.live | {(pack, n, rid)}
            yield replace(world, live=live, late=world.late - {(pack, n, rid)})
        if (less := spend(world, "rot")) is not None:
            for pack, n, rid in world.live:
                if rid != ROTTEN:
                    live = world.live - {(pack, n, rid)} | {(pack, n, ROTTEN)}
                    yield replace(less, live=live, rotted=True)

    def work(self, world: World, i: int) -> Iterator[World]:
        w = world.workers[i]
        if w.does == "idle":
            heads = self.heads(world)
            void = {r[1] for r in world.root if r[0] == "void"}
            for pack, head in heads.items():
                busy = any(other.pack == pack for other in world.workers)
                now = spend(world, "takeover") if busy else world
                if pack in void or self.fold(head)[3] or now is None:
                    continue
                at, head = self.follow(world.live, pack, 0, self.origin(pack))
                yield turn(now, i, Worker("claim", pack, at, head, life=w.life))
            return
        if (less := spend(world, "crash")) is not None:
            yield turn(less, i, Worker(life=w.life + 1))
        if w.does == "unknown":
            yield from self.again(world, i)
        else:
            for rec in self.next(world, i):
                now = spend(world, "split") if rec.kind == "split" else world
                if now is not None:
                    yield from self.put(now, i, self.record(rec))

    def next(self, world: World, i: int) -> Iterator[Rec]:
        """Yield the records that the worker may append now."""
        w = world.workers[i]
        mine = (i, w.life)
        claims, _, saved, _, _ = self.fold(w.head)
        start = 0
        if w.pack in HALVES["P"]:
            start = self.fold(self.heads(world)["P"])[4] or 0
        if w.does == "claim":
            yield Rec(w.pack, w.head, mine, "claim", len(claims) + 1, saved or start)
            return
        for step, flag in self.plan:
            if step == w.after + 1:
                yield Rec(w.pack, w.head, mine, "rows", w.attempt, step, flag)
        if w.pack in HALVES:
            yield Rec(w.pack, w.head, mine, "split", w.attempt, saved)

    def put(self, world: World, i: int, rid: Id) -> Iterator[World]:
        """Put a record at the next number: answered, done without an answer, or done later."""
        w = world.workers[i]
        n = w.number + 1
        there = [r for p, k, r in world.live if p == w.pack and k == n]
        done = world if there else replace(world, live=world.live | {(w.pack, n, rid)})
        if there:
            yield from self.met(world, i, rid, there[0])
        else:
            yield self.success(done, i, rid)
        if (less := spend(world, "lost")) is not None:
            waiting = replace(w, does="unknown", put=rid)
            yield turn(replace(less, live=done.live), i, waiting)
            yield turn(replace(less, late=world.late | {(w.pack, n, rid)}), i, waiting)

    def again(self, world: World, i: int) -> Iterator[World]:
        """Look for a record whose put wasn't answered, and put it again if it isn't there."""
        w = world.workers[i]
        there = [r for p, k, r in world.live if p == w.pack and k == w.number + 1]
        if there and there[0] == w.put and self.without != "readback":
            yield self.success(world, i, w.put)
        elif there:
            yield from self.met(world, i, w.put, there[0])
        else:
            live = world.live | {(w.pack, w.number + 1, w.put)}
            yield self.success(replace(world, live=live), i, w.put)

    def met(self, world: World, i: int, rid: Id, there: Id) -> Iterator[World]:
        """Go on after another record was met at the next number."""
        w = world.workers[i]
        mine = there != ROTTEN and there == rid
        if self.follows(there, w.head) and self.without != "superseded" and not mine:
            yield turn(world, i, Worker(life=w.life))
            return
        head = w.head
        if mine:  # without the reading back: the record is taken for another one, and written again
            head, rid = rid, self.record(replace(self._records[rid], prev=rid))
        live = world.live
        n = w.number + 2
        if any(p == w.pack and k == n for p, k, _ in live):
            yield turn(world, i, Worker(life=w.life))
            return
        step = replace(world, live=live | {(w.pack, n, rid)})
        yield self.success(turn(step, i, replace(w, number=n - 1, head=head)), i, rid)

    def success(self, world: World, i: int, rid: Id) -> World:
        w, rec = world.workers[i], self._records[rid]
        if rec.kind == "rows":
            world = replace(world, acknowledged=world.acknowledged | {rid})
        if rec.kind == "split" or rec.flag == "done":
            return turn(world, i, Worker(life=w.life))
        after = replace(
            w, does="run", number=w.number + 1, head=rid, attempt=rec.attempt, after=rec.step, put=0
        )
        return turn(world, i, after)

    def drive(self, world: World) -> Iterator[World]:
        """Void, compact, or write a snapshot, on what the driver reads in this step."""
        heads = self.heads(world)
        void = {r[1] for r in world.root if r[0] == "void"}
        if "P" not in void and (less := spend(world, "void")) is not None:
            yield replace(less, root=(*world.root, ("void", "P"), ("packs", "V")))
        if (less := spend(world, "compact")) is not None:
            for pack, head in heads.items():
                _, records, _, closed, split = self.fold(head)
                if pack in void or not records or split is not None:
                    continue
                if closed or self.without == "closed":
                    counted = self.view((("packs", pack),), {pack: head})
                    steps = sorted({str(step) for _, step in counted})
                    yield replace(less, root=(*world.root, ("compact", pack, *steps)))
        if (less := spend(world, "snapshot")) is not None:
            numbers = tuple((p, *self.accepted(world, p)) for p in sorted(heads))
            yield replace(less, snapshot=(len(world.root), numbers))

    def accepted(self, world: World, pack: str) -> tuple[int, Id]:
        """Return the number of the last accepted record of a chain, and the record."""
        _, head = self.follow(world.live, pack, 0, self.origin(pack))
        numbers = [n for p, n, rid in world.live if p == pack and rid == head]
        return max(numbers, default=0), head

    def read(self, world: World) -> Iterator[World]:
        """Let the reader take its next step: the root log, one chain, or the root log again."""
        r = world.reader
        if r.does == "idle":
            if (less := spend(world, "read")) is not None:
                rows = frozenset(self.view(world.root, self.heads(world)))
                yield replace(less, reader=Reader("chains", len(world.root), (), rows, rows))
            return
        heads = {pack: head for pack, _, head in r.heads}
        packs = [x[1] for x in world.root[: r.root] if x[0] == "packs"]
        for pack in list(packs):
            if pack in heads and self.fold(heads[pack])[4] is not None:
                packs += HALVES[pack]
        unread = [pack for pack in packs if pack not in heads]
        if unread:
            known = {pack: (n, head) for pack, n, head in world.snapshot[1]}
            for pack in unread:
                at, head = known.get(pack, (0, self.origin(pack)))
                at, head = self.follow(world.live, pack, at, head)
                yield replace(world, reader=replace(r, heads=(*r.heads, (pack, at, head))))
        elif len(world.root) > r.root and self.without != "second look":
            yield replace(world, reader=replace(r, root=len(world.root), heads=()))
        else:
            self.finished(world, r, heads)
            yield replace(world, reader=Reader())

    def finished(self, world: World, r: Reader, heads: Mapping[str, Id]) -> None:
        """Check what a reader saw.

        Raises:
            BrokenError: A row twice, a gap, a row that was missing although it was there all the
                time, or a row that never was there.
        """
        rows = self.view(world.root[: r.root], heads)
        if len(rows) != len(set(rows)):
            raise BrokenError("a reader saw a row twice")
        if any(step > 1 and (trial, step - 1) not in rows for trial, step in rows):
            raise BrokenError("a reader saw a gap")
        if not r.must <= set(rows) and not world.rotted:
            raise BrokenError("a reader missed a row that was there all the time")
        if not set(rows) <= r.may and not world.rotted:
            raise BrokenError("a reader saw a row that never was there")


def explore(model: Model, limit: int) -> tuple[int, bool]:
    """Visit the states of `model`; return their number, and whether these are all.

    If they are all, the end must also be reachable from every one of them.

    Raises:
        BrokenError: A condition doesn't hold.
    """
    first = model.start()
    number = {first: 0}
    before: list[list[int]] = [[]]
    worlds = [first]
    queue = deque([0])
    while queue:
        at = queue.popleft()
        for world in model.steps(worlds[at]):
            if world.reader.does != "idle":
                rows = frozenset(model.view(world.root, model.heads(world)))
                r = world.reader
                reader = replace(r, must=r.must & rows, may=r.may | rows)
                world = replace(world, reader=reader)
            if world not in number:
                number[world] = len(worlds)
                worlds.append(world)
                before.append([])
                model.check(world)
                queue.append(number[world])
            before[number[world]].append(at)
        if len(worlds) > limit:
            return len(worlds), False
    reached = {i for i, world in enumerate(worlds) if model.over(world)}
    todo = list(reached)
    while todo:
        for i in before[todo.pop()]:
            if i not in reached:
                reached.add(i)
                todo.append(i)
    if len(reached) < len(worlds):
        raise BrokenError("stuck: the end can't be reached any more")
    return len(worlds), True
