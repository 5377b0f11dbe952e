"""The SQL views of a sweep: trials, metrics, delays, cells.

They show one moment of the ledger and nothing that the ledger doesn't list. The state of each
trial is kept in memory (`sweeper.analysis.views.staging`); everything else is computed on demand
from the Parquet files in place. The queries are in ``analysis/views/sql``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.medians import DELAY_LOW, add_functions
from sweeper.analysis.views.plan import Plan
from sweeper.analysis.views.staging import Staging, create_table
from sweeper.analysis.views.template import fill, read_sql
from sweeper.criterion import (
    FINAL_LOGS,
    FINAL_TOLERANCE,
    FLOOR,
    HELD,
    RISING,
    RULES,
    STABLE_LOGS,
    THRESHOLDS,
    Criterion,
)
from sweeper.store.ledger import Ledger

__all__ = ["CRITERIA", "GAP", "PARTS", "open_views", "read_sql"]

PARTS = ("task", "model", "regularizer", "selection", "optimizer")
"""The scientific parts: columns of `trials` and `cells` even where a trainable lacks them."""

GAP = 1000
"""Smallest delay that `delays_at` calls grokking by default, in optimizer steps."""

CRITERIA = pa.schema(
    {
        "task": pa.string(),
        "metric": pa.string(),
        "rule": pa.string(),
        "train": pa.float64(),
        "test": pa.float64(),
        "rising": pa.bool_(),
        "gap": pa.int64(),
        "hold": pa.int64(),
        "floor": pa.float64(),
    }
)
"""The table `criteria`: how `delays` determines t1 and t2, one row per task.

