"""Checks of `search.space`, one dimension after the other: path, numbers, choices, condition."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from sweeper.compile.axes import HOMES
from sweeper.compile.diagnostics import SearchDiagnostics
from sweeper.config.diagnostic import Diagnostic, KeyPath, Kind
from sweeper.config.fields import Scalar
from sweeper.config.messages import quoted
from sweeper.config.resolve import unknown_path
from sweeper.errors import did_you_mean
from sweeper.grid.search_section import (
    MAX_CHOICES,
    Categorical,
    Distribution,
    Int,
    LogUniform,
    Uniform,
)
from sweeper.space.dimension import axes, converted, owners, specified
from sweeper.space.space import Space

_HELD = {"bool": "true or false", "str": "text", "vector": "a list of numbers"}
"""Kinds of fields without numbers, as messages name them."""


def usable_space(section: SearchDiagnostics) -> Space | None:
    """Return the space of the usable dimensions; None where there can't be one.

    Every other dimension is reported.
    """
    dimensions = usable(section)
    file = section.grid.file
    groups = list(axes(file, section.search.space))
    if len(file.blocks) > 1 and groups:
        paths = " and ".join(path for group in groups for path, _ in group)
        text = f"search takes axes from one block, and search.space lacks {paths}."
        remedy = f"Add {paths} to search.space, or keep one block."
        place = section.grid.document.place("grid")
        section.add(Diagnostic(Kind.CONFLICT, "grid", text, remedy, place=place))
        return None
    long = [(path, len(values)) for (path, values), *_ in groups if len(values) > MAX_CHOICES]
    for path, n in long:
        text = f"{path} has {n:,} values; a search takes axes of at most {MAX_CHOICES:,}."
        remedy = "Give it a range in search.space."
        section.add(Diagnostic(Kind.LIMIT, path, text, remedy, n, section.grid.axis(path)))
    if long:
        return None
    search = section.search.model_copy(update={"space": dimensions})
    config = section.grid.config
    space = Space.build(file.model_copy(update={"search": search}), config, dict(section.fixed))
    if space.dimensions:
        return space
    refused = section.grid.unread or ("search", "space") in section.grid.refused
    if section.clean and not refused:
        text = (
            "search has nothing to search: its space is empty, and no axis of the grid has "
            "several values."
        )
        remedy = "Add a dimension, e.g. space: {selection.tau: {uniform: [0, 1]}}."
        section.report(Kind.MISSING, text, remedy, "space")
    return None


def usable(section: SearchDiagnostics) -> dict[str, Distribution]:
    """Return the dimensions of the section that are valid; report all others."""
    space = section.search.space
    valid = {p: d for p, d in space.items() if known(section, p, "space", p) and _free(section, p)}
    valid = {p: d for p, d in valid.items() if _drawable(section, p, d)}
    conditions = _Conditions(section, valid)
    return {p: d for p, d in valid.items() if conditions.valid(p, d)}


def known(section: SearchDiagnostics, path: str, *node: str | int) -> bool:
    """Return whether `path` is a field of the config; report it at the key `node` if it isn't."""
    config = section.grid.config
    if path in HOMES:
        remedy = f"It belongs to {HOMES[path]}."
        section.report(Kind.MISPLACED, f"{path} isn't a field of a cell.", remedy, *node, key=True)
    elif path in config.parts:
        remedy = f"Name one of its fields: {path}.name."
        text = f"{path} is a part, not a value."
        section.report(Kind.INVALID, text, remedy, *node, key=True)
    elif path not in section.grid.known:
        unknown = unknown_path(config, path)
        section.report(unknown.kind, unknown.text, unknown.remedy, *node, key=True)
    else:
        return True
    return False


def _free(section: SearchDiagnostics, path: str) -> bool:
    """Return whether `path` isn't fixed; report it if the file itself fixes it."""
    if path in section.fixed and path not in section.overridden:
        text = f"{path} is both in fixed and in search.space."
        remedy = "Keep it in search.space to search it, in fixed to fix it."
        section.report(Kind.CONFLICT, text, remedy, "space", path, key=True)
    return path not in section.fixed


