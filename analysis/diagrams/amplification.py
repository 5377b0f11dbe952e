"""Grokking amplification: how much longer a cell delays than its reference cell.

The amplification of a cell is its delay over the delay of its reference. Both are medians over
the seeds (`sweeper.analysis.views.medians`) of *counted* delays. Metrics are logged on a log grid,
so t2 is only known to lie in (t2_lower, t2], and a delay shorter than that gap says nothing. A
trial's delay is therefore counted as the largest of its estimate (see ``delays.sql``),
t2 - t2_lower and 1, in optimizer steps: dividing by a delay below the resolution would make up an
amplification.

The counted delay of a cell is known where its delay is, and more than half of all its seeds
generalized, failed and missing ones included. By which of the two sides is known:

================  =============================  ===============================
cell, reference   known                          because
================  =============================  ===============================
both              `amplification`
reference         `amplification_lower`          the cell's delay is at least its bound
cell              `amplification_upper`          the reference's is at least its bound: no winner
neither           nothing
================  =============================  ===============================

A side without any delay, because no seed of it memorized or all diverged, gives nothing either.

The interval of an amplification follows from those of both delays, whatever the distribution and
however the seeds of both cells are related: it holds if both do. So its level is at least the sum
of both levels minus 1 (Bonferroni), 96 % with ten seeds, 50 % with three.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Template

import numpy as np
import pyarrow as pa

from sweeper import sql
from sweeper.analysis.diagrams.phase import config_paths
from sweeper.analysis.views.medians import DELAY_LOW
from sweeper.analysis.views.views import read_sql
from sweeper.errors import did_you_mean

COUNTED = (
    "case when d.phase = 'generalized_only' then 1 "
    "when d.estimate is not null then greatest(d.estimate, d.t2 - d.t2_lower, 1) end"
)
"""SQL of a trial's counted delay, over a row d of `delays`; null where the delay isn't known.

`greatest` leaves nulls out: t2_lower is null where t2 = 0."""

_MISSED = re.compile(
    r"(?:Referenced column|Could not find key|does not have a column named|Referenced table) "
    r'"([^"]+)"'
)


def evaluate(
    connection: sql.Connection, references: Mapping[str, str], extra: Sequence[str] = ()
) -> pa.Table:
    """Return the numbers of some cells that a search needs, with those of their reference cells.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        references: Cell to its reference cell; neither need have a trial yet.
        extra: SQL expressions over the columns of `cells` and of the result, each a number or a
            boolean, e.g. ``delay / t1``; ``cells.cell_id`` is the cell within a subquery. Without
            any cell they are checked all the same.

    Returns:
        One row a key of `references`, in their order, with the columns that the header of
        ``analysis/views/sql/amplification.sql`` describes. Behind them ``objective_<i>`` as
        float64, the value of ``extra[i]``; null where it isn't finite or the cell has no trial.

    Raises:
        QueryError: An expression names an unknown column, isn't a number or can't be computed;
            names the first that does, and the nearest known column.
    """
    for expression in extra:
        _check(connection, expression)
    try:
        return _evaluate(connection, references, extra)
    except sql.QueryError as error:
        for expression in extra:
            _blame(connection, references, expression)
        raise error from None


def _evaluate(
    connection: sql.Connection, references: Mapping[str, str], extra: Sequence[str]
) -> pa.Table:
    objectives = "".join(
        f",\ncase when cells.n_seeds is not null then ({expression}\n) end as objective_{number}"
        for number, expression in enumerate(extra)
    )
    train, test = (_criterion_metric(connection, side) for side in ("train", "test"))
    body = read_sql("amplification").partition("\n\n")[2]  # the header has its own dollars
    text = Template(body).substitute(
        cells=_strings(list(references)),
        references=_strings(list(references.values())),
        delay_low=DELAY_LOW,
        counted=COUNTED,
        train_value=train,
        test_value=test,
        objectives=objectives,
    )
    table = sql.query(connection, text)
    for number, expression in enumerate(extra):
        index = table.schema.get_field_index(f"objective_{number}")
        column = _numbers(table.column(index), expression)
        table = table.set_column(index, f"objective_{number}", column)
    return table


def _strings(values: Sequence[str]) -> str:
    return f"[{', '.join(map(sql.literal, values))}]::varchar[]"


def _numbers(column: pa.ChunkedArray, expression: str) -> pa.Array:
    """Return the values of an objective as float64, null where they aren't finite."""
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise sql.QueryError(f"{expression!r} is a {kind}, not a number. Name a numeric column.")
    values = np.array([np.nan if v is None else float(v) for v in column.to_pylist()], dtype=float)
    return pa.array(values, mask=~np.isfinite(values))


def _criterion_metric(connection: sql.Connection, side: str) -> str:
    """Return the SQL of the metric that the criterion of trial s reads, over its row m."""
    logged = set(sql.query(connection, "select * from metrics limit 0").schema.names)
    criteria = sql.query(connection, "select task, metric from criteria").to_pylist()
    columns = {row["task"]: f"{side}_{row['metric']}" for row in criteria}

    def read(column: str) -> str:
        return f"m.{sql.identifier(column)}" if column in logged else "null::double"

    if len(set(columns.values())) == 1:
        return read(next(iter(columns.values())))
    whens = [f"when {sql.literal(task)} then {read(name)}" for task, name in columns.items()]
    return f"case coalesce(s.task.name, '') {' '.join(whens)} end" if whens else "null::double"


def _check(connection: sql.Connection, expression: str) -> None:
    """Check that `expression` parses as one that only reads."""
    try:
        sql.check_read_only(f"select case when true then ({expression}\n) end as objective")
    except sql.QueryError as error:
        raise _refusal(connection, expression, error) from None


def _blame(connection: sql.Connection, references: Mapping[str, str], expression: str) -> None:
    """Raise the error of `expression`, if it is the one that fails."""
    try:
        _evaluate(connection, references, [expression])
    except sql.QueryError as error:
        raise _refusal(connection, expression, error) from None


def _refusal(connection: sql.Connection, expression: str, error: sql.QueryError) -> sql.QueryError:
    """Return `error` as one of `expression`, with the nearest column where one isn't known."""
    missed = _MISSED.search(str(error))
    if missed is None:
        said = str(error)
        return sql.QueryError(said if repr(expression) in said else f"{expression!r}: {said}")
    paths = config_paths(connection)
    columns = _evaluate(connection, {}, ()).schema.names
    name = next(
        (m for m in re.findall(r"[\w.]+", expression) if missed[1] in m.split(".")), missed[1]
    ).removeprefix("cells.")
    likely = [*columns, *sql.varying(connection, paths)]
    remedy = did_you_mean(name, [*columns, *paths], likely)
    return sql.QueryError(f"{expression!r}: no column {name!r}. {remedy}")
