"""Checks of `search.space`, one dimension at a time: its path, its numbers, its condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sweeper.compile.diagnostics import Report
from sweeper.config.fields import Scalar, known_paths
from sweeper.config.messages import show
from sweeper.config.resolve import unknown_path
from sweeper.errors import did_you_mean
from sweeper.grid.document import Path_
from sweeper.grid.search_section import Categorical, Distribution, Int, LogUniform, Search, Uniform
from sweeper.space.dimension import Dimension, axes, converted, owners, specified

_HELD = {"bool": "true or false", "str": "text", "vector": "a list of numbers"}
"""Kinds of fields that no range of numbers fits, in words."""


@dataclass(slots=True)
class Findings:
    """What the checks of a section `search` have found.

    Attributes:
        report: The file, and what else is wrong with it.
        fixed: Values under `fixed` by dotted path.
        places: Where each of them stands.
        problems: The mistakes of the section: (place, message).
        applied: Paths that apply to some suggestion.
        leads: Names of the first part that suggestions can choose.
    """

    report: Report
    fixed: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    applied: set[str] = field(default_factory=set)
    leads: tuple[str, ...] = ()

    @property
    def search(self) -> Search:
        """The section."""
        search = self.report.file.search
        assert search is not None
        return search

    @property
    def unread(self) -> set[str]:
        """Paths of the space whose distribution was refused."""
        refused = self.report.refused
        return {str(p[2]) for p in refused if p[:2] == ("search", "space") and len(p) > 2}

    def add(self, message: str, *path: str | int, key: bool = False) -> None:
        """Add a mistake of the node at `path` within the section."""
        problem = (self.report.document.place("search", *path, key=key), message)
        if problem not in self.problems:
            self.problems.append(problem)

    def overridden(self, path: str) -> bool:
        """Return whether the command line fixes `path`: then the space doesn't have it."""
        return self.report.is_override(self.places.get(path, ""))


def usable(found: Findings) -> dict[str, Distribution]:
    """Return the part of the space that makes sense by itself; all else is reported."""
    space = found.search.space
    fit = {p: d for p, d in space.items() if known(found, p, "space", p) and _free(found, p)}
    fit = {p: d for p, d in fit.items() if _drawable(found, p, d)}
    conditions = _Conditions(found, fit)
    return {p: d for p, d in fit.items() if conditions.make_sense(p, d)}


def known(found: Findings, path: str, *where: str | int) -> bool:
    """Return whether `path` is a value of the config; report at the key `where` if it isn't."""
    config = found.report.config
    if path in ("steps", "seed", "seeds"):
        home = "fixed.steps" if path == "steps" else "the key seeds"
        message = f"{path} is no field of a cell. It belongs to {home}."
    elif path in config.parts:
        message = f"{path} is a part, not a value. Name one of its fields: {path}.name."
    elif path not in known_paths(config):
        message = unknown_path(config, path)
    else:
        return True
    found.add(message, *where, key=True)
    return False


def _free(found: Findings, path: str) -> bool:
    """Return whether `path` isn't fixed."""
    if path in found.fixed and not found.overridden(path):
        message = f"{path} is both in fixed and in search.space."
        remedy = "Keep it in search.space to search it, in fixed to fix it."
        found.add(f"{message} {remedy}", "space", path, key=True)
    return path not in found.fixed


def _drawable(found: Findings, path: str, given: Distribution) -> bool:
    """Return whether values can be drawn from `given`, of the kind that `path` holds."""
    problem = next(_numbers(found, path, given), None)
    if problem is not None:
        what, key = problem
        found.add(f"{path}: {what}", "space", path, *([key] if key else []))
    return problem is None and (not isinstance(given, Categorical) or _choices(found, path, given))


