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

References:
    [ET93] Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Template

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from sweeper import sql
from sweeper.analysis.diagrams.phase import config_paths
from sweeper.analysis.views.medians import DELAY_LOW, medians
from sweeper.analysis.views.views import read_sql
from sweeper.errors import did_you_mean

COUNTED = (
    "case when d.phase = 'generalized_only' then 1 "
    "when d.estimate is not null then greatest(d.estimate, d.t2 - d.t2_lower, 1) end"
)
"""SQL of a trial's counted delay, over a row d of `delays`; null where the delay isn't known.

`greatest` leaves nulls out: t2_lower is null where t2 = 0."""

LEVEL = 0.95
"""Confidence level of the interval of an amplification."""

_FAR = 1e100  # in place of infinity, whose quantiles SciPy can't take
_UNKNOWN = -1.0

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


def interval(
    connection: sql.Connection,
    cell_id: str,
    reference_id: str,
    *,
    level: float = LEVEL,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float | None, float | None]:
    """Return a bootstrap interval of the amplification over the seeds [ET93].

    Seeds that both cells have are drawn together, since they share data and initialization;
    those of one cell only are drawn among themselves. The interval is the percentile one: BCa's
    acceleration comes from the jackknife, which is inconsistent for medians, and a resample in
    which a median isn't reached has a place in the order, though it has no value.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        cell_id: The cell.
        reference_id: Its reference.
        level: Confidence level, in (0, 1).
        resamples: How often seeds are drawn.
        seed: Of the draws; the same data and seed give the same interval.

    Returns:
        Its ends. Low is None, unbounded, where in the share (1 - level) / 2 of the resamples or
        more the reference's median isn't reached; high likewise for the cell's. Both are None
        where a cell has no delay, no seed has another to be exchanged with, or hardly a resample
        reaches both medians.
    """
    mine, other = (_delays(connection, name) for name in (cell_id, reference_id))
    strata = [sorted(mine.keys() & other), sorted(mine.keys() - other), sorted(other.keys() - mine)]
    drawn = [k for k, stratum in enumerate(strata) if len(stratum) > 1]
    if not mine or not other or not drawn:
        return None, None

    def statistic(*samples: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        lead = samples[0].shape[:-1]
        fixed = [np.broadcast_to(np.array(s, dtype=np.int64), (*lead, len(s))) for s in strata]
        for k, sample in zip(drawn, samples, strict=True):
            fixed[k] = sample
        both, left, right = fixed
        return _ratios(
            _medians(np.concatenate([both, left], axis=axis), mine),
            _medians(np.concatenate([both, right], axis=axis), other),
        )

    found = stats.bootstrap(
        [np.array(strata[k], dtype=np.int64) for k in drawn],
        statistic,
        vectorized=True,
        axis=-1,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution
    return _ends(found, (1 - level) / 2)


def _delays(connection: sql.Connection, cell_id: str) -> dict[int, tuple[float, float]]:
    """Return for each seed of a cell that counts what its delay is at least, and counted delay.

    The first is infinite where the seed diverged; the second is NaN where the delay isn't known.
    """
    text = (
        f"select t.seed, coalesce({DELAY_LOW}, 'inf')::double as low, "
        f"coalesce({COUNTED}, 'nan')::double as counted "
        "from trials as t join delays as d using (trial_id) "
        f"where t.cell_id = {sql.literal(cell_id)} and d.last_step is not null "
        "and t.status <> 'failed'"
    )
    rows = sql.query(connection, text).to_pylist()
    return {row["seed"]: (row["low"], row["counted"]) for row in rows}


def _medians(
    seeds: NDArray[np.int64], delays: Mapping[int, tuple[float, float]]
) -> NDArray[np.float64]:
    """Return the median of each row of drawn `seeds`, [..., n] to [...]; NaN: not known."""
    places = np.array(sorted(delays), dtype=np.int64)
    values = np.array([delays[int(seed)] for seed in places], dtype=np.float64)
    low, counted = np.moveaxis(values[np.searchsorted(places, seeds)], -1, 0)
    return medians(low, counted, counted).median


def _ratios(cell: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cell / reference; beyond all where the cell isn't reached, 0 where the reference."""
    lost, unreferenced = np.isnan(cell), np.isnan(reference)
    ratios = np.where(lost, _FAR, np.where(unreferenced, 0.0, cell / reference))
    return np.where(lost & unreferenced, _UNKNOWN, ratios)


def _ends(ratios: NDArray[np.float64], tail: float) -> tuple[float | None, float | None]:
    """Return the quantiles `tail` and 1 - `tail`; unknown values count against both."""
    out = int(tail * len(ratios))
    low = float(np.sort(np.where(ratios == _UNKNOWN, 0.0, ratios))[out])
    high = float(np.sort(np.where(ratios == _UNKNOWN, _FAR, ratios))[len(ratios) - 1 - out])
    return (low if 0 < low < _FAR else None), (high if 0 < high < _FAR else None)
