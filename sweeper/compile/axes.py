"""The blocks of the grid as the file has them: axes of unchecked values, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from sweeper.compile.diagnostics import Diagnostics
from sweeper.compile.fixed import Fixed
from sweeper.config.diagnostic import KeyPath, Kind, Place
from sweeper.config.resolve import unknown_path
from sweeper.grid.gridfile import GridBlock
from sweeper.grid.spacing import LinSpace, LogSpace, Range

HOMES = {"steps": "fixed.steps", "seed": "the key seeds", "seeds": "the key seeds"}
"""Names that are no fields of a cell, and where the file sets them."""


MAX_CELLS = 20_000_000
"""Cells of a block; more are refused before anything is enumerated."""

MAX_SUBGRIDS = 10_000
"""Combinations of names in a block."""


@dataclass(frozen=True, slots=True)
class RawAxis:
    """An axis of the file, or several that move together.

    Attributes:
        paths: The fields that it sets.
        rows: One tuple per point: the values of `paths`.
        places: The place of each of these values, in the same shape.
    """

    paths: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    places: tuple[tuple[Place, ...], ...]


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block of the file.

    Attributes:
        place: Its place.
        names: The axes that choose a name.
        axes: All other axes.
    """

    place: Place
    names: list[RawAxis]
    axes: list[RawAxis]


def read_blocks(diagnostics: Diagnostics, fixed: Fixed) -> list[RawBlock]:
    """Return the blocks of the file without the axes that are unusable; report those."""
    blocks: list[RawBlock] = []
    for node, block in zip(diagnostics.blocks, diagnostics.file.blocks, strict=True):
        place = diagnostics.document.place(*node)
        n = cell_count(block)
        if n > MAX_CELLS:
            text = f"the block has {n:,} cells; at most {MAX_CELLS:,} are allowed."
            remedy = "Use fewer values, or split the sweep."
            diagnostics.report(Kind.LIMIT, place, "grid", text, remedy, value=n)
        reader = _AxisReader(diagnostics, fixed.values, brief=n > MAX_CELLS)
        axes = reader.read(node, block)
        names = [a for a in axes if any(path.endswith(".name") for path in a.paths)]
        if prod(len(axis.rows) for axis in names) > MAX_SUBGRIDS:
            text = f"the block has more than {MAX_SUBGRIDS:,} combinations of names."
            diagnostics.report(Kind.LIMIT, place, "grid", text, "Split the sweep.")
        else:
            blocks.append(RawBlock(place, names, [axis for axis in axes if axis not in names]))
    return blocks


def cell_count(block: GridBlock) -> int:
    """Return the number of cells that `block` spells out; an impossible axis counts once."""
    groups = [max(map(_length, group.values()), default=1) for group in block.zip]
    return prod([*map(_length, block.product.values()), *groups])


def _length(axis: Any) -> int:
    if not isinstance(axis, LogSpace | LinSpace | Range):
        return len(axis)
    try:
        return axis.count()
    except ValueError:
        return 1


class _AxisReader:
    """Reads the axes of one block.

    Attributes:
        diagnostics: Takes the mistakes.
        fixed: The values under `fixed` by dotted path.
        brief: Take the end points of spaced axes alone: the block is too large anyway.
    """

    def __init__(self, diagnostics: Diagnostics, fixed: Mapping[str, Any], *, brief: bool) -> None:
        self.diagnostics = diagnostics
        self.fixed = fixed
        self.brief = brief
        self._seen: dict[str, Place] = {}

    def read(self, node: KeyPath, block: GridBlock) -> list[RawAxis]:
        """Return the usable axes of the block at `node`; report the others."""
        axes: list[RawAxis] = []
        for path, values in block.product.items():
            axes += self._group((*node, "product"), {path: values}, brief=self.brief)
        for i, group in enumerate(block.zip):
            axes += self._group((*node, "zip", i), group, brief=False)
        return axes

    def _group(self, node: KeyPath, group: Mapping[str, Any], *, brief: bool) -> list[RawAxis]:
        """Return the axis of `group`; several, with a mistake, where their lengths differ."""
        document = self.diagnostics.document
        columns: dict[str, list[Any]] = {}
        places: dict[str, list[Place]] = {}
        for path, axis in group.items():
            here = (*node, path)
            usable = self._usable(path, document.place(*here, key=True))
            values = self._values(here, path, axis, brief=brief)
            if not usable or not values:
                self.diagnostics.unreadable.add(path)
                continue
            columns[path] = values
            listed = isinstance(axis, list)
            places[path] = [
                document.place(*here, *((i,) if listed else ())) for i in range(len(values))
            ]
        lengths = {path: len(values) for path, values in columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{path} has {n}" for path, n in lengths.items())
            self.diagnostics.report(
                Kind.INVALID,
                document.place(*node),
                ", ".join(lengths),
                f"axes zipped together must have equal lengths: {shown}.",
                "Make them equal.",
            )
            return [_axis({p: columns[p]}, {p: places[p]}) for p in columns]
        return [_axis(columns, places)] if columns else []

    def _usable(self, path: str, place: Place) -> bool:
        """Return whether `path` can be an axis; report the reason where it can't."""
        config = self.diagnostics.config
        report = self.diagnostics.report
        if path in HOMES:
            remedy = f"It belongs to {HOMES[path]}."
            report(Kind.MISPLACED, place, path, f"{path} can't be an axis.", remedy)
        elif path in config.parts:
            text = f"{path} is a part, not a value."
            report(Kind.INVALID, place, path, text, f"Sweep one of its fields: {path}.name.")
            self.diagnostics.unreadable.add(path)
        elif path not in self.diagnostics.known:
            self.diagnostics.add(unknown_path(config, path).at(place))
        elif path in self._seen:
            text = f"{path} is an axis already, at {self._seen[path]}."
            report(Kind.DUPLICATE, place, path, text, "Keep one.")
        else:
            self._seen[path] = place
            if path in self.fixed:
                text = f"{path} is both in fixed and in grid."
                remedy = "Keep it in grid to sweep it, in fixed to fix it."
                report(Kind.CONFLICT, place, path, text, remedy)
            return True
        return False

    def _values(self, here: KeyPath, path: str, axis: Any, *, brief: bool) -> list[Any]:
        """Return the values of an axis; none, with a mistake, where there can't be any."""
        if not isinstance(axis, LogSpace | LinSpace | Range):
            return list(axis)
        try:
            axis.count()
        except ValueError as error:
            place = self.diagnostics.document.place(*here)
            self.diagnostics.report(Kind.INVALID, place, path, f"{path}: {error}.")
            return []
        return list(axis.extremes() if brief else axis.values())


def _axis(columns: Mapping[str, list[Any]], places: Mapping[str, list[Place]]) -> RawAxis:
    return RawAxis(
        tuple(columns),
        tuple(zip(*columns.values(), strict=True)),
        tuple(zip(*places.values(), strict=True)),
    )