def _numbers(found: Findings, path: str, given: Distribution) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a range of numbers, and the key where."""
    if not isinstance(given, Uniform | LogUniform | Int):
        return
    kinds = {leaf.kind for leaf in owners(found.report.config, path)}
    name = kind(given)
    low, high = given.ends
    shown = f"[{_number(low)}, {_number(high)}]"
    if path.endswith(".name"):
        yield "a name isn't a number. List the names: {categorical: [...]}.", name
    elif kinds.isdisjoint(("int", "float")):
        held = " or ".join(_HELD[k] for k in sorted(kinds))
        yield f"it holds {held}, not a number. List the values: {{categorical: [...]}}.", name
    elif kinds == {"int"} and not isinstance(given, Int):
        log = ", log: true" if isinstance(given, LogUniform) else ""
        ends = f"[{max(1, round(low)) if log else round(low)}, {round(high)}]"
        yield f"it is a whole number, {name} suggests fractions. Write {{int: {ends}{log}}}.", name
    elif not low < high:
        yield f"{name} {shown} is empty. Write [low, high], low below high.", name
    elif isinstance(given, LogUniform) and low <= 0:
        yield f"loguniform {shown} needs ends above 0. Use uniform.", name
    elif isinstance(given, Int) and given.log and low < 1:
        yield f"int {shown} with log needs ends from 1. Raise the lower one.", name
    elif isinstance(given, Int) and given.log and given.step is not None:
        yield "an int takes either step or log. Remove one of them.", "step"
    elif not isinstance(given, LogUniform) and (given.step or 0) > high - low:
        yield f"step {_number(given.step or 0)} is larger than {shown}. Make it smaller.", "step"


def _choices(found: Findings, path: str, given: Categorical) -> bool:
    """Return whether the choices of `path` are different values of the right kind."""
    config = found.report.config
    part, _, name = path.partition(".")
    before = len(found.problems)
    seen: list[Scalar] = []
    for i, raw in enumerate(given.choices):
        where = ("space", path, "categorical", i)
        value = converted(config, path, raw)
        if name == "name" and part in config.parts and raw not in list(config.parts[part]):
            remedy = did_you_mean(str(raw), list(config.parts[part]))
            found.add(f"{path} = {show(raw)} is unknown. {remedy}", *where)
        elif isinstance(raw, dict):
            found.add(f"{path} = {show(raw)} is no plain value. Write one value.", *where)
        elif any(value == other and type(value) is type(other) for other in seen):
            found.add(f"{path} has {show(raw)} twice. Keep one.", *where)
        seen.append(value)
    return len(found.problems) == before


class _Conditions:
    """Checks the `when` of every dimension.

    Attributes:
        found: Takes the mistakes.
        fit: The dimensions that make sense apart from their conditions.
    """

    def __init__(self, found: Findings, fit: Mapping[str, Distribution]) -> None:
        self.found = found
        self.fit = fit
        config = found.report.config
        self.asked = {path for path in found.search.space if not found.overridden(path)}
        self.dimensions = {path: specified(config, path, d) for path, d in fit.items()}

    def make_sense(self, path: str, given: Distribution) -> bool:
        """Return whether the condition of `path` can hold."""
        before = len(self.found.problems)
        for read in given.conditions:
            self.condition(path, read, given.conditions[read])
        circle = self.circle(path) if len(self.found.problems) == before else []
        if circle and path == min(circle):  # told once
            way = ", ".join(f"{a} reads {b}" for a, b in pairwise(circle))
            message = f"{way}: the conditions go round in a circle. Remove one when."
            self.found.add(message, "space", path, "when")
        return len(self.found.problems) == before and not circle

    def condition(self, path: str, read: str, values: list[Any]) -> None:
        where = ("space", path, "when", read)
        if not known(self.found, read, *where):
            return
        if read == path:
            self.found.add(f"{path} can't depend on itself. Remove this when.", *where, key=True)
        elif read in self.fit and not isinstance(self.fit[read], Categorical | Int):
            self.found.add(
                f"{path} can't depend on {read}, which takes any number. "
                f"Give {read} an int or a categorical, or remove this when.",
                *where,
                key=True,
            )
        elif read not in self.asked and not self.taken(read):
            if read not in self.found.unread:
                self.found.add(
                    f"{path} depends on {read}, which isn't given. Add {read} to search.space.",
                    *where,
                    key=True,
                )
        elif read not in self.asked or read in self.fit:
            self.values(path, read, values)

    def values(self, path: str, read: str, values: list[Any]) -> None:
        """Check that `read` can take each of the `values` that `path` waits for."""
        raw = self.found.search.space[path].when or {}
        for i, value in enumerate(values):
            wanted = converted(self.found.report.config, read, value)
            if self.can_be(read, wanted):
                continue
            at = [i] if isinstance(raw[read], list) else []
            where: Path_ = ("space", path, "when", read, *at)
            taken = self.words(read)
            self.found.add(f"{path}: {read} is never {show(value)}. It is {taken}.", *where)

    def taken(self, read: str) -> list[Scalar]:
        """Return the values that `fixed` or the axes of the grid give `read`."""
        config = self.found.report.config
        if read in self.found.fixed:
            return [converted(config, read, self.found.fixed[read])]
        groups = axes(self.found.report.file, self.found.search.space)
        on_axis = {path: values for group in groups for path, values in group}
        return [converted(config, read, value) for value in on_axis.get(read, [])]

    def can_be(self, read: str, wanted: Scalar) -> bool:
        if read in self.fit:
            return self.dimensions[read].find({read: wanted}) is not None
        return wanted in self.taken(read)

    def words(self, read: str) -> str:
        """Return which values `read` takes."""
        dimension: Dimension | None = self.dimensions.get(read)
        if dimension is not None and dimension.kind == "int":
            return f"from {dimension.low} to {dimension.high}"
        listed = self.taken(read) if dimension is None else dimension.choices
        return " or ".join(show(value) for value in listed)

    def circle(self, path: str) -> list[str]:
        """Return the way from `path` back to itself along the conditions; empty if none is."""
        ways = [[path]]
        seen: set[str] = set()
        while ways:
            way = ways.pop()
            for read in self.fit[way[-1]].conditions:
                if read == path:
                    return [*way, path]
                if read in self.fit and read not in seen:
                    seen.add(read)
                    ways.append([*way, read])
        return []


def kind(given: Distribution) -> str:
    """Return the key by which the file names the kind of a distribution."""
    return type(given).__name__.lower()


def _number(value: float) -> str:
    return show(int(value) if float(value).is_integer() and abs(value) < 1e16 else value)
