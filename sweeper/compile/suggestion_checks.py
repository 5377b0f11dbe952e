"""Checks of the suggestions of a search: their fields, their reference cells, the sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from math import prod
from typing import Any

from sweeper.compile.diagnostics import SearchDiagnostics
from sweeper.compile.space_checks import distribution_kind, known
from sweeper.config.diagnostic import Diagnostic, KeyPath, Kind
from sweeper.config.fields import Leaf, Values
from sweeper.config.messages import quoted
from sweeper.config.resolve import Resolved, broken, inapplicable, resolve
from sweeper.grid.search_section import Categorical, Distribution
from sweeper.grid.subgrid import Subgrid
from sweeper.space.conditions import MAX_STRUCTURES, Combination, combinations
from sweeper.space.dimension import Dimension
from sweeper.space.space import Space, neutral

UNABLE: Mapping[str, tuple[str, ...]] = {
    "categorical": ("cmaes",),
    "conditional": ("cmaes", "gp", "qmc"),
    "endless": ("grid",),
    "several": ("cmaes",),
}
"""Property of a space or its objectives, to the samplers that can't handle it."""

SAMPLERS = ("tpe", "gp", "cmaes", "nsga2", "random", "qmc", "grid")

MAX_POINTS = 1_000_000
"""The most points that the sampler `grid` lists."""

MAX_SAMPLES = 2000
"""The most suggestions that are tried before a reference is called impossible."""


