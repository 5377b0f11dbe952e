from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweeper import sql
from sweeper.analysis.views.views import open_views, read_sql
from sweeper.errors import StoreError
from sweeper.sql import QueryError
from sweeper.store.ledger import Ledger
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
            (0, 0.2),
            (10, 1.0),
            (100, 0.5),
        ]
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
            ("a", 0, 0.6),
            ("a", 10, 0.7),
            ("b", 0, 0.1),
            ("b", 10, 0.2),
            ("b", 100, 0.3),
        ]


def test_a_trial_that_was_carried_on_keeps_all_its_rows_and_its_last_end(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    launch = made.launch([Planned("a")], steps=100)
    pack = made.pack(["a"])
    attempt = made.claim(pack, launch)
    saved = ("checkpoints/x", 100)
    made.rows(
        pack,
        attempt,
        curve("a", [0, 10, 100], train_acc=[0, 1, 1]),
        [end("a", "censored", 100)],
        done=True,
        checkpoint=saved,
    )
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
    made.rows(
        more,
        attempt,
        curve("a", [1000], test_acc=[1.0]),
        [end("a", "generalized", 1000)],
        done=True,
    )
    with open_views(made.ledger) as connection:
        assert rows(connection, "select step from metrics order by step") == [
            (0,),
            (10,),
            (100,),
            (1000,),
        ]
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
            (1000, None),
            (2000, 3.0),
        ]


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
        f"{torn}: damaged: it has {size - 7} bytes instead of {size}.\n"
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


def test_a_cell_takes_its_seeds_together(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [Planned(f"t{s}", "c1", s) for s in range(4)] + [Planned("u", "c2")]
    launch = made.launch(plan, steps=5000)
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    ones = [1.0] * 3
    made.rows(
        pack,
        attempt,
        [
            *curve("t0", [0, 10, 2000], train_acc=[0, 1, 1], test_acc=[0, 0, 1]),
            *curve("t1", [0, 10, 5000], train_acc=[0, 1, 1], test_acc=[0, 0, 1]),
            *curve("t2", [0, 100, 5000], train_acc=[0, 1, 1], test_acc=[0, 0, 0]),
            *curve("t3", [0, 100, 200], train_acc=ones, test_acc=[0, 0, 0]),
        ],
        [
            end("t0", "generalized", 2000),
            end("t1", "generalized", 5000),
            end("t2", "censored", 5000),
            end("t3", "diverged", 200),
        ],
    )
    with open_views(made.ledger) as connection:
        table = sql.query(connection, "select * from cells order by cell_id").to_pylist()
    shown = {k: v for k, v in table[0].items() if not isinstance(v, dict)}
    assert shown == {
        "cell_id": "c1",
        "dtype": "float32",
        "n_seeds": 4,
        "n_memorized": 4,
        "n_generalized": 2,
        "n_diverged": 1,
        "delay": None,  # two of four generalize
        "delay_low": 0,  # t2 of t0 lies in (10, 2000], and t1 is 10
        "delay_high": None,
        "delay_level": pytest.approx(0.875),
        "delay_bound": 2213,  # sqrt(1000 * 4900): grokking is a delay of at least 1000
        "t1": 32,  # sqrt(10 * 100): t3 diverged
        "t1_bound": None,
        "t2": None,
        "t2_bound": 1057,  # sqrt(sqrt(10 * 5000) * 5000)
        "censored_share": pytest.approx(1 / 3),
        "phase": "split",
        "agreement": pytest.approx(0.5),
    }
    assert table[0]["model"] == {"depth": 1, "name": "mlp"}
    empty = {k: v for k, v in table[1].items() if v is not None and not isinstance(v, dict)}
    assert empty == {
        "cell_id": "c2",
        "dtype": "float32",
        "n_seeds": 1,
        "n_memorized": 0,
        "n_generalized": 0,
        "n_diverged": 0,
    }


def test_a_tie_between_phases_is_a_split(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    launch = made.launch([Planned("a"), Planned("b", seed=1)])
    pack = made.pack(["a", "b"])
    attempt = made.claim(pack, launch)
    made.rows(
        pack,
        attempt,
        [*curve("a", [0], train_acc=[0]), *curve("b", [0], train_acc=[1])],
        [end("a", "censored", 0), end("b", "censored", 0)],
    )
    with open_views(made.ledger) as connection:
        assert rows(connection, "select phase, agreement from cells") == [("split", 0.5)]


TYPES = {
    "text": pa.types.is_string,
    "int": pa.types.is_int64,
    "float": pa.types.is_float64,
    "bool": pa.types.is_boolean,
    "struct": pa.types.is_struct,
    "map": pa.types.is_map,
    "timestamp": pa.types.is_timestamp,
}


@pytest.mark.parametrize("name", ["trials", "metrics", "delays", "cells"])
def test_the_header_of_a_view_tells_its_columns(tmp_path: Path, name: str) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    with open_views(made.ledger) as connection:
        schema = sql.query(connection, f"select * from {name}").schema
    header = read_sql(name).split("\n\n")[0].split("-- columns  ")[1]
    words = re.findall(r"^(?:--          )?(\w+|\.\.\.) +(\w+)", header, flags=re.M)
    told = [w for w in words if w[0] != "..."]
    further = {"dtype"}
    assert [c for c in schema.names if c not in further] == [column for column, _ in told]
    for column, kind in told:
        assert TYPES[kind](schema.field(column).type), (column, kind)