Thresholds and the floor are null under a rule that takes none."""


def open_views(
    ledger: Ledger,
    *,
    everything: bool = False,
    criteria: Mapping[str, Criterion] | None = None,
    plan: pa.Table | None = None,
) -> sql.Connection:
    """Return a locked connection with the views over what `ledger` holds at its `number`.

    Ask it by `sweeper.sql.query`: DuckDB itself would read ``task.N`` as ``task.n``.

    Args:
        ledger: The sweep's ledger.
        everything: Show the trials of all grids the sweep ever had, not of the latest only.
        criteria: Task to the criterion that `delays` and `cells` follow, instead of the one
            that the last launch recorded.
        plan: Show these trials and no others: columns of `sweeper.grid.grid.Grid.table`.

    Raises:
        StoreError: Files that the ledger lists are missing or torn; names all of them.
    """
    with ThreadPoolExecutor(2) as beside:
        ends = beside.submit(snapshot.ends, ledger)
        proof = beside.submit(snapshot.check, ledger)
        try:
            with sql.reading(ledger.files.uri):
                return _open(ledger, everything, criteria or {}, plan, ends)
        finally:
            proof.result()  # names all damaged files, not only the first that the views read


def _open(
    ledger: Ledger,
    everything: bool,
    criteria: Mapping[str, Criterion],
    plan: pa.Table | None,
    ends: Future[pa.Table],
) -> sql.Connection:
    shown = snapshot.launches(ledger, everything=everything)
    recorded = {t: Criterion(**c) for t, c in snapshot.criteria(shown).items()}
    connection = sql.connect()
    wanted = Plan.read(ledger, shown) if plan is None else Plan.of(plan)
    staging = Staging(ledger, connection)
    staging.create(wanted, ends.result)
    config = _config(wanted)
    connection.execute(fill("trials", config=_select_list(config)))
    metrics = fill("metrics", rows=staging.rows, shown=staging.shown())
    connection.execute(f"create view metrics as {metrics}")
    staging.drop_inputs()
    add_functions(connection)
    _create_delays(connection, {**recorded, **criteria})
    _create_cells(connection, config)
    sql.lock(connection, staging.readable)
    return connection


def _config(plan: Plan) -> dict[str, str]:
    """Return for each column of the config its SQL; a part that no trial has is null."""
    absent = dict.fromkeys(PARTS, "null::struct(name varchar)")
    return absent | plan.columns("t", "f")


def _select_list(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{value} as {sql.identifier(name)}" for name, value in columns.items())


def _create_delays(connection: sql.Connection, criteria: Mapping[str, Criterion]) -> None:
    rows = [{"task": t, "rising": c.rising, **c.model_dump()} for t, c in criteria.items()]
    create_table(connection, "criteria", pa.Table.from_pylist(rows, schema=CRITERIA))
    columns = set(connection.sql("select * from metrics limit 0").columns)
    metrics = sorted(
        c.removeprefix("train_")
        for c in columns
        if c.startswith("train_") and c.replace("train_", "test_", 1) in columns
    )
    connection.execute(f"create view delays as {_delays(criteria, metrics)}")
    connection.execute(
        "create macro delays_at(metric, train := null, test := null, "
        f"gap := {GAP}, rule := 'threshold', hold := 1, floor := null) "
        f"as table {_delays_at(metrics)}"
    )


def _delays_at(metrics: list[str]) -> str:
    """Return the query of the macro `delays_at`, over its parameters."""
    known = sql.literal("unknown metric. Known: " + ", ".join(metrics) + ".")

    def chosen(side: str) -> str:
        cases = " ".join(f"when {sql.literal(m)} then {side}_{m}" for m in metrics)
        return f"(case metric {cases} else error({known}) end)"

    columns = {f"{side}_value": chosen(side) for side in SIDES}
    given = {
        "rising": f"(metric in ({', '.join(map(sql.literal, RISING))}))",
        "floor": f"coalesce(floor, {FLOOR!r})",
        "hold": "hold",
    }
    best = {side: f"if(rule = 'relative', {side}, 1.0)" for side in SIDES}
    branches = (
        ("threshold", {**given, "train": "train", "test": "test"}, "hold = 1", ("threshold",)),
        ("threshold", {**given, "train": "train", "test": "test"}, "hold <> 1", ("threshold",)),
        ("relative", {**given, **best}, "true", ("relative", "argmin")),
        ("stable_final", given, "true", ("stable_final",)),
    )
    firsts = "\nunion all\n".join(
        "("
        + _firsts(
            rule,
            {**params, "hold": "1"} if held == "hold = 1" else params,
            {**columns, "trials": "staging.trials", "asked": f"({_asked(*rules)}) and {held}"},
        )
        + ")"
        for rule, params, held, rules in branches
    )
    return fill("delays", **columns, trials="staging.trials", firsts=firsts, gap="gap")


def _firsts(rule: str, given: Mapping[str, str], rows: Mapping[str, str]) -> str:
    """Return the query that finds t1 and t2 by `rule`.

    Args:
        rule: One of `RULES`; `argmin` is `relative` with the factors 1.
        given: SQL of rising, train, test, hold and floor, where the rule reads them.
        rows: SQL of train_value, test_value, trials and asked.
    """
    ended = f"trial_id in (select trial_id from {rows['trials']} where status in {_ENDED})"
    columns = {k: v for k, v in rows.items() if k != "trials"}
    curves = fill("curves", **columns, of="true" if rule == "threshold" else ended)
    if rule == "stable_final":
        return fill(
            "stable", curves=curves, **_STABLE, rising=given["rising"], floor=given["floor"]
        )
    thresholds = {side: given[side] for side in SIDES}
    if rule != "threshold":
        scale = {"rising": given["rising"], "floor": given["floor"]}
        curves = fill("best", curves=curves, **scale, **thresholds)
        thresholds = {side: f"{side}_threshold" for side in SIDES}
    if given["hold"] == "1":
        return fill("firsts", curves=curves, rising=given["rising"], **thresholds)
    return fill("hold", curves=curves, rising=given["rising"], hold=given["hold"], **thresholds)


def _asked(*rules: str) -> str:
    """Return the condition that `delays_at` is called with one of `rules`; it checks the call."""
    return fill(
        "asked_rule",
        mine=", ".join(map(sql.literal, rules)),
        rules=", ".join(map(sql.literal, RULES)),
        thresholds=", ".join(map(sql.literal, THRESHOLDS)),
        held=", ".join(map(sql.literal, HELD)),
        rising=", ".join(map(sql.literal, RISING)),
        unknown=sql.literal("unknown rule. Known: " + ", ".join(RULES) + "."),
    )


SIDES = ("train", "test")

_ENDED = "('generalized', 'censored', 'diverged')"

_STABLE = {
    "final": str(FINAL_LOGS),
    "stable": str(STABLE_LOGS),
    "tolerance": f"{FINAL_TOLERANCE!r}::double",
}


def _delays(criteria: Mapping[str, Criterion], metrics: list[str]) -> str:
    """Return the query for `delays`: one branch for each distinct criterion."""
    tasks: dict[Criterion | None, list[str]] = {}
    for task, criterion in criteria.items():
        tasks.setdefault(criterion, []).append(task)
    if len(tasks) == 1:
        return _delays_by(next(iter(tasks)), "staging.trials", metrics)
    task = "coalesce(trials.task.name, '')"
    known = ", ".join(map(sql.literal, criteria)) or "null"
    branches: list[tuple[Criterion | None, str]] = [
        (None, f"{task} not in ({known})" if criteria else "true")
    ]
    branches += [
        (c, f"{task} in ({', '.join(map(sql.literal, names))})") for c, names in tasks.items()
    ]
    return " union all ".join(
        f"({_delays_by(c, f'(select * from trials where {where})', metrics)})"
        for c, where in branches
    )


def _delays_by(criterion: Criterion | None, trials: str, metrics: list[str]) -> str:
    """Return the query for the delays of `trials`; without criterion nothing is reached."""
    criterion = criterion or Criterion(metric="none", train=0.0, test=0.0)
    logged = criterion.metric in metrics
    columns = {
        f"{side}_value": f"{side}_{criterion.metric}" if logged else "null::double"
        for side in SIDES
    }
    given = {side: f"{getattr(criterion, side)!r}::double" for side in SIDES}
    if criterion.rule == "argmin":
        given = dict.fromkeys(SIDES, "1.0::double")
    given |= {
        "rising": str(criterion.rising),
        "hold": str(criterion.hold),
        "floor": f"{criterion.floor!r}::double",
    }
    firsts = _firsts(criterion.rule, given, {**columns, "trials": trials, "asked": "true"})
    return fill("delays", **columns, trials=trials, firsts=firsts, gap=str(criterion.gap))


def _create_cells(connection: sql.Connection, config: Mapping[str, str]) -> None:
    text = fill(
        "cells",
        names=", ".join(map(sql.identifier, config)),
        config=_select_list(config),
        delay_low=DELAY_LOW,
    )
    connection.execute(f"create view cells as {text}")
