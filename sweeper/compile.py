"""From a validated grid file to a `Grid`: flatten, split into slabs, check every value.

All mistakes are reported together, each with the place of the value that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np

from sweeper import sql
from sweeper.config import (
    Config,
    Resolved,
    Scalar,
    chosen_leaves,
    known_paths,
    resolve,
    unknown_path,
)
from sweeper.document import Document, Path_
from sweeper.errors import ConfigError, did_you_mean
from sweeper.grid import Grid, column_types, nest
from sweeper.gridfile import Block, GridFile, LinSpace, LogSpace, Range
from sweeper.slab import Axis, Slab

MAX_CELLS = 20_000_000
MAX_SLABS = 10_000


@dataclass(frozen=True, slots=True)
class _RawAxis:
    """An axis as the file has it: unchecked values and where each stands."""

    paths: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    places: tuple[tuple[str, ...], ...]  # as rows

    @property
    def structural(self) -> bool:
        return any(path.endswith(".name") for path in self.paths)


@dataclass(slots=True)
class _Compiler:
    document: Document
    file: GridFile
    config: type[Config]
    problems: list[str] = field(default_factory=list)
    applied: set[str] = field(default_factory=set)  # paths that apply in some slab
    dropped: dict[str, str] = field(default_factory=dict)  # path to place

    def report(self, place: str, message: str) -> None:
        text = f"{place}: {message}"
        if text not in self.problems:
            self.problems.append(text)


def compile_grid(document: Document, file: GridFile, config: type[Config], text: str = "") -> Grid:
    """Return the grid of `file`.

    Args:
        document: Where the file's values stand.
        file: The validated file.
        config: The config of the file's trainable.
        text: What to record as the file's text.

    Raises:
        ConfigError: All mistakes of the file's values.
    """
    compiler = _Compiler(document, file, config)
    fixed, places = _flatten(compiler)
    steps = _steps(compiler, fixed, places)
    slabs: list[Slab] = []
    for index, block in enumerate(file.blocks):
        slabs += _block(compiler, index, block, fixed, places)
    for path, place in compiler.dropped.items():
        if path not in compiler.applied:
            compiler.report(place, _inapplicable(compiler, path, slabs))
    if not compiler.problems:
        _check_excludes(compiler, slabs)
        _check_criteria(compiler, slabs)
    if compiler.problems:
        raise ConfigError(compiler.problems)
    return Grid(file=file, config=config, steps=steps, slabs=tuple(slabs), text=text)


def _inapplicable(compiler: _Compiler, path: str, slabs: Sequence[Slab]) -> str:
    part = path.split(".")[0]
    chosen = sorted({str(s.constants.get(f"{part}.name", "?")) for s in slabs}) or ["the default"]
    owners = [
        name
        for name, section in compiler.config.parts.get(part, {}).items()
        if path.removeprefix(f"{part}.").split(".")[0] in section.model_fields
    ]
    remedy = f"Choose {part}.name: {' or '.join(owners)}, or remove it."
    return f"{path} doesn't apply to {part} {' or '.join(chosen)}. {remedy}"


def _flatten(compiler: _Compiler) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values under `fixed` by dotted path, and the place of each."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}

    def walk(node: Mapping[str, Any], prefix: str, path: Path_) -> None:
        for key, value in node.items():
            dotted = f"{prefix}{key}"
            here = (*path, key)
            if isinstance(value, dict):
                walk(value, f"{dotted}.", here)
                continue
            if dotted in values:
                compiler.report(
                    compiler.document.place(*here, key=True),
                    f"{dotted} stands in fixed twice. Keep one.",
                )
            if dotted in compiler.config.parts:
                compiler.report(
                    compiler.document.place(*here),
                    f"{dotted} = {value!r} must be a mapping. Write {{name: {value}}}.",
                )
                continue
            values[dotted] = value
            places[dotted] = compiler.document.place(*here)

    walk(compiler.file.fixed, "", ("fixed",))
    return values, places


def _steps(compiler: _Compiler, fixed: dict[str, Any], places: Mapping[str, str]) -> int:
    steps = fixed.pop("steps", None)
    if steps is None:
        place = compiler.document.place("fixed", key=True)
        compiler.report(place, "fixed.steps is missing: the horizon in optimizer steps. Add it.")
        return 1
    whole = isinstance(steps, float) and steps.is_integer()
    if isinstance(steps, bool) or not (isinstance(steps, int) or whole) or not 1 <= steps < 2**53:
        compiler.report(
            places["steps"], f"steps = {steps!r} must be a whole number of optimizer steps from 1."
        )
        return 1
    return int(steps)


def _raw_axes(
    compiler: _Compiler, index: int, block: Block, fixed: Mapping[str, Any]
) -> list[_RawAxis]:
    base: Path_ = ("grid", index) if isinstance(compiler.file.grid, list) else ("grid",)
    found: list[_RawAxis] = []
    seen: dict[str, str] = {}
    groups: list[tuple[Path_, dict[str, Any]]] = [
        ((*base, "product"), {path: axis}) for path, axis in block.product.items()
    ]
    groups += [((*base, "zip", i), dict(group)) for i, group in enumerate(block.zip)]
    for where, group in groups:
        columns, places = [], []
        for path, axis in group.items():
            here = (*where, path)
            key = compiler.document.place(*here, key=True)
            _check_axis_name(compiler, path, key, fixed, seen)
            values = _axis_values(compiler, here, path, axis)
            columns.append(values)
            is_list = isinstance(axis, list)
            places.append(
                [
                    compiler.document.place(*here, i) if is_list else compiler.document.place(*here)
                    for i in range(len(values))
                ]
            )
        lengths = {path: len(c) for path, c in zip(group, columns, strict=True)}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{path} has {n}" for path, n in lengths.items())
            compiler.report(
                compiler.document.place(*where),
                f"axes zipped together must have equal lengths: {shown}.",
            )
        elif lengths and min(lengths.values()):
            found.append(
                _RawAxis(
                    tuple(group),
                    tuple(zip(*columns, strict=True)),
                    tuple(zip(*places, strict=True)),
                )
            )
    return found


def _check_axis_name(
    compiler: _Compiler, path: str, key: str, fixed: Mapping[str, Any], seen: dict[str, str]
) -> None:
    if path in fixed:
        compiler.report(
            key,
            f"{path} is both in fixed and in grid. Keep it in grid to sweep it, in fixed to fix it.",
        )
    if path in seen:
        compiler.report(key, f"{path} is an axis already, at {seen[path]}. Keep one.")
    seen[path] = key
    if path in ("steps", "seed", "seeds"):
        where = "fixed.steps" if path == "steps" else "the key seeds"
        compiler.report(key, f"{path} can't be an axis. It belongs to {where}.")
    elif path not in known_paths(compiler.config):
        compiler.report(key, unknown_path(compiler.config, path))


def _axis_values(compiler: _Compiler, here: Path_, path: str, axis: Any) -> list[Any]:
    place = compiler.document.place(*here)
    try:
        values = axis.values() if isinstance(axis, LogSpace | LinSpace | Range) else list(axis)
    except ValueError as error:
        compiler.report(place, f"{path}: {error}.")
        return []
    if not values:
        compiler.report(place, f"{path} has no value. Give it at least one.")
    return values


def _block(
    compiler: _Compiler, index: int, block: Block, fixed: dict[str, Any], places: Mapping[str, str]
) -> list[Slab]:
    before = len(compiler.problems)
    axes = _raw_axes(compiler, index, block, fixed)
    if len(compiler.problems) > before:
        return []
    cells = prod(len(axis.rows) for axis in axes)
    where = compiler.document.place("grid", index)
    if cells > MAX_CELLS:
        compiler.report(where, f"{cells:.3g} cells. A block has at most {MAX_CELLS}: split it.")
        return []
    structural = [axis for axis in axes if axis.structural]
    if prod(len(axis.rows) for axis in structural) > MAX_SLABS:
        compiler.report(where, f"more than {MAX_SLABS} combinations of names. Split the block.")
        return []
    others = [axis for axis in axes if not axis.structural]
    slabs = []
    for rows in product(*(range(len(axis.rows)) for axis in structural)):
        given, given_places = dict(fixed), dict(places)
        for axis, row in zip(structural, rows, strict=True):
            given |= zip(axis.paths, axis.rows[row], strict=True)
            given_places |= zip(axis.paths, axis.places[row], strict=True)
        slab = _slab(compiler, given, given_places, others, where)
        if slab is not None:
            slabs.append(slab)
    return slabs


def _slab(
    compiler: _Compiler,
    given: dict[str, Any],
    places: dict[str, str],
    axes: Sequence[_RawAxis],
    where: str,
) -> Slab | None:
    sample = {p: v for axis in axes for p, v in zip(axis.paths, axis.rows[0], strict=True)}
    sample_places = {p: v for axis in axes for p, v in zip(axis.paths, axis.places[0], strict=True)}
    resolved = resolve(compiler.config, given | sample)
    before = len(compiler.problems)
    for path, message in resolved.problems:
        if path not in sample:  # axis values are checked one by one below
            compiler.report(places.get(path) or _part_place(compiler, path, where), message)
    for path in resolved.dropped:
        compiler.dropped.setdefault(path, (sample_places | places)[path])
    compiler.applied |= resolved.values.keys()
    if any(path.endswith(".name") and path not in resolved.values for path in _names(compiler)):
        return None
    checked = [c for axis in axes if (c := _checked(compiler, axis, resolved)).paths]
    if len(compiler.problems) > before:
        return None
    on_axis = {path for axis in checked for path in axis.paths}
    slab = Slab(
        constants={p: v for p, v in resolved.values.items() if p not in on_axis},
        axes=tuple(sorted(checked, key=lambda axis: axis.paths[0])),
        dropped=tuple(path for path in resolved.dropped if path in sample),
        written=prod(len(axis.rows) for axis in axes),
    )
    _check_constraints(compiler, slab, sample_places | places, where)
    return slab


def _names(compiler: _Compiler) -> list[str]:
    return [f"{part}.name" for part in compiler.config.parts]


def _part_place(compiler: _Compiler, path: str, where: str) -> str:
    part = path.split(".")[0]
    if ("fixed", part) in compiler.document.keys:
        return compiler.document.place("fixed", part)
    for key, place in compiler.document.keys.items():  # an axis of the same part
        if str(key[-1]).startswith(f"{part}."):
            return place
    return (
        compiler.document.place("fixed", key=True) if "fixed" in compiler.document.value else where
    )


def _checked(compiler: _Compiler, axis: _RawAxis, resolved: Resolved) -> Axis:
    """Return `axis` with converted values, without the paths that don't apply."""
    applicable = chosen_leaves(compiler.config, resolved.values)
    columns: dict[str, list[Scalar]] = {}
    for position, path in enumerate(axis.paths):
        if path not in applicable:
            continue
        columns[path] = []
        for row, places in zip(axis.rows, axis.places, strict=True):
            value, problem = applicable[path].check(row[position])
            if problem is not None:
                compiler.report(places[position], f"{path} = {row[position]!r}: {problem.lower()}.")
            columns[path].append(value)
    rows = list(zip(*columns.values(), strict=True))
    if len(columns) < len(axis.paths):  # what is left of zipped axes may repeat itself
        rows = list(dict.fromkeys(rows))
    return Axis(tuple(columns), tuple(rows))


