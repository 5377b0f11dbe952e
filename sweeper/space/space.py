"""The space of a search: converts suggestions to cells, and cells to suggestions.

A suggestion maps the name of each dimension that applies to a value. A dimension whose condition
`when` doesn't hold doesn't apply, and its fields keep their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sweeper.config.diagnostic import Diagnostic
from sweeper.config.fields import Config, Scalar, Values
from sweeper.config.resolve import broken, resolve
from sweeper.config.trial import Trial
from sweeper.errors import ConfigError, UsageError
from sweeper.grid.document import parse_value
from sweeper.grid.exclusion import Rule
from sweeper.grid.grid import Grid, column_types, columns
from sweeper.grid.gridfile import GridFile
from sweeper.grid.search_section import Search
from sweeper.space.dimension import Choice, Dimension, constants, converted, dimensions

Params = Mapping[str, Choice]
"""A suggestion: dimension name to value."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """The answer for a suggestion that is no cell.

    Attributes:
        reason: Why it is none.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Point:
    """A suggestion as a cell.

    Attributes:
        values: The resolved config, flat: every field that applies.
        cell_id: The cell's id.
        reference: The cell that an amplification is relative to; None if there is none and no
            objective needs one. A cell may be its own reference.
    """

    values: Mapping[str, Scalar]
    cell_id: str
    reference: Point | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """The config that follows from the names that a suggestion chooses and the fields it gives.

    Attributes:
        values: The resolved config, with a sample value for each dimension.
        problems: The mistakes in it.
    """

    values: Mapping[str, Scalar]
    problems: tuple[Diagnostic, ...]


@dataclass(frozen=True)
class Space:
    """All suggestions of a search.

    Attributes:
        file: The grid file.
        config: The config of its trainable.
        fixed: The values that no suggestion changes, by path.
        dimensions: In asking order: names first, each after those that its `when` reads.
        rules: The exclusion rules.
    """

    file: GridFile
    config: type[Config]
    fixed: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]
    rules: tuple[Rule, ...] = ()
    _structures: dict[Any, Structure] = field(default_factory=dict, repr=False, compare=False)
    _removed: dict[Any, bool] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, grid: Grid) -> Space:
        """Return the space that the file of `grid` describes.

        Raises:
            UsageError: The file has no section `search`.
            ConfigError: Overrides have made the section meaningless.
        """
        if grid.file.search is None:
            raise UsageError(
                f"{grid.name}: the grid file has no section search. "
                "Add one, e.g. search: {space: {selection.tau: {uniform: [0, 1]}}}."
            )
        if grid.unsearchable:
            raise ConfigError(grid.unsearchable)
        return cls.build(grid.file, grid.config, grid.fixed, grid.rules)

    @classmethod
    def build(
        cls,
        file: GridFile,
        config: type[Config],
        fixed: Mapping[str, Any],
        rules: Sequence[Rule] = (),
    ) -> Space:
        """Return the space of a file whose values under `fixed` are, by dotted path, `fixed`."""
        ordered = asking_order(dimensions(file, config, fixed), config)
        given = {p: converted(config, p, v) for p, v in fixed.items()} | constants(file, config)
        return cls(file, config, given, tuple(ordered), tuple(rules))

    @property
    def search(self) -> Search:
        """The section `search` of the file."""
        assert self.file.search is not None
        return self.file.search

    def given(self, params: Params) -> dict[str, Any]:
        """Return the values that the file and a suggestion give, by path, unresolved."""
        given = dict(self.fixed)
        for dimension in self.dimensions:
            if dimension.name in params:
                given |= dimension.given(params[dimension.name])
        return given

    def asks(self, dimension: Dimension, params: Params) -> bool:
        """Return whether `dimension` applies, given the values of those before it."""
        given = self.given(params)
        if not holds(dimension, given):
            return False
        if any(path.endswith(".name") for path in dimension.paths):
            return True
        applicable = self.structure(params).values
        return any(path in applicable for path in dimension.paths)

    def structure(self, params: Params) -> Structure:
        """Return the structure of `params`, with every dimension given that may still apply."""
        given = self.given(params)
        for dimension in self.dimensions:
            if dimension.name not in params and self.may_hold(dimension, params, given):
                given |= dimension.given(dimension.sample)
        names = tuple((p, v) for p, v in sorted(given.items()) if p.endswith(".name"))
        key = names, frozenset(given)
        if key not in self._structures:
            resolved = resolve(self.config, given)
            self._structures[key] = Structure(resolved.values, tuple(resolved.problems))
        return self._structures[key]

    def may_hold(self, dimension: Dimension, params: Params, given: Mapping[str, Any]) -> bool:
        """Return whether the condition of `dimension` holds or may still come to hold."""
        still = {path for d in self.dimensions if d.name not in params for path in d.paths}
        return all(
            given[path] in allowed if path in given else path in still
            for path, allowed in dimension.when.items()
        )

    def point(self, params: Params) -> Point | Impossible:
        """Return the cell of a suggestion with its reference, or why there is none.

        Values of dimensions that don't apply are dropped.
        """
        cell = self.cell(self.given(params))
        if isinstance(cell, Impossible):
            return cell
        for rule in self.rules:
            if self._excluded(rule, cell.values):
                return Impossible(f"excluded by {rule.text!r}.")
        reference = self._reference(cell)
        if isinstance(reference, Impossible):
            if self.search.needs_reference:
                return Impossible(f"its reference can't exist: {reference.reason}")
            return cell
        return Point(cell.values, cell.cell_id, reference)

    def cell(self, given: Mapping[str, Any]) -> Point | Impossible:
        """Return the cell of the `given` values, without a reference, or why there is none."""
        resolved = resolve(self.config, given)
        for problem in resolved.problems:
            return Impossible(problem.message)
        for _, message in broken(self.config, resolved.values):
            return Impossible(message)
        trial = Trial.of(self.config, resolved.values, 0, trainable=self.file.trainable)
        return Point(resolved.values, trial.cell_id)

    def _excluded(self, rule: Rule, values: Values) -> bool:
        read = tuple(values.get(path) for path in rule.paths)
        if (rule, read) not in self._removed:
            types = column_types(self.config)
            row = [pa.array([v], types[p]) for p, v in zip(rule.paths, read, strict=True)]
            self._removed[rule, read] = bool(rule.holds(row)[0])
        return self._removed[rule, read]

    def _reference(self, point: Point) -> Point | Impossible:
        """Return the reference cell of `point`."""
        replaced = self.replaced(point.values)
        if not replaced:
            return Impossible("nothing says what the reference is.")
        return self.cell(dict(point.values) | replaced)

    def replaced(self, values: Values) -> dict[str, Any]:
        """Return the fields in which the reference cell differs from `values`.

        These are `search.reference`, or else the neutral values of a choice in `values`.
        """
        if self.search.reference is not None:
            return dict(self.search.reference)
        return dict(neutral(self.config, values))

    def table(self, points: Iterable[Point], seeds: Sequence[int]) -> pa.Table:
        """Return one row per trial, cells times seeds, in the columns of `Grid.table`.

        Points with the same id are one cell.
        """
        cells = {point.cell_id: point for point in points}
        trials = [
            Trial.of(self.config, point.values, seed, trainable=self.file.trainable)
            for point in cells.values()
            for seed in seeds
        ]
        schema = columns(self.config)
        data: dict[str, list[Any]] = {
            "trial_id": [t.id for t in trials],
            "cell_id": [t.cell_id for t in trials],
            "seed": [t.seed for t in trials],
        }
        data |= {name: [t.values.get(name) for t in trials] for name in schema.names[3:]}
        return pa.table(data, schema=schema)

    def params_of(self, values: Mapping[str, Any]) -> dict[str, Choice] | None:
        """Return the suggestion that gives exactly the cell of the resolved `values`.

        None if the cell isn't in the space: another fixed value, out of bounds, off a step. In
        `values`, a null means the same as an absent field. Exclusion rules are ignored, so that a
        cell that was trained before a rule was added still informs the search.
        """
        wanted = {p: tuple(v) if isinstance(v, list) else v for p, v in values.items()}
        params: dict[str, Choice] = {}
        for dimension in self.dimensions:
            if self.asks(dimension, params):
                match = dimension.find(wanted)
                if match is None:
                    return None
                params[dimension.name] = match[0]
        resolved = resolve(self.config, self.given(params))
        if resolved.problems or _set(resolved.values) != _set(wanted):
            return None
        return params

    def overrides(self, params: Params) -> list[str]:
        """Return the overrides with which ``sweeper launch`` trains exactly this cell.

        Raises:
            UsageError: There is no such cell.
        """
        point = self.point(params)
        if isinstance(point, Impossible):
            raise UsageError(f"no such cell: {point.reason}")
        paths = {path for dimension in self.dimensions for path in dimension.paths}
        names = {f"{p.split('.')[0]}.name" for p in paths} & set(point.values)
        chosen = sorted(
            (names | paths) - set(self.fixed), key=lambda p: (not p.endswith(".name"), p)
        )
        changes = [f"{p}={_spelt(point.values[p])}" for p in chosen if p in point.values]
        changes += ["search=null"]
        return changes + (["exclude=[]"] if self.file.excludes else [])


