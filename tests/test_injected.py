"""What the benchmarks of faults say about a sweep: its records, its rows, the time to recover."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import injected, invariants, stored
from benchmarks.injected import Fault, Result, first_line, first_row, row_of, table
from benchmarks.invariants import NAME, Comparison
from sweeper.store import chain
from sweeper.store.records import encode
from tests.sweeps import TOY, run, toy_grid


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    """The toy's sweep, in packs of 3, under the name that the benchmarks look for."""
    where = str(tmp_path / "store")
    run(toy_grid(tmp_path, "resources.pack=3", text=TOY.replace("toy\n", f"{NAME}\n", 1)), where)
    return where


def test_the_claims_of_a_launch_are_read_from_the_chains(sweep: str) -> None:
    book = stored.open_sweep(sweep, NAME)
    assert invariants.launches(sweep) == 1
    assert sorted(c["pack_id"] for c in invariants.claims(sweep, 0)) == sorted(book.state.packs)
    assert len(book.state.packs) == 4
    assert invariants.claims(sweep, 1) == []


def test_a_store_without_the_sweep_has_no_records(tmp_path: Path) -> None:
    assert list(invariants.records(str(tmp_path))) == []
    assert invariants.launches(str(tmp_path / "none")) == 0


def test_a_record_of_an_attempt_behind_a_newer_claim_is_a_late_commit(sweep: str) -> None:
    assert invariants.late_commits(sweep) == 0
    pack = invariants.claims(sweep, 0)[0]["pack_id"]
    for record in ({"kind": "claim", "attempt": 2}, {"kind": "rows", "attempt": 1}):
        folder = Path(sweep, NAME, chain.FOLDER, pack)
        number = len(list(folder.iterdir())) + 1
        content = encode({**record, "pack_id": pack, "at": 0.0}, chain.VERSION)
        (folder / f"{number:0{chain.DIGITS}d}.json").write_bytes(content)
    assert invariants.late_commits(sweep) == 1


def test_a_torn_record_is_none(sweep: str) -> None:
    every = list(invariants.records(sweep))
    path = next(Path(sweep, NAME, chain.FOLDER).rglob("*.json"))
    path.write_bytes(path.read_bytes()[:20])
    assert len(list(invariants.records(sweep))) == len(every) - 1


def test_lost_doubled_and_other_rows_are_counted(
    sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invariants.compare(sweep, sweep) == Comparison(0, 0, 12, 12)
    rows = stored.rows(stored.open_sweep(sweep, NAME))
    loss = rows["train_loss"].to_pylist()
    ids = rows["trial_id"].to_pylist()
    others = [i for i, trial in enumerate(ids) if trial not in (ids[0], ids[-1])]
    loss[others[0]] += 1e-16 + loss[others[0]] * 1e-15
    changed = rows.set_column(
        rows.column_names.index("train_loss"), "train_loss", pa.array(loss, pa.float64())
    )
    damaged = pa.concat_tables([changed.slice(2), changed.slice(len(ids) - 1)])
    answers = iter([damaged, rows])
    monkeypatch.setattr(stored, "rows", lambda _: next(answers))
    assert invariants.compare(sweep, sweep) == Comparison(lost=2, doubled=1, trials=12, equal=9)


def claim(pack: str, attempt: int, at: float) -> injected.Record:
    return {"kind": "claim", "pack_id": pack, "attempt": attempt, "at": at}


def committed(pack: str, attempt: int, at: float) -> injected.Record:
    return {"kind": "rows", "part": {}, "pack_id": pack, "attempt": attempt, "at": at}


def test_recovery_ends_with_the_first_rows_of_an_attempt_that_began_after_the_fault() -> None:
    known = [
        claim("a", 1, 1.0),
        claim("b", 1, 1.0),
        committed("b", 1, 12.0),  # the worker of a driver that was killed
        claim("b", 2, 14.0),
        {"kind": "rows", "pack_id": "b", "attempt": 2, "at": 15.0, "done": True},
        claim("a", 2, 16.0),
        committed("a", 2, 19.0),
        committed("b", 2, 18.0),
    ]
    assert first_row(known, Fault(10.0)) == 18.0
    assert first_row(known, Fault(10.0, "a")) == 19.0
    assert first_row(known, Fault(10.0, ended=15.0)) == 19.0
    assert first_row(known, Fault(17.0)) is None


def test_a_message_is_its_first_line_without_what_differs_each_time() -> None:
    text = "\n\x1b[33merror: /a/b/log/1.json: process 1234 (pid=99) has ended\x1b[0m\nmore"
    assert first_line(text) == "error: .../1.json: process N (pid=99) has ended"
    assert first_line(" \n") == ""
    assert first_line("x" * 200) == "x" * 160 + " ..."


def test_a_row_of_the_table_has_the_median_and_the_worst_time() -> None:
    result = Result("cut", injected=3, first_row_s=[1.0, 9.0, 2.0])
    result.add(Comparison(0, 0, 16, 16))
    result.messages.update(["", "", "error: no"])
    result.actions.update(["launch again"] * 3)
    assert row_of(result) == [
        *("cut", "3", "0", "0", "16 of 16", "-", "2.0, 9.0", "-"),
        *("none; `error: no`", "launch again (3)"),
    ]
    assert not result.broken
    assert len(table([result]).splitlines()) == 3
    result.add(Comparison(0, 0, 16, 15))
    assert result.broken
