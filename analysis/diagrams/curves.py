"""Learning curves of some trials: the metric of their criterion against the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper import sql
from sweeper.analysis.diagrams.phase import Axis, config_paths
from sweeper.criterion import Criterion
from sweeper.errors import UsageError


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial's metrics over its logged steps, ascending; NaN where one wasn't finite."""

    trial_id: str
    label: str
    t1: int | None
    t2: int | None
    steps: NDArray[np.int64]
    train: NDArray[np.float64]
    test: NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Curves of trials that share a criterion.

    Attributes:
        criterion: By which t1 and t2 are read.
        trials: The curves.
    """

    LABELLED: ClassVar[int] = 12

    criterion: Criterion
    trials: tuple[Curve, ...]

    def positive(self, side: str) -> bool:
        """Return whether no value of the train or test metric is 0 or below."""
        values = [t.train if side == "train" else t.test for t in self.trials]
        return all(bool(np.all(v[~np.isnan(v)] > 0)) for v in values)


def learning_curves(connection: sql.Connection, *, where: str | None = None) -> Curves:
    """Return the curves of the trials that `where` selects.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        where: SQL condition over the columns of `trials` and `delays`; all trials without.

    Raises:
        UsageError: No such trial has a logged step, or their criteria differ.
    """
    chosen = _chosen(connection, where)
    criterion = _criterion(connection, chosen)
    ids = ", ".join(sql.literal(i) for i in chosen["trial_id"].to_pylist())
    train, test = (sql.identifier(f"{side}_{criterion.metric}") for side in ("train", "test"))
    rows = sql.query(
        connection,
        f"select trial_id, list(step order by step) as steps, "
        f"list({train} order by step) as train, list({test} order by step) as test "
        f"from metrics where trial_id in ({ids}) group by trial_id",
    )
    logged = {row["trial_id"]: row for row in rows.to_pylist()}
    labels = _labels(chosen)
    curves = []
    for label, row in zip(labels, chosen.to_pylist(), strict=True):
        if (log := logged.get(row["trial_id"])) is not None:
            curves.append(
                Curve(
                    row["trial_id"],
                    label,
                    row["t1"],
                    row["t2"],
                    np.array(log["steps"], dtype=np.int64),
                    np.array(log["train"], dtype=np.float64),
                    np.array(log["test"], dtype=np.float64),
                )
            )
    if not curves:
        if len(labels) == 1:
            raise UsageError("the trial has no logged step yet.")
        raise UsageError(f"none of these {len(labels)} trials has a logged step yet.")
    return Curves(criterion, tuple(curves))


def _chosen(connection: sql.Connection, where: str | None) -> pa.Table:
    columns = [f"{text} as {sql.identifier(p)}" for p, text in config_paths(connection).items()]
    order = ", ".join(sql.identifier(p) for p in config_paths(connection))
    text = (
        f"select trial_id, seed, t1, t2, {', '.join(columns)} from trials "
        "join (select * exclude (last_step) from delays) as d using (trial_id)"
        f"{sql.where_clause(connection, where)} "
        f"order by {order}, seed"
    )
    sql.check_read_only(text, connection)
    table = sql.query(connection, text)
    if table.num_rows == 0:
        raise UsageError(f"no trial matches {where!r}. Loosen it." if where else "no trials yet.")
    return table


def _criterion(connection: sql.Connection, chosen: pa.Table) -> Criterion:
    rows = sql.query(connection, "select * exclude (rising) from criteria").to_pylist()
    known = {row.pop("task"): Criterion(**row) for row in rows}
    if len(set(known.values())) == 1:
        return next(iter(known.values()))
    tasks = {task or "" for task in chosen["task.name"].to_pylist()}
    found = {known[task] for task in tasks if task in known}
    if len(found) != 1:
        names = ", ".join(sorted(tasks))
        raise UsageError(
            f"the tasks {names} have {len(found)} criteria. Choose one task, e.g. "
            f"--where \"task.name = '{sorted(tasks)[0]}'\"."
        )
    return found.pop()


def _labels(chosen: pa.Table) -> list[str]:
    """Return for each trial the settings in which it differs from the others."""
    paths = [p for p in chosen.column_names if p not in ("trial_id", "t1", "t2")]
    axes = [Axis.of(p, chosen[p].to_pylist()) for p in paths]
    varying = [axis for axis in axes if len(axis.values) > 1]
    columns: list[list[Any]] = [chosen[axis.name].to_pylist() for axis in varying]
    if not varying:
        return chosen["trial_id"].to_pylist() if chosen.num_rows > 1 else ["the trial"]
    return [
        ", ".join(f"{a.name} = {a.label(v)}" for a, v in zip(varying, row, strict=True))
        for row in zip(*columns, strict=True)
    ]
