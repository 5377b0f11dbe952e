"""The axes of a block as the file has them: unchecked values and where each stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from sweeper.compile.diagnostics import Report
from sweeper.config.fields import known_paths
from sweeper.config.resolve import unknown_path
from sweeper.grid.document import Path_
from sweeper.grid.gridfile import Block
from sweeper.grid.spacing import LinSpace, LogSpace, Range


@dataclass(frozen=True, slots=True)
class RawAxis:
    """An axis of the file, or several that move together.

    Attributes:
        paths: The fields it sets.
        rows: One tuple a point: the values of `paths`.
        places: Where each of them stands, as `rows`.
    """

    paths: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    places: tuple[tuple[str, ...], ...]

    @property
    def structural(self) -> bool:
        """Whether it chooses a name."""
        return any(path.endswith(".name") for path in self.paths)


def raw_axes(
    report: Report, index: int, block: Block, fixed: Mapping[str, Any], *, brief: bool
) -> list[RawAxis]:
    """Return the usable axes of block `index`; all others are reported and hidden.

    With `brief`, for a block that is too large anyway, spaced axes have their end points only.
    """
    base = report.base(index)
    seen: dict[str, str] = {}
    found: list[RawAxis] = []
    for path, values in block.product.items():
        found += _group(report, (*base, "product"), {path: values}, fixed, seen, brief=brief)
    for i, group in enumerate(block.zip):
        found += _group(report, (*base, "zip", i), group, fixed, seen, brief=False)
    return found


def _group(
    report: Report,
    where: Path_,
    group: Mapping[str, Any],
    fixed: Mapping[str, Any],
    seen: dict[str, str],
    *,
    brief: bool,
) -> list[RawAxis]:
    """Return the axis made of `group`, several where their lengths differ: an error anyway."""
    columns: dict[str, list[Any]] = {}
    places: dict[str, list[str]] = {}
    for path, axis in group.items():
        here = (*where, path)
        usable = _usable(report, path, report.document.place(*here, key=True), fixed, seen)
        values = _values(report, here, path, axis, brief=brief)
        if not usable or not values:
            report.hide(path)
            continue
        columns[path] = values
        step: list[Path_] = [(i,) if isinstance(axis, list) else () for i in range(len(values))]
        places[path] = [report.document.place(*here, *i) for i in step]
    lengths = {path: len(values) for path, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path} has {n}" for path, n in lengths.items())
        message = f"axes zipped together must have equal lengths: {shown}. Make them equal."
        report.add(report.document.place(*where), message)
        return [_axis({p: columns[p]}, {p: places[p]}) for p in columns]
    return [_axis(columns, places)] if columns else []


def _axis(columns: Mapping[str, list[Any]], places: Mapping[str, list[str]]) -> RawAxis:
    return RawAxis(
        tuple(columns),
        tuple(zip(*columns.values(), strict=True)),
        tuple(zip(*places.values(), strict=True)),
    )


def _usable(
    report: Report, path: str, place: str, fixed: Mapping[str, Any], seen: dict[str, str]
) -> bool:
    """Return whether `path` can be an axis here; report why it can't."""
    if path in ("steps", "seed", "seeds"):
        where = "fixed.steps" if path == "steps" else "the key seeds"
        report.add(place, f"{path} can't be an axis. It belongs to {where}.")
    elif path in report.config.parts:
        report.add(place, f"{path} is a part, not a value. Sweep one of its fields: {path}.name.")
        report.hide(path)
    elif path not in known_paths(report.config):
        report.add(place, unknown_path(report.config, path))
    elif path in seen:
        report.add(place, f"{path} is an axis already, at {seen[path]}. Keep one.")
    else:
        seen[path] = place
        if path in fixed or path == "steps":
            message = f"{path} is both in fixed and in grid."
            report.add(place, f"{message} Keep it in grid to sweep it, in fixed to fix it.")
        return True
    return False


def _values(report: Report, here: Path_, path: str, axis: Any, *, brief: bool) -> list[Any]:
    """Return the values of an axis; none, with a problem, where they can't be made."""
    if not isinstance(axis, LogSpace | LinSpace | Range):
        return list(axis)
    try:
        axis.count()
    except ValueError as error:
        report.add(report.document.place(*here), f"{path}: {error}.")
        return []
    return list(axis.extremes() if brief else axis.values())


def count(block: Block) -> int:
    """Return the number of cells that `block` spells out; axes that can't be made count once."""
    groups = [max(map(_count, group.values()), default=1) for group in block.zip]
    return prod([*map(_count, block.product.values()), *groups])


def _count(axis: Any) -> int:
    if not isinstance(axis, LogSpace | LinSpace | Range):
        return len(axis)
    try:
        return axis.count()
    except ValueError:
        return 1
