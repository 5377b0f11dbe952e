"""The chain of a pack: one owner, no record twice, and damage that costs its own pack only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.errors import StoreError, SupersededError
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.sink import Claim
from tests.buckets import Bucket, serving
from tests.sweeps import ledger as opened
from tests.sweeps import rows as trained
from tests.sweeps import run, toy_grid


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.at(str(tmp_path / "sweep"), create=True)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving() as bucket:
        yield bucket


def begin(files: Files, *packs: str, uid: str = "u") -> Ledger:
    ledger = Ledger.create(files, {"name": "x", "points_per_decade": 50, "uid": uid})
    listed = [{"id": p, "size": 1} for p in packs]
    ledger.append({"kind": "packs", "packs": listed, "path": "packs/a.parquet", "sha256": ""})
    return ledger


def rows(min_step: int, max_step: int, path: str = "p", **more: Any) -> dict[str, Any]:
    entry = {"path": path, "size": 1, "sha256": "", "rows": 1}
    return {"kind": "rows", "part": {**entry, "min_step": min_step, "max_step": max_step}, **more}


def take(ledger: Ledger, pack: str = "a") -> Claim:
    return Claim.take(ledger, pack, "l", {})


def parts(ledger: Ledger) -> list[str]:
    return [part.path for part, _ in ledger.state.parts()]


def split(*halves: str, at: int = -1) -> dict[str, Any]:
    return {
        "kind": "split",
        "split_at": at,
        "packs": [{"id": half, "size": 1, "parents": ["a"]} for half in halves],
        "path": "packs/s.parquet",
        "sha256": "",
    }


def test_a_worker_whose_pack_was_claimed_again_writes_nothing(files: Files) -> None:
    zombie = take(begin(files, "a"))
    heir = take(Ledger.open(files))
    assert (zombie.attempt, heir.attempt) == (1, 2)
    before = files.paths("chains")
    with pytest.raises(SupersededError):
        zombie.commit(rows(0, 5, "zombie"))
    assert files.paths("chains") == before
    heir.commit(rows(0, 5, "heir"))
    with pytest.raises(SupersededError):
        zombie.commit(rows(6, 7, "zombie"))
    assert parts(Ledger.open(files)) == ["heir"]


def test_a_pack_without_work_left_cannot_be_claimed(files: Files) -> None:
    take(begin(files, "a")).commit({"kind": "rows", "done": True})
    with pytest.raises(SupersededError):
        take(Ledger.open(files))


def test_of_many_workers_that_claim_and_commit_one_at_a_time_owns_the_pack(files: Files) -> None:
    """Each takes the pack from the others, again and again; every acknowledged commit is read."""
    begin(files, "a")
    committed: list[str] = []

    def work(who: int) -> None:
        mine = Ledger.open(files, chains=False)
        for k in range(15):
            claim = take(mine)
            try:
                for n in range(3):
                    path = f"{who}-{k}-{n}"
                    claim.commit(rows(0, 0, path))
                    committed.append(path)
            except SupersededError:
                pass

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pack = Ledger.open(files).state.packs["a"]
    assert [a.number for a in pack.attempts] == list(range(1, len(pack.attempts) + 1))
    assert len(pack.attempts) == 60
    assert sorted(part.path for _, part in pack.parts) == sorted(committed)
    owners = [attempt for attempt, _ in pack.parts]
    assert owners == sorted(owners)


def test_a_commit_reads_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = take(begin(files, "a", "b"))
    take(Ledger.open(files), "b").commit(rows(0, 5))
    read: list[str] = []
    monkeypatch.setattr(Files, "read", lambda _, path: read.append(path))
    claim.commit(rows(0, 5))
    assert read == []


def test_the_halves_of_a_pack_are_found_through_its_chain(files: Files) -> None:
    claim = take(begin(files, "a"))
    claim.commit(rows(0, 9))
    reader = Ledger.open(files)
    claim.commit(split("b", "c", at=4))
    take(claim.ledger, "c").commit(split("d", at=4))
    assert reader.refresh()
    assert [p.id for p in reader.state.ordered] == ["a", "b", "c", "d"]
    assert [p.id for p in reader.state.packs.values() if p.open] == ["b", "d"]
    assert reader.state.split_from("d") == ("a", "c")
    assert [(p.path, cut) for p, cut in reader.state.parts()] == [("p", 4)]
    worker = Ledger.open(files, chains=False)
    for pack in (*reader.state.split_from("d"), "d"):
        worker.follow([pack])
    assert take(worker, "d").attempt == 1
    assert not reader.refresh() or reader.state.packs["d"].attempt == 1


def test_halves_sort_before_the_packs_of_later_launches(files: Files) -> None:
    ledger = begin(files, "a")
    claim = take(ledger)
    listed = [{"id": "z", "size": 1, "parents": ["b"]}]
    ledger.append({"kind": "packs", "packs": listed, "path": "packs/z.parquet", "sha256": ""})
    claim.commit(split("b", "c"))
    assert [p.id for p in Ledger.open(files).state.ordered] == ["a", "b", "c", "z"]


@pytest.mark.parametrize("split_first", [True, False])
def test_a_void_pack_is_void_with_its_halves(files: Files, split_first: bool) -> None:
    """The worker doesn't know yet that the pack is void."""
    ledger = begin(files, "a")
    claim = take(Ledger.open(files))
    claim.commit(rows(0, 9))
    void = {"kind": "void", "pack_ids": ["a"]}
    if not split_first:
        ledger.append(void)
    claim.commit(split("b", at=4))
    take(claim.ledger, "b").commit(rows(5, 9))
    if split_first:
        ledger.append(void)
    again = Ledger.open(files)
    assert [p.void for p in again.state.packs.values()] == [True]
    ledger.refresh()
    assert parts(again) == parts(ledger) == []
    claim.ledger.refresh_root()
    with pytest.raises(SupersededError):
        take(claim.ledger, "b")


