"""Checks of what a search suggests: the fields it sets, its reference cells, its sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from math import prod
from typing import Any

from sweeper.compile.diagnostics import Report
from sweeper.compile.space_checks import Findings, kind, known
from sweeper.config.fields import Leaf, Values, chosen_leaves
from sweeper.config.messages import show
from sweeper.config.resolve import Resolved, broken, inapplicable, resolve
from sweeper.grid.document import Path_
from sweeper.grid.search_section import Categorical, Distribution
from sweeper.grid.subgrid import Slab
from sweeper.space.conditions import MAX_STRUCTURES, Combination, combinations
from sweeper.space.dimension import Dimension
from sweeper.space.space import Point, Space, neutral

UNABLE: Mapping[str, tuple[str, ...]] = {
    "categorical": ("cmaes",),
    "conditional": ("cmaes", "gp", "qmc"),
    "endless": ("grid",),
    "several": ("cmaes",),
}
"""What a space or its objectives can be, and the samplers that can't handle it."""

SAMPLERS = ("tpe", "gp", "cmaes", "nsga2", "random", "qmc", "grid")

MAX_POINTS = 1_000_000
"""Points that the sampler `grid` may have to list."""

MAX_SAMPLES = 2000
"""Suggestions that are tried at most before a reference is called impossible."""


def axis_place(report: Report, path: str) -> str:
    """Return where the axis `path` stands in the grid."""
    keys = report.document.keys.items()
    found = (place for key, place in keys if key[:1] == ("grid",) and key[-1:] == (path,))
    return next(found, report.document.place("grid"))