def _check_constraints(
    compiler: _Compiler, slab: Slab, places: Mapping[str, str], where: str
) -> None:
    """Check each constraint once per combination of the axes that it reads."""
    for constraint in compiler.config.constraints:
        axes = [a for a in slab.axes if set(a.paths) & set(constraint.paths)]
        for rows in product(*(axis.rows for axis in axes)):
            values = dict(slab.constants)
            for axis, row in zip(axes, rows, strict=True):
                values |= zip(axis.paths, row, strict=True)
            if not all(path in values for path in constraint.paths):
                break
            if not constraint.holds(*(values[path] for path in constraint.paths)):
                shown = ", ".join(f"{p} = {values[p]!r}" for p in constraint.paths)
                place = next((places[p] for p in reversed(constraint.paths) if p in places), where)
                compiler.report(place, f"{shown}: {constraint.remedy}")
                break


def _check_excludes(compiler: _Compiler, slabs: Sequence[Slab]) -> None:
    """Check that each rule is a condition that reads at least one axis."""
    axes = sorted({p for slab in slabs for axis in slab.axes for p in axis.paths})
    swept = set(axes) | {
        p for p in _names(compiler) if len({s.constants.get(p) for s in slabs}) > 1
    }
    types = column_types(compiler.config)
    nothing = np.zeros(0, dtype=np.int64)
    columns = {p: slabs[0].column(p, nothing, t) for p, t in types.items()}
    names = ", ".join(sorted(swept)) or "none"
    for index, expression in enumerate(compiler.file.excludes):
        one = isinstance(compiler.file.exclude, str)
        place = compiler.document.place("exclude", *([] if one else [index]))
        try:
            sql.mask(expression, nest(columns))
        except sql.QueryError as error:
            compiler.report(place, f"exclude {expression!r}: {error} Axes: {names}.")
            continue
        try:
            sql.mask(expression, nest({p: c for p, c in columns.items() if p not in swept}))
        except sql.QueryError:
            continue
        compiler.report(place, f"exclude {expression!r} names no axis. Axes: {names}.")


def _check_criteria(compiler: _Compiler, slabs: Sequence[Slab]) -> None:
    lead = next(iter(compiler.config.parts), None)
    tasks = sorted({str(slab.constants.get(f"{lead}.name", "")) for slab in slabs})
    given = compiler.file.criterion
    for task in tasks:
        covered = given is not None and (not isinstance(given, dict) or task in given)
        if not covered and task not in compiler.config.criteria:
            compiler.report(
                compiler.document.place("criterion"),
                f"the task {task!r} has no criterion of its own. "
                "Add criterion: {metric: ..., train: ..., test: ...}.",
            )
    if isinstance(given, dict):
        for task in given:
            if task not in tasks:
                compiler.report(
                    compiler.document.place("criterion", task, key=True),
                    f"criterion names the task {task!r}, which isn't in the grid. "
                    + did_you_mean(task, tasks),
                )
