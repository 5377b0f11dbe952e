"""The SQL views of a sweep: trials, metrics, delays, cells.

They show one moment of the ledger and nothing that the ledger doesn't list. `trials` is small
and stands in memory; the others are computed when they are asked for, from the Parquet files
in place. The questions themselves stand in ``analysis/sql``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

import pyarrow as pa

from analysis import snapshot
from analysis.delay import SURVIVAL, survival
from sweeper import parts, sql
from sweeper.criterion import (
    FINAL_LOGS,
    FINAL_TOLERANCE,
    RISING,
    RULES,
    STABLE_LOGS,
    THRESHOLDS,
    Criterion,
    Phase,
)
from sweeper.ledger import Ledger
from sweeper.schema import METRICS

PARTS = ("task", "model", "regularizer", "selection", "optimizer")
"""The scientific parts: columns of `trials` and `cells` even where a trainable lacks them."""

GAP = 1000
"""Smallest delay that `delays_at` calls grokking unless told otherwise, in optimizer steps."""

CRITERIA = pa.schema(
    {
        "task": pa.string(), "metric": pa.string(), "rule": pa.string(), "train": pa.float64(),
        "test": pa.float64(), "rising": pa.bool_(), "gap": pa.int64(),
    }
)  # fmt: skip
"""The table `criteria`: how `delays` reads t1 and t2, one row a task.

Thresholds are null under a rule that takes none."""


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
        plan: Show these trials and no others: columns of `sweeper.grid.Grid.table`.

    Raises:
        StoreError: Files that the ledger lists are missing or torn; names all of them.
    """
    snapshot.check(ledger)
    shown = snapshot.launches(ledger, everything=everything)
    recorded = {t: Criterion(**c) for t, c in snapshot.criteria(shown).items()}
    connection = sql.connect()
    wanted = snapshot.plan(ledger, shown) if plan is None else plan
    readable = _Sources(ledger, connection).create(wanted)
    config = _create_trials(connection)
    _create_delays(connection, {**recorded, **(criteria or {})})
    _create_cells(connection, config)
    sql.lock(connection, readable)
    return connection


