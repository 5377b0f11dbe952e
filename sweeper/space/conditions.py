"""The structures of a space: the combinations of choices that decide which dimensions apply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from sweeper.space.dimension import Choice, Dimension
from sweeper.space.space import Space

MAX_STRUCTURES = 10_000
"""Largest number of combinations of a space."""

TRIES = 30
"""Random suggestions per structure, after the lowest and the highest one."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One combination of choices, and the dimensions that apply under it.

    Attributes:
        choices: The values of all names and of all dimensions that a `when` reads.
        asked: The dimensions that apply, in asking order.
    """

    choices: dict[str, Choice]
    asked: tuple[Dimension, ...]

    def sample(self) -> dict[str, Choice]:
        """Return one suggestion."""
        return {d.name: self.choices.get(d.name, d.sample) for d in self.asked}

    def samples(self) -> Iterator[dict[str, Choice]]:
        """Yield suggestions: the lowest, the highest, and `TRIES` random ones with a fixed seed."""
        yield self.sample()
        yield {d.name: self.choices.get(d.name, _last(d)) for d in self.asked}
        random = Random(0)  # noqa: S311 - no secret
        for _ in range(TRIES):
            yield {d.name: self.choices.get(d.name, _drawn(d, random)) for d in self.asked}


def combinations(space: Space) -> list[Combination]:
    """Return the combinations of a space, at most one more than `MAX_STRUCTURES`."""
    read = {path for d in space.dimensions for path in d.when}
    partial: list[dict[str, Choice]] = [{}]
    for dimension in space.dimensions:
        if not dimension.structural and read.isdisjoint(dimension.paths):
            continue
        grown: list[dict[str, Choice]] = []
        for params in partial:
            values = _deciding(space, dimension) if space.asks(dimension, params) else None
            grown += [{**params, dimension.name: v} for v in values] if values else [params]
        partial = grown[: MAX_STRUCTURES + 1]
    return [Combination(params, _asked(space, params)) for params in partial]


def conditional(space: Space) -> list[str]:
    """Return the names of the dimensions that only some suggestions have."""
    every = combinations(space)
    return [d.name for d in space.dimensions if not all(d in c.asked for c in every)]


def _asked(space: Space, choices: dict[str, Choice]) -> tuple[Dimension, ...]:
    return tuple(d for d in space.dimensions if d.name in choices or space.asks(d, choices))


def _deciding(space: Space, dimension: Dimension) -> list[Choice]:
    """Return the choices, or of a range the values that a `when` reads and one other value."""
    if dimension.kind == "categorical":
        return list(dimension.choices)
    listed = {v for d in space.dimensions for v in d.when.get(dimension.name, ())}
    values: list[Choice] = [
        hit[0] for v in sorted(listed, key=str) if (hit := dimension.find({dimension.name: v}))
    ]
    other = next((v for v in dimension.values() if v not in values), None)
    return values if other is None else [*values, other]


def _last(dimension: Dimension) -> Choice:
    return dimension.choices[-1] if dimension.kind == "categorical" else dimension.high


def _drawn(dimension: Dimension, random: Random) -> Choice:
    if dimension.kind == "categorical":
        return random.choice(dimension.choices)
    low: Any = dimension.low
    high: Any = dimension.high
    share = random.random()
    value = low * (high / low) ** share if dimension.log else low + (high - low) * share
    return dimension.snap(min(high, max(low, round(value) if dimension.kind == "int" else value)))
