"""Checks over all cells of a grid: exclusion rules, constraints, criteria, logged metrics."""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sweeper.compile.blocks import Cells
from sweeper.compile.diagnostics import Diagnostics, Origin
from sweeper.config.diagnostic import KeyPath, Kind, Place
from sweeper.config.fields import Constraint, Scalar
from sweeper.config.messages import quoted
from sweeper.config.resolve import breach
from sweeper.criterion import Criterion
from sweeper.errors import did_you_mean
from sweeper.grid.exclusion import Rule, parse
from sweeper.grid.grid import column_types
from sweeper.grid.subgrid import Subgrid
from sweeper.sql import QueryError
from sweeper.store.schema import metric_names


def read_rules(diagnostics: Diagnostics, subgrids: Sequence[Subgrid]) -> list[Rule] | None:
    """Return the exclusion rules; None, with a mistake, where one of them is unusable.

    Each has to be a condition over one cell that reads at least one axis.
    """
    if not diagnostics.file.excludes:
        return []
    types = column_types(diagnostics.config)
    swept = _swept(diagnostics, subgrids)
    names = ", ".join(sorted(swept & types.keys())) or "none"
    # with an unknown axis, a rule may name the path that was meant
    misspelt = diagnostics.incomplete or not swept <= types.keys()
    rules: list[Rule | None] = []
    for index, text in enumerate(diagnostics.file.excludes):
        listed = isinstance(diagnostics.file.exclude, list)
        node: KeyPath = ("exclude", index) if listed else ("exclude",)
        if node in diagnostics.refused:
            rules.append(None)
            continue
        try:
            rule = parse(text, types)
            if swept.isdisjoint(rule.paths) and not misspelt:
                raise QueryError("the rule reads no axis.")
            if not diagnostics.every:
                rule.removed(subgrids, types)  # some mistakes show only on values
            rules.append(rule)
        except QueryError as error:
            rules.append(None)
            reason = error.reason + ("" if error.reason.endswith((".", "?")) else ".")
            diagnostics.report(
                Kind.INVALID,
                diagnostics.document.place(*node),
                "exclude",
                f"exclude {quoted(text)}: {reason}",
                f"Write a condition over the axes: {names}.",
                value=text,
            )
    usable = [rule for rule in rules if rule is not None]
    return usable if len(usable) == len(rules) else None


def _swept(diagnostics: Diagnostics, subgrids: Sequence[Subgrid]) -> set[str]:
    """Return the paths that are axes in the file, or differ between subgrids."""
    blocks = diagnostics.file.blocks
    swept = {p for b in blocks for group in (b.product, *b.zip) for p in group}
    swept |= diagnostics.file.search.space.keys() if diagnostics.file.search is not None else set()
    every = {p for subgrid in subgrids for p in subgrid.constants}
    return swept | {p for p in every if len({s.constants.get(p) for s in subgrids}) > 1}


def check_constraints(diagnostics: Diagnostics, cells: Cells, rules: Sequence[Rule]) -> None:
    """Check each constraint once per combination of the axes that it reads.

    Combinations whose cells are all removed by a rule don't count.
    """
    types = column_types(diagnostics.config) if rules else {}
    usable = rules if not diagnostics.every else ()
    removed = [rule.removed(cells.subgrids, types) for rule in usable]
    for i, (subgrid, origin) in enumerate(zip(cells.subgrids, cells.origins, strict=True)):
        masks = [mask[i] for mask in removed]
        for constraint in diagnostics.config.constraints:
            values = _first_breach(subgrid, constraint, masks)
            if values is not None:
                place = _place(origin, constraint, values)
                paths = ", ".join(constraint.paths)
                text = breach(constraint, values)
                diagnostics.report(Kind.CONSTRAINT, place, paths, text, value=values)