def read_sql(name: str) -> str:
    """Return the text of ``analysis/sql/<name>.sql``."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def _fill(name: str, **params: str) -> str:
    lines = read_sql(name).split("\n")
    return Template("\n".join(x for x in lines if not x.startswith("--"))).substitute(params)


def _table(connection: sql.Connection, name: str, table: pa.Table) -> None:
    connection.register("incoming", table)
    connection.execute(f"create table {name} as select * from incoming")
    connection.unregister("incoming")


class _Sources:
    """Brings the tables of `analysis.snapshot` and the metrics files into a connection."""

    def __init__(self, ledger: Ledger, connection: sql.Connection) -> None:
        self.ledger = ledger
        self.connection = connection

    def create(self, plan: pa.Table) -> list[str]:
        """Create the tables of schema `facts` and the view `metrics`; return the files read."""
        ledger, connection = self.ledger, self.connection
        connection.execute("create schema facts")
        _table(connection, "facts.plan", snapshot.nested(plan))
        _table(connection, "facts.listed", snapshot.listed(ledger))
        _table(connection, "facts.attempts", snapshot.attempts(ledger))
        shared = self._supersede()
        _table(connection, "facts.ends", snapshot.ends(ledger))
        if shared:
            connection.execute(f"delete from facts.ends as m where {_superseded('m', 'last_step')}")
        return self._create_metrics(shared)

    def _supersede(self) -> frozenset[str]:
        """Find trials that went on in a later pack, from a step before the end of the earlier."""
        self.connection.execute(
            "create table facts.superseded as "
            "select a.pack_id, a.trial_id, min(b.start_step) as upto "
            "from facts.listed as a join facts.listed as b using (trial_id) "
            "where b.number > a.number and b.start_step < a.max_step group by all"
        )
        found = self.connection.sql("select distinct pack_id from facts.superseded").fetchall()
        return frozenset(pack_id for (pack_id,) in found)

    def _create_metrics(self, shared: frozenset[str]) -> list[str]:
        sources = snapshot.sources(self.ledger, shared)
        extra = sorted({column for source in sources for column in source.columns})
        live = snapshot.live(self.ledger)
        selects, open_selects = [], []
        for number, source in enumerate(sources):
            selects.append(self._select(f"source_{number}", source, extra))
            mine = tuple(part for part in source.parts if part.path in live)
            if mine:
                fresh = snapshot.Source(mine, source.columns, source.pack_id, source.cutoff)
                open_selects.append(self._select(f"live_{number}", fresh, ()))
        none = ", ".join(f"null::{_sql_type(t)} as {sql.identifier(c)}" for c, t in METRICS.items())
        nothing = f"select {none} where false"
        self.connection.execute(
            "create table facts.progress as select trial_id, max(step) as step from "
            f"({' union all '.join(open_selects) or nothing}) group by trial_id"
        )
        foreign = self.connection.sql(
            "select 1 from facts.listed "
            "where trial_id not in (select trial_id from facts.plan) limit 1"
        ).fetchall()
        shown = "trial_id in (select trial_id from facts.plan)" if foreign else "true"
        text = _fill("metrics", rows="\nunion all\n".join(selects) or nothing, shown=shown)
        self.connection.execute(f"create view metrics as {text}")
        files = self.ledger.files
        if files.root is None:
            return []
        return [files.location(part.path) for source in sources for part in source.parts]

    def _select(self, name: str, source: snapshot.Source, extra: Iterable[str]) -> str:
        """Return the query for the rows of `source` that count."""
        files = self.ledger.files
        if files.root is not None:
            paths = ", ".join(sql.literal(files.location(part.path)) for part in source.parts)
            table = f"read_parquet([{paths}])"
        else:
            table = f"facts.{name}"
            pieces = [parts.read(files, part) for part in source.parts]
            _table(self.connection, table, pa.concat_tables(pieces, promote_options="default"))
        columns = [f"m.{sql.identifier(c)}" for c in METRICS]
        for column in extra:
            quoted = sql.identifier(column)
            columns.append(
                f"m.{quoted}" if column in source.columns else f"null::double as {quoted}"
            )
        text = f"select {', '.join(columns)} from {table} as m where true"
        if source.cutoff is not None:
            text += f" and m.step <= {source.cutoff}"
        if source.pack_id is not None:
            text += f" and not {_superseded('m', 'step', source.pack_id)}"
        return text


def _superseded(rows: str, step: str, pack_id: str | None = None) -> str:
    pack = f"{rows}.pack_id" if pack_id is None else sql.literal(pack_id)
    return (
        f"exists (select 1 from facts.superseded as s where s.pack_id = {pack} "
        f"and s.trial_id = {rows}.trial_id and {rows}.{step} > s.upto)"
    )


def _sql_type(kind: pa.DataType) -> str:
    return {pa.string(): "varchar", pa.int64(): "bigint", pa.float64(): "double"}[kind]


def _create_trials(connection: sql.Connection) -> list[str]:
    """Create `trials`; return the names of its config columns."""
    names = connection.sql("select * from facts.plan limit 0").columns[len(snapshot.PLAN) :]
    config = _config(names)
    text = ", ".join(f"{value} as {sql.identifier(name)}" for name, value in config.items())
    connection.execute(f"create table trials as {_fill('trials', config=text)}")
    return list(config)


def _config(names: Iterable[str]) -> dict[str, str]:
    """Return for each column of the config its SQL; a part that no trial has is null."""
    absent = dict.fromkeys(PARTS, "null::struct(name varchar)")
    return absent | {name: f"p.{sql.identifier(name)}" for name in names}


def _create_delays(connection: sql.Connection, criteria: Mapping[str, Criterion]) -> None:
    rows = [{"task": t, "rising": c.rising, **c.model_dump()} for t, c in criteria.items()]
    _table(connection, "criteria", pa.Table.from_pylist(rows, schema=CRITERIA))
    columns = set(connection.sql("select * from metrics limit 0").columns)
    metrics = sorted(
        c.removeprefix("train_")
        for c in columns
        if c.startswith("train_") and c.replace("train_", "test_", 1) in columns
    )
    connection.execute(f"create view delays as {_delays(criteria, metrics)}")
    connection.execute(
        "create macro delays_at(metric, train := null, test := null, "
        f"gap := {GAP}, rule := 'threshold') as table {_delays_at(metrics)}"
    )


def _delays_at(metrics: list[str]) -> str:
    """Return the query of the macro `delays_at`, over its parameters."""
    known = sql.literal("unknown metric. Known: " + ", ".join(metrics) + ".")

    def chosen(side: str) -> str:
        cases = " ".join(f"when {sql.literal(m)} then {side}_{m}" for m in metrics)
        return f"(case metric {cases} else error({known}) end)"

    rising = f"(metric in ({', '.join(map(sql.literal, RISING))}))"
    columns = {"train_value": chosen("train"), "test_value": chosen("test"), "trials": "trials"}
    given = columns | {"rising": rising, "train": "train", "test": "test"}
    best = {side: f"if(rule = 'relative', {side}, 1.0)" for side in ("train", "test")}
    rules = ", ".join(map(sql.literal, RULES))
    taking = ", ".join(map(sql.literal, THRESHOLDS))
    checked = (  # beside what picks the rows: a column that nobody asks for is never computed
        f"case when rule not in ({rules}) then error({sql.literal(_UNKNOWN_RULE)}) "
        f"when rule in ({taking}) and (train is null or test is null) "
        "then error('rule ' || rule || ' takes thresholds: train := ..., test := ...') "
        f"when rule not in ({taking}) and (train is not null or test is not null) "
        "then error('rule ' || rule || ' takes no thresholds. Leave train and test out.') "
        "else {} end"
    )
    firsts = "\nunion all\n".join(
        f"({text})"
        for text in (
            _fill("firsts", **given, asked=checked.format("rule = 'threshold'")),
            _fill("best", **given | best, asked=checked.format("rule in ('relative', 'argmin')")),
            _fill("stable", **columns, **_STABLE, asked=checked.format("rule = 'stable_final'")),
        )
    )
    return _fill("delays", trials="trials", firsts=firsts, gap="gap")


_STABLE = {
    "final": str(FINAL_LOGS), "stable": str(STABLE_LOGS),
    "tolerance": f"{FINAL_TOLERANCE!r}::double",
}  # fmt: skip
_UNKNOWN_RULE = "unknown rule. Known: " + ", ".join(RULES) + "."


def _delays(criteria: Mapping[str, Criterion], metrics: list[str]) -> str:
    """Return the query for `delays`: one branch for each distinct criterion."""
    tasks: dict[Criterion | None, list[str]] = {}
    for task, criterion in criteria.items():
        tasks.setdefault(criterion, []).append(task)
    if len(tasks) == 1:
        return _delays_by(next(iter(tasks)), "trials", metrics)
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
    given = criterion or Criterion(metric="none", train=0.0, test=0.0)
    logged = given.metric in metrics
    columns = {
        f"{side}_value": f"{side}_{given.metric}" if logged else "null::double"
        for side in ("train", "test")
    }
    columns |= {"trials": trials, "asked": "true"}
    if given.rule == "stable_final":
        firsts = _fill("stable", **columns, **_STABLE)
    else:
        numbers = {"train": given.train, "test": given.test}
        if given.rule == "argmin":
            numbers = dict.fromkeys(numbers, 1.0)
        thresholds = {side: f"{number!r}::double" for side, number in numbers.items()}
        name = "best" if given.whole else "firsts"
        firsts = _fill(name, **columns, **thresholds, rising=str(given.rising))
    return _fill("delays", trials=trials, firsts=firsts, gap=str(given.gap))


def _create_cells(connection: sql.Connection, config: Iterable[str]) -> None:
    sql.add_function(connection, "survival", survival, takes="bigint[]", returns=SURVIVAL)
    quoted = [sql.identifier(name) for name in config]
    phases = ", ".join(sql.literal(phase) for phase in Phase)
    text = _fill(
        "cells", names=", ".join(quoted),
        config=", ".join(f"any_value({name}) as {name}" for name in quoted),
        phases=f"[{phases}]",
    )  # fmt: skip
    connection.execute(f"create view cells as {text}")
