"""The log: one winner a number, nothing lost, zombies fenced off."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import StoreError, SupersededError
from sweeper.store import records
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


def record(files: Files, path: str) -> dict[str, Any]:
    """Return what the record at `path` says."""
    return dict(json.loads((files.read(path) or b"").partition(b"\n")[0]))


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
    written = [record(files, path) for path in files.paths("log")][1:]
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


FIRST, SECOND, THIRD = (f"log/{number:012d}.json" for number in (1, 2, 3))


def three(files: Files) -> Ledger:
    """Return a log of three records."""
    ledger = begin(files, "a")
    Claim.take(ledger, "a", "l", {}).commit(rows(0, 5))
    assert files.paths("log") == [FIRST, SECOND, THIRD]
    return ledger


def test_a_damaged_record_before_whole_ones_is_named(files: Files) -> None:
    three(files)
    files.write(SECOND, b'{"kind": "pa')
    with pytest.raises(StoreError) as caught:
        Ledger.open(files)
    assert str(caught.value) == (
        f"{files.uri}/{SECOND}: damaged: 12 bytes that don't match their checksum. Restore it "
        "from a backup; the files it names are untouched."
    )


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
@pytest.mark.parametrize("torn", [(THIRD,), (SECOND, THIRD), (FIRST, SECOND, THIRD)])
def test_damaged_records_at_the_end_count_as_absent_and_are_moved_aside(
    files: Files, torn: tuple[str, ...], cut: int
) -> None:
    whole = three(files)
    kept = {path: files.read(path) or b"" for path in files.paths("log")}
    for path in torn:
        files.write(path, kept[path][:cut])
    ledger = Ledger.open(files)
    assert (ledger.number, ledger.torn) == (3 - len(torn), list(torn))
    with pytest.raises(StoreError, match=r"damaged, and the last record\. Launch the sweep again"):
        ledger.append({"kind": "void", "pack_ids": []})
    assert ledger.repair() == list(torn)
    assert files.paths("log") == [p for p in kept if p not in torn]
    aside = {path: files.read(path) for path in files.paths("damaged")}
    assert aside == {p.replace("log", "damaged"): kept[p][:cut] for p in torn}
    for path in torn:
        ledger.append(json.loads(kept[path].partition(b"\n")[0]))
    again = Ledger.open(files).state
    assert list(again.parts()) == list(whole.state.parts())
    assert ledger.repair() == []


def test_files_of_other_programs_in_the_log_are_ignored(files: Files) -> None:
    whole = three(files)
    for name in ("desktop.ini", "notes.json", "000000000003.json.bak", "000000000009 (1).json"):
        files.write(f"log/{name}", b"")
    again = Ledger.open(files)
    assert (again.number, again.torn) == (3, [])
    assert list(again.state.parts()) == list(whole.state.parts())
    files.write(THIRD, b"")
    ledger = Ledger.open(files)
    assert ledger.repair() == [THIRD]
    assert files.size("log/notes.json") == 0


@given(st.sampled_from([FIRST, SECOND, THIRD]), st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_never_folded(path: str, place: int, bit: int) -> None:
    with TemporaryDirectory() as folder:
        files = Files.at(folder)
        three(files)
        raw = bytearray(files.read(path) or b"")
        raw[place % len(raw)] ^= 1 << bit
        files.write(path, bytes(raw))
        if path == THIRD:
            assert Ledger.open(files).torn == [THIRD]
        else:
            with pytest.raises(StoreError, match=rf"{path}: damaged"):
                Ledger.open(files)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"kind": "merge"}, "its kind 'merge' is unknown"),
        ({"kind": "rows"}, "it has no 'pack_id'"),
        ({"kind": "void", "pack_ids": 3}, "'int' object is not iterable"),
        ({}, "it has no 'kind'"),
    ],
)
def test_a_record_that_is_not_understood_is_refused_by_name(
    files: Files, record: dict[str, Any], reason: str
) -> None:
    three(files)
    files.write("log/000000000004.json", records.encode(record, FORMAT))
    with pytest.raises(StoreError) as caught:
        Ledger.open(files)
    assert str(caught.value).startswith(f"{files.uri}/log/000000000004.json: damaged: {reason}.")


def test_a_worker_that_outlives_its_sweep_brings_nothing_back(files: Files, tmp_path: Path) -> None:
    claim = Claim.take(begin(files, "a"), "a", "l", {})
    (tmp_path / "sweep").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="the sweep isn't there any more"):
        claim.commit(rows(0, 5))
    with pytest.raises(StoreError, match="the sweep isn't there any more"):
        files.write("metrics/p", b"x")
    assert not (tmp_path / "sweep").exists()
    (tmp_path / "sweep").mkdir()
    with pytest.raises(StoreError, match="the sweep isn't there any more"):
        claim.commit(rows(0, 5))
    assert list((tmp_path / "sweep").iterdir()) == []


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_afterwards(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(files, "a")
    done: list[str] = []
    sync, link = os.fsync, os.link

    def synced(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        done.append("folder" if path == tmp_path / "sweep" / "log" else path.name.split("#")[0])
        sync(handle)

    def linked(source: str, target: Path) -> None:
        done.append(f"link {target.name}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    ledger.append({"kind": "void", "pack_ids": []})
    assert done == [Path(SECOND).name, f"link {Path(SECOND).name}", "folder"]


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
    files.create("sweep.json", b'{"format": 1, "name": "x", "points_per_decade": 50}')
    ledger = begin(files, "a")
    raw = json.loads(files.read(FIRST) or b"")
    assert len(raw.pop("nonce")) == 16
    files.write(FIRST, json.dumps(raw).encode())
    assert Ledger.open(files).state.packs == ledger.state.packs