def _first_breach(
    subgrid: Subgrid, constraint: Constraint, masks: Sequence[NDArray[np.bool_]]
) -> list[Scalar] | None:
    """Return the first values that break the constraint; None where none do."""
    reads = set(constraint.paths)
    read = [i for i, axis in enumerate(subgrid.axes) if not reads.isdisjoint(axis.paths)]
    on_axis = {
        path: (k, column)
        for k, i in enumerate(read)
        for column, path in enumerate(subgrid.axes[i].paths)
    }
    if not all(path in subgrid.constants or path in on_axis for path in constraint.paths):
        return None
    kept = _kept(subgrid, read, masks)
    for point in product(*(range(len(subgrid.axes[i].rows)) for i in read)):
        if kept is not None and not kept[point]:
            continue
        values: list[Scalar] = []
        for path in constraint.paths:
            if path in on_axis:
                k, column = on_axis[path]
                values.append(subgrid.axes[read[k]].rows[point[k]][column])
            else:
                values.append(subgrid.constants[path])
        if not constraint.holds(*values):
            return values
    return None


def _place(origin: Origin, constraint: Constraint, values: Sequence[Scalar]) -> Place:
    """Return the place of the last of the `values` that the file gives; names count least."""
    read = list(zip(constraint.paths, values, strict=True))[::-1]
    for path, value in sorted(read, key=lambda item: item[0].endswith(".name")):
        place = origin.place(path, value)
        if place is not None:
            return place
    return origin.block


def _kept(
    subgrid: Subgrid, read: Sequence[int], masks: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_] | None:
    """Return which points of the axes `read` keep a cell, in their shape; None where all do."""
    if not masks:
        return None
    kept = np.ones(subgrid.shape, dtype=bool)
    for mask in masks:
        kept &= ~mask
    others = tuple(i for i in range(len(subgrid.axes)) if i not in read)
    return np.asarray(kept.any(axis=others))


def check_criteria(
    diagnostics: Diagnostics, subgrids: Sequence[Subgrid], searched: Sequence[str] = ()
) -> None:
    """Check that every task has one criterion, over a known metric, by which trials may stop.

    Args:
        diagnostics: Takes the mistakes.
        subgrids: The cells of the grid.
        searched: Tasks that only a search can choose.
    """
    given = diagnostics.file.criterion
    known = metric_names(diagnostics.config.metrics)
    named = given.items() if isinstance(given, dict) else [] if given is None else [("", given)]
    lead = next(iter(diagnostics.config.parts), None)
    tasks = {*searched, *(str(s.constants.get(f"{lead}.name", "")) for s in subgrids)}
    for task, criterion in named:
        node = ("criterion", task) if task else ("criterion",)
        _check_criterion(diagnostics, criterion, node, known)
        if criterion.metric in known:
            _check_logged(diagnostics, criterion, node, {task} if task else tasks)
    refused = any(node[:1] == ("criterion",) for node in diagnostics.refused)
    if refused or not (subgrids or searched):
        return
    for task in sorted(tasks):
        if given is None or (isinstance(given, dict) and task not in given):
            _check_default(diagnostics, task)
    for task in given if isinstance(given, dict) else ():
        if task not in tasks:
            diagnostics.report(
                Kind.INAPPLICABLE,
                diagnostics.document.place("criterion", task, key=True),
                f"criterion.{task}",
                f"criterion names the task {task!r}, which isn't in the grid.",
                did_you_mean(task, sorted(tasks)),
            )


def _check_default(diagnostics: Diagnostics, task: str) -> None:
    """Check the default criterion of a task to which the file gives none."""
    criteria = diagnostics.config.criteria
    if task in criteria:
        _check_stop(diagnostics, Criterion(**criteria[task]), ("criterion",))
        return
    diagnostics.report(
        Kind.MISSING,
        diagnostics.document.place("criterion"),
        "criterion",
        f"the task {task!r} has no default criterion.",
        "Add criterion: {metric: ..., train: ..., test: ...}.",
    )


