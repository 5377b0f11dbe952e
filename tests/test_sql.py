"""The door to DuckDB: exact names, one statement, nothing written, nothing else read."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from sweeper import sql


@pytest.fixture
def views() -> sql.Connection:
    """A view `trials` whose struct has two fields that differ only in case."""
    task = pa.StructArray.from_arrays(
        [pa.array(["a", "b"]), pa.array([30, 40]), pa.array([100, 200])],
        names=sql.distinct(["name", "N", "n"]),
    )
    connection = sql.connect()
    connection.register("rows", pa.table({"task": task, "id": [1, 2]}))
    connection.execute("create table trials as select * from rows")
    connection.unregister("rows")
    sql.lock(connection, [])
    return connection


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select task.N from trials order by id", {"N": [30, 40]}),
        ("select task.n from trials order by id", {"n": [100, 200]}),
        (
            "select task.N as x, task.n + task.N as y from trials order by id",
            {"x": [30, 40], "y": [130, 240]},
        ),
        ("select id from trials where task.N = 40", {"id": [2]}),
        ("select t.task.N from trials t order by t.task.N desc", {"N": [40, 30]}),
        (
            "select task.N, count(*) as k from trials group by task.N order by task.N",
            {"N": [30, 40], "k": [1, 1]},
        ),
        ("with x as (select task.N as m from trials) select max(m) as m from x", {"m": [40]}),
        (
            "select sum(t.task.N) as s from (select any_value(task) as task from trials group by id) t"
            " where true",
            {"s": [70]},
        ),
        (
            'select "task"."n" as n from trials where id in (select id from trials where task.N=30)',
            {"n": [100]},
        ),
        (
            "select task.name, 'ü' as u, task.N from trials order by id",
            {"name": ["a", "b"], "u": ["ü", "ü"], "N": [30, 40]},
        ),
    ],
)
def test_fields_are_looked_up_by_their_exact_spelling(
    views: sql.Connection, query: str, expected: dict[str, list[object]]
) -> None:
    with views:
        assert sql.query(views, query).to_pydict() == expected


def test_whole_structs_come_out_with_their_plain_names(views: sql.Connection) -> None:
    with views:
        rows = sql.query(views, "select task from trials order by id").to_pylist()
    assert rows[0] == {"task": {"name": "a", "N": 30, "n": 100}}


@pytest.mark.parametrize(
    "query",
    [
        "select task['n'] from trials",
        "select task['N'] from trials",
        "select struct_extract(task, 'N') from trials",
    ],
)
def test_a_field_with_a_twin_is_refused_in_brackets(views: sql.Connection, query: str) -> None:
    with views, pytest.raises(sql.QueryError, match="the case of N would be lost"):
        sql.query(views, query)


def test_a_locked_connection_reads_only_what_it_was_given(tmp_path: Path) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("x\n1\n")
    b.write_text("x\n2\n")
    with sql.connect() as connection:
        sql.lock(connection, [str(a)])
        assert sql.query(connection, f"select * from read_csv('{a}')").to_pydict() == {"x": [1]}
        with pytest.raises(sql.QueryError, match="disabled by configuration"):
            sql.query(connection, f"select * from read_csv('{b}')")
        with pytest.raises(sql.QueryError):
            sql.query(connection, "select * from read_text('/etc/passwd')")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("copy (select 1) to 'x'", "only queries are allowed"),
        ("with x as (copy (select 1) to 'x') select 1", "contains a statement that writes"),
        ("with x as (insert into t values (1) returning *) from x", "a statement that writes"),
        ("select 1; select 2", "2 statements. Write exactly one."),
        ("", "0 statements. Write exactly one."),
        ("attach 'x'", "only queries are allowed"),
        ("selec 1", 'Parser Error: syntax error at or near "selec"'),
    ],
)
def test_whatever_is_no_single_query_is_refused(statement: str, message: str) -> None:
    with pytest.raises(sql.QueryError) as caught:
        sql.check_read_only(statement)
    assert message in str(caught.value)


@pytest.mark.parametrize("query", ["explain select 1", "describe select 1", "from range(3)"])
def test_queries_of_every_kind_pass(query: str) -> None:
    sql.check_read_only(query)


SLOW = "select count(*) as n from range(100000000000) a where hash(a.range) % 7 = 1"


def test_a_query_is_ended_when_its_time_is_over(views: sql.Connection) -> None:
    begun = time.monotonic()
    with pytest.raises(
        sql.QueryError, match=r"^the query was ended after 0\.3 s, its time limit\.$"
    ):
        sql.query(views, SLOW, timeout_s=0.3)
    assert time.monotonic() - begun < 20
    assert sql.query(views, "select 1 as x", timeout_s=60).to_pylist() == [{"x": 1}]


def test_a_query_is_ended_by_an_interrupt(views: sql.Connection) -> None:
    begun = time.monotonic()
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        sql.query(views, SLOW)
    assert time.monotonic() - begun < 20
    assert sql.query(views, "select 1 as x").to_pylist() == [{"x": 1}]
