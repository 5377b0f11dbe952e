"""`sweeper doctor` on stores made by hand, each with one fault that it has to name."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweeper.doctor import litter
from sweeper.store import chain, records, snapshots
from sweeper.store.lease import driving
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.schema import FORMAT, logged_steps
from tests.commands import sweeper
from tests.stores import Made, Planned, curve, end

LOGGED = logged_steps(50, 10)
TRIALS = ("t", "u")


def rows(*trials: str, steps: Sequence[int] = LOGGED) -> list[Record]:
    return [row for trial in trials for row in curve(trial, steps, train_loss=[0.5] * len(steps))]


def ends(*trials: str, at: int = 10) -> list[Record]:
    return [end(trial, "censored", at) for trial in trials]


class Sweep:
    """A sweep with one launch of t and u, and one pack of both that has ended.

    Attributes:
        pack: The pack.
    """

    def __init__(self, store: Path, *, trials: Sequence[str] = TRIALS) -> None:
        self.store = store
        self.made = Made.at(store)
        self.launch = self.made.launch([Planned(trial) for trial in trials], steps=10)
        self.pack = self.made.pack(TRIALS)
        self.begun = self.made.claim(self.pack, self.launch)

    def done(self, **changes: Any) -> Sweep:
        """End the pack."""
        given = {"rows": rows(*TRIALS), "ends": ends(*TRIALS), "done": True} | changes
        self.made.rows(self.pack, self.begun, **given)
        return self

    @property
    def ledger(self) -> Ledger:
        return self.made.ledger

    def path(self, name: str) -> Path:
        return self.store / "demo" / name

    def doctor(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """Return the exit code and the findings that aren't notes on the last line's sweep."""
        asked = sweeper("doctor", "demo", "--store", str(self.store), "--json", *options)
        assert asked.stderr == ""
        return asked.returncode, [json.loads(line) for line in asked.stdout.splitlines()]

    def named(self, severity: str = "error") -> str:
        """Return the message of the only finding that isn't a note; check the exit code."""
        code, events = self.doctor()
        found = [e for e in events if e["event"] == "finding" and e["severity"] != "note"]
        assert [e["severity"] for e in found] == [severity], found
        assert code == (2 if severity == "error" else 0)
        assert events[-1]["well"] == (severity != "error")
        return f"{found[0]['place']}: {found[0]['message']}"

    def is_mended(self) -> bool:
        """Repair; return whether nothing but notes is left, and the pack is void."""
        code, events = self.doctor("--repair")
        left = [e for e in events if e["event"] == "finding" and e["severity"] != "note"]
        return code == 0 and not left and Ledger.open(self.ledger.files).state.packs[self.pack].void


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_a_whole_sweep_is_well(sweep: Sweep) -> None:
    sweep.done()
    code, events = sweep.doctor()
    whole = {"event": "sweep", "name": "demo", "well": True}
    size = {"records": 4, "files": 4, "rows": 2 * len(LOGGED), "trials": 2}
    assert (code, events) == (0, [whole | size])
    code, after = sweep.doctor("--repair")
    assert (code, after) == (0, events), "there is nothing to repair, and no record is written"


def second_part(sweep: Sweep) -> None:
    sweep.made.rows(sweep.pack, sweep.begun, rows("u", steps=(3,)))
    sweep.done()


def gap(sweep: Sweep) -> None:
    steps = [step for step in LOGGED if step != 4]
    sweep.done(rows=rows("t") + rows("u", steps=steps))


def late_start(sweep: Sweep) -> None:
    sweep.done(rows=rows("t") + rows("u", steps=LOGGED[1:]))


def end_beyond(sweep: Sweep) -> None:
    sweep.done(rows=rows("t") + rows("u", steps=LOGGED[:-2]))


def end_without_rows(sweep: Sweep) -> None:
    sweep.done(rows=rows("t"))


def rows_beyond(sweep: Sweep) -> None:
    sweep.done(ends=ends("t") + ends("u", at=LOGGED[-2]))


