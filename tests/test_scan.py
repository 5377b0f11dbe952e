"""A scan reads each file once; its result leaves out the packs that are damaged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sweeper.store.files import Files
from sweeper.store.scan import damaged_checkpoints, scan
from tests.stores import Made, curve, end


@pytest.fixture
def book(tmp_path: Path) -> Made:
    """Return a store of three packs with one trial each; the third goes on from the second."""
    book = Made.at(tmp_path)
    book.ledger.append({"kind": "launch", "launch_id": "l"})
    for k, trial in enumerate("abc"):
        pack = book.pack([trial])
        attempt = book.claim(pack, "l")
        rows, ends = curve(trial, [0, 10], train_loss=[2.0, 1.0]), [end(trial, "censored", 10, 12)]
        book.rows(pack, attempt, rows, ends, done=True, checkpoint=(f"{k}.pt", 10))
    book.ledger.state.packs["pack-5"].parents = ("pack-3",)
    return book


def _tear(book: Made, path: str) -> str:
    """Damage a file; return the message that names it."""
    book.ledger.files.write(path, b"torn")
    return f"{book.ledger.files.location(path)}: damaged: its checksum differs from the ledger's."


def test_a_scan_reads_each_file_once_and_its_result_reads_none(
    book: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    original = Files.read

    def counted(self: Files, path: str) -> bytes | None:
        read[path] += 1
        return original(self, path)

    monkeypatch.setattr(Files, "read", counted)
    files = scan(book.ledger)
    packs = book.ledger.state.packs.values()
    listed = {p.path for p in packs}
    listed |= {part.path for p in packs for _, part in [*p.parts, *p.ends]}
    assert read == dict.fromkeys(listed, 1)
    read.clear()
    first, second = files.result(), files.result({"pack-3": "0.pt: torn"})
    assert read == {}
    assert first.ends.to_pydict() == {
        "trial_id": ["a", "b", "c"],
        "status": ["censored"] * 3,
        "last_step": [10] * 3,
        "steps": [12] * 3,
        "pack_id": ["pack-1", "pack-3", "pack-5"],
        "attempt": [1] * 3,
    }
    assert (first.void, first.damage) == (frozenset(), ())
    assert second.ends["trial_id"].to_pylist() == ["a"], "c goes on from b"
    assert (second.void, second.damage) == (frozenset({"pack-3", "pack-5"}), ("0.pt: torn",))


def test_a_damaged_file_takes_its_pack_and_those_that_go_on_from_it(book: Made) -> None:
    ((_, part),) = book.ledger.state.packs["pack-3"].parts
    message = (
        f"{book.ledger.files.location(part.path)}: damaged: it has 4 bytes instead of {part.size}."
    )
    book.ledger.files.write(part.path, b"torn")
    for proven in (True, False):
        result = scan(book.ledger, proven=proven).result()
        assert result.ends["trial_id"].to_pylist() == ["a"]
        assert (result.void, result.damage) == (frozenset({"pack-3", "pack-5"}), (message,))


def test_a_damaged_listing_takes_its_pack_alone(book: Made) -> None:
    message = _tear(book, book.ledger.state.packs["pack-1"].path)
    result = scan(book.ledger).result()
    assert result.ends["trial_id"].to_pylist() == ["b", "c"]
    assert (result.void, result.damage) == (frozenset({"pack-1"}), (message,))


def test_a_changed_byte_is_seen_where_checksums_are_proven(book: Made) -> None:
    ((_, part),) = book.ledger.state.packs["pack-5"].parts
    raw = book.ledger.files.read(part.path) or b""
    book.ledger.files.write(part.path, raw[:-1] + b"?")
    assert scan(book.ledger, proven=False).result().void == frozenset()
    assert scan(book.ledger).result().void == frozenset({"pack-5"})


def test_a_void_pack_is_left_out_and_no_damage_of_its_own_is_told(book: Made) -> None:
    book.ledger.append({"kind": "void", "pack_ids": ["pack-1"], "why": []})
    _tear(book, book.ledger.state.packs["pack-1"].path)
    result = scan(book.ledger).result()
    assert result.ends["trial_id"].to_pylist() == ["b", "c"]
    assert (result.void, result.damage) == (frozenset(), ())


def test_only_the_packs_asked_for_have_their_checkpoints_checked(book: Made) -> None:
    message = _tear(book, "1.pt")
    _tear(book, "2.pt")
    assert damaged_checkpoints(book.ledger, ["pack-1", "pack-3"]) == {"pack-3": message}