def asking_order(unordered: Sequence[Dimension], config: type[Config]) -> list[Dimension]:
    """Return the dimensions with names first, each after those that its `when` reads.

    Dimensions whose conditions form a cycle come last; the checks of the file refuse them.
    """
    parts = list(config.parts)

    def rank(dimension: Dimension) -> int:
        named = [p.split(".")[0] for p in dimension.paths if p.endswith(".name")]
        return min((parts.index(p) for p in named if p in parts), default=len(parts))

    left = sorted(unordered, key=rank)
    ordered: list[Dimension] = []
    while left:
        open_ = {path for d in left for path in d.paths}
        ready = next((d for d in left if open_.isdisjoint(d.when)), left[0])
        left.remove(ready)
        ordered.append(ready)
    return ordered


def holds(dimension: Dimension, given: Mapping[str, Any]) -> bool:
    """Return whether the condition of `dimension` holds for the `given` values."""
    return all(path in given and given[path] in ok for path, ok in dimension.when.items())


def neutral(config: type[Config], values: Values) -> Mapping[str, Scalar]:
    """Return the neutral value of the first choice in `values` that has one."""
    for part, choices in config.parts.items():
        section = choices.get(str(values.get(f"{part}.name")))
        if section is not None and section.neutral:
            return section.neutral
    return {}


def _set(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return `values` without nulls."""
    return {path: value for path, value in values.items() if value is not None}


def _spelt(value: Scalar) -> str:
    """Return `value` as the right side of an override."""
    if isinstance(value, str):
        quoted = json.dumps(value)
        plain = value.strip() == value and "," not in value
        return value if plain and _reads(value) == value else quoted
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def _reads(text: str) -> Any:
    """Return `text` parsed as YAML; None if it isn't YAML."""
    try:
        return parse_value(text, "override")
    except ConfigError:
        return None