@pytest.mark.parametrize("kind", ["void", "compact"])
def test_a_root_record_may_name_a_half_that_was_not_read_yet(files: Files, kind: str) -> None:
    ledger = begin(files, "a")
    claim = take(ledger)
    claim.commit(split("b", "c"))
    for half in "bc":
        one = take(ledger, half)
        one.commit(rows(0, 9, half))
        one.commit({"kind": "rows", "done": True})
    added = [rows(0, 9, "y")["part"]]
    record = {"void": {}, "compact": {"removed": ["b"], "added": added}}[kind]
    ledger.append({"kind": kind, "pack_ids": ["b"], **record})
    again = Ledger.open(files)
    assert parts(again) == parts(ledger) == {"void": ["c"], "compact": ["y", "c"]}[kind]
    assert [p.void for p in again.state.ordered] == [False, kind == "void", False]


@pytest.mark.parametrize("chain_first", [True, False])
def test_compaction_replaces_parts_whichever_record_is_read_first(
    files: Files, chain_first: bool
) -> None:
    ledger = begin(files, "a")
    claim = take(Ledger.open(files))
    claim.commit(rows(0, 9, "x"))
    claim.commit({"kind": "rows", "done": True})
    reader = Ledger.open(files, chains=chain_first)
    added = [rows(0, 9, "y")["part"]]
    ledger.append({"kind": "compact", "removed": ["x"], "pack_ids": ["a"], "added": added})
    reader.refresh()
    assert parts(reader) == ["y"]


def test_the_records_of_a_deleted_sweep_do_not_count_in_a_new_one_of_its_name(
    bucket: Bucket,
) -> None:
    """On object storage a worker of the old sweep may still write."""
    files = bucket.files()
    zombie = take(begin(files, "a"))
    for path in files.paths(""):
        files.delete(path)
    begin(files, "a", uid="v")
    zombie.commit(rows(0, 5, "zombie"))
    assert files.paths("chains") == ["chains/a/000000002.json"]
    heir = take(Ledger.open(files))
    heir.commit(rows(0, 5, "heir"))
    zombie.commit(rows(6, 9, "zombie"))
    heir.commit(rows(6, 9, "heir"))
    assert parts(Ledger.open(files)) == ["heir", "heir"]


def test_a_worker_that_outlives_its_sweep_brings_nothing_back(files: Files, tmp_path: Path) -> None:
    claim = take(begin(files, "a", "b"))
    (tmp_path / "sweep").rename(tmp_path / "moved")
    for write in (
        lambda: claim.commit(rows(0, 5)),
        lambda: take(claim.ledger, "b"),
        lambda: files.write("metrics/p", b"x"),
    ):
        with pytest.raises(StoreError, match="the sweep isn't there any more"):
            write()
    assert not (tmp_path / "sweep").exists()
    (tmp_path / "sweep").mkdir()
    with pytest.raises(StoreError, match="the sweep isn't there any more"):
        claim.commit(rows(0, 5))
    assert list((tmp_path / "sweep").iterdir()) == []


@pytest.mark.parametrize("retries", [0, 3], ids=["connection lost", "retried by the client"])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_record_whose_answer_was_lost_is_appended_once(
    bucket: Bucket, retries: int, twice: bool
) -> None:
    """The bucket took the record. The client sees a closed connection, or that it exists."""
    claim = take(begin(bucket.files(), "a"))
    claim.ledger.files = bucket.files(retries=retries)
    for step in range(1 + twice):
        bucket.lose = "chains/"
        claim.commit(rows(step, step, f"p{step}"))
        assert bucket.lose is None
    claim.commit(rows(9, 9, "last"))
    ledger = Ledger.open(bucket.files())
    assert parts(ledger) == [*(f"p{k}" for k in range(1 + twice)), "last"]
    assert len(bucket.files().paths("chains")) == 3 + twice


