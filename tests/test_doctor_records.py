"""`sweeper doctor` on sweeps made by hand: records, snapshots, litter, and the command itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sweeper.doctor import litter
from sweeper.doctor.examine import examine
from sweeper.doctor.repair import repair
from sweeper.store import chain, records, snapshots
from sweeper.store.lease import LOCK, driving
from sweeper.store.ledger import Ledger
from sweeper.store.schema import FORMAT
from sweeper.store.state import State
from tests.buckets import serving
from tests.commands import sweeper
from tests.examined import LOGGED, TRIALS, Sweep, rows
from tests.stores import Made


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def chain_of(sweep: Sweep, number: int) -> Path:
    return sweep.path(f"chains/{sweep.pack}/{number:09d}.json")


def test_damaged_and_missing_records_of_chains_are_named(sweep: Sweep) -> None:
    sweep.made.rows(sweep.pack, 1, rows(*TRIALS, steps=LOGGED[:3]))
    sweep.made.rows(sweep.pack, 1, rows(*TRIALS, steps=LOGGED[3:5]))
    whole = chain_of(sweep, 3).read_bytes()
    chain_of(sweep, 3).write_bytes(whole[:-1])
    assert sweep.named("warning").endswith(
        f"000000003.json: damaged: {len(whole) - 1} bytes that don't match their checksum. It "
        "counts as absent."
    )
    chain_of(sweep, 3).write_bytes(chain_of(sweep, 1).read_bytes())
    assert sweep.named("warning").endswith(
        "000000003.json: of another attempt, or follows a damaged record. It doesn't count."
    )
    chain_of(sweep, 3).write_bytes(whole)
    chain_of(sweep, 2).unlink()
    assert sweep.named("warning").endswith(
        f"000000002.json: missing, though chains/{sweep.pack}/000000003.json follows. Later "
        "records don't count."
    )


def test_a_record_of_a_chain_that_is_not_understood_is_named(sweep: Sweep) -> None:
    followed = chain.Chain.first(sweep.ledger.uid, sweep.pack)
    followed.accept(sweep.ledger.files, chain_of(sweep, 1).read_bytes())
    followed.append(sweep.ledger.files, {"kind": "merge", "nonce": "0"})
    assert sweep.named().endswith("000000002.json: damaged: its kind 'merge' is unknown.")


def test_a_chain_of_no_pack_is_named_and_can_be_listed_no_more(sweep: Sweep) -> None:
    sweep.done()
    sweep.path("chains/gone").mkdir()
    sweep.path("chains/gone/000000001.json").write_bytes(chain_of(sweep, 1).read_bytes())
    assert sweep.named("warning").endswith(
        "chains: records of 1 pack that no record lists: gone. They don't count."
    )
    assert sweep.doctor("--repair")[0] == 0
    state = Ledger.open(sweep.ledger.files).state
    assert (state.voided, state.packs[sweep.pack].void) == ({"gone"}, False)


def test_a_late_record_for_a_deleted_sweep_is_a_note(sweep: Sweep) -> None:
    sweep.done()
    late = {"kind": "void", "pack_ids": [sweep.pack], "sweep": "another", "nonce": "0" * 16}
    sweep.ledger.files.create("log/000000000003.json", records.encode(late, FORMAT))
    code, events = sweep.doctor()
    assert (code, events[0]["severity"]) == (0, "note")
    assert events[0]["message"] == "written for a deleted sweep of this name. It has no effect."


def test_damaged_records_at_the_end_are_named_and_moved_aside(sweep: Sweep) -> None:
    sweep.done()
    sweep.path("log/000000000003.json").write_bytes(b"")
    assert sweep.named().endswith(
        "000000000003.json: damaged, and no whole record follows. It counts as absent."
    )
    code, _ = sweep.doctor("--repair")
    assert code == 0
    assert sweep.path("damaged/000000000003.json").exists()
    assert "1 file moved aside to damaged/ earlier" in sweep.doctor()[1][0]["message"]


def test_a_launch_is_shown_without_those_beside_it_that_are_lost() -> None:
    state = State()
    state.fold({"kind": "launch", "launch_id": "b"})
    state.fold({"kind": "launch", "launch_id": "c", "beside": ["a", "b"]})
    assert state.launches["c"]["beside"] == ["b"]


def snapshot(sweep: Sweep) -> str:
    book = Ledger.open(sweep.ledger.files)
    return snapshots.save(book.files, book.uid, book.state, book.number, book.chains)


def test_a_damaged_snapshot_is_named_and_moved_aside(sweep: Sweep) -> None:
    sweep.done()
    path = sweep.path(snapshot(sweep))
    assert sweep.doctor()[0] == 0
    path.write_bytes(b"torn")
    assert sweep.named("warning").endswith(f"{path.name}: damaged; readers pass it over.")
    code, events = sweep.doctor("--repair")
    assert (code, events[0]["action"]) == (
        0,
        f"snapshots/{path.name} was moved to damaged/{path.name}",
    )
    assert not path.exists()


@pytest.mark.parametrize("what", ["void", "parts", "launches"])
def test_a_snapshot_that_differs_from_the_records_is_named(sweep: Sweep, what: str) -> None:
    sweep.made.rows(sweep.pack, 1, rows(*TRIALS, steps=LOGGED[:3]))
    book = Ledger.open(sweep.ledger.files)
    pack = book.state.packs[sweep.pack]
    if what == "void":
        pack.void = True
    elif what == "parts":
        pack.parts.pop()
    else:
        book.state.launches[sweep.launch]["steps"] = 9
    snapshots.save(book.files, book.uid, book.state, book.number, book.chains)
    where = "launches" if what == "launches" else f"pack {sweep.pack}"
    assert sweep.named().endswith(f"differs from the records that it stands for: {where}.")
    assert sweep.doctor("--repair")[0] == 0
    assert sweep.doctor()[0] == 0
    assert not Ledger.open(sweep.ledger.files).state.packs[sweep.pack].void


@pytest.mark.parametrize("how", ["damaged", "missing"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_lost_record_that_a_snapshot_covers_costs_nothing_and_is_left_alone(
    sweep: Sweep, number: int, how: str
) -> None:
    sweep.done()
    path = snapshot(sweep)
    lost = sweep.path(f"log/{number:012d}.json")
    lost.write_bytes(b"rotten") if how == "damaged" else lost.unlink()
    text = sweep.named("warning")
    assert f"{path} holds its effect: nothing is lost as long as that file is there." in text
    before = sweep.ledger.files.paths("")
    assert sweep.doctor("--repair")[0] == 0
    assert set(sweep.ledger.files.paths("")) - {LOCK} == set(before)
    assert Ledger.open(sweep.ledger.files).state.packs[sweep.pack].done


def test_a_snapshot_from_before_a_lost_record_does_not_cover_it(sweep: Sweep) -> None:
    sweep.done()
    path = sweep.path(snapshot(sweep))
    sweep.ledger.append({"kind": "void", "pack_ids": []})
    sweep.ledger.append({"kind": "void", "pack_ids": []})
    sweep.path("log/000000000003.json").write_bytes(b"rotten")
    assert sweep.named().endswith("their checksum, though later records follow.")
    assert sweep.doctor("--repair")[0] == 0
    assert not path.exists(), "it could hold the effect of a record that is lost now"


def test_litter_is_counted_and_deleted_once_it_is_old(sweep: Sweep) -> None:
    sweep.done()
    old = ["metrics/a.parquet", "ends/b.parquet", "checkpoints/c.pt", "metrics/d.parquet#123"]
    for name in (*old, "metrics/fresh.parquet", "notes.txt", "log/desktop.ini"):
        sweep.path(name).parent.mkdir(exist_ok=True)
        sweep.path(name).write_bytes(b"12345")
    ago = time.time() - litter.OLD_S - 60
    for path in sweep.path("").rglob("*"):
        if path.name != "fresh.parquet":
            os.utime(path, (ago, ago))
    kept = [p for p in sweep.path("").rglob("*") if str(p.relative_to(sweep.path(""))) not in old]
    code, events = sweep.doctor()
    assert (code, [event["message"].partition(":")[0] for event in events[:-1]]) == (
        0,
        [
            "4 files that no record needs, older than a day",
            "1 file that no record needs, younger than a day",
            "2 files of other programs",
        ],
    )
    assert "20 bytes: checkpoints/c.pt, ends/b.parquet" in events[0]["message"]
    code, events = sweep.doctor("--repair")
    assert (code, events[0]["action"]) == (0, "4 files that no record needs deleted: 20 bytes")
    assert not any(sweep.path(name).exists() for name in old)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("how", ["damaged", "all missing", "last missing"])
def test_files_that_a_lost_record_may_have_named_are_never_deleted(sweep: Sweep, how: str) -> None:
    sweep.done(checkpoint=("checkpoints/c.pt", 10))
    sweep.path("metrics/d.parquet#123").write_bytes(b"")
    if how == "last missing":
        sweep.path("log/000000000002.json").unlink()
    elif how == "damaged":
        sweep.path("log/000000000001.json").write_bytes(b"rotten")
    else:
        for path in sweep.path("log").iterdir():
            path.unlink()
        assert (
            "log/000000000001.json: missing, as are all others"
            in sweep.doctor()[1][0]["place"] + ": " + sweep.doctor()[1][0]["message"]
        )
    ago = time.time() - litter.OLD_S - 60
    for path in sweep.path("").rglob("*"):
        os.utime(path, (ago, ago))
    named = {f for f in sweep.ledger.files.paths("") if not f.startswith("log/")}
    for _ in range(2):
        assert sweep.doctor("--repair")[0] == 0
    assert named <= set(sweep.ledger.files.paths(""))
    assert not sweep.path("metrics/d.parquet#123").exists()
    notes = [event["message"] for event in sweep.doctor()[1][:-1]]
    assert any("in place of a lost record" in note for note in notes) == (how != "last missing")


def test_files_of_void_packs_are_no_litter(sweep: Sweep) -> None:
    sweep.done(checkpoint=("checkpoints/c.pt", 10))
    sweep.ledger.append({"kind": "void", "pack_ids": [sweep.pack]})
    assert sweep.doctor()[1][:-1] == []


def test_an_old_lease_is_a_note(sweep: Sweep) -> None:
    sweep.done()
    sweep.made.lease(sweep.launch, age_s=3600)
    code, events = sweep.doctor()
    assert (code, events[0]["severity"], events[0]["check"]) == (0, "note", "lease")
    sweep.made.lease(sweep.launch)
    assert len(sweep.doctor()[1]) == 1
    sweep.path("lease.json").write_bytes(b"torn")
    assert sweep.doctor()[1][0]["message"] == "can't be read."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing. Restore it from a backup."),
        (b"{", "damaged: 1 bytes that aren't a record."),
        (b'{"format": 3, "name": "demo"}', "damaged: points_per_decade must be given."),
        (b'{"format": 9, "name": "demo", "points_per_decade": 50}', "format 9, written by a newer"),
    ],
)
def test_a_damaged_mark_is_named(sweep: Sweep, content: bytes | None, reason: str) -> None:
    sweep.done()
    path = sweep.path("sweep.json")
    path.unlink() if content is None else path.write_bytes(content)
    assert f"sweep.json: {path}" not in sweep.named()
    assert reason in sweep.named()
    code, events = sweep.doctor("--repair")
    assert (code, events[-1]["well"]) == (2, False)


def test_a_sweep_that_is_driven_is_examined_and_not_repaired(sweep: Sweep) -> None:
    sweep.done()
    for path in sweep.path("metrics").iterdir():
        path.write_bytes(b"torn")
    with driving(Ledger.open(sweep.ledger.files), "l"):
        assert "damaged: it has 4 bytes" in sweep.named()
        asked = sweeper("doctor", "demo", "--store", str(sweep.store), "--repair")
        assert asked.returncode == 2
        assert "is launching this sweep" in asked.stderr
    assert sweep.is_mended()


def test_all_sweeps_take_a_line_each_and_one_that_cannot_be_read_hides_none(sweep: Sweep) -> None:
    sweep.done()
    Made.at(sweep.store, "broken").ledger.files.write("log/000000000002.json", b"x")
    asked = sweeper("doctor", "--store", str(sweep.store))
    assert asked.returncode == 2
    lines = [line for line in asked.stdout.splitlines() if not line.startswith(("note", "warning"))]
    assert lines[0].startswith("broken: 2 errors in")
    assert lines[1].startswith("demo: well: 4 records, 4 files, 22 rows of 2 trials")
    assert sorted(p.name for p in sweep.store.iterdir()) == ["broken", "demo"], "no probe is left"


def test_repair_needs_a_name_and_a_sweep(sweep: Sweep) -> None:
    asked = sweeper("doctor", "--repair", "--store", str(sweep.store))
    assert (asked.returncode, asked.stderr) == (
        2,
        "error: --repair mends one sweep: write `sweeper doctor NAME --repair`.\n",
    )
    asked = sweeper("doctor", "dem", "--store", str(sweep.store))
    assert asked.returncode == 2
    assert asked.stderr == f"error: no sweep 'dem' in {sweep.store}. There: demo.\n"


def test_a_sweep_in_a_bucket_is_examined_and_repaired() -> None:
    with serving() as bucket:
        files = bucket.files()
        ledger = Ledger.create(files, {"name": "x", "points_per_decade": 50})
        for pack_ids in ([], ["a"], []):
            ledger.append({"kind": "void", "pack_ids": pack_ids})
        files.write("metrics/old.parquet", b"12345")  # all files of this bucket are months old
        assert repair(files, "x")[0] == ["1 file that no record needs deleted: 5 bytes"]
        assert (examine(files, "x").findings, files.paths("metrics")) == ([], [])
        files.write("log/000000000002.json", b"rotten")
        assert [f.severity for f in examine(files, "x").findings] == ["error"]
        done, after = repair(files, "x")
        assert (len(done), after.is_well) == (1, True)
        assert Ledger.open(files).state.voided == set(), "the lost record's"