def _check_criterion(
    diagnostics: Diagnostics, criterion: Criterion, node: tuple[str, ...], known: Sequence[str]
) -> None:
    place = diagnostics.document.place
    path = ".".join(node)
    if criterion.metric not in known and diagnostics.config.code is None:
        text = f"{path}.metric = {criterion.metric!r} is unknown."
        remedy = did_you_mean(criterion.metric, known)
        at = place(*node, "metric")
        diagnostics.report(Kind.UNKNOWN, at, f"{path}.metric", text, remedy, value=criterion.metric)
    _check_stop(diagnostics, criterion, node)
    for side in ("train", "test"):
        threshold = getattr(criterion, side)
        remedy = "" if threshold is None else _bounds(criterion.metric, threshold)
        if remedy:
            text = f"{path}.{side} = {threshold!r} can't be reached:"
            at = place(*node, side)
            diagnostics.report(Kind.INVALID, at, f"{path}.{side}", text, remedy, value=threshold)


def _bounds(metric: str, threshold: float) -> str:
    """Return the range of a metric in which a threshold makes sense if it is outside, else ""."""
    if metric == "acc" and not 0 <= threshold <= 1:
        return "accuracies are from 0 to 1."
    if metric in ("error", "loss") and threshold <= 0:
        return "errors and losses are above 0."
    return ""


def _check_logged(
    diagnostics: Diagnostics, criterion: Criterion, node: tuple[str, ...], tasks: Set[str]
) -> None:
    """Check that each of `tasks` logs the metric of its criterion, as far as that is known."""
    for task in sorted(tasks & diagnostics.config.logged_metrics.keys()):
        logged = diagnostics.config.logged_metrics[task]
        if criterion.metric not in logged:
            path = f"{'.'.join(node)}.metric"
            diagnostics.report(
                Kind.UNKNOWN,
                diagnostics.document.place(*node, "metric"),
                path,
                f"{path} = {criterion.metric!r}: the task {task} has no such metric.",
                f"It has: {', '.join(logged)}.",
                value=criterion.metric,
            )


def _check_stop(diagnostics: Diagnostics, criterion: Criterion, node: tuple[str, ...]) -> None:
    """Check that trials don't stop early where one logged row can't tell that they generalize."""
    stop = ("stop", "after_generalization")
    refused = any(path[:1] == ("stop",) for path in diagnostics.refused)
    if criterion.stops or not diagnostics.file.stop.after_generalization or refused:
        return
    written = stop in diagnostics.document.places
    field, reason = (
        ("rule", "needs the whole curve of a trial: t2 isn't known before the horizon.")
        if criterion.whole
        else ("hold", "needs the logged steps after t2, and the trials would stop at t2.")
    )
    value = getattr(criterion, field)
    diagnostics.report(
        Kind.CONFLICT,
        diagnostics.document.place(*(stop if written else (*node, field))),
        ".".join((*node, field)),
        f"{'stop.after_generalization = true, but ' if written else ''}"
        f"{'.'.join(node)}.{field} = {value!r} {reason}",
        "Write stop: {after_generalization: false}.",
        value=value,
    )


def check_metrics(diagnostics: Diagnostics) -> None:
    """Check that the trainable offers each metric under `log`, and that none is there twice."""
    known = list(diagnostics.config.on_request)
    names = diagnostics.file.log.metrics
    for index, name in enumerate(names):
        place = diagnostics.document.place("log", "metrics", index)
        text = f"log.metrics: {quoted(name)}"
        if name not in known:
            offer = did_you_mean(name, known) if known else "This trainable offers none."
            diagnostics.report(
                Kind.UNKNOWN, place, "log.metrics", f"{text} is unknown.", offer, value=name
            )
        elif name in names[:index]:
            text = f"{text} is listed twice."
            diagnostics.report(
                Kind.DUPLICATE, place, "log.metrics", text, "Remove one.", value=name
            )
