"""Snapshots: the same state as from all records, wherever the snapshot was taken."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import SupersededError
from sweeper.store import snapshots
from sweeper.store.files import Files
from sweeper.store.ledger import SNAPSHOT_RECORDS, Ledger
from sweeper.store.sink import Claim
from tests.sweeps import ledger as opened
from tests.sweeps import rows as trained
from tests.sweeps import run, toy_grid
from tests.test_chain import begin, rows, split, take


def content(ledger: Ledger) -> dict[str, Any]:
    """Return the part of a ledger's state that counts, as plain values.

    The chain of a void pack isn't read any more. The files of a pack are read when needed.
    """
    alive = {p.id: p for p in ledger.state.ordered if not p.void}
    listings = {pack.path for pack in alive.values()}
    state = {**asdict(ledger.state), "packs": {}, "files": listings}
    for pack in alive.values():
        files = {"_parts": pack.parts, "_ends": pack.ends, "early": None}
        state["packs"][pack.id] = {**asdict(pack), **files}
    heads = {i: (c.head, c.accepted) for i, c in ledger.chains.items() if c.accepted and i in alive}
    return {"state": state, "number": ledger.number, "heads": heads}


def save(ledger: Ledger) -> str:
    sweep = ledger.meta["uid"]
    return snapshots.save(ledger.files, sweep, ledger.state, ledger.number, ledger.chains)


END = {"path": "e", "size": 1, "sha256": "", "rows": 1, "min_step": 3, "max_step": 3, "failed": 1}
SAVED = {"path": "c", "size": 1, "sha256": "", "step": 3, "attempt": 1}


def act(ledger: Ledger, claims: dict[str, Claim], kind: str, at: int) -> None:
    """Append one record of `kind` to the `at`-th pack, or to the root log."""
    ledger.refresh()
    packs = [p.id for p in ledger.state.ordered]
    pack = packs[at % len(packs)]
    part = rows(0, 3, f"{kind}-{at}", part=None)["part"]
    if kind == "launch":
        ledger.append({"kind": "launch", "launch_id": f"l{ledger.number}", "plan": {}})
    elif kind == "void":
        ledger.append({"kind": "void", "pack_ids": [pack]})
    elif kind == "compact":
        done = [p.id for p in ledger.state.ordered if p.done and not p.void and p.parts]
        entry = rows(0, 3, f"y{ledger.number}")["part"]
        removed = [part.path for i in done for _, part in ledger.state.packs[i].parts]
        record = {"removed": removed, "added": [entry], "at": 1.5, "pack_ids": done}
        ledger.append({"kind": "compact", **record})
    elif kind == "claim":
        claims[pack] = take(ledger, pack)
    elif pack in claims:
        more = {
            "rows": rows(0, 3, f"p{at}"),
            "saved": rows(0, 3, f"p{at}", checkpoint=SAVED),
            "ends": {"kind": "rows", "ends": END},
            "done": {"kind": "rows", "done": True, "part": part},
            "split": split(f"{pack}0", f"{pack}1", at=3),
        }
        claims[pack].commit(more[kind])


KINDS = ("launch", "void", "compact", "claim", "claim", "rows", "saved", "ends", "done", "split")


@given(
    before=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), max_size=14),
    after=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), max_size=14),
)
@settings(deadline=None)
def test_a_snapshot_and_the_records_after_it_make_the_state_of_all_records(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, int]],
    after: list[tuple[str, int]],
) -> None:
    files = Files.at(str(tmp_path_factory.mktemp("snap")))
    writer = begin(files, "a", "b", "c")
    claims: dict[str, Claim] = {}
    for steps in (before, after):
        for kind, at in steps:
            try:
                act(writer, claims, kind, at)
            except SupersededError:
                continue
        whole = Ledger.open(files)
        if steps is before:
            save(whole)
    fast = Ledger.open(files)
    files.delete(files.paths("snapshots")[0])
    slow = Ledger.open(files)
    assert content(fast) == content(slow)


@pytest.mark.parametrize("change", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_snapshot_is_passed_over(tmp_path: Path, change: str) -> None:
    files = Files.at(str(tmp_path / "sweep"), create=True)
    claim = take(begin(files, "a"))
    claim.commit(rows(0, 3, "one"))
    first = save(Ledger.open(files))
    claim.commit(rows(4, 5, "two"))
    whole = Ledger.open(files)
    last = save(whole)
    raw = files.read(last) or b""
    if change == "foreign":
        files.delete(last)
        whole.meta["uid"] = "another"
        save(whole)
    else:
        changed = {
            "cut": raw[:-9],
            "flipped": bytes([*raw[:9], raw[9] ^ 1, *raw[10:]]),
            "empty": b"",
        }
        files.write(last, changed[change])
    again = Ledger.open(files)
    assert [p.path for p, _ in again.state.parts()] == ["one", "two"]
    assert again.unsaved == 1, "the record after the first snapshot"
    assert files.paths("snapshots")[0] == first


def test_two_snapshots_are_kept(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path / "sweep"), create=True)
    claim = take(begin(files, "a"))
    written = []
    for step in range(4):
        claim.commit(rows(step, step))
        written.append(save(Ledger.open(files)))
    assert files.paths("snapshots") == written[-2:]


def test_a_launch_that_goes_on_from_a_snapshot_trains_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the records before the snapshot are damaged by now."""
    monkeypatch.setattr("sweeper.store.ledger.SNAPSHOT_RECORDS", 1)
    whole, store = str(tmp_path / "whole"), str(tmp_path / "grown")
    run(toy_grid(tmp_path, "seeds=2"), store)
    files = opened(store).files
    assert len(files.paths("snapshots")) == 1
    for path in files.paths("chains"):
        files.write(path, b"")
    assert run(toy_grid(tmp_path, "seeds=3"), store).counts.done == 18
    run(toy_grid(tmp_path, "seeds=3"), whole)
    assert trained(store).equals(trained(whole))
    assert SNAPSHOT_RECORDS == 1000
