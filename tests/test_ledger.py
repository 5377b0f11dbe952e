"""The log: one winner a number, nothing lost, zombies fenced off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import StoreError, SupersededError
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger, PackState, Part, State
from sweeper.store.schema import FORMAT
from sweeper.store.sink import Claim
from tests.buckets import Bucket, serving


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.at(str(tmp_path / "sweep"), create=True)


def begin(files: Files, *packs: str) -> Ledger:
    ledger = Ledger.create(files, {"name": "x", "points_per_decade": 50})
    listed = [{"id": p, "size": 1} for p in packs]
    ledger.append({"kind": "packs", "packs": listed, "path": "packs/a.parquet", "sha256": ""})
    return ledger


def rows(min_step: int, max_step: int, path: str = "p") -> dict[str, Any]:
    entry = {"path": path, "size": 1, "sha256": "", "rows": 1}
    return {"kind": "rows", "part": {**entry, "min_step": min_step, "max_step": max_step}}


def test_of_two_writers_one_wins_each_number_and_no_record_is_lost(files: Files) -> None:
    begin(files, "a")

    def write(who: int) -> None:
        mine = Ledger.open(files)
        for k in range(25):
            mine.append({"kind": "void", "pack_ids": [], "who": who, "k": k})

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [json.loads(files.read(path) or b"") for path in files.paths("log")][1:]
    assert sorted((r["who"], r["k"]) for r in written) == [
        (w, k) for w in range(4) for k in range(25)
    ]
    for who in range(4):
        assert [r["k"] for r in written if r["who"] == who] == list(range(25))


def test_a_zombie_whose_pack_was_claimed_again_writes_nothing(files: Files) -> None:
    zombie = Claim.take(begin(files, "a"), "a", "l", {})
    heir = Claim.take(Ledger.open(files), "a", "l", {})
    assert (zombie.attempt, heir.attempt) == (1, 2)
    before = files.paths("log")
    with pytest.raises(SupersededError):
        zombie.commit(rows(0, 5))
    assert files.paths("log") == before
    heir.commit(rows(0, 5))


def test_a_pack_without_work_left_cannot_be_claimed(files: Files) -> None:
    claim = Claim.take(begin(files, "a"), "a", "l", {})
    claim.commit({"kind": "rows", "done": True})
    with pytest.raises(SupersededError):
        Claim.take(Ledger.open(files), "a", "l", {})


def test_rows_behind_the_step_that_a_later_attempt_resumes_from_do_not_count() -> None:
    state = State(packs={"a": PackState("a", 1, "")})
    claim = {"kind": "claim", "pack_id": "a"}
    state.fold({**claim, "attempt": 1, "resumed_at": -1})
    for lo, hi in ((0, 10), (11, 20), (21, 30)):
        state.fold({**rows(lo, hi, f"1-{lo}"), "pack_id": "a", "attempt": 1})
    state.fold({**claim, "attempt": 2, "resumed_at": 15})
    state.fold({**rows(16, 40, "2-16"), "pack_id": "a", "attempt": 2})
    assert [(p.path, cut) for p, cut in state.parts()] == [
        ("1-0", None),
        ("1-11", 15),
        ("2-16", None),
    ]
    state.fold({**claim, "attempt": 3, "resumed_at": -1})
    assert list(state.parts()) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=6))
def test_whatever_attempts_die_where_each_step_counts_exactly_once(
    attempts: list[tuple[int, int]],
) -> None:
    """Each attempt resumes from the last checkpoint, writes some steps, and maybe saves."""
    state = State(packs={"a": PackState("a", 1, "")})
    saved = -1
    last = -1
    for number, (steps, every) in enumerate(attempts, start=1):
        state.fold({"kind": "claim", "pack_id": "a", "attempt": number, "resumed_at": saved})
        last = saved
        for step in range(saved + 1, saved + 1 + steps):
            record = {**rows(step, step, f"{number}-{step}"), "pack_id": "a", "attempt": number}
            if step % every == 0:
                record["checkpoint"] = {"step": step, "path": "c"}
                saved = step
            state.fold(record)
            last = step
    counted: list[int] = []
    for part, cutoff in state.parts():
        counted += [
            s for s in range(part.min_step, part.max_step + 1) if cutoff is None or s <= cutoff
        ]
    assert sorted(counted) == list(range(last + 1))


def test_a_store_of_a_newer_format_is_refused_and_left_alone(files: Files) -> None:
    begin(files)
    files.write("sweep.json", json.dumps({"format": FORMAT + 1, "name": "x"}).encode())
    before = files.paths("")
    with pytest.raises(StoreError) as caught:
        Ledger.open(files)
    assert str(caught.value) == (
        f"{files.uri}/sweep.json: format {FORMAT + 1}, written by a newer sweeper. "
        f"This one reads up to {FORMAT}: upgrade it. Nothing was changed."
    )
    assert files.paths("") == before


def test_a_damaged_record_is_named(files: Files) -> None:
    begin(files)
    files.write("log/000000000001.json", b'{"kind": "pa')
    with pytest.raises(StoreError, match=r"log/000000000001\.json: damaged: 12 bytes"):
        Ledger.open(files)


def test_a_split_pack_keeps_its_rows_up_to_the_checkpoint_that_its_halves_go_on_from() -> None:
    state = State(packs={"a": PackState("a", 2, "")})
    state.fold({"kind": "claim", "pack_id": "a", "attempt": 1, "resumed_at": -1})
    state.fold({**rows(0, 9, "x"), "pack_id": "a", "attempt": 1})
    halves = [{"id": "b", "size": 1, "parents": ["a"]}, {"id": "c", "size": 1, "parents": ["a"]}]
    state.fold(
        {
            "kind": "split",
            "pack_id": "a",
            "attempt": 1,
            "split_at": 4,
            "packs": halves,
            "path": "packs/s.parquet",
            "sha256": "",
        }
    )
    assert [(p.path, cut) for p, cut in state.parts()] == [("x", 4)]
    assert not state.packs["a"].open
    assert state.packs["b"].open


def test_compaction_replaces_parts_by_others() -> None:
    state = State(packs={"a": PackState("a", 1, "")})
    state.fold({"kind": "claim", "pack_id": "a", "attempt": 1, "resumed_at": -1})
    state.fold({**rows(0, 9, "x"), "pack_id": "a", "attempt": 1})
    state.fold(
        {"kind": "compact", "removed": ["x"], "pack_ids": ["a"], "added": [rows(0, 9, "y")["part"]]}
    )
    assert [p for p, _ in state.parts()] == [Part("y", 1, "", 1, 0, 9)]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving() as bucket:
        yield bucket


@pytest.mark.parametrize("retries", [0, 3], ids=["connection lost", "retried by the client"])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_record_whose_answer_was_lost_is_appended_once(
    bucket: Bucket, retries: int, twice: bool
) -> None:
    """The bucket took the record. The client sees a closed connection, or that it exists."""
    claim = Claim.take(begin(bucket.files(), "a"), "a", "l", {})
    claim.ledger.files = bucket.files(retries=retries)
    for step in range(1 + twice):
        bucket.lose = "log/"
        claim.commit(rows(step, step, f"p{step}"))
        assert bucket.lose is None
    ledger = Ledger.open(bucket.files())
    assert ledger.number == claim.ledger.number == 3 + twice
    assert [part.path for part, _ in ledger.state.parts()] == [f"p{k}" for k in range(1 + twice)]
    assert list(ledger.state.parts()) == list(claim.ledger.state.parts())
    assert claim.ledger.is_current()


def test_a_record_like_ours_that_another_writer_appended_is_not_taken_for_ours(
    files: Files,
) -> None:
    first = begin(files, "a")
    second = Ledger.open(files)
    record = {"kind": "void", "pack_ids": []}

    def overtake(state: State) -> None:
        if first.number == 1:
            first.append(record)

    second.append(record, overtake)
    assert second.number == 3


def test_a_record_that_never_arrived_is_an_error(bucket: Bucket) -> None:
    ledger = begin(bucket.files(), "a")
    bucket.refuse = "log/"
    with pytest.raises(StoreError, match=r"log/000000000002\.json: .*403 Forbidden"):
        ledger.append({"kind": "void", "pack_ids": []})
    assert Ledger.open(bucket.files()).number == ledger.number == 1


def test_a_record_without_a_nonce_is_read(files: Files) -> None:
    """Stores that are older than the nonce have none."""
    ledger = begin(files, "a")
    raw = json.loads(files.read("log/000000000001.json") or b"")
    assert len(raw.pop("nonce")) == 16
    files.write("log/000000000001.json", json.dumps(raw).encode())
    assert Ledger.open(files).state.packs == ledger.state.packs
