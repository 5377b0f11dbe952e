"""The root log: one writer per number, no record lost, drivers that were taken over kept out."""

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

from sweeper.errors import BusyError, StoreError
from sweeper.store import records
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.schema import FORMAT
from sweeper.store.state import PackState, Part, State
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


def test_a_driver_that_was_taken_over_appends_nothing_more(files: Files) -> None:
    first = begin(files, "a")
    first.take_over(None, at_once=True)
    second = Ledger.open(files)
    second.take_over(first.driver, at_once=False)
    first.append({"kind": "void", "pack_ids": []})
    second.append({"kind": "void", "pack_ids": []})
    before = files.paths("log")
    assert len(before) == 5
    with pytest.raises(BusyError, match="another process has taken this sweep over"):
        first.append({"kind": "void", "pack_ids": ["a"]})
    assert files.paths("log") == before
    second.append({"kind": "void", "pack_ids": ["a"]})


def test_of_two_processes_that_take_a_sweep_over_from_the_same_driver_one_does(
    files: Files,
) -> None:
    begin(files, "a")
    one, two = Ledger.open(files), Ledger.open(files)
    two.take_over(None, at_once=True)
    with pytest.raises(BusyError, match="another process has just begun to launch this sweep"):
        one.take_over(None, at_once=True)
    one.take_over(two.driver, at_once=False)
    two.append({"kind": "void", "pack_ids": []})
    one.append({"kind": "void", "pack_ids": []})
    assert Ledger.open(files).state.driver == one.driver


def test_a_late_record_of_the_driver_of_a_deleted_sweep_of_that_name_does_not_count(
    files: Files,
) -> None:
    ledger = begin(files, "a")
    late = {"kind": "void", "pack_ids": ["a"], "sweep": "another", "nonce": "0" * 16}
    files.create(SECOND, records.encode(late, FORMAT))
    ledger.append({"kind": "void", "pack_ids": []})
    assert Ledger.open(files).state.packs["a"].open
    assert Ledger.open(files).number == 3


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


@pytest.mark.parametrize(
    "change", [{"format": "3"}, {"format": None}, {"name": 1}, {"points_per_decade": "50"}]
)
def test_a_mistyped_sweep_file_is_named(files: Files, change: dict[str, Any]) -> None:
    meta = {"format": FORMAT, "name": "x", "points_per_decade": 50, **change}
    files.write("sweep.json", json.dumps(meta).encode())
    with pytest.raises(StoreError, match=r"sweep\.json: damaged: it must hold format, name and"):
        Ledger.open(files)


FIRST, SECOND, THIRD = (f"log/{number:012d}.json" for number in (1, 2, 3))


def three(files: Files) -> Ledger:
    """Return a log of three records."""
    ledger = begin(files, "a", "b")
    ledger.append({"kind": "void", "pack_ids": ["a"]})
    ledger.append({"kind": "void", "pack_ids": ["b"]})
    assert files.paths("log") == [FIRST, SECOND, THIRD]
    return ledger


def dead(ledger: Ledger) -> list[str]:
    return [pack.id for pack in ledger.state.packs.values() if pack.void]


def test_a_damaged_record_before_whole_ones_is_named(files: Files) -> None:
    three(files)
    files.write(SECOND, b'{"kind": "pa')
    with pytest.raises(StoreError) as caught:
        Ledger.open(files)
    assert str(caught.value) == (
        f"{files.uri}/{SECOND}: damaged: 12 bytes that don't match their checksum. Restore it "
        "from a backup, or run `sweeper doctor`; the files it names are untouched."
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
    assert dead(Ledger.open(files)) == dead(whole) == ["a", "b"]
    assert ledger.repair() == []
    assert ledger.moved == list(torn)


def test_files_of_other_programs_in_the_log_are_ignored(files: Files) -> None:
    whole = three(files)
    for name in ("desktop.ini", "notes.json", "000000000003.json.bak", "000000000009 (1).json"):
        files.write(f"log/{name}", b"")
    again = Ledger.open(files)
    assert (again.number, again.torn) == (3, [])
    assert dead(again) == dead(whole)
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
        ({"kind": "rows", "pack_id": "a"}, "its kind 'rows' is unknown"),
        ({"kind": "drive"}, "it has no 'driver'"),
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
    packs = ["a", "b"]
    writer = begin(bucket.files(), *packs)
    writer.files = bucket.files(retries=retries)
    for step in range(1 + twice):
        bucket.lose = "log/"
        writer.append({"kind": "void", "pack_ids": [packs[step]]})
        assert bucket.lose is None
    ledger = Ledger.open(bucket.files())
    assert ledger.number == writer.number == 2 + twice
    assert dead(ledger) == dead(writer) == packs[: 1 + twice]
    assert writer.is_current()


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
