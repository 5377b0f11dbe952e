"""Evaluates suggested cells by the views: their objectives, bounds and constraint violations.

Delays are right-censored. A cell whose median delay isn't reached doesn't have an infinite delay:
the study gets its lower bound, marked as a violation of the constraint that a cell generalizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.diagrams.amplification import evaluate
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.views import open_views
from sweeper.config.decoding import trials_of
from sweeper.criterion import RISING
from sweeper.grid.grid import Grid
from sweeper.grid.search_section import Search
from sweeper.search.study import Evaluation
from sweeper.space.space import Params, Point, Space
from sweeper.store.ledger import Ledger
from sweeper.store.schema import ENDED

BOUNDS = {"delay": "delay_bound", "amplification": "amplification_lower"}
"""Objective to the column with its lower bound, for cells where the objective is unknown."""

ABOUT_DELAY = re.compile(r"\b(log_)?(amplification|delay)|\bt2\b")
"""Matches an objective that only a generalizing cell has."""

NAMED = ("amplification", "log_amplification", "delay", "log_delay", "t2")
"""Built-in objectives that only a generalizing cell has."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Computes the objectives of points from the store.

    Attributes:
        grid: The file.
        settings: Its section `search`.
        space: Its space.
        ledger: The sweep's ledger.
        seeds: The seeds of every suggestion.
    """

    grid: Grid
    settings: Search
    space: Space
    ledger: Ledger
    seeds: Sequence[int]

    def table(self, points: Sequence[Point], seeds: Sequence[int]) -> pa.Table:
        """Return the trials of points and their references."""
        references = [self.reference(p) for p in points]
        return self.space.table([*points, *(r for r in references if r is not None)], list(seeds))

    def reference(self, point: Point) -> Point | None:
        """Return the reference cell of a point; None if no objective reads it."""
        return point.reference if self.settings.needs_reference else None

    def rows(self, points: Mapping[int, Point], seeds: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return for each point its row of `evaluate`."""
        pairs = {p.cell_id: (self.reference(p) or p).cell_id for p in points.values()}
        texts = [o.value for o in self.settings.objectives]
        table = self.table(list(points.values()), seeds)
        with open_views(self.ledger, plan=table, criteria=self.grid.criteria) as views:
            rows = {r["cell_id"]: r for r in evaluate(views, pairs, texts).to_pylist()}
        return {number: rows[p.cell_id] for number, p in points.items()}

    def evaluate(self, points: Mapping[int, Point]) -> dict[int, tuple[Evaluation, float]]:
        """Return for each point its evaluation and its final test metric.

        The sign of the metric is such that a pruner prefers the cell whose metric is better.
        """
        evaluations = {}
        for number, row in self.rows(points, self.seeds).items():
            point = points[number]
            about = {"cell_id": point.cell_id, "bound": self.bound(row)}
            reference = self.reference(point)
            if reference is not None:
                about["reference_id"] = reference.cell_id
            task = next(iter(self.grid.criteria), "")
            criterion = self.grid.criteria.get(str(point.values.get("task.name", task)))
            rising = criterion is not None and criterion.metric in RISING
            reached = row["final_test"]
            good = float("-inf") if reached is None else reached if rising else -reached
            upward = self.settings.objectives[0].direction == "maximize"
            evaluations[number] = (self.evaluation(row, about), good if upward else -good)
        return evaluations

    def bound(self, row: Mapping[str, Any]) -> float | None:
        """Return the lower bound of the first objective where it is censored; None otherwise."""
        column = BOUNDS.get(self.settings.objectives[0].value)
        value = row[column] if column else None
        return None if value is None else float(value)

    def evaluation(self, row: Mapping[str, Any], about: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation of a cell, from its row.

        A cell generalizes if more than half of its seeds do: then its median delay is known.
        Otherwise the constraint is violated, and the bound of the delay replaces the delay.
        """
        names = [o.value for o in self.settings.objectives]
        values = [row[f"objective_{i}"] for i in range(len(names))]
        violation = -1.0
        if any(ABOUT_DELAY.search(name) for name in names):
            key = "amplification_violation" if self.settings.needs_reference else "violation"
            violation = float(row[key])
        if any(v is None for v in values):
            violation = max(violation, 1.0 / (2 * len(self.seeds)))
            stand_ins = [_stand_in(n, v, row) for n, v in zip(names, values, strict=True)]
            if any(v is None for v in stand_ins):
                return Evaluation(None, violation, about)
            values = stand_ins
        return Evaluation(tuple(float(v) for v in values), violation, about)

    def known(self, taken: Set[object]) -> list[tuple[Params, Evaluation]]:
        """Return the points of the space that were trained before, without the `taken` cells."""
        ledger = self.ledger
        plan = snapshot.plan(ledger, snapshot.launches(ledger, everything=True))
        if not plan.num_rows:
            return []
        with open_views(ledger, everything=True) as views:
            ended = sql.query(
                views,
                "select cell_id, list(seed) as seeds from trials "
                f"where status in {ENDED} and status <> 'failed' "
                f"and (status <> 'censored' or steps >= {self.grid.steps}) group by cell_id",
            )
        have = {row["cell_id"]: set(row["seeds"]) for row in ended.to_pylist()}
        wanted = set(self.seeds)
        full = {i for i, seeds in have.items() if wanted <= seeds}
        points: dict[int, Point] = {}
        params: dict[int, Params] = {}
        for values in _cells(self.grid, plan, full - taken):
            given = self.space.params_of(values)
            made = None if given is None else self.space.point(given)
            if given is None or not isinstance(made, Point):
                continue
            reference = self.reference(made)
            if reference is None or reference.cell_id in full:
                points[len(points)] = made
                params[len(params)] = given
        evaluations = self.evaluate(points) if points else {}
        return [(params[n], v) for n, (v, _) in evaluations.items() if v.values is not None]


def generalizes(row: Mapping[str, Any]) -> bool:
    """Return whether more than half of a cell's seeds generalize."""
    return 2 * (row["n_generalized"] or 0) > (row["n_seeds"] or 0)


def _stand_in(name: str, value: float | None, row: Mapping[str, Any]) -> float | None:
    """Return the value of an objective, or its lower bound (at least 0) where it is censored."""
    if value is not None or name not in NAMED:
        return value
    return float(row.get(BOUNDS.get(name, "")) or 0.0)


def _cells(grid: Grid, plan: pa.Table, cells: set[str]) -> list[Mapping[str, Any]]:
    """Return the values of `cells` of a plan; none if it lacks a field of the config."""
    first: dict[str, int] = {}
    for row, cell_id in enumerate(plan["cell_id"].to_pylist()):
        first.setdefault(cell_id, row)
    rows = sorted(row for cell_id, row in first.items() if cell_id in cells)
    if set(grid.schema.names) - set(plan.column_names):
        return []
    return [t.values for t in trials_of(grid.config, plan.take(pa.array(rows, pa.int64())))]
