"""Files of ends become one table: which packs, which attempts, up to which step."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.store.outcomes import ended_trials
from sweeper.store.schema import ENDS
from tests.stores import Made, end


@pytest.fixture
def book(tmp_path: Path) -> Made:
    """Return a store of two packs; the first one was resumed at step 10."""
    book = Made.at(tmp_path)
    book.ledger.append({"kind": "launch", "launch_id": "l"})
    first, second = book.pack(["a", "b"]), book.pack(["c"])
    ends = [end("a", "generalized", 10, 12), end("b", "diverged", 20, 20)]
    book.rows(first, book.claim(first, "l"), ends=ends)
    resumed = book.claim(first, "l", resumed_at=10)
    book.rows(first, resumed, ends=[end("b", "censored", 30, 30)], done=True)
    book.rows(second, book.claim(second, "l"), ends=[end("c", "failed", 0, 5)], done=True)
    return book


def test_ends_after_the_step_where_an_attempt_was_resumed_do_not_count(book: Made) -> None:
    assert ended_trials(book.ledger).to_pydict() == {
        "trial_id": ["a", "b", "c"],
        "status": ["generalized", "censored", "failed"],
        "last_step": [10, 30, 0],
        "steps": [12, 30, 5],
        "error": [None] * 3,
        "wall_s": [1.5] * 3,
        "pack_id": ["pack-1", "pack-1", "pack-2"],
        "attempt": [1, 2, 1],
    }


def test_packs_are_chosen_or_left_out(book: Made) -> None:
    first, second = book.ledger.state.packs
    assert ended_trials(book.ledger, [second])["trial_id"].to_pylist() == ["c"]
    assert ended_trials(book.ledger, without={second})["trial_id"].to_pylist() == ["a", "b"]
    none = ended_trials(book.ledger, [first, second], without={first, second})
    assert none.num_rows == 0
    assert none.column_names == [*ENDS, "pack_id", "attempt"]
