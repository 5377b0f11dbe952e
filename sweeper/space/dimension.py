"""The dimensions of a search: their values, and the fields that each value sets.

The section `search.space` gives distributions. Axes of the grid that it doesn't name are
categorical dimensions over their listed values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeper.config.fields import Config, Leaf, Scalar, leaves, scalars
from sweeper.grid.gridfile import GridFile
from sweeper.grid.search_section import Categorical, Distribution, Int, LogUniform, Uniform
from sweeper.grid.spacing import LinSpace, LogSpace, Range

Choice = bool | int | float | str | None
"""A value that can be suggested; a label stands for a vector or for values of several fields."""

DIGITS = 12
"""Significant digits of a stepped number, so that 3 * 0.1 is 0.3."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of a search space.

    Attributes:
        name: The path that it sets; several paths are joined by ", ".
        kind: The kind of its distribution.
        low: Smallest number; None for a categorical dimension.
        high: Largest number, included; None for a categorical dimension.
        log: Whether it is uniform in the logarithm.
        step: The values are low, low + step, ...; None for every number.
        choices: The values of a categorical dimension.
        sets: Choice to the fields that it sets; empty if that is the field `name` alone.
        when: Path to the values under which the dimension applies.
    """

    name: str
    kind: Literal["float", "int", "categorical"]
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Choice, ...] = ()
    sets: Mapping[Choice, Mapping[str, Scalar]] = field(default_factory=dict)
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that it sets."""
        return tuple(next(iter(self.sets.values()))) if self.sets else (self.name,)

    @property
    def structural(self) -> bool:
        """Whether it chooses a name."""
        return any(path.endswith(".name") for path in self.paths)

    @property
    def finite(self) -> bool:
        """Whether it has finitely many values, as the sampler `grid` needs."""
        return self.kind != "float" or self.step is not None

    @property
    def count(self) -> int:
        """The number of values of a finite dimension."""
        if self.kind == "categorical" or self.low is None or self.high is None:
            return len(self.choices)
        return int((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    def values(self) -> Iterator[Choice]:
        """Yield the values of a finite dimension."""
        if self.kind == "categorical":
            yield from self.choices
        elif self.low is not None and self.high is not None and self.finite:
            for k in range(self.count):
                yield self.snap(self.low + k * (self.step or 1))

    def snap(self, value: Choice) -> Choice:
        """Return a suggested `value` for the field: on its step, without rounding noise."""
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None:
            return value
        if self.step is not None:
            k = round((value - self.low) / self.step)
            value = float(f"{self.low + k * self.step:.{DIGITS}g}")
        return int(value) if self.kind == "int" else float(value)

    def given(self, value: Choice) -> Mapping[str, Scalar]:
        """Return the fields that `value` sets, with their values."""
        return self.sets[value] if self.sets else {self.name: self.snap(value)}

    @property
    def sample(self) -> Choice:
        """One of its values."""
        return self.choices[0] if self.kind == "categorical" else self.low

    def find(self, values: Mapping[str, Scalar]) -> tuple[Choice] | None:
        """Return the choice that sets the fields to `values`, in a tuple; None if there is none.

        A dimension of several fields returns the choice with the most equal fields; a field that
        is null or absent in `values` may not apply, and excludes no choice.
        """
        if self.sets:
            return self._row(values)
        value = values.get(self.name)
        if self.kind == "categorical":
            return next(((choice,) for choice in self.choices if choice == value), None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return (self.snap(value),) if self._holds(value) else None

    def _row(self, values: Mapping[str, Scalar]) -> tuple[Choice] | None:
        """Return the choice with the fewest fields that differ from `values`."""
        fitting = {
            choice: sum(values.get(p) != v for p, v in fields.items())
            for choice, fields in self.sets.items()
            if all(values.get(p) in (v, None) for p, v in fields.items())
        }
        return (min(fitting, key=lambda choice: fitting[choice]),) if fitting else None

    def _holds(self, value: float) -> bool:
        """Return whether `value` is within the ends and on a step."""
        if self.low is None or self.high is None or not self.low <= value <= self.high:
            return False
        if self.kind == "int" and not float(value).is_integer():
            return False
        return self.step is None or self.snap(float(value)) == value


def owners(config: type[Config], path: str) -> list[Leaf]:
    """Return the fields with the path `path`, one for each name that has it."""
    fields_of = [scalars(config)[path]] if path in scalars(config) else []
    part = path.split(".")[0]
    for section in config.parts.get(part, {}).values():
        fields = leaves(section, f"{part}.")
        fields_of += [fields[path]] if path in fields else []
    return fields_of


def converted(config: type[Config], path: str, value: Any) -> Scalar:
    """Return a raw value of the file converted to its field; a list or dict of no field as text."""
    for leaf in owners(config, path):
        checked, refusal = leaf.check(value)
        if refusal is None:
            return checked
    return str(value) if isinstance(value, list | dict) else value


def axis_values(axis: Any) -> list[Any]:
    """Return the raw values of an axis of the file; empty if its spacing is wrong."""
    if not isinstance(axis, LogSpace | LinSpace | Range):
        return list(axis)
    try:
        return list(axis.values())
    except ValueError:
        return []


def dimensions(file: GridFile, config: type[Config], fixed: Mapping[str, Any]) -> list[Dimension]:
    """Return the dimensions in the order of the file: those of the space, then the axes.

    Args:
        file: The grid file.
        config: The config of its trainable.
        fixed: Values under `fixed` by dotted path; they win over the space, since only the
            command line can have put them there.
    """
    space = file.search.space if file.search is not None else {}
    result = [
        specified(config, path, distribution)
        for path, distribution in space.items()
        if path not in fixed
    ]
    for group in axes(file, space):
        dimension = listed(config, group)
        result += [dimension] if len(dimension.choices) > 1 else []
    return result


def constants(file: GridFile, config: type[Config]) -> dict[str, Scalar]:
    """Return the fields that axes with a single value set: path to value."""
    space = file.search.space if file.search is not None else {}
    values_of: dict[str, Scalar] = {}
    for group in axes(file, space):
        if len(group[0][1]) == 1:
            values_of |= {path: converted(config, path, values[0]) for path, values in group}
    return values_of


def axes(file: GridFile, named: Iterable[str]) -> Iterator[list[tuple[str, list[Any]]]]:
    """Yield each group of axes that move together, without those `named`: (path, values)."""
    done = set(named)
    for block in file.blocks:
        for group in (*({p: a} for p, a in block.product.items()), *block.zip):
            left = {p: axis_values(a) for p, a in group.items() if p not in done}
            done |= left.keys()
            if left and all(left.values()):
                yield list(left.items())


def specified(config: type[Config], path: str, given: Distribution) -> Dimension:
    """Return the dimension of `path` with the distribution that the file gives."""
    when = {
        p: tuple(converted(config, p, value) for value in values)
        for p, values in given.conditions.items()
    }
    if isinstance(given, Categorical):
        listed_ = listed(config, [(path, given.choices)])
        return Dimension(path, "categorical", choices=listed_.choices, sets=listed_.sets, when=when)
    assert isinstance(given, Uniform | LogUniform | Int)
    low, high = given.ends
    if isinstance(given, Int):
        step = None if given.log else given.step or 1
        end = _last(low, high, step)
        return Dimension(path, "int", int(low), int(end), log=given.log, step=step, when=when)
    stride = given.step if isinstance(given, Uniform) else None
    end = _last(low, high, stride)
    log = isinstance(given, LogUniform)
    return Dimension(path, "float", float(low), float(end), log=log, step=stride, when=when)


def _last(low: float, high: float, step: float | None) -> float:
    """Return the largest value that steps from `low` reach up to `high`."""
    if step is None or high <= low:
        return high
    return float(f"{low + int((high - low) / step + 1e-9) * step:.{DIGITS}g}")


def listed(config: type[Config], group: list[tuple[str, list[Any]]]) -> Dimension:
    """Return the categorical dimension over the values of one axis, or of several zipped ones."""
    paths = [path for path, _ in group]
    columns = [[converted(config, path, value) for value in values] for path, values in group]
    rows = list(dict.fromkeys(zip(*columns, strict=False)))
    plain = len(paths) == 1 and not any(isinstance(row[0], tuple) for row in rows)
    if plain:
        choices = tuple(row[0] for row in rows if not isinstance(row[0], tuple))
        return Dimension(paths[0], "categorical", choices=choices)
    sets: dict[Choice, dict[str, Scalar]] = {
        _label(paths, row): dict(zip(paths, row, strict=True)) for row in rows
    }
    return Dimension(", ".join(paths), "categorical", choices=tuple(sets), sets=sets)


def _label(paths: list[str], row: tuple[Scalar, ...]) -> str:
    """Return the text that stands for the values of several fields, or for a vector."""
    shown = [str(list(v)) if isinstance(v, tuple) else _plain(v) for v in row]
    if len(paths) == 1:
        return shown[0]
    return ", ".join(f"{path}={text}" for path, text in zip(paths, shown, strict=True))


def _plain(value: Scalar) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)
