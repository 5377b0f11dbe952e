"""The trials to which a law is fitted: the bounds of their times, and the paths of the law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper import sql
from sweeper.analysis.diagrams.paths import check_path
from sweeper.analysis.diagrams.phase import STEPS, Axis, config_paths
from sweeper.analysis.fit.law import Law, Power
from sweeper.errors import UsageError, did_you_mean

Floats = NDArray[np.float64]

ENDS = {
    "t1": ("coalesce(t1_lower, 0)", "t1"),
    "t2": ("coalesce(t2_lower, 0)", "t2"),
    "delay": (
        "greatest(0, coalesce(t2_lower, 0) - t1)",
        "if(censored, null, greatest(1, t2 - coalesce(t1_lower, 0)))",
    ),
}
"""Time to the SQL of the two ends between which it lies; the upper one is null if censored.

Both t1 and t2 lie in (logged step before, logged step], and so the delay in
(t2_lower - t1, t2 - t1_lower]. A delay of 0 is only known to be less than a step."""

BOUNDS = {"delay": "delay", "t1": "coalesce(t1_after, 0)", "t2": "coalesce(t2_after, 0)"}
"""Time to the SQL of what a censored one exceeds, where that isn't last_step."""

NO_T1 = {"t2": "t1 is null and t2 is null", "delay": "t1 is null"}
"""Time to the SQL of trials that don't have it because they never memorized.

A censored t2 means that a trial may still generalize; one that can't even fit its training data
would make strong penalties look late. A censored t1 is just that."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some trials, ``[n]`` each.

    Attributes:
        shown: The time in optimizer steps, at least 1, or the step that a censored one exceeds.
        reached: Whether it isn't censored.
        low: Natural logarithm of the step that the time exceeds; -inf where nothing is known.
        high: Of the step that it is at most; inf where it is censored.
        log_law: Natural logarithm of the right side of the law.
        log_paths: Of each path of the law, ``[n, paths]``.
        seeds: Seed of each.
        cells: Its cell.
        groups: Its value of the path that tells groups apart; None without one.
    """

    shown: NDArray[np.int64]
    reached: NDArray[np.bool_]
    low: Floats
    high: Floats
    log_law: Floats
    log_paths: Floats
    seeds: NDArray[np.int64]
    cells: NDArray[np.object_]
    groups: NDArray[np.object_]

    @property
    def size(self) -> int:
        """Trials."""
        return len(self.shown)

    @property
    def n_censored(self) -> int:
        """Trials of whose time only a bound is known."""
        return int(np.sum(~self.reached))

    @property
    def n_seeds(self) -> int:
        """Distinct seeds."""
        return len(np.unique(self.seeds))

    def take(self, chosen: NDArray[np.bool_]) -> Sample:
        """Return the `chosen` trials."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @classmethod
    def read(
        cls, connection: sql.Connection, law: Law, *, where: str | None, by: str | None
    ) -> tuple[Sample, Mapping[str, int]]:
        """Return the trials that `where` selects, and how many were left out for which reason.

        Raises:
            UsageError: See `sweeper.analysis.fit.fit.fit_law`.
        """
        table = _select(connection, law, where, by)
        reasons = table["left_out"].to_pylist()
        left_out = Counter(reason for reason in reasons if reason is not None)
        kept = table.filter(pa.array([reason is None for reason in reasons]))
        if kept.num_rows == 0:
            listed = ", ".join(f"{n} {reason}" for reason, n in left_out.most_common())
            raise UsageError(f"none of {table.num_rows} trials has a {law.time}: {listed}.")
        logs = [_logarithm(law, p, kept[f"path_{k}"]) for k, p in enumerate(law.powers)]
        log_paths = np.column_stack(logs)
        lower, upper, bound = (_floats(kept[c]) for c in ("lower_end", "upper_end", "bound"))
        reached = ~np.isnan(upper)
        lower = np.where(reached, lower, bound)
        upper = np.where(reached, np.maximum(upper, 1), np.inf)
        shown = np.maximum(1, np.where(reached, _floats(kept["shown"]), bound)).astype(np.int64)
        with np.errstate(divide="ignore"):
            low, high = np.log(np.maximum(lower, 0)), np.log(upper)
        claimed = np.array([p.exponent for p in law.powers])
        return cls(
            shown,
            reached,
            low,
            high,
            law.log_factor + log_paths @ claimed,
            log_paths,
            np.array(kept["seed"].to_pylist(), dtype=np.int64),
            np.array(kept["cell_id"].to_pylist(), dtype=object),
            np.array(kept["by_value"].to_pylist(), dtype=object),
        ), dict(left_out)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.array([np.nan if v is None else float(v) for v in column.to_pylist()], dtype=float)


def _select(connection: sql.Connection, law: Law, where: str | None, by: str | None) -> pa.Table:
    """Return one row per trial: ends of its time, paths of the law, the reason to leave it out."""
    paths = config_paths(connection)
    for power in law.powers:
        check_path(connection, law.place(power), power.path, paths, "path")
    if by is not None and by != "seed":
        check_path(connection, "by", by, paths, "path")
    time = _time(connection, law, paths)
    lower, upper = ENDS.get(law.time, (time, time))
    columns = {
        "shown": time,
        "lower_end": lower,
        "upper_end": upper,
        "bound": BOUNDS.get(law.time, "last_step"),
        "left_out": "case when status = 'diverged' then 'diverged' "
        "when last_step is null then 'without a logged step' "
        f"when {NO_T1.get(law.time, 'false')} then 'without t1' end",
        **{f"path_{k}": paths[p.path] for k, p in enumerate(law.powers)},
        "by_value": "null" if by is None else paths.get(by, "seed"),
    }
    listed = ", ".join(f"{text} as {name}" for name, text in columns.items())
    text = (
        f"select trial_id, cell_id, seed, {listed} from trials "
        "join (select * exclude (last_step) from delays) as d using (trial_id)"
        f"{sql.where_clause(connection, where)} order by trial_id"
    )
    sql.check_read_only(text, connection)
    table = sql.query(connection, text)
    if table.num_rows == 0:
        raise UsageError(f"no trial matches {where!r}. Loosen it." if where else "no trials yet.")
    return table


def _time(connection: sql.Connection, law: Law, paths: Mapping[str, str]) -> str:
    """Return the SQL of the time on the left of the law."""
    if law.time in STEPS:
        return law.time
    text = "select * exclude (seed) from trials join (select * exclude (last_step) from delays) "
    schema = sql.query(connection, f"{text} as d using (trial_id) limit 0").schema
    whole = [
        field.name
        for field in schema
        if pa.types.is_integer(field.type) and field.name not in paths
    ]
    if law.time not in whole:
        raise UsageError(
            f"law {law.text!r}: no column of steps {law.time!r}. {did_you_mean(law.time, whole)}"
        )
    return sql.identifier(law.time)


def _logarithm(law: Law, power: Power, column: pa.ChunkedArray) -> Floats:
    """Return the natural logarithm of a path's values, each of which must be above 0."""
    path, values = power.path, column.to_pylist()
    axis = Axis.of(path, values)
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not numeric and not pa.types.is_null(kind):
        shown = ", ".join(axis.label(v) for v in axis.values[:6])
        raise UsageError(
            f"{law.place(power)}: {path} isn't a number: {shown}. "
            f"Fit its values apart with --by {path}."
        )
    nulls = sum(v is None for v in values)
    if nulls:
        raise UsageError(
            f"{law.place(power)}: {path} is null in {nulls} of {len(values)} trials. "
            f'Choose the others, e.g. --where "{path} is not null".'
        )
    low = [v for v in values if v <= 0]
    if low:
        raise UsageError(
            f"{law.place(power)}: {path} = {axis.label(low[0])} in {len(low)} of {len(values)} "
            f'trials, but powers need values above 0. Choose them, e.g. --where "{path} > 0".'
        )
    return np.log(np.array(values, dtype=np.float64))
