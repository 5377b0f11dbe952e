"""What all trials of a plan share is kept once, and comes out as if each had it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweeper import sql
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.plan import Plan
from sweeper.analysis.views.views import open_views
from sweeper.errors import StoreError
from tests.stores import Made, Planned, config
from tests.sweeps import ledger, run, toy_grid

BETAS = "optimizer.betas"


def read(made: Made) -> Plan:
    return Plan.read(made.ledger, snapshot.launches(made.ledger, everything=False))


@pytest.mark.parametrize(
    ("path", "values", "once"),
    [
        ("task.p", [23, 23], True),
        ("task.p", [23, 29], False),
        ("task.p", [None, 23], False),
        ("task.p", [None, None], True),
        ("optimizer.lr", [0.1, 0.1], True),
        ("optimizer.lr", [0.0, 0.0], True),
        ("optimizer.lr", [0.0, -0.0], False),
        ("dtype", ["float32", "float32"], True),
        ("dtype", ["float32", "float64"], False),
        (BETAS, [[0.9, 0.98], [0.9, 0.98]], True),
        (BETAS, [[0.9, 0.98], [0.9, 0.99]], False),
        (BETAS, [[0.9], [0.9, 0.98]], False),
        (BETAS, [[0.9, 0.98], None], False),
        (BETAS, [[], []], True),
    ],
)
def test_a_value_is_kept_once_only_where_all_trials_have_it(
    tmp_path: Path, path: str, values: list[Any], once: bool
) -> None:
    made = Made.at(tmp_path)
    made.launch(
        [
            Planned(f"t{k}", seed=k, config={**config(), path: value})
            for k, value in enumerate(values)
        ]
    )
    plan = read(made)
    assert (path in plan.fixed.column_names) == once
    assert (path in plan.rows.column_names) != once
    assert {"trial_id", "cell_id", "seed"} <= {*plan.rows.column_names}
    table = snapshot.plan(made.ledger, snapshot.launches(made.ledger, everything=False))
    other = Plan.of(table)
    assert other.rows.equals(plan.rows)
    assert other.fixed.select(sorted(other.fixed.column_names)).equals(
        plan.fixed.select(sorted(plan.fixed.column_names))
    )
    name = ".".join(map(sql.identifier, path.split(".")))
    with open_views(made.ledger) as connection:
        for view in ("trials", "cells"):
            found = connection.sql(f"select {name} from {view}").fetchall()
            assert {repr(v) for (v,) in found} <= {repr(v) for v in values}
        found = connection.sql(f"select {name} from trials order by seed").fetchall()
    assert repr([v for (v,) in found]) == repr(values)


def test_fields_that_differ_in_case_are_told_apart_shared_or_not(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    made.launch([Planned(f"t{k}", seed=k, config=config(task__N=30, task__n=k)) for k in range(2)])
    with open_views(made.ledger) as connection:
        table = sql.query(connection, "select task.N, task.n from trials order by seed")
        whole = sql.query(connection, "select task from trials order by seed").to_pylist()
    assert table.to_pydict() == {"N": [30, 30], "n": [0, 1]}
    assert [(row["task"]["N"], row["task"]["n"]) for row in whole] == [(30, 0), (30, 1)]


def test_a_part_that_a_trial_hasnt_is_null_as_a_whole(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    made.launch([Planned("a", seed=0), Planned("b", seed=1, config=config(model__name=None))])
    with open_views(made.ledger) as connection:
        found = connection.sql("select model is null, optimizer is null from trials order by seed")
        assert found.fetchall() == [(False, False), (True, False)]


def test_a_plan_without_trials_has_every_column() -> None:
    table = pa.schema({**snapshot.IDS, "task.p": pa.int64()}).empty_table()
    plan = Plan.of(table)
    assert (plan.names, plan.rows.column_names[3:], plan.fixed.num_columns) == (
        ("task.p",),
        ["task.p"],
        0,
    )


def test_a_damaged_plan_is_written_again_by_a_launch_of_its_grid(
    tmp_path: Path, store: str
) -> None:
    first = toy_grid(tmp_path, "task.shift=0")
    run(first, store)
    (plan,) = (Path(store) / "toy" / "plans").iterdir()
    run(toy_grid(tmp_path, "task.shift=1"), store)
    plan.write_bytes(b"torn")
    count = "select count(*) as n from trials"
    with pytest.raises(StoreError, match="launch` of the grid that it belongs to writes it again"):
        open_views(ledger(store), everything=True)
    run(first, store)
    with open_views(ledger(store), everything=True) as connection:
        assert sql.query(connection, count).to_pylist() == [{"n": 12}]