class SuggestionChecks:
    """Checks a space together with `fixed`, the axes, the reference and the sampler."""

    def __init__(
        self, section: SearchDiagnostics, space: Space, subgrids: Sequence[Subgrid]
    ) -> None:
        self.section = section
        self.grid = section.grid
        self.subgrids = subgrids
        self.space = space
        self.config = section.grid.config
        self.applied: set[str] = set()
        self.leads: tuple[str, ...] = ()
        self._clean = section.clean  # before these checks
        self._chosen: dict[str, set[str]] = {}
        self._conflicts: list[Diagnostic] = []
        self._lacking: set[str] = set()

    def check(self) -> None:
        """Check everything."""
        every = combinations(self.space)
        if len(every) > MAX_STRUCTURES:
            text = (
                f"the space has more than {MAX_STRUCTURES:,} combinations of names and conditions."
            )
            self.section.report(Kind.LIMIT, text, "Split the search.", "space", key=True)
            return
        real = [(c, r) for c in every if (r := self.resolved(c)) is not None]
        lead = next(iter(self.config.parts), None)
        if lead is not None:
            self.leads = tuple(sorted({str(r.values[f"{lead}.name"]) for _, r in real}))
        if not real:
            if self._conflicts and self._clean:
                first = self._conflicts[0]
                node = self.node(first.path)
                self.section.report(first.kind, first.text, first.remedy, *node, key=True)
            return
        for combination, resolved in real:
            self.check_values(combination, resolved)
        self.applied |= {path for _, r in real for path in r.values}
        self.check_applied(real)
        self.check_sampler(
            [d for d in self.space.dimensions if not all(d in c.asked for c, _ in real)]
        )
        if self._clean and self.section.clean:
            self.check_possible([c for c, _ in real])
        self.check_reference([c for c, _ in real])

    def node(self, path: str) -> KeyPath:
        """Return the node of the section that is nearest to `path`."""
        return ("space", path) if path in self.section.search.space else ("space",)

    def resolved(self, combination: Combination) -> Resolved | None:
        """Return the config of a combination; None where its names don't go together."""
        given = self.space.given(combination.sample())
        resolved = resolve(self.config, given, self.grid.unreadable)
        conflicts = [d for d in resolved.problems if d.path.endswith(".name")]
        if conflicts or any(f"{part}.name" not in resolved.values for part in self.config.parts):
            self._conflicts += conflicts
            return None
        on_axes = {path for d in self.space.dimensions for path in d.paths}
        reported = {diagnostic.place for diagnostic in self.grid.every}
        for problem in resolved.problems:
            path = problem.path
            if path in self.section.fixed:
                place = self.section.places[path]
                if place not in reported:
                    self.grid.add(problem.at(place))
            elif path not in given:
                self.report_missing(path, resolved)
            elif path not in on_axes:
                self.grid.add(problem.at(self.grid.axis(path)))
        for part in self.config.parts:
            self._chosen.setdefault(part, set()).add(str(resolved.values[f"{part}.name"]))
        return resolved

    def report_missing(self, path: str, resolved: Resolved) -> None:
        """Report a field that the combination of names needs and nothing gives."""
        self._lacking.add(path)
        unusable = path in self.section.search.space and path not in self.space.search.space
        if unusable or path in self.grid.unread or self.grid.has(Kind.MISSING, path):
            return
        part = path.split(".")[0]
        name = resolved.values.get(f"{part}.name", part)
        if path in self.section.search.space:
            self.section.report(
                Kind.MISSING,
                f"{path} is missing in cells where its when doesn't hold, but {name!r} needs it.",
                "Extend the condition to these cells.",
                "space",
                path,
                "when",
            )
        else:
            text = f"{path} is missing: {name!r} needs it."
            remedy = f"Add {path} to search.space or to fixed."
            self.section.report(Kind.MISSING, text, remedy, "space", key=True)

    def check_values(self, combination: Combination, resolved: Resolved) -> None:
        """Check the ends and choices of the dimensions against the fields of the chosen names."""
        for dimension in combination.asked:
            given = self.section.search.space.get(dimension.name)
            for path in dimension.paths:
                if path not in resolved.leaves:
                    continue
                if given is not None:
                    self.check_distribution(path, given, resolved.leaves[path])
                else:
                    self.check_axis(path, dimension, resolved.leaves[path])

    def check_distribution(self, path: str, given: Distribution, leaf: Leaf) -> None:
        """Check the ends or the choices of a dimension of the space."""
        raw: Sequence[Any] = (
            given.choices if isinstance(given, Categorical) else getattr(given, "ends", ())
        )
        for i, value in enumerate(raw):
            shown = int(value) if isinstance(value, float) and value.is_integer() else value
            refusal = leaf.check(value)[1]
            if refusal is not None:
                node = ("space", path, distribution_kind(given), i)
                text = f"{path} = {quoted(shown)}"
                self.section.report(Kind.INVALID, text, refusal, *node, value=value)

    def check_axis(self, path: str, dimension: Dimension, leaf: Leaf) -> None:
        """Check the values of an axis of the grid, unless the grid's own check refused one."""
        if self.grid.has(Kind.INVALID, path) or self.grid.has(Kind.UNKNOWN, path):
            return
        place = self.grid.axis(path)
        for choice in dimension.choices:
            value = dimension.given(choice)[path]
            refusal = leaf.check(value)[1]
            if refusal is not None:
                text = f"{path} = {quoted(value)}"
                self.section.add(Diagnostic(Kind.INVALID, path, text, refusal, value, place))

    def check_applied(self, real: Sequence[tuple[Combination, Resolved]]) -> None:
        """Report the dimensions of the space that apply to no suggestion."""
        for path in self.section.search.space:
            mine = [d for d in self.space.dimensions if d.name == path]
            if not mine or path in self._lacking or any(mine[0] in c.asked for c, _ in real):
                continue
            when = self.section.search.space[path].conditions
            if when and path in self.applied:
                text = f"{path} applies to no cell in which its when holds."
                remedy = "Change the condition."
                self.section.report(Kind.INAPPLICABLE, text, remedy, "space", path, "when")
            else:
                self.report_inapplicable(path, "space")

    def report_inapplicable(self, path: str, key: str) -> None:
        """Report a path under `key` of the section that no chosen name has."""
        mistake = inapplicable(self.config, path, self._chosen)
        self.section.report(mistake.kind, mistake.text, mistake.remedy, key, path, key=True)

    def check_sampler(self, conditional: Sequence[Dimension]) -> None:
        """Check that the sampler can handle the space and the objectives."""
        dimensions = self.space.dimensions
        features = {
            "categorical": [d.name for d in dimensions if d.kind == "categorical"],
            "conditional": [d.name for d in conditional],
            "endless": [d.name for d in dimensions if not d.finite],
            "several": [o.value for o in self.section.search.objectives[1:]],
        }
        unable = {s for feature, names in features.items() if names for s in UNABLE[feature]}
        sampler = self.section.search.sampler
        if sampler not in unable:
            size = prod(d.count for d in dimensions) if sampler == "grid" else 0
            if size > MAX_POINTS:
                text = (
                    f"search.sampler = 'grid' would list up to {size:,} points; at most "
                    f"{MAX_POINTS:,} are allowed."
                )
                remedy = "Use fewer values, or tpe."
                self.section.report(Kind.LIMIT, text, remedy, "sampler", value=sampler)
            return
        feature = next(f for f, names in features.items() if names and sampler in UNABLE[f])
        name = features[feature][0]
        reason = {
            "categorical": f"can't suggest {name}, which is categorical.",
            "conditional": f"can't suggest {name}, which not every suggestion has.",
            "endless": f"can't list the values of {name}.",
            "several": "takes one objective.",
        }[feature]
        other = {
            "categorical": "Give it a range in search.space, or use",
            "endless": "Give it a step, or use",
        }.get(feature, "Use")
        if feature == "categorical" and name in self.section.search.space:
            other = "Use"
        able = " or ".join(s for s in SAMPLERS if s not in unable)
        text = f"search.sampler = {sampler!r} {reason}"
        self.section.report(Kind.CONFLICT, text, f"{other} {able}.", "sampler", value=sampler)

    def check_possible(self, real: Sequence[Combination]) -> None:
        """Report a space whose fixed values break a constraint under every combination."""
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
        if first not in {m for s in self.subgrids for _, m in broken(self.config, s.first)}:
            text = f"every suggestion breaks a constraint: {first}"
            self.section.report(Kind.CONSTRAINT, text, "", "space", key=True)

    def check_reference(self, real: Sequence[Combination]) -> None:
        """Check that the reference can exist, and that it differs from some cell."""
        search = self.section.search
        for path in search.reference or {}:
            known(self.section, path, "reference", path)
        refused = {node[:2] for node in self.grid.refused}
        searched = search.space.keys() - self.section.overridden
        if not refused.isdisjoint({("search", "reference"), ("search", "space")}) or (
            searched != self.space.search.space.keys()
        ):
            return
        if search.reference is None and (not search.needs_reference or not self.has_neutral(real)):
            return
        if not self._clean or not self.section.clean:
            return
        refusal: Diagnostic | None = None
        same: Values | None = None
        for cell, replaced in islice(self.cells(real), MAX_SAMPLES):
            resolved = resolve(self.config, {**cell, **replaced})
            breaches = (
                Diagnostic(Kind.CONSTRAINT, "", message)
                for _, message in broken(self.config, resolved.values)
            )
            problem = next(chain(resolved.problems, breaches), None)
            if problem is not None:
                refusal = refusal or problem
            elif resolved.values != cell:
                self.check_reference_applies(real)
                return
            else:
                same = replaced
        self.report_reference(refusal, same)

    def has_neutral(self, real: Sequence[Combination]) -> bool:
        """Return whether every combination has a neutral value; report the first without one."""
        for combination in real:
            values = resolve(self.config, self.space.given(combination.sample())).values
            if neutral(self.config, values):
                continue
            parts = [
                f"{part}.name = {values[f'{part}.name']!r} has"
                for part, choices in self.config.parts.items()
                if f"{part}.name" in values and any(s.neutral for s in choices.values())
            ]
            self.section.report(
                Kind.MISSING,
                "amplification compares each cell with a reference cell, and "
                f"{' and '.join(parts) or 'the config has'} no neutral value.",
                "Write the values of the reference, e.g. search.reference: {optimizer.lr: 0.1}.",
                "objective",
            )
            return False
        return True

    def cells(self, real: Sequence[Combination]) -> Iterator[tuple[Values, Mapping[str, Any]]]:
        """Yield the values of cells, each with those that replace them in its reference."""
        for combination in real:
            for params in combination.samples():
                resolved = resolve(self.config, self.space.given(params))
                if not resolved.problems and not any(broken(self.config, resolved.values)):
                    yield resolved.values, self.space.replaced(resolved.values)

    def report_reference(self, refusal: Diagnostic | None, same: Values | None) -> None:
        """Report a reference that can't exist, or that equals its cell every time."""
        given = self.section.search.reference
        node: KeyPath = ("objective",) if given is None else ("reference",)
        if same is not None:
            shown = ", ".join(f"{path} = {quoted(value)}" for path, value in same.items())
            self.section.report(
                Kind.INAPPLICABLE,
                f"every cell is its own reference: {shown} in all of them.",
                "Search a field of the reference, or give the reference another field.",
                *node,
                key=True,
            )
        elif refusal is not None:
            if given is not None and refusal.path in given:
                node = (*node, refusal.path)
            text = f"no cell can have this reference: {refusal.text}"
            self.section.report(refusal.kind, text, refusal.remedy, *node)

    def check_reference_applies(self, real: Sequence[Combination]) -> None:
        """Report the paths of the reference that no cell has."""
        given = self.section.search.reference or {}
        applied: set[str] = set()
        for combination in real:
            values = resolve(self.config, self.space.given(combination.sample())).values
            applied |= resolve(self.config, {**values, **given}).values.keys()
        for path in given.keys() - applied:
            self.report_inapplicable(path, "reference")
