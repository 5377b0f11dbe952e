"""Checks that need all slabs of a grid: exclusion rules, constraints, criteria."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.compile.diagnostics import Report
from sweeper.config.fields import Constraint, Scalar
from sweeper.config.messages import show
from sweeper.config.resolve import breach
from sweeper.criterion import Criterion
from sweeper.errors import did_you_mean
from sweeper.grid.exclusion import Rule, parse
from sweeper.grid.grid import column_types
from sweeper.grid.spacing import AXIS_KINDS
from sweeper.grid.subgrid import Slab
from sweeper.sql import QueryError
from sweeper.store.schema import metric_names


def spaced(value: Any) -> bool:
    """Return whether `value` is written as a logspace, linspace or range."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in AXIS_KINDS


def rules(report: Report, slabs: Sequence[Slab]) -> list[Rule] | None:
    """Return the exclusion rules, or None where one of them can't be used.

    Each must be a condition over one cell that reads at least one axis.
    """
    types = column_types(report.config)
    swept = _swept(report, slabs)
    names = ", ".join(sorted(swept & types.keys())) or "none"
    misspelt = report.blind or not swept <= types.keys()  # then the rules may name what is meant
    found: list[Rule] = []
    complete = True
    for index, text in enumerate(report.file.excludes):
        path = ("exclude", index) if isinstance(report.file.exclude, list) else ("exclude",)
        if path in report.refused:
            complete = False
            continue
        try:
            rule = parse(text, types)
            if swept.isdisjoint(rule.paths) and not misspelt:
                raise QueryError("the rule names no axis.")
            if not report.problems:
                rule.removed(slabs, types)  # some mistakes show only on values
        except QueryError as error:
            complete = False
            reason = str(error).split("Error: ", 1)[-1]
            reason += "" if reason.endswith((".", "?")) else "."
            remedy = f"Write a condition over the axes: {names}."
            report.add(report.document.place(*path), f"exclude {show(text)}: {reason} {remedy}")
        else:
            found.append(rule)
    return found if complete else None


def _swept(report: Report, slabs: Sequence[Slab]) -> set[str]:
    """Return the paths that are axes in the file, or differ between slabs."""
    found = {p for b in report.file.blocks for group in (b.product, *b.zip) for p in group}
    found |= report.file.search.space.keys() if report.file.search is not None else set()
    every = {p for slab in slabs for p in slab.constants}
    return found | {p for p in every if len({s.constants.get(p) for s in slabs}) > 1}


def constraints(report: Report, slabs: Sequence[Slab], rules: Sequence[Rule]) -> None:
    """Check each constraint once per combination of the axes that it reads.

    Combinations of which a rule removes every cell don't count.
    """
    types = column_types(report.config)
    usable = not report.problems
    removed = [rule.removed(slabs, types) for rule in rules] if usable else []
    for i, slab in enumerate(slabs):
        masks = [mask[i] for mask in removed]
        for constraint in report.config.constraints:
            _constraint(report, i, slab, constraint, masks)


def _constraint(
    report: Report,
    index: int,
    slab: Slab,
    constraint: Constraint,
    masks: Sequence[NDArray[np.bool_]],
) -> None:
    reads = set(constraint.paths)
    read = [i for i, axis in enumerate(slab.axes) if not reads.isdisjoint(axis.paths)]
    on_axis = {
        path: (k, column)
        for k, i in enumerate(read)
        for column, path in enumerate(slab.axes[i].paths)
    }
    if not all(path in slab.constants or path in on_axis for path in constraint.paths):
        return
    kept = _kept(slab, read, masks)
    for point in product(*(range(len(slab.axes[i].rows)) for i in read)):
        if kept is not None and not kept[point]:
            continue
        values: list[Scalar] = []
        for path in constraint.paths:
            if path in on_axis:
                k, column = on_axis[path]
                values.append(slab.axes[read[k]].rows[point[k]][column])
            else:
                values.append(slab.constants[path])
        if not constraint.holds(*values):
            report.add(_place(report, index, constraint, values), breach(constraint, values))
            return


