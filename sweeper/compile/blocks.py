"""From the blocks of the grid to subgrids: one for each combination of names, values checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from sweeper.compile.axes import RawAxis, RawBlock
from sweeper.compile.diagnostics import Diagnostics, Origin
from sweeper.compile.fixed import Fixed
from sweeper.config.diagnostic import Diagnostic, Kind, Place
from sweeper.config.fields import Scalar
from sweeper.config.messages import quoted
from sweeper.config.resolve import Resolved, broken, inapplicable, resolve
from sweeper.grid.normal import normal_parts
from sweeper.grid.subgrid import Axis, Subgrid


@dataclass(slots=True)
class Cells:
    """The cells of the grid, and which of the file's paths they use.

    Attributes:
        subgrids: The cells, one subgrid per combination of names.
        origins: The places of the values of each subgrid.
        applied: Paths that apply to some cell, or may.
        dropped: Paths that don't apply to some cell, each with its place.
        chosen: Part to the names that some cell has.
    """

    subgrids: list[Subgrid] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    applied: set[str] = field(default_factory=set)
    dropped: dict[str, Place] = field(default_factory=dict)
    chosen: dict[str, set[str]] = field(default_factory=dict)


def compile_blocks(diagnostics: Diagnostics, fixed: Fixed, blocks: Sequence[RawBlock]) -> Cells:
    """Return the cells of all blocks; report the mistakes in their values."""
    compiler = _Compiler(diagnostics, fixed)
    for block in blocks:
        compiler.block(block)
    return compiler.cells


def check_applied(diagnostics: Diagnostics, cells: Cells, searched: set[str]) -> None:
    """Report the paths that the file gives and neither a cell nor a suggestion uses.

    Where the command line chooses another name, the file's own fields of the old name are left
    out without a mistake.

    Args:
        diagnostics: Takes the mistakes.
        cells: The cells of the grid.
        searched: The paths that apply to some suggestion of the search.
    """
    config = diagnostics.config
    lead = next(iter(config.parts), "")
    for path, place in cells.dropped.items():
        part = path.split(".")[0]
        renamed = any(diagnostics.overridden(f"{p}.name") for p in (part, lead))
        used = path in cells.applied or path in searched
        if not used and (place.override or not renamed):
            diagnostics.add(inapplicable(config, path, cells.chosen).at(place))


class _Compiler:
    """Compiles one block after the other.

    Attributes:
        diagnostics: Takes the mistakes.
        fixed: The values that all cells share.
        cells: The cells so far.
    """

    def __init__(self, diagnostics: Diagnostics, fixed: Fixed) -> None:
        self.diagnostics = diagnostics
        self.config = diagnostics.config
        self.fixed = fixed
        self.cells = Cells()

    def block(self, block: RawBlock) -> None:
        """Compile one block into subgrids."""
        for rows in product(*(range(len(axis.rows)) for axis in block.names)):
            given, places = dict(self.fixed.values), dict(self.fixed.places)
            for axis, row in zip(block.names, rows, strict=True):
                given |= zip(axis.paths, axis.rows[row], strict=True)
                places |= zip(axis.paths, axis.places[row], strict=True)
            for axis in block.axes:
                places |= zip(axis.paths, axis.places[0], strict=True)
            self.subgrid(given, places, block.axes, block.place)

    def subgrid(
        self, given: dict[str, Any], places: dict[str, Place], axes: Sequence[RawAxis], where: Place
    ) -> None:
        """Compile the cells of one combination of names.

        Args:
            given: Path to raw value: the fixed values and the names.
            places: The place of each of them, and of the first value of each axis.
            axes: The axes that choose no names.
            where: The place of the block.
        """
        sample = {p: v for a in axes for p, v in zip(a.paths, a.rows[0], strict=True)}
        unreadable = self.diagnostics.unreadable
        resolved = resolve(self.config, given | sample, unreadable, normal=False)
        awaited = self.awaited(given | sample, resolved)
        mistakes = [
            problem.at(places.get(problem.path) or self.diagnostics.nearest(problem.path, where))
            for problem in resolved.problems
            if problem.path not in awaited and problem.path not in sample
        ]
        unnamed = self.record(given | sample, places, resolved)
        converted = [self.converted(axis, resolved, mistakes) for axis in axes]
        for mistake in mistakes:
            self.diagnostics.add(mistake)
        if mistakes or awaited or unnamed:
            return
        checked = sorted((a for a in converted if a.paths), key=lambda axis: axis.paths[0])
        on_axis = {path for axis in checked for path in axis.paths}
        subgrid = Subgrid(
            constants={p: v for p, v in resolved.values.items() if p not in on_axis},
            axes=tuple(checked),
            dropped=tuple(path for path in resolved.dropped if path in sample),
            written=prod(len(axis.rows) for axis in axes),
        )
        raw = {
            path: [(row[k], at[k]) for row, at in zip(axis.rows, axis.places, strict=True)]
            for axis in axes
            for k, path in enumerate(axis.paths)
        }
        complete = resolved.complete(self.config)
        parts = normal_parts(self.config, subgrid) if complete else [subgrid]
        self.cells.subgrids += parts
        self.cells.origins += [Origin(where, places, raw)] * len(parts)

    def awaited(self, given: Mapping[str, Any], resolved: Resolved) -> set[str]:
        """Return the paths that only the search gives and that every cell here needs."""
        absent = set(self.diagnostics.searched - given.keys())
        if not absent:
            return absent
        needed = {problem.path for problem in resolved.problems}
        if not resolved.problems:
            constraints = (constraint for constraint, _ in broken(self.config, resolved.values))
            needed = {path for constraint in constraints for path in constraint.paths}
        return absent & needed

    def record(
        self, given: Mapping[str, Any], places: Mapping[str, Place], resolved: Resolved
    ) -> list[str]:
        """Record which paths apply and which names are chosen; return the parts without a name."""
        for path in resolved.dropped:
            self.cells.dropped.setdefault(path, places[path])
        for part in self.config.parts:
            name = str(resolved.values.get(f"{part}.name", ""))
            self.cells.chosen.setdefault(part, set()).add(name)
        unnamed = [p for p in self.config.parts if f"{p}.name" not in resolved.values]
        self.cells.applied |= resolved.values.keys()
        self.cells.applied |= {p for p in given if p.split(".")[0] in unnamed}
        return unnamed

    def converted(self, axis: RawAxis, resolved: Resolved, mistakes: list[Diagnostic]) -> Axis:
        """Return `axis` with values of its fields' types, without the paths that don't apply.

        Each value that its field refuses is added to `mistakes`.
        """
        columns: dict[str, list[Scalar]] = {}
        for position, path in enumerate(axis.paths):
            if path not in resolved.leaves:
                continue
            columns[path] = []
            for row, places in zip(axis.rows, axis.places, strict=True):
                raw = row[position]
                value, refusal = resolved.leaves[path].check(raw)
                if refusal is not None:
                    text = f"{path} = {quoted(raw)}"
                    place = places[position]
                    mistakes.append(Diagnostic(Kind.INVALID, path, text, refusal, raw, place))
                columns[path].append(value)
        rows = list(zip(*columns.values(), strict=True))
        if len(columns) < len(axis.paths):  # without the dropped paths, points may be equal
            rows = list(dict.fromkeys(rows))
        return Axis(tuple(columns), tuple(rows))