def test_a_claim_whose_answer_was_lost_is_taken_once(bucket: Bucket) -> None:
    ledger = begin(bucket.files(), "a")
    bucket.lose = "chains/"
    assert take(ledger).attempt == 1
    assert Ledger.open(bucket.files()).state.packs["a"].attempt == 1


DAMAGE = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[:-1],
    "half": lambda raw: raw[: len(raw) // 2],
    "flipped": lambda raw: bytes([*raw[:40], raw[40] ^ 1, *raw[41:]]),
    "missing": None,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("number", range(1, 6))
def test_after_a_damaged_record_the_pack_goes_on_from_the_records_before(
    files: Files, number: int, damage: str
) -> None:
    first = take(begin(files, "a", "b"))
    first.commit(rows(0, 4, "1-0"))
    second = take(Ledger.open(files))
    second.commit(rows(0, 4, "2-0"))
    second.commit({"kind": "rows", "done": True})
    take(Ledger.open(files), "b").commit(rows(0, 4, "b"))
    path = f"chains/a/{number:09d}.json"
    change = DAMAGE[damage]
    if change is None:
        files.delete(path)
    else:
        files.write(path, change(files.read(path) or b""))
    ledger = Ledger.open(files)
    pack = ledger.state.packs["a"]
    assert pack.open
    assert pack.attempt == (0, 1, 1, 2, 2)[number - 1]
    assert parts(ledger) == [*((), (), ("1-0",), (), ("2-0",))[number - 1], "b"]
    after = [f"chains/a/{n:09d}.json" for n in range(number, 6)]
    assert ledger.skipped == ([] if change is None else after)
    heir = take(ledger)
    heir.commit(rows(0, 4, "heir"))
    heir.commit({"kind": "rows", "done": True})
    again = Ledger.open(files)
    assert parts(again) == ["heir", "b"]
    assert again.state.packs["a"].done
    assert again.skipped == []


@given(number=st.integers(1, 5), place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_never_folded(
    tmp_path_factory: pytest.TempPathFactory, number: int, place: int, bit: int
) -> None:
    files = Files.at(str(tmp_path_factory.mktemp("flip")))
    claim = take(begin(files, "a"))
    for step in range(4):
        claim.commit(rows(step, step, f"p{step}"))
    path = f"chains/a/{number:09d}.json"
    raw = bytearray(files.read(path) or b"")
    raw[place % len(raw)] ^= 1 << bit
    files.write(path, bytes(raw))
    ledger = Ledger.open(files)
    assert parts(ledger) == [f"p{step}" for step in range(number - 2)]
    assert len(ledger.skipped) == 6 - number


def test_a_record_that_looked_damaged_once_is_read_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(begin(files, "a")).commit(rows(0, 5))
    whole = Files.read_many

    def garbled(files: Files, paths: list[str]) -> list[bytes | None]:
        return [raw and raw[:-1] for raw in whole(files, paths)]

    monkeypatch.setattr(Files, "read_many", garbled)
    ledger = Ledger.open(files)
    assert (parts(ledger), ledger.skipped) == (["p"], [])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"kind": "merge"}, "its kind 'merge' is unknown"),
        ({"kind": "claim"}, "it has no 'attempt'"),
        ({"kind": "split", "split_at": 1, "packs": 3, "path": "", "sha256": ""}, "'int' object"),
    ],
)
def test_a_whole_record_that_is_not_understood_is_refused_by_name(
    files: Files, record: dict[str, Any], reason: str
) -> None:
    ledger = begin(files, "a")
    claim = take(ledger)
    chain = ledger.chains["a"]
    assert chain.append(files, {**record, "nonce": "0"}) is None
    with pytest.raises(StoreError) as caught:
        Ledger.open(files)
    where = f"{files.uri}/chains/a/000000002.json"
    assert str(caught.value).startswith(f"{where}: damaged: {reason}")
    assert claim.attempt == 1


def test_folders_of_no_pack_and_stray_files_are_ignored(files: Files) -> None:
    claim = take(begin(files, "a", "b"))
    for name in ("chains/foreign/000000001.json", "chains/notes.txt", "chains/a/notes.txt"):
        files.write(name, b"x")
    (files.root or Path()).joinpath("chains", "b").mkdir()
    claim.commit(rows(0, 5))
    ledger = Ledger.open(files)
    assert (parts(ledger), ledger.skipped) == (["p"], [])
    assert ledger.state.packs["b"].attempt == 0


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_launch_after_damage_in_any_record_of_a_pack_ends_with_the_rows_of_an_undisturbed_one(
    tmp_path: Path, damage: str
) -> None:
    whole, store = str(tmp_path / "whole"), str(tmp_path / "damaged")
    grid = toy_grid(tmp_path, "resources.pack=3")
    run(grid, whole)
    run(grid, store)
    paths = opened(store).files.paths("chains")
    for path in paths:
        files = opened(store).files
        change = DAMAGE[damage]
        if change is None:
            files.delete(path)
        else:
            files.write(path, change(files.read(path) or b""))
        run(grid, store)
        assert trained(store).equals(trained(whole))