def _place(report: Report, index: int, constraint: Constraint, values: Sequence[Scalar]) -> str:
    """Return the place of the last of the `values` that the file gives; names come last."""
    origin = report.origins[index]
    read = list(zip(constraint.paths, values, strict=True))[::-1]
    for path, value in sorted(read, key=lambda item: item[0].endswith(".name")):
        place = origin.place(path, value)
        if place is not None:
            return place
    return origin.block


def _kept(
    slab: Slab, read: Sequence[int], masks: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_] | None:
    """Return which points of the axes `read` have a cell left; None where all have."""
    if not masks:
        return None
    kept = np.ones(slab.shape, dtype=bool)
    for mask in masks:
        kept &= ~mask
    others = tuple(i for i in range(len(slab.axes)) if i not in read)
    return np.asarray(kept.any(axis=others))


def criteria(report: Report, slabs: Sequence[Slab], searched: Sequence[str] = ()) -> None:
    """Check that every task has one criterion, over a metric that there is, by which it may stop.

    Args:
        report: Takes the mistakes.
        slabs: The cells of the grid.
        searched: Tasks that a search can choose besides.
    """
    given = report.file.criterion
    known = metric_names(report.config.metrics)
    place = report.document.place
    named = given.items() if isinstance(given, dict) else [] if given is None else [("", given)]
    for task, criterion in named:
        base = ("criterion", task) if task else ("criterion",)
        _criterion(report, criterion, base, known)
    if ("criterion",) in {path[:1] for path in report.refused} or not (slabs or searched):
        return
    lead = next(iter(report.config.parts), None)
    tasks = sorted({*searched, *(str(slab.constants.get(f"{lead}.name", "")) for slab in slabs)})
    for task in tasks:
        covered = given is not None and (not isinstance(given, dict) or task in given)
        if not covered and task not in report.config.criteria:
            report.add(
                place("criterion"),
                f"the task {task!r} has no criterion of its own. "
                "Add criterion: {metric: ..., train: ..., test: ...}.",
            )
        elif not covered:
            _stoppable(report, Criterion(**report.config.criteria[task]), ("criterion",))
    for task in given if isinstance(given, dict) else []:
        if task not in tasks:
            report.add(
                place("criterion", task, key=True),
                f"criterion names the task {task!r}, which isn't in the grid. "
                + did_you_mean(task, tasks),
            )


def _criterion(
    report: Report, criterion: Criterion, base: tuple[str, ...], known: Sequence[str]
) -> None:
    place = report.document.place
    if criterion.metric not in known:
        report.add(
            place(*base, "metric"),
            f"{'.'.join(base)}.metric = {criterion.metric!r} is unknown. "
            + did_you_mean(criterion.metric, known),
        )
    _stoppable(report, criterion, base)
    for side in ("train", "test"):
        threshold = getattr(criterion, side)
        if criterion.metric == "acc" and threshold is not None and not 0 <= threshold <= 1:
            report.add(
                place(*base, side),
                f"{'.'.join(base)}.{side} = {threshold!r} can't be reached: accuracies are "
                "from 0 to 1.",
            )


def _stoppable(report: Report, criterion: Criterion, base: tuple[str, ...]) -> None:
    """Check that trials don't stop by a rule that takes their whole curve."""
    stop = ("stop", "after_generalization")
    refused = any(path[:1] == ("stop",) for path in report.refused)
    if not criterion.whole or not report.file.stop.after_generalization or refused:
        return
    written = stop in report.document.places
    report.add(
        report.document.place(*(stop if written else (*base, "rule"))),
        f"{'stop.after_generalization = true, but ' if written else ''}"
        f"{'.'.join(base)}.rule = {criterion.rule!r} takes a trial's whole curve: t2 isn't known "
        "before the horizon. Write stop: {after_generalization: false}.",
    )


def requested(report: Report) -> None:
    """Check that the metrics under `log` are those that the trainable offers on request."""
    known = list(report.config.on_request)
    names = report.file.log.metrics
    for index, name in enumerate(names):
        place = report.document.place("log", "metrics", index)
        if name not in known:
            offer = did_you_mean(name, known) if known else "This trainable offers none."
            report.add(place, f"log.metrics: {show(name)} is unknown. {offer}")
        elif name in names[:index]:
            report.add(place, f"log.metrics: {show(name)} stands there twice. Remove one.")