class SuggestionChecks:
    """Checks a space together with `fixed`, the axes, the reference and the sampler."""

    def __init__(self, found: Findings, space: Space, slabs: Sequence[Slab]) -> None:
        self.found = found
        self.slabs = slabs
        self.space = space
        self.config = found.report.config
        self.alone = not (found.problems or found.report.problems)  # so far all is well
        self.chosen: dict[str, set[str]] = {}
        self.refusals: list[tuple[str, str]] = []
        self.lacking: set[str] = set()

    def check(self) -> None:
        """Check everything."""
        every = combinations(self.space)
        if len(every) > MAX_STRUCTURES:
            self.found.add(
                f"the space has more than {MAX_STRUCTURES:,} combinations of names and "
                "conditions. Split the search.",
                "space",
                key=True,
            )
            return
        real = [(c, r) for c in every if (r := self.resolved(c)) is not None]
        lead = next(iter(self.config.parts), None)
        if lead is not None:
            self.found.leads = tuple(sorted({str(r.values[f"{lead}.name"]) for _, r in real}))
        if not real:
            if self.refusals and self.alone:
                self.found.add(self.refusals[0][1], *self.where(self.refusals[0][0]), key=True)
            return
        for combination, resolved in real:
            self.values(combination, resolved)
        self.found.applied |= {path for _, r in real for path in r.values}
        self.nowhere(real)
        self.sampler([d for d in self.space.dimensions if not all(d in c.asked for c, _ in real)])
        if self.alone and not (self.found.problems or self.found.report.problems):
            self.possible([c for c, _ in real])
        self.reference([c for c, _ in real])

    def where(self, path: str) -> Path_:
        """Return the node of the section that is nearest to `path`."""
        return ("space", path) if path in self.found.search.space else ("space",)

    def resolved(self, combination: Combination) -> Resolved | None:
        """Return what a combination means; None where its names don't go together."""
        given = self.space.given(combination.sample())
        resolved = resolve(self.config, given, self.found.report.hidden)
        on_axes = {path for d in self.space.dimensions for path in d.paths}
        named = [(p, m) for p, m in resolved.problems if p.endswith(".name")]
        if named or any(f"{part}.name" not in resolved.values for part in self.config.parts):
            self.refusals += named
            return None
        told = {place for place, _ in self.found.report.problems}
        for path, message in resolved.problems:
            if path in self.found.fixed:
                if self.found.places[path] not in told:
                    self.found.report.add(self.found.places[path], message)
            elif path not in given:
                self.missing(path, message)
            elif path not in on_axes:
                self.found.report.add(axis_place(self.found.report, path), message)
        for part in self.config.parts:
            self.chosen.setdefault(part, set()).add(str(resolved.values[f"{part}.name"]))
        return resolved

    def missing(self, path: str, message: str) -> None:
        """Report a field that the combination of names needs and nothing gives."""
        self.lacking.add(path)
        unusable = path in self.found.search.space and path not in self.space.search.space
        told = any(m.startswith(f"{path} is missing") for _, m in self.found.report.problems)
        if unusable or told or path in self.found.unread:
            return
        if path in self.found.search.space:
            needs = message.partition(": ")[2].removesuffix(" Add it.")
            self.found.add(
                f"{path} is missing where its when doesn't hold: {needs} Widen the when.",
                "space",
                path,
                "when",
            )
        else:
            remedy = f"Add {path} to search.space or to fixed."
            self.found.add(message.replace("Add it.", remedy), "space", key=True)

    def values(self, combination: Combination, resolved: Resolved) -> None:
        """Check the ends and choices of what is asked by the fields of the chosen names."""
        applicable = chosen_leaves(self.config, resolved.values)
        for dimension in combination.asked:
            given = self.found.search.space.get(dimension.name)
            for path in dimension.paths:
                if path not in applicable:
                    continue
                if given is not None:
                    self.specified(path, given, applicable[path])
                else:
                    self.listed(path, dimension, applicable[path])

    def specified(self, path: str, given: Distribution, leaf: Leaf) -> None:
        """Check the ends or the choices of a dimension of the space."""
        raw: Sequence[Any] = (
            given.choices if isinstance(given, Categorical) else getattr(given, "ends", ())
        )
        for i, value in enumerate(raw):
            shown = int(value) if isinstance(value, float) and value.is_integer() else value
            refusal = leaf.check(value)[1]
            if refusal is not None:
                self.found.add(f"{path} = {show(shown)} {refusal}", "space", path, kind(given), i)

    def listed(self, path: str, dimension: Dimension, leaf: Leaf) -> None:
        """Check the values of an axis of the grid."""
        place = axis_place(self.found.report, path)
        for choice in dimension.choices:
            value = dimension.given(choice)[path]
            refusal = leaf.check(value)[1]
            already = any(m.startswith(f"{path} = ") for _, m in self.found.report.problems)
            if refusal is not None and not already:
                self.found.problems.append((place, f"{path} = {show(value)} {refusal}"))

    def nowhere(self, real: Sequence[tuple[Combination, Resolved]]) -> None:
        """Report dimensions of the space that apply to no suggestion."""
        for path in self.found.search.space:
            mine = [d for d in self.space.dimensions if d.name == path]
            if not mine or path in self.lacking or any(mine[0] in c.asked for c, _ in real):
                continue
            when = self.found.search.space[path].conditions
            if when and path in self.found.applied:
                message = f"{path} doesn't apply where its when holds. Change the when."
                self.found.add(message, "space", path, "when")
            else:
                message = inapplicable(self.config, path, self.chosen)
                self.found.add(message, "space", path, key=True)

    def sampler(self, conditional: Sequence[Dimension]) -> None:
        """Check that the sampler can handle the space and the objectives."""
        dimensions = self.space.dimensions
        features = {
            "categorical": [d.name for d in dimensions if d.kind == "categorical"],
            "conditional": [d.name for d in conditional],
            "endless": [d.name for d in dimensions if not d.finite],
            "several": [o.value for o in self.found.search.objectives[1:]],
        }
        unable = {s for feature, names in features.items() if names for s in UNABLE[feature]}
        sampler = self.found.search.sampler
        if sampler not in unable:
            size = prod(d.count for d in dimensions) if sampler == "grid" else 0
            if size > MAX_POINTS:
                self.found.add(
                    f"search.sampler = 'grid' would list up to {size:,} points; at most "
                    f"{MAX_POINTS:,} are allowed. Take fewer values, or tpe.",
                    "sampler",
                )
            return
        feature = next(f for f, names in features.items() if names and sampler in UNABLE[f])
        name = features[feature][0]
        listed = name not in self.found.search.space
        range_ = "Give it a range in search.space, or take" if listed else "Take"
        why = {
            "categorical": f"can't suggest {name}, which is categorical. {range_}",
            "conditional": f"can't suggest {name}, which isn't asked every time. Take",
            "endless": f"can't list the values of {name}. Give it a step, or take",
            "several": "takes one objective. Take",
        }[feature]
        others = " or ".join(s for s in SAMPLERS if s not in unable)
        self.found.add(f"search.sampler = {sampler!r} {why} {others}.", "sampler")

    def possible(self, real: Sequence[Combination]) -> None:
        """Report a space in which what is fixed breaks a constraint under every combination."""
        first = ""
        for combination in real:
            values = resolve(self.config, self.space.given(combination.sample())).values
            free = {
                p for d in combination.asked if d.name not in combination.choices for p in d.paths
            }
            breaches = (
                message
                for constraint, message in broken(self.config, values)
                if free.isdisjoint(constraint.paths)
            )
            breach = next(breaches, None)
            if breach is None:
                return
            first = first or breach
        if first not in {m for slab in self.slabs for _, m in broken(self.config, slab.first)}:
            self.found.add(f"no suggestion can be a cell: {first}", "space", key=True)

    def reference(self, real: Sequence[Combination]) -> None:
        """Check that there can be a reference, and that it differs from what refers to it."""
        search = self.found.search
        for path in search.reference or {}:
            known(self.found, path, "reference", path)
        refused = {path[:2] for path in self.found.report.refused}
        asked = {path for path in search.space if not self.found.overridden(path)}
        if not refused.isdisjoint({("search", "reference"), ("search", "space")}) or (
            asked != self.space.search.space.keys()
        ):
            return
        if search.reference is None and (not search.needs_reference or not self.neutral(real)):
            return
        if not self.alone or self.found.problems or self.found.report.problems:
            return
        refusal: tuple[str, str] | None = None
        same: Values | None = None
        for cell, replaced in islice(self.cells(real), MAX_SAMPLES):
            resolved = resolve(self.config, {**cell.values, **replaced})
            breaches = (("", m) for _, m in broken(self.config, resolved.values))
            problem = next(chain(resolved.problems, breaches), None)
            if problem is not None:
                refusal = refusal or problem
            elif resolved.values != cell.values:
                self.idle(real)
                return
            else:
                same = replaced
        self.useless(refusal, same)

    def neutral(self, real: Sequence[Combination]) -> bool:
        """Return whether every combination has a neutral value; report one that hasn't."""
        for combination in real:
            values = resolve(self.config, self.space.given(combination.sample())).values
            if neutral(self.config, values):
                continue
            parts = [
                f"{part}.name = {values[f'{part}.name']!r} has"
                for part, choices in self.config.parts.items()
                if f"{part}.name" in values and any(s.neutral for s in choices.values())
            ]
            self.found.add(
                "amplification compares each cell with a reference cell, and "
                f"{' and '.join(parts) or 'nothing here has'} no neutral value. "
                "Say what makes the reference, e.g. search.reference: {optimizer.lr: 0.1}.",
                "objective",
            )
            return False
        return True

    def cells(self, real: Sequence[Combination]) -> Iterator[tuple[Point, Mapping[str, Any]]]:
        """Yield cells, and what replaces their fields in their references."""
        for combination in real:
            for params in combination.samples():
                cell = self.space.cell(self.space.given(params))
                if isinstance(cell, Point):
                    yield cell, self.space.replaced(cell.values)

    def useless(self, refusal: tuple[str, str] | None, same: Values | None) -> None:
        """Report a reference that is none: it can't exist, or is always the cell itself."""
        given = self.found.search.reference
        where: Path_ = ("objective",) if given is None else ("reference",)
        if same is not None:
            shown = ", ".join(f"{path} = {show(value)}" for path, value in same.items())
            self.found.add(
                f"every cell is its own reference: {shown} in all of them. Search a field of the "
                "reference, or let it replace another one.",
                *where,
                key=True,
            )
        elif refusal is not None:
            path, message = refusal
            at: Path_ = (*where, path) if given is not None and path in given else where
            self.found.add(f"no cell can have this reference: {message}", *at)

    def idle(self, real: Sequence[Combination]) -> None:
        """Report what the reference would replace and no cell has."""
        given = self.found.search.reference or {}
        applied: set[str] = set()
        for combination in real:
            values = resolve(self.config, self.space.given(combination.sample())).values
            applied |= resolve(self.config, {**values, **given}).values.keys()
        for path in given.keys() - applied:
            message = inapplicable(self.config, path, self.chosen)
            self.found.add(message, "reference", path, key=True)
