"""`sweeper doctor` on sweeps made by hand, each with one fault in its files or its rows."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweeper.store.ledger import Ledger
from tests.examined import LOGGED, TRIALS, Sweep, ends, rows
from tests.stores import Planned


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
    if kind == "metrics":
        sweep.made.rows(sweep.pack, sweep.begun, ends=ends(*TRIALS))
    else:
        sweep.made.rows(sweep.pack, sweep.begun, rows(*TRIALS))
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
    digest = sha256(b"state").hexdigest()
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
    no_parquet: "metrics/odd.parquet: damaged: no table of a sweep (*",
    wrong_type: "metrics/3.parquet: damaged: its column train_loss is of type string.",
    wrong_column: "metrics/3.parquet: damaged: no table of a sweep (it needs the column trial_id of type string).",
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


def test_a_pack_that_goes_on_from_a_void_one_is_void_too(sweep: Sweep) -> None:
    sweep.done(checkpoint=("checkpoints/c.pt", 10))
    for path in sweep.path("ends").iterdir():
        path.write_bytes(b"torn")
    table = sweep.made.pack(TRIALS, start="checkpoints/c.pt")
    listed = sweep.ledger.state.packs[table]
    entry = {"path": listed.path, "sha256": sweep.ledger.state.files[listed.path]}
    packs = [{"id": table, "size": 2, "parents": [sweep.pack]}]
    sweep.ledger.append({"kind": "packs", "packs": packs, **entry})
    assert sweep.doctor("--repair")[0] == 0
    (record,) = [
        record
        for path in sweep.ledger.files.paths("log")
        if (record := sweep.ledger.decoded(path, sweep.ledger.files.read(path) or b""))["kind"]
        == "void"
    ]
    assert record["pack_ids"] == sorted([sweep.pack, table]), "by one record"