def of_no_pack(sweep: Sweep) -> None:
    sweep.done(rows=rows("t", "u", "x"))


def lost_launch(sweep: Sweep) -> None:
    sweep.made.claim(sweep.pack, "another")
    sweep.done()


def lost_claim(sweep: Sweep) -> None:
    sweep.begun = 2
    sweep.done()


def same_claim(sweep: Sweep) -> None:
    claim = {"kind": "claim", "attempt": 1, "launch_id": sweep.launch, "resumed_at": -1}
    sweep.ledger.append_to(sweep.pack, claim)
    sweep.done()


def lost_parent(sweep: Sweep) -> None:
    sweep.done()
    sweep.ledger.state.packs[sweep.pack].parents = ()
    table = sweep.ledger.state.packs[sweep.pack]
    entry = {"path": table.path, "sha256": sweep.ledger.state.files[table.path]}
    listed = [{"id": sweep.pack, "size": 2, "parents": ["gone"]}]
    sweep.ledger.append({"kind": "packs", "packs": listed, **entry})


def smaller_listing(sweep: Sweep) -> None:
    sweep.done()
    table = sweep.ledger.state.packs[sweep.pack]
    entry = {"path": table.path, "sha256": sweep.ledger.state.files[table.path]}
    sweep.ledger.append({"kind": "packs", "packs": [{"id": sweep.pack, "size": 3}], **entry})


def written(sweep: Sweep, kind: str, **changes: Any) -> None:
    """Commit a copy of a file's entry, changed."""
    sweep.done()
    name = "part" if kind == "metrics" else kind
    pack = sweep.ledger.state.packs[sweep.pack]
    ((_, part),) = pack.parts if kind == "metrics" else pack.ends
    fields = ("path", "size", "sha256", "rows", "min_step", "max_step")
    entry = {field: getattr(part, field) for field in fields} | changes
    sweep.ledger.append({"kind": "void", "pack_ids": [sweep.pack]})
    sweep.pack = sweep.made.pack(TRIALS)
    sweep.begun = sweep.made.claim(sweep.pack, sweep.launch)
    other = {"ends": ends(*TRIALS)} if kind == "metrics" else {"rows": rows(*TRIALS)}
    sweep.made.rows(sweep.pack, sweep.begun, **other)
    record = {"kind": "rows", "attempt": sweep.begun, name: entry, "done": True}
    sweep.ledger.append_to(sweep.pack, record)


def fewer_rows(sweep: Sweep) -> None:
    written(sweep, "metrics", rows=7)


def other_steps(sweep: Sweep) -> None:
    written(sweep, "metrics", max_step=9)


def other_size(sweep: Sweep) -> None:
    written(sweep, "ends", size=3)


def no_parquet(sweep: Sweep) -> None:
    sweep.ledger.files.write("metrics/odd.parquet", b"state")
    digest = records.sha256(b"state").hexdigest()
    written(sweep, "metrics", path="metrics/odd.parquet", size=5, sha256=digest)


def wrong_type(sweep: Sweep) -> None:
    table = pa.table({"trial_id": ["t"], "step": [0], "train_loss": ["high"]})
    sweep.made.append_table(sweep.pack, sweep.begun, table)


def wrong_column(sweep: Sweep) -> None:
    sweep.made.append_table(sweep.pack, sweep.begun, pa.table({"trial": ["t"], "step": [0]}))


def torn_metrics(sweep: Sweep) -> None:
    sweep.done()
    for path in sweep.path("metrics").iterdir():
        path.write_bytes(b"torn")


def torn_ends(sweep: Sweep) -> None:
    sweep.done()
    for path in sweep.path("ends").iterdir():
        path.unlink()


def torn_listing(sweep: Sweep) -> None:
    sweep.done()
    for path in sweep.path("packs").iterdir():
        path.write_bytes(b"torn")


