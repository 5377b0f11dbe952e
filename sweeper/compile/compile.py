"""From a grid file to a `Grid`: flatten, split into slabs, check every value.

All mistakes are reported together, each with the place of the value that makes it: what the
file's shape check refused is left out here, and what would only follow from its absence is no
mistake of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from sweeper.compile import checks, search_checks
from sweeper.compile.axes import RawAxis, count, raw_axes
from sweeper.compile.diagnostics import Origin, Report
from sweeper.config import plugins as own
from sweeper.config.fields import Config, Scalar, chosen_leaves
from sweeper.config.messages import show
from sweeper.config.resolve import Resolved, broken, inapplicable, resolve
from sweeper.errors import ConfigError, UsageError
from sweeper.grid.document import Document, Path_, arrange
from sweeper.grid.grid import Grid
from sweeper.grid.gridfile import Block, GridFile, Refusal, inspect
from sweeper.grid.subgrid import Axis, Slab

MAX_CELLS = 20_000_000
"""Cells of a block; more are refused before anything is enumerated."""

MAX_SLABS = 10_000
"""Combinations of names in a block."""


def read_grid(document: Document, load: Callable[[str], type[Config]], text: str = "") -> Grid:
    """Return the grid that `document` describes.

    Args:
        document: The file, overrides applied.
        load: Returns the config of the trainable of that name; may raise `UsageError`.
        text: What to record as the file's text.

    Raises:
        ConfigError: All mistakes of the file, of its shape and of its values.
    """
    file, refusals = inspect(document)
    problems = [(r.place, r.message) for r in refusals]
    if file is None:
        raise ConfigError(arrange(problems))
    try:
        config = load(file.trainable)
    except UsageError as error:
        place = document.place("trainable")
        raise ConfigError(arrange([*problems, (place, str(error))])) from None
    names = list(own.named(config, document.value))
    for (part, name), path in names:
        try:
            own.choice(config, part, name)
        except UsageError as error:
            problems.append((document.place(*path), str(error)))
    if len(problems) == len(refusals):
        try:
            config = own.extended(config, [n for n, _ in names])
        except UsageError as error:
            problems.append((document.place(*names[-1][1]), str(error)))
    if len(problems) > len(refusals):
        raise ConfigError(arrange(problems))
    return _compile(document, file, config, text, refusals)


def compile_grid(document: Document, file: GridFile, config: type[Config], text: str = "") -> Grid:
    """Return the grid of a validated file.

    Args:
        document: Where the file's values stand.
        file: The validated file.
        config: The config of the file's trainable.
        text: What to record as the file's text.

    Raises:
        ConfigError: All mistakes of the file's values.
    """
    return _compile(document, file, config, text, [])


def _compile(
    document: Document, file: GridFile, config: type[Config], text: str, refusals: Sequence[Refusal]
) -> Grid:
    report = Report.of(document, file, config, refusals)
    compiler = _Compiler(report, file, config)
    compiler.flatten()
    compiler.searched = search_checks.searched(report)
    steps = compiler.steps()
    compiler.seeds()
    for index, block in enumerate(file.blocks):
        compiler.block(index, block)
    search = search_checks.check(report, compiler.fixed, compiler.places, compiler.slabs)
    compiler.applied |= search.applied
    compiler.inapplicable()
    slabs = compiler.slabs
    rules = checks.rules(report, slabs)
    if rules is not None:
        checks.constraints(report, slabs, rules)
    checks.criteria(report, slabs, search.leads)
    checks.requested(report)
    if report.problems:
        raise ConfigError(arrange(report.problems))
    return Grid(
        file=file,
        config=config,
        steps=steps,
        slabs=tuple(slabs),
        text=text,
        rules=tuple(rules or ()),
        fixed=compiler.fixed,
        searched=search.leads,
        unsearchable=tuple(arrange(search.problems)),
    )


@dataclass(slots=True)
class _Compiler:
    """The state of one compilation.

    Attributes:
        report: Collects the mistakes.
        fixed: Values under `fixed` by dotted path.
        places: The place of each path that the file gives, the first one of an axis.
        slabs: What has been compiled.
        applied: Paths that apply in some slab, or might.
        dropped: Paths that don't in some slab, and where each stands.
        searched: Paths that the search gives: a grid that lacks one of them has no cells there.
        chosen: Part to the names that are chosen in some slab.
    """

    report: Report
    file: GridFile
    config: type[Config]
    fixed: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    slabs: list[Slab] = field(default_factory=list)
    applied: set[str] = field(default_factory=set)
    dropped: dict[str, str] = field(default_factory=dict)
    searched: set[str] = field(default_factory=set)
    chosen: dict[str, set[str]] = field(default_factory=dict)

    def flatten(self) -> None:
        """Read `fixed`, nested and dotted, into dotted paths."""
        document = self.report.document

        def walk(node: Mapping[str, Any], prefix: str, path: Path_) -> None:
            for key, value in node.items():
                dotted = f"{prefix}{key}"
                here = (*path, key)
                if checks.spaced(value):
                    self.report.hide(dotted)
                    axis = f"grid: {{product: {{{dotted}: ...}}}}"
                    self.report.add(
                        document.place(*here),
                        f"{dotted} = {show(value)} is an axis. Move it to {axis}.",
                    )
                elif isinstance(value, dict):
                    walk(value, f"{dotted}.", here)
                elif dotted in self.config.parts:
                    self.report.hide(dotted)
                    remedy = f"Write {dotted}: {{name: {value}}}." if value is not None else ""
                    self.report.add(
                        document.place(*here),
                        f"{dotted} = {show(value)} must be a mapping. {remedy}".rstrip(),
                    )
                elif dotted in self.fixed:
                    self.report.add(
                        document.place(*here, key=True),
                        f"{dotted} stands in fixed a second time, after {self.places[dotted]}. "
                        "Keep one.",
                    )
                else:
                    self.fixed[dotted] = value
                    self.places[dotted] = document.place(*here)

        walk(self.file.fixed, "", ("fixed",))

    def steps(self) -> int:
        """Return the horizon, taken out of `fixed`."""
        steps = self.fixed.pop("steps", None)
        if steps is None and "steps" not in self.places:
            swept = any("steps" in group for b in self.file.blocks for group in (b.product, *b.zip))
            refused = ("steps",) in self.report.refused  # it stands a level too high
            if not (self.report.blind or swept or refused):
                place = self.report.document.place("fixed", key=True)
                self.report.add(
                    place, "fixed.steps is missing: the horizon in optimizer steps. Add it."
                )
            return 1
        whole = isinstance(steps, float) and steps.is_integer()
        if isinstance(steps, bool) or not (isinstance(steps, int) or whole):
            self.report.add(self.places["steps"], f"steps = {show(steps)} must be a whole number.")
            return 1
        if not 1 <= steps < 2**53:
            self.report.add(
                self.places["steps"], f"steps = {show(steps)} must be from 1, below 2^53."
            )
            return 1
        return int(steps)

    def seeds(self) -> None:
        """Check that no seed stands in the list twice."""
        seen: set[int] = set()
        for index, seed in enumerate(self.file.seeds if isinstance(self.file.seeds, list) else []):
            if seed in seen:
                place = self.report.document.place("seeds", index)
                self.report.add(place, f"seeds has {seed} twice. Keep one.")
            seen.add(seed)

    def block(self, index: int, block: Block) -> None:
        """Compile one block into slabs."""
        cells = count(block)
        where = self.report.document.place(*self.report.base(index))
        if cells > MAX_CELLS:
            self.report.add(
                where,
                f"the block has {cells:,} cells; at most {MAX_CELLS:,} are allowed. "
                "Take fewer values, or split the sweep.",
            )
        axes = raw_axes(self.report, index, block, self.fixed, brief=cells > MAX_CELLS)
        structural = [axis for axis in axes if axis.structural]
        others = [axis for axis in axes if not axis.structural]
        if prod(len(axis.rows) for axis in structural) > MAX_SLABS:
            self.report.add(
                where,
                f"the block has more than {MAX_SLABS:,} combinations of names. Split the sweep.",
            )
            return
        for rows in product(*(range(len(axis.rows)) for axis in structural)):
            given, places = dict(self.fixed), dict(self.places)
            for axis, row in zip(structural, rows, strict=True):
                given |= zip(axis.paths, axis.rows[row], strict=True)
                places |= zip(axis.paths, axis.places[row], strict=True)
            self.slab(given, places, others, where)

    def slab(
        self, given: dict[str, Any], places: dict[str, str], axes: Sequence[RawAxis], where: str
    ) -> None:
        """Compile the cells of one combination of names."""
        sample = {p: v for a in axes for p, v in zip(a.paths, a.rows[0], strict=True)}
        places |= {p: v for a in axes for p, v in zip(a.paths, a.places[0], strict=True)}
        resolved = resolve(self.config, given | sample, self.report.hidden)
        before = self.report.told
        left_to_search = self.left_to_search(given | sample, resolved)
        for path, message in resolved.problems:
            if path in left_to_search:
                continue
            if path not in sample:  # axis values are checked one by one below
                self.report.add(places.get(path) or self.report.near(path, where), message)
        for path in resolved.dropped:
            self.dropped.setdefault(path, places[path])
        self.applied |= resolved.values.keys()
        for part in self.config.parts:
            self.chosen.setdefault(part, set()).add(str(resolved.values.get(f"{part}.name", "")))
        unnamed = [p for p in self.config.parts if f"{p}.name" not in resolved.values]
        self.applied |= {p for p in given | sample if p.split(".")[0] in unnamed}
        checked = [c for a in axes if (c := self.checked(a, resolved)).paths]
        if unnamed or left_to_search or self.report.told > before:
            return
        on_axis = {path for axis in checked for path in axis.paths}
        slab = Slab(
            constants={p: v for p, v in resolved.values.items() if p not in on_axis},
            axes=tuple(sorted(checked, key=lambda axis: axis.paths[0])),
            dropped=tuple(path for path in resolved.dropped if path in sample),
            written=prod(len(axis.rows) for axis in axes),
        )
        self.slabs.append(slab)
        on_axes = {
            path: [(row[k], at[k]) for row, at in zip(axis.rows, axis.places, strict=True)]
            for axis in axes
            for k, path in enumerate(axis.paths)
        }
        self.report.origins.append(Origin(where, places, on_axes))

    def left_to_search(self, given: Mapping[str, Any], resolved: Resolved) -> set[str]:
        """Return the paths of the search without which there can be no cell here."""
        absent = self.searched - given.keys()
        found = {path for path, _ in resolved.problems if path in absent}
        if not resolved.problems:
            for constraint, _ in broken(self.config, resolved.values):
                found |= absent.intersection(constraint.paths)
        return found

    def checked(self, axis: RawAxis, resolved: Resolved) -> Axis:
        """Return `axis` with converted values, without the paths that don't apply."""
        applicable = chosen_leaves(self.config, resolved.values)
        columns: dict[str, list[Scalar]] = {}
        for position, path in enumerate(axis.paths):
            if path not in applicable:
                continue
            columns[path] = []
            for row, places in zip(axis.rows, axis.places, strict=True):
                value, refusal = applicable[path].check(row[position])
                if refusal is not None:
                    message = f"{path} = {show(row[position])} {refusal}"
                    self.report.add(places[position], message)
                columns[path].append(value)
        rows = list(zip(*columns.values(), strict=True))
        if len(columns) < len(axis.paths):  # what is left of zipped axes may repeat itself
            rows = list(dict.fromkeys(rows))
        return Axis(tuple(columns), tuple(rows))

    def inapplicable(self) -> None:
        """Report what the file gives and no cell can use.

        Where the command line chose another name, the file's own fields of the old name are
        left out without a word.
        """
        lead = next(iter(self.config.parts), "")
        for path, place in self.dropped.items():
            part = path.split(".")[0]
            renamed = any(self.report.overridden(f"{p}.name") for p in (part, lead))
            own = self.report.is_override(place)
            if path not in self.applied and (own or not renamed):
                self.report.add(place, inapplicable(self.config, path, self.chosen))
