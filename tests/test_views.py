from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.views import open_views, read_sql
from sweeper import sql
from sweeper.criterion import Criterion, delay, phase
from sweeper.errors import StoreError
from sweeper.ledger import Ledger
from sweeper.sql import QueryError
from tests.stores import Made, Planned, config, curve, end

ACC = {"train_acc": [0.2, 1.0, 1.0, 1.0], "test_acc": [0.1, 0.3, 0.99, 1.0]}


def rows(connection: sql.Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.sql(query).fetchall()


def one_trial(made: Made, **metrics: Sequence[float | None]) -> tuple[str, int]:
    launch = made.launch([Planned("a")])
    pack = made.pack(["a"])
    attempt = made.claim(pack, launch)
    made.rows(pack, attempt, curve("a", [0, 10, 100, 1000], **(metrics or ACC)))
    return pack, attempt


def test_views_of_a_sweep_without_any_file_are_empty_and_typed(tmp_path: Path) -> None:
    ledger = Made.at(tmp_path).ledger
    with open_views(ledger) as connection:
        for view in ("trials", "metrics", "delays", "cells"):
            assert rows(connection, f"select * from {view}") == []
        assert rows(connection, "select model.name, steps + 1 from trials") == []
        assert rows(connection, "select delay from delays_at('acc', 0.9, 0.9)") == []


def test_a_planned_trial_is_pending_and_shows_its_config(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    made.launch([Planned("a", seed=3, config=config(model__depth=2, optimizer__name=None))])
    with open_views(made.ledger) as connection:
        assert rows(
            connection,
            "select status, seed, model.depth, regularizer.terms.l1.strength, optimizer.betas, "
            "optimizer is null, dtype, steps, last_step, stop_reason, pack_id from trials",
        ) == [("pending", 3, 2, None, None, True, "float32", 0, None, None, None)]


def test_a_trial_runs_while_its_pack_is_claimed_by_a_living_driver(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    query = "select status, steps, last_step, stop_reason, host, attempt, started_at from trials"
    at = datetime(2023, 11, 14, 22, 13, 20)
    for age, status in ((0.0, "running"), (1000.0, "pending")):
        made.lease("launch-1", age_s=age)
        with open_views(made.ledger) as connection:
            assert rows(connection, query) == [(status, 1000, 1000, None, "host-1", 1, at)]
    made.lease("another")
    with open_views(made.ledger) as connection:
        assert rows(connection, "select status from trials") == [("pending",)]


@pytest.mark.parametrize(
    ("status", "steps", "after", "reason"),
    [
        ("generalized", 700, True, "generalized"),
        ("generalized", 1000, True, "generalized"),
        ("generalized", 1000, False, "horizon"),
        ("censored", 1000, True, "horizon"),
        ("diverged", 300, True, "diverged"),
        ("failed", 300, True, "failed"),
    ],
)
def test_an_ended_trial_says_why_it_stopped(
    tmp_path: Path, status: str, steps: int, after: bool, reason: str
) -> None:
    made = Made.at(tmp_path)
    launch = made.launch([Planned("a")], after_generalization=after)
    pack = made.pack(["a"])
    attempt = made.claim(pack, launch)
    made.rows(pack, attempt, ends=[{**end("a", status, 300, steps), "error": "why"}], done=True)
    with open_views(made.ledger) as connection:
        (row,) = rows(
            connection,
            "select status, steps, last_step, stop_reason, error, wall_s, git_commit[:4], "
            "versions['torch'], pack_size from trials",
        )
    assert row == (status, steps, 300, reason, "why", 1.5, "0123", "2.13.0", 1)


def test_rows_of_a_superseded_attempt_dont_count(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    pack, first = one_trial(made)
    second = made.claim(pack, "launch-1", resumed_at=10)
    made.rows(pack, second, curve("a", [100], train_acc=[0.5]))
    made.rows(pack, first, curve("a", [2000], train_acc=[0.7]))  # a zombie that wasn't fenced
    with open_views(made.ledger) as connection:
        assert rows(connection, "select step, train_acc from metrics order by step") == [
            (0, 0.2), (10, 1.0), (100, 0.5),
        ]  # fmt: skip
        assert rows(connection, "select last_step from trials") == [(100,)]


def test_rows_of_a_void_pack_dont_count(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    pack, _ = one_trial(made)
    made.ledger.append({"kind": "void", "pack_ids": [pack], "why": []})
    with open_views(made.ledger) as connection:
        assert rows(connection, "select * from metrics") == []
        assert rows(connection, "select status, pack_id from trials") == [("pending", None)]


def test_a_trial_that_began_anew_in_another_pack_shows_each_step_once(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    launch = made.launch([Planned("a"), Planned("b")])
    pack = made.pack(["a", "b"])
    attempt = made.claim(pack, launch)
    for trial in "ab":
        made.rows(pack, attempt, curve(trial, [0, 10, 100], train_acc=[0.1, 0.2, 0.3]))
    again = made.pack(["a"])
    attempt = made.claim(again, launch)
    made.rows(again, attempt, curve("a", [0, 10], train_acc=[0.6, 0.7]))
    with open_views(made.ledger) as connection:
        assert rows(connection, "select * exclude (test_acc) from metrics where false") == []
        assert rows(connection, "from metrics select trial_id, step, train_acc order by all") == [
            ("a", 0, 0.6), ("a", 10, 0.7), ("b", 0, 0.1), ("b", 10, 0.2), ("b", 100, 0.3),
        ]  # fmt: skip


def test_a_trial_that_was_carried_on_keeps_all_its_rows_and_its_last_end(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    launch = made.launch([Planned("a")], steps=100)
    pack = made.pack(["a"])
    attempt = made.claim(pack, launch)
    saved = ("checkpoints/x", 100)
    made.rows(pack, attempt, curve("a", [0, 10, 100], train_acc=[0, 1, 1]),
              [end("a", "censored", 100)], done=True, checkpoint=saved)  # fmt: skip
    longer = made.launch([Planned("a")], steps=1000)
    more = made.pack(["a"], start="checkpoints/x")
    with open_views(made.ledger) as connection:
        assert rows(connection, "select status, steps from trials") == [("censored", 100)]
    attempt = made.claim(more, longer, resumed_at=-1)
    made.lease(longer)
    with open_views(made.ledger) as connection:
        assert rows(connection, "select status, steps, stop_reason from trials") == [
            ("running", 100, None)
        ]
    made.rows(more, attempt, curve("a", [1000], test_acc=[1.0]), [end("a", "generalized", 1000)],
              done=True)  # fmt: skip
    with open_views(made.ledger) as connection:
        assert rows(connection, "select step from metrics order by step") == [
            (0,), (10,), (100,), (1000,),
        ]  # fmt: skip
        query = "select status, steps, stop_reason, pack_id from trials"
        assert rows(connection, query) == [("generalized", 1000, "generalized", more)]


def test_only_the_latest_grid_is_shown_unless_everything_is_asked_for(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    made.launch([Planned("b", config=config(model__width=8))])
    with open_views(made.ledger) as connection:
        assert rows(connection, "select trial_id, model.width from trials") == [("b", 8)]
        assert rows(connection, "select * from metrics") == []
    made.launch([Planned("b", config=config(model__width=9))])
    with open_views(made.ledger, everything=True) as connection:
        found = rows(connection, "select trial_id, model.width from trials order by 1")
        assert found == [("a", None), ("b", 9)]
        assert rows(connection, "select count(*) from metrics") == [(4,)]


def test_columns_that_only_some_files_have_are_null_in_the_others(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    pack, attempt = one_trial(made)
    made.rows(pack, attempt, curve("a", [2000], train_acc=[1.0], rank=[3.0]))
    with open_views(made.ledger) as connection:
        assert rows(connection, "select step, rank from metrics order by step")[3:] == [
            (1000, None), (2000, 3.0),
        ]  # fmt: skip


def test_every_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    pack, attempt = one_trial(made)
    made.rows(pack, attempt, curve("a", [2000], train_acc=[1.0]))
    torn, gone = sorted((tmp_path / "demo/metrics").iterdir())
    size = torn.stat().st_size
    torn.write_bytes(torn.read_bytes()[:-7])
    gone.unlink()
    with pytest.raises(StoreError) as caught:
        open_views(made.ledger)
    assert str(caught.value) == (
        f"{torn}: {size - 7} bytes, the ledger says {size}: torn.\n"
        f"{gone}: missing, though the ledger lists it.\n"
        "`sweeper launch` trains its trials again; all others are untouched."
    )


def test_views_are_a_snapshot_of_the_ledger_they_were_opened_on(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    pack, attempt = one_trial(made)
    reader = Ledger.open(made.ledger.files)
    made.rows(pack, attempt, curve("a", [2000], train_acc=[1.0]))
    with open_views(reader) as connection:
        assert rows(connection, "select max(step) from metrics") == [(1000,)]


def test_the_connection_reads_nothing_but_the_store(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    other = tmp_path / "other.csv"
    other.write_text("x\n1\n")
    with open_views(made.ledger) as connection, pytest.raises(QueryError, match="disabled"):
        sql.query(connection, f"select * from read_csv('{other}')")


def test_a_bucket_gives_the_same_views_as_a_disk(tmp_path: Path) -> None:
    made = Made.at("memory://")
    one_trial(made)
    assert made.ledger.files.root is None
    with open_views(made.ledger) as connection:
        assert rows(connection, "select trial_id, t1, t2, delay, phase from delays") == [
            ("a", 10, 100, 90, "comprehension")
        ]


STATUS = ("pending", "generalized", "censored", "diverged", "failed")
values = st.sampled_from([None, 0.0, 0.5, float(np.nextafter(0.5, 0)), 0.75, 1.0])
"""Ties, thresholds and their neighbours."""

near = st.sampled_from([None, 0.96, 1.0, 1.04, 1.06]) | st.floats(0.94, 1.06)
"""Around a final value and the ends of its tolerance."""

logs = st.lists(st.tuples(values, values), max_size=6)
settling = st.lists(st.tuples(near, near), min_size=4, max_size=8)


@pytest.mark.parametrize(
    ("metric", "rule", "train", "tests"),
    [
        ("acc", "threshold", 0.5, [0.5, 0.75]),
        ("error", "threshold", 0.5, [0.5, 0.75]),
        ("acc", "relative", 1.0, [1.0, 0.9, 0.5]),
        ("error", "relative", 1.0, [1.0, 1.1, 2.0]),
        ("acc", "argmin", None, [None]),
        ("error", "argmin", None, [None]),
        ("error", "stable_final", None, [None]),
        ("never", "threshold", 0.5, [0.5]),
    ],
)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_delays_are_those_of_the_one_definition(
    metric: str, rule: str, train: float | None, tests: list[float | None], data: st.DataObject
) -> None:
    one = st.tuples(st.sampled_from(STATUS), settling if rule == "stable_final" else logs)
    trials = data.draw(st.lists(one, min_size=8, max_size=25))
    criterion = Criterion.model_validate({
        "metric": metric, "rule": rule, "train": train, "test": data.draw(st.sampled_from(tests)),
        "gap": data.draw(st.sampled_from([1, 10, 90, 100_000])),
    })  # fmt: skip
    with TemporaryDirectory() as folder:
        made = Made.at(folder)
        ids = [f"t{k:02}" for k in range(len(trials))]
        launch = made.launch([Planned(i) for i in ids], criteria={"": criterion.model_dump()})
        pack = made.pack(ids)
        attempt = made.claim(pack, launch)
        found, ends = [], []
        for i, (status, log) in zip(ids, trials, strict=True):
            logged = {f"{side}_{metric}": [row[k] for row in log]
                      for k, side in enumerate(("train", "test")) if metric != "never"}  # fmt: skip
            found += curve(i, [10**k - 1 for k in range(len(log))], **logged)
            if status != "pending":
                ends.append(end(i, status, 10 ** len(log) // 10 - 1))
        made.rows(pack, attempt, found, ends)
        expected = [_delay(i, s, log, criterion) for i, (s, log) in zip(ids, trials, strict=True)]
        with open_views(made.ledger) as connection:
            assert rows(connection, "select * from delays order by trial_id") == expected
            if metric != "never":
                given = criterion.model_dump(exclude_none=True)
                call = ", ".join(f"{name} := {value!r}" for name, value in given.items())
                query = f"select * from delays_at({call}) order by trial_id"
                assert rows(connection, query) == expected


def _delay(
    trial_id: str, status: str, log: list[tuple[float | None, float | None]], criterion: Criterion
) -> tuple[Any, ...]:
    steps = np.array([10**k - 1 for k in range(len(log))], dtype=np.int64)
    never = criterion.metric == "never"
    table = np.array(
        [[np.nan if v is None or never else v for v in row] for row in log], dtype=np.float64
    ).reshape(-1, 2)
    ended = status in ("generalized", "censored", "diverged")
    t1, t2 = criterion.t1(steps, table[:, 0]), criterion.t2(steps, table[:, 1])
    last = int(steps[-1]) if steps.size else None
    if criterion.whole and not ended:
        t1 = t2 = last = None
    diverged = status == "diverged"
    known = None if diverged or last is None else delay(t1, t2, last)
    over = ended or None not in (t1, t2)
    lowers = [None if not t else int(steps[steps < t].max()) for t in (t1, t2)]
    return (
        trial_id, t1, t2, known and known[0], bool(known and known[1]), last,
        phase(t1, t2, diverged=diverged, gap=criterion.gap).value if over else None, *lowers,
    )  # fmt: skip


def test_every_task_is_read_by_its_own_criterion(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    criteria = {
        "modular_arithmetic": {"metric": "acc", "train": 0.9, "test": 0.9},
        "sparse_recovery": {"metric": "error", "train": 0.1, "test": 0.1},
    }
    plan = [Planned("a"), Planned("b", config=config(task__name="sparse_recovery")),
            Planned("c", config=config(task__name="unheard_of"))]  # fmt: skip
    launch = made.launch(plan, criteria=criteria)
    pack = made.pack(["a", "b", "c"])
    attempt = made.claim(pack, launch)
    for trial in "abc":
        made.rows(pack, attempt, curve(trial, [0, 1], train_acc=[0, 1], train_error=[0, 1]))
    query = "select trial_id, t1 from delays order by 1"
    with open_views(made.ledger) as connection:
        assert rows(connection, query) == [("a", 1), ("b", 0), ("c", None)]
    other = {"modular_arithmetic": Criterion(metric="acc", train=0.0, test=0.9)}
    with open_views(made.ledger, criteria=other) as connection:
        assert rows(connection, query) == [("a", 0), ("b", 0), ("c", None)]


def test_an_unknown_metric_is_named_with_those_there_are(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    with open_views(made.ledger) as connection, pytest.raises(QueryError, match="acc, error, loss"):
        sql.query(connection, "select * from delays_at('accuracy', 0.9, 0.9)")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("'acc', 0.9, 0.9, rule := 'first'",
         "unknown rule. Known: threshold, relative, stable_final, argmin."),
        ("'acc'", "rule threshold takes thresholds: train := ..., test := ..."),
        ("'acc', 0.9, rule := 'relative'",
         "rule relative takes thresholds: train := ..., test := ..."),
        ("'acc', 0.9, rule := 'argmin'",
         "rule argmin takes no thresholds. Leave train and test out."),
    ],
)  # fmt: skip
def test_a_rule_that_is_asked_for_wrongly_says_what_it_takes(
    tmp_path: Path, call: str, message: str
) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    with open_views(made.ledger) as connection, pytest.raises(QueryError) as caught:
        sql.query(connection, f"select * from delays_at({call})")
    assert message in str(caught.value)


def test_cells_follow_the_rule_and_a_trial_that_was_cut_short_is_censored(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [Planned("a", seed=0), Planned("b", seed=1), Planned("c", seed=2)]
    argmin = {"metric": "error", "train": None, "test": None, "rule": "argmin", "gap": 50}
    launch = made.launch(plan, criteria={"modular_arithmetic": argmin})
    pack = made.pack(["a", "b", "c"])
    attempt = made.claim(pack, launch)
    steps, train = [0, 10, 100, 1000], [1, 0.1, 0.1, 0.1]
    made.rows(pack, attempt, [
        *curve("a", steps, train_error=train, test_error=[1, 1, 0.1, 0.2]),
        *curve("b", steps, train_error=train, test_error=[1, 0.9, 0.5, 0.1]),  # still falling
        *curve("c", steps, train_error=train, test_error=[1, 0.1, 0.2, 0.2]),
    ], [end("a", "censored", 1000), end("b", "censored", 1000)])  # fmt: skip
    with open_views(made.ledger) as connection:
        query = "select trial_id, t1, t2, delay, censored, phase, t1_lower, t2_lower from delays"
        assert rows(connection, f"{query} order by 1") == [
            ("a", 10, 100, 90, False, "grokking", 0, 10),
            ("b", 10, None, 990, True, "memorization", 0, None),
            ("c", None, None, None, False, None, None, None),  # hasn't ended
        ]
        query = "select n_memorized, n_generalized, delay, censored_share, t1 from cells"
        assert rows(connection, query) == [(2, 1, 90, 0.5, 10)]


def test_a_cell_takes_its_seeds_together(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [Planned(f"t{s}", "c1", s) for s in range(4)] + [Planned("u", "c2")]
    launch = made.launch(plan, steps=5000)
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    ones = [1.0] * 3
    made.rows(pack, attempt, [
        *curve("t0", [0, 10, 2000], train_acc=[0, 1, 1], test_acc=[0, 0, 1]),
        *curve("t1", [0, 10, 5000], train_acc=[0, 1, 1], test_acc=[0, 0, 1]),
        *curve("t2", [0, 100, 5000], train_acc=[0, 1, 1], test_acc=[0, 0, 0]),
        *curve("t3", [0, 100, 200], train_acc=ones, test_acc=[0, 0, 0]),
    ], [end("t0", "generalized", 2000), end("t1", "generalized", 5000), end("t2", "censored", 5000),
        end("t3", "diverged", 200)])  # fmt: skip
    with open_views(made.ledger) as connection:
        table = sql.query(connection, "select * from cells order by cell_id").to_pylist()
    shown = {k: v for k, v in table[0].items() if not isinstance(v, dict)}
    assert shown == {
        "cell_id": "c1", "dtype": "float32", "n_seeds": 4, "n_memorized": 4, "n_generalized": 2,
        "n_diverged": 1, "delay": 4990, "delay_low": 1990, "delay_high": None,
        "delay_bound": None, "t1": 10, "t1_bound": None, "t2": 5000, "t2_bound": None,
        "censored_share": pytest.approx(1 / 3), "phase": "grokking",
        "agreement": pytest.approx(0.5),
    }  # fmt: skip
    assert table[0]["model"] == {"depth": 1, "name": "mlp"}
    empty = {k: v for k, v in table[1].items() if v is not None and not isinstance(v, dict)}
    assert empty == {"cell_id": "c2", "dtype": "float32", "n_seeds": 1, "n_memorized": 0,
                     "n_generalized": 0, "n_diverged": 0}  # fmt: skip


def test_a_tie_between_phases_goes_to_the_first_of_the_enumeration(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    launch = made.launch([Planned("a"), Planned("b", seed=1)])
    pack = made.pack(["a", "b"])
    attempt = made.claim(pack, launch)
    made.rows(pack, attempt, [*curve("a", [0], train_acc=[0]), *curve("b", [0], train_acc=[1])],
              [end("a", "censored", 0), end("b", "censored", 0)])  # fmt: skip
    with open_views(made.ledger) as connection:
        assert rows(connection, "select phase, agreement from cells") == [("memorization", 0.5)]


TYPES = {
    "text": pa.types.is_string, "int": pa.types.is_int64, "float": pa.types.is_float64,
    "bool": pa.types.is_boolean, "struct": pa.types.is_struct, "map": pa.types.is_map,
    "timestamp": pa.types.is_timestamp,
}  # fmt: skip


@pytest.mark.parametrize("name", ["trials", "metrics", "delays", "cells"])
def test_the_header_of_a_view_tells_its_columns(tmp_path: Path, name: str) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    with open_views(made.ledger) as connection:
        schema = sql.query(connection, f"select * from {name}").schema
    header = read_sql(name).split("\n\nwith")[0].split("-- columns  ")[1]
    words = re.findall(r"^(?:--          )?(\w+|\.\.\.) +(\w+)", header, flags=re.M)
    told = [w for w in words if w[0] != "..."]
    further = {"dtype"}
    assert [c for c in schema.names if c not in further] == [column for column, _ in told]
    for column, kind in told:
        assert TYPES[kind](schema.field(column).type), (column, kind)