def no_checkpoint(sweep: Sweep) -> None:
    sweep.made.rows(sweep.pack, 1, rows(*TRIALS), checkpoint=("checkpoints/c.pt", 10))
    sweep.path("checkpoints/c.pt").unlink()


FAULTS: dict[Callable[[Sweep], None], str] = {
    second_part: "demo: 1 trial more than once at a step: u, in 1 pack: {pack}.",
    gap: "demo: 1 trial without some of the logged steps: u, in 1 pack: {pack}.",
    late_start: "demo: 1 trial without some of the logged steps: u, in 1 pack: {pack}.",
    end_beyond: "demo: 1 trial without some of the logged steps: u, in 1 pack: {pack}.",
    end_without_rows: "demo: 1 trial without some of the logged steps: u, in 1 pack: {pack}.",
    rows_beyond: "demo: 1 trial with rows after its end: u, in 1 pack: {pack}.",
    of_no_pack: "demo: 1 trial with rows, though no pack lists them: x, in 1 pack: {pack}.",
    lost_launch: "demo: 1 pack trained in a launch that no record names (another): {pack}.",
    lost_claim: "demo: 1 pack with rows of an attempt that never began: {pack}.",
    same_claim: "demo: 1 pack with attempts that aren't in order: {pack}.",
    lost_parent: "demo: 1 pack going on from a pack that no record lists (gone): {pack}.",
    smaller_listing: "packs/2.parquet: lists 2 trials of pack {pack} instead of 3.",
    fewer_rows: f"metrics/3.parquet: has {2 * len(LOGGED)} rows instead of 7, unlike its record.",
    other_steps: "metrics/3.parquet: has steps 0 to 10 instead of 0 to 9, unlike its record.",
    other_size: "damaged: it has * bytes instead of 3.",
    no_parquet: "metrics/odd.parquet: no Parquet file: *",
    wrong_type: "metrics/3.parquet: column train_loss is of type string.",
    wrong_column: "metrics/3.parquet: has no column trial_id.",
    torn_metrics: "metrics/3.parquet: damaged: it has 4 bytes instead of *",
    torn_ends: "ends/3.parquet: missing, though the ledger lists it.",
    torn_listing: "packs/2.parquet: damaged: its checksum differs from the ledger's.",
    no_checkpoint: "checkpoints/c.pt: missing, though the ledger lists it.",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_and_its_pack_made_void(
    sweep: Sweep, fault: Callable[[Sweep], None]
) -> None:
    fault(sweep)
    before, _, after = FAULTS[fault].format(pack=sweep.pack).partition("*")
    text = sweep.named()
    assert before in text, text
    assert text.endswith(after) or not after, text
    assert sweep.is_mended()


@pytest.mark.parametrize("begun", [False, True])
def test_a_trial_in_two_packs_that_both_count(sweep: Sweep, begun: bool) -> None:
    """So it is after the record is lost that voided the first: the later one stays."""
    if begun:
        sweep.done()
    later = sweep.made.pack(["u"])
    sweep.made.claim(later, sweep.launch)
    if not begun:
        sweep.made.rows(later, 1, rows("u"), ends("u"), done=True)
    text = sweep.named()
    assert text.endswith(f"demo: 1 trial in two packs that both count: u, in 1 pack: {sweep.pack}.")
    assert sweep.is_mended()
    assert not Ledger.open(sweep.ledger.files).state.packs[later].void


def test_a_trial_that_a_smaller_grid_left_and_a_later_one_trained_anew_is_well(
    sweep: Sweep,
) -> None:
    early = [step for step in LOGGED if step <= 5]
    sweep.made.rows(
        sweep.pack, 1, rows(*TRIALS, steps=early), checkpoint=("checkpoints/c.pt", early[-1])
    )
    again = sweep.made.claim(sweep.pack, sweep.launch, resumed_at=early[-1])
    rest = LOGGED[len(early) :]
    sweep.made.rows(sweep.pack, again, rows("t", steps=rest), ends("t"), done=True)
    later = sweep.made.pack(["u"])
    sweep.made.claim(later, sweep.launch)
    sweep.made.rows(later, 1, rows("u"), ends("u"), done=True)
    assert sweep.doctor()[0] == 0


def test_rows_at_steps_of_its_own_are_no_gap(sweep: Sweep) -> None:
    sweep.done(rows=rows("t") + rows("u", steps=(0, 7, 10)))
    assert "without some of the logged steps" in sweep.named()
    other = Sweep(sweep.store / "other")
    steps = (0, 17, 30)
    other.done(rows=rows(*TRIALS, steps=steps), ends=ends(*TRIALS, at=30))
    assert "every trial lacks some of the logged steps" in other.named("warning")


def test_rows_between_the_logged_steps_are_a_warning(sweep: Sweep) -> None:
    steps = (*LOGGED, 9999)
    sweep.done(rows=rows("t") + rows("u", steps=steps), ends=ends("t") + ends("u", at=9999))
    assert "1 trial with rows at other steps than the logged ones, e.g. u." in sweep.named(
        "warning"
    )


def test_a_start_that_no_record_names(sweep: Sweep) -> None:
    sweep.done()
    sweep.pack = sweep.made.pack(["v"], start="checkpoints/gone.pt")
    text = sweep.named()
    assert text.endswith(
        f"checkpoints/gone.pt: pack {sweep.pack} begins at this checkpoint, which no record names."
    )
    assert sweep.is_mended()


def test_a_start_that_is_damaged(sweep: Sweep) -> None:
    sweep.done(checkpoint=("checkpoints/c.pt", 10))
    later = sweep.made.pack(TRIALS, start="checkpoints/c.pt")
    sweep.path("checkpoints/c.pt").write_bytes(b"torn")
    code, events = sweep.doctor()
    assert (code, events[0]["packs"], events[1]["severity"]) == (2, [later], "warning")
    assert events[0]["message"] == (
        "damaged: its checksum differs from the ledger's. " + f"Pack {later} begins at it."
    )


def test_a_final_checkpoint_that_is_damaged_is_a_warning(sweep: Sweep) -> None:
    sweep.done(checkpoint=("checkpoints/c.pt", 10))
    sweep.path("checkpoints/c.pt").unlink()
    assert sweep.named("warning").endswith("c.pt: missing, though the ledger lists it.")
    assert not sweep.is_mended(), "nothing is void"


def test_a_damaged_plan_is_named(sweep: Sweep) -> None:
    sweep.done()
    sweep.path("plans/1.parquet").write_bytes(b"torn")
    assert "plans/1.parquet: damaged" in sweep.named()
    sweep.made.launch([Planned("t")], steps=10)
    assert "plans/1.parquet: damaged" in sweep.named("warning"), "no view but that of all needs it"


@pytest.mark.parametrize("known", [True, False])
def test_a_compacted_file_of_packs_that_do_not_count_is_named(sweep: Sweep, known: bool) -> None:
    sweep.done(done=not known)
    ((_, part),) = sweep.ledger.state.packs[sweep.pack].parts
    fields = ("path", "size", "sha256", "rows", "min_step", "max_step")
    entry = {field: getattr(part, field) for field in fields}
    packs = [sweep.pack, *(() if known else ("gone",))]
    if known:
        sweep.made.claim(sweep.pack, sweep.launch)
    record = {"kind": "compact", "removed": [part.path], "added": [entry], "pack_ids": packs}
    sweep.ledger.append(record)
    reason = (
        f"packs that aren't finished by their own records: {sweep.pack}."
        if known
        else "rows of packs that no record lists: gone."
    )
    assert sweep.named().endswith(f"metrics/3.parquet: compacted from {reason}")
    assert sweep.is_mended()


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
    assert set(sweep.ledger.files.paths("")) - {litter.LOCK} == set(before)
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
    torn_metrics(sweep)
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