def _drawable(section: SearchDiagnostics, path: str, given: Distribution) -> bool:
    """Return whether `given` draws values of the type that `path` has."""
    if isinstance(given, Categorical):
        return _choices(section, path, given)
    assert isinstance(given, Uniform | LogUniform | Int)
    type_ = _type_problem(section, path, given)
    text, remedy, key = type_ or _range_problem(given) or ("", "", "")
    if not text:
        return True
    section.report(Kind.INVALID, f"{path}: {text}", remedy, "space", path, key)
    return False


def _type_problem(
    section: SearchDiagnostics, path: str, given: Uniform | LogUniform | Int
) -> tuple[str, str, str] | None:
    """Return why `path` can't have numbers of this range: text, remedy, key; None if it can."""
    kinds = {leaf.kind for leaf in owners(section.grid.config, path)}
    name = distribution_kind(given)
    if path.endswith(".name"):
        return "a name isn't a number.", "List the names: {categorical: [...]}.", name
    if kinds.isdisjoint(("int", "float")):
        held = " or ".join(_HELD[k] for k in sorted(kinds))
        remedy = "List the values: {categorical: [...]}."
        return f"it holds {held}, not a number.", remedy, name
    if kinds == {"int"} and not isinstance(given, Int):
        low, high = given.ends
        log = ", log: true" if isinstance(given, LogUniform) else ""
        ends = f"[{max(1, round(low)) if log else round(low)}, {round(high)}]"
        text = f"it takes whole numbers, but {name} suggests fractions."
        return text, f"Write {{int: {ends}{log}}}.", name
    return None


def _range_problem(given: Uniform | LogUniform | Int) -> tuple[str, str, str] | None:
    """Return why the range has no values: text, remedy, key; None if it has some."""
    low, high = given.ends
    name = distribution_kind(given)
    shown = f"[{_number(low)}, {_number(high)}]"
    if not low < high:
        return f"{name} {shown} is empty.", "Write [low, high] with low below high.", name
    if isinstance(given, LogUniform):
        if low <= 0:
            return f"loguniform {shown} needs ends above 0.", "Use uniform.", name
        return None
    if isinstance(given, Int) and given.log:
        if low < 1:
            return f"int {shown} with log needs ends from 1.", "Raise the lower end.", name
        if given.step is not None:
            return "an int takes either step or log.", "Remove one of them.", "step"
    if (given.step or 0) > high - low:
        text = f"step {_number(given.step or 0)} is larger than the range {shown}."
        return text, "Make it smaller.", "step"
    return None


def _choices(section: SearchDiagnostics, path: str, given: Categorical) -> bool:
    """Return whether the choices of `path` are different values of the right type."""
    config = section.grid.config
    part, _, name = path.partition(".")
    before = len(section.every)
    seen: list[Scalar] = []
    for i, raw in enumerate(given.choices):
        node = ("space", path, "categorical", i)
        value = converted(config, path, raw)
        text = f"{path} = {quoted(raw)}"
        if name == "name" and part in config.parts and raw not in list(config.parts[part]):
            remedy = did_you_mean(str(raw), list(config.parts[part]))
            section.report(Kind.UNKNOWN, f"{text} is unknown.", remedy, *node, value=raw)
        elif isinstance(raw, dict):
            text = f"{text} is a mapping."
            section.report(Kind.INVALID, text, "Write one value.", *node, value=raw)
        elif any(value == other and type(value) is type(other) for other in seen):
            text = f"{path} has {quoted(raw)} twice."
            section.report(Kind.DUPLICATE, text, "Keep one.", *node, value=raw)
        seen.append(value)
    return len(section.every) == before


