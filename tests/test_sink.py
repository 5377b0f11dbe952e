"""What is given to a sink comes out of the store, row by row."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.store import tables
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.schema import ENDED, ENDS, METRICS
from sweeper.store.sink import Claim, Sink

TRIALS = [f"t{i}" for i in range(4)]
numbers = st.one_of(st.floats(-1, 1), st.sampled_from([math.nan, math.inf, -math.inf]))
groups = st.lists(st.sampled_from(TRIALS), max_size=4, unique=True)
columns = st.lists(st.sampled_from(["train_loss", "l2", "half"]), max_size=3, unique=True)
writes = st.tuples(st.just("write"), groups, columns, st.lists(numbers, min_size=12, max_size=12))
ends = st.tuples(st.just("end"), groups, st.sampled_from(ENDED), st.sampled_from([None, "why"]))
events = st.lists(st.one_of(writes, ends, st.tuples(st.just("flush"))), max_size=10)


def claimed(where: str) -> Claim:
    """Return a claim on the only pack of a new sweep."""
    ledger = Ledger.create(Files.at(where, create=True), {"name": "x", "points_per_decade": 50})
    packs = [{"id": "a", "size": 4}]
    ledger.append({"kind": "packs", "packs": packs, "path": "packs/a.parquet", "sha256": ""})
    return Claim.take(ledger, "a", "l", {})


@settings(deadline=None, max_examples=60)
@given(events, st.sampled_from([list, tuple]))
def test_a_store_has_the_rows_and_ends_that_were_written(
    events: list[tuple[Any, ...]], kind: Any
) -> None:
    rows: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as where:
        claim = claimed(where)
        with Sink(claim) as sink:
            for step, (what, *given_) in enumerate(events):
                if what == "flush":
                    sink.flush()
                elif what == "write":
                    ids, names, values = given_
                    metrics = {n: values[4 * k : 4 * k + len(ids)] for k, n in enumerate(names)}
                    sink.write(step, kind(ids), **metrics)
                    for i, trial in enumerate(ids):
                        finite = {
                            n: v[i] if math.isfinite(v[i]) else None for n, v in metrics.items()
                        }
                        rows.append({"trial_id": trial, "step": step, **finite})
                else:
                    ids, status, error = given_
                    sink.end(ids, status, last_step=step, steps=2 * step, error=error)
                    ended += [
                        {
                            "trial_id": trial,
                            "status": status,
                            "last_step": step,
                            "steps": 2 * step,
                            "error": error,
                        }
                        for trial in ids
                    ]
            sink.flush(done=True)
        ledger = Ledger.open(claim.ledger.files)
        pieces = [tables.read(ledger.files, part) for part, _ in ledger.state.parts()]
        stored = [row for table in pieces for row in table.to_pylist()]
        assert [dict.fromkeys(METRICS) | row for row in rows] == [
            {k: v for k, v in row.items() if k in METRICS or v is not None or k in want}
            for row, want in zip(stored, rows, strict=True)
        ]
        for table in pieces:
            assert {name: table.schema.field(name).type for name in METRICS} == METRICS
        found = ended_trials(ledger)
        assert found.drop_columns(["wall_s", "pack_id", "attempt"]).to_pylist() == ended
        assert all(found.schema.field(name).type == kind_ for name, kind_ in ENDS.items())
        assert ledger.state.packs["a"].failed == sum(e["status"] == "failed" for e in ended)
        last = {row["trial_id"]: (row["status"], row["last_step"]) for row in ended}
        assert {i: (s, sink.ended_at[i]) for i, s in sink.ended.items()} == last


def test_ids_that_change_after_they_were_written_change_nothing() -> None:
    with tempfile.TemporaryDirectory() as where:
        claim = claimed(where)
        ids = ["t0", "t1"]
        with Sink(claim) as sink:
            sink.write(0, ids, train_loss=[1.0, 2.0])
            ids[0] = "t3"
            sink.write(1, ids, train_loss=[3.0, 4.0])
            sink.flush()
        (part, _), *_ = claim.ledger.state.parts()
        table = tables.read(claim.ledger.files, part)
    assert table["trial_id"].to_pylist() == ["t0", "t1", "t3", "t1"]
    assert table["trial_id"].type == pa.string()


def test_a_status_that_nobody_knows_is_refused() -> None:
    with tempfile.TemporaryDirectory() as where, Sink(claimed(where)) as sink:
        with pytest.raises(ValueError, match="status 'lost' must be one of"):
            sink.end(["t0"], "lost", last_step=0, steps=0)
        assert not sink.ended