class _Conditions:
    """Checks the condition, `when`, of every dimension.

    Attributes:
        section: Takes the mistakes.
        usable: The dimensions that are valid apart from their conditions.
        searched: The paths of the space that the command line doesn't fix.
        dimensions: Path to dimension.
        on_axes: Path to raw values, of the grid's axes that the space doesn't name.
    """

    def __init__(self, section: SearchDiagnostics, usable: Mapping[str, Distribution]) -> None:
        self.section = section
        self.usable = usable
        config = section.grid.config
        self.searched = {path for path in section.search.space if path not in section.overridden}
        self.dimensions = {path: specified(config, path, d) for path, d in usable.items()}
        groups = axes(section.grid.file, section.search.space)
        self.on_axes = {path: values for group in groups for path, values in group}

    def valid(self, path: str, given: Distribution) -> bool:
        """Return whether the condition of `path` can hold."""
        before = len(self.section.every)
        for read in given.conditions:
            self.check(path, read, given.conditions[read])
        cycle = self.cycle(path) if len(self.section.every) == before else []
        if cycle and path == min(cycle):  # reported once
            way = ", ".join(f"{a} reads {b}" for a, b in pairwise(cycle))
            text = f"{way}: the conditions form a cycle."
            self.section.report(Kind.CONFLICT, text, "Remove one of them.", "space", path, "when")
        return len(self.section.every) == before and not cycle

    def check(self, path: str, read: str, values: list[Any]) -> None:
        """Check the condition of `path` that `read` has one of the `values`."""
        node = ("space", path, "when", read)
        report = self.section.report
        if not known(self.section, read, *node):
            return
        if read == path:
            text = f"{path} can't depend on itself."
            report(Kind.CONFLICT, text, "Remove this when.", *node, key=True)
        elif read in self.usable and not isinstance(self.usable[read], Categorical | Int):
            text = f"{path} can't depend on {read}, which takes any number."
            remedy = f"Give {read} an int or a categorical, or remove this when."
            report(Kind.CONFLICT, text, remedy, *node, key=True)
        elif read not in self.searched and not self.taken(read):
            if read not in self.section.grid.unread:
                text = f"{path} depends on {read}, which isn't given."
                report(Kind.MISSING, text, f"Add {read} to search.space.", *node, key=True)
        elif read not in self.searched or read in self.usable:
            self.check_values(path, read, values)

    def check_values(self, path: str, read: str, values: list[Any]) -> None:
        """Check that `read` can have each of the `values` on which `path` depends."""
        raw = self.section.search.space[path].when or {}
        for i, value in enumerate(values):
            wanted = converted(self.section.grid.config, read, value)
            if read in self.usable:
                possible = self.dimensions[read].find({read: wanted}) is not None
            else:
                possible = wanted in self.taken(read)
            if not possible:
                index = [i] if isinstance(raw[read], list) else []
                text = f"{path} depends on {read} = {quoted(value)}, but {self.range(read)}."
                node: KeyPath = ("space", path, "when", read, *index)
                self.section.report(
                    Kind.CONFLICT, text, "Change the condition.", *node, value=value
                )

    def taken(self, read: str) -> list[Scalar]:
        """Return the values that `fixed` or the axes of the grid give `read`."""
        config = self.section.grid.config
        if read in self.section.fixed:
            return [converted(config, read, self.section.fixed[read])]
        return [converted(config, read, value) for value in self.on_axes.get(read, [])]

    def range(self, read: str) -> str:
        """Return a clause that states which values `read` can have."""
        dimension = self.dimensions.get(read)
        if dimension is not None and dimension.kind == "int":
            return f"{read} can only be from {dimension.low} to {dimension.high}"
        listed = self.taken(read) if dimension is None else dimension.choices
        return f"{read} can only be {' or '.join(quoted(value) for value in listed)}"

    def cycle(self, path: str) -> list[str]:
        """Return the way from `path` back to itself along the conditions; empty if none is."""
        ways = [[path]]
        seen: set[str] = set()
        while ways:
            way = ways.pop()
            for read in self.usable[way[-1]].conditions:
                if read == path:
                    return [*way, path]
                if read in self.usable and read not in seen:
                    seen.add(read)
                    ways.append([*way, read])
        return []


def distribution_kind(given: Distribution) -> str:
    """Return the key by which the file names the kind of a distribution."""
    return type(given).__name__.lower()


def _number(value: float) -> str:
    return quoted(int(value) if float(value).is_integer() and abs(value) < 1e16 else value)
