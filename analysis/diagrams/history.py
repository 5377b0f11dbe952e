"""The history of a search: its suggestions, their results, and the best one.

A suggestion is feasible when all its objectives are known. One that isn't takes part in nothing
but the picture: there it stands at its bound, so that a promising censored cell can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Scalar = bool | int | float | str | None
Direction = Literal["maximize", "minimize"]
Source = Literal["search", "store"]


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One point of the search space and its result.

    Attributes:
        number: Its place in the search, from 0.
        values: Path to value; a path is missing where its sub-space doesn't apply.
        objectives: Values in the order of the search's objectives; None: unknown.
        feasible: Whether it may win; then no objective is None.
        bound: What the first objective is at least, where only that is known, as for a censored
            cell; else None.
        source: Whether the search asked for it or found it in the store.
        cell_id: Its cell; None before it has one.
    """

    number: int
    values: Mapping[str, Scalar]
    objectives: tuple[float | None, ...]
    feasible: bool
    bound: float | None = None
    source: Source = "search"
    cell_id: str | None = None

    def __post_init__(self) -> None:
        """Check that nothing wins without a result."""
        if self.feasible and None in self.objectives:
            raise ValueError(f"suggestion {self.number} is feasible without a result")


@dataclass(frozen=True)
class History:
    """The suggestions of a search.

    Attributes:
        objectives: Name and direction of each, at least one.
        suggestions: In any order; `ordered` by their numbers.
        importance: Path to its share of the importance for the objective; None: not known.
        log: Paths whose values are spread over orders of magnitude, so drawn on a log axis.
    """

    objectives: tuple[tuple[str, Direction], ...]
    suggestions: tuple[HistoryPoint, ...]
    importance: Mapping[str, float] | None = None
    log: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Check that every suggestion has as many objectives as the search."""
        for s in self.suggestions:
            if len(s.objectives) != len(self.objectives):
                raise ValueError(f"suggestion {s.number} has {len(s.objectives)} objectives")

    @cached_property
    def ordered(self) -> tuple[HistoryPoint, ...]:
        """The suggestions by their numbers."""
        return tuple(sorted(self.suggestions, key=lambda s: s.number))

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """All paths, the most important first, otherwise as they first occur."""
        seen = dict.fromkeys(path for s in self.ordered for path in s.values)
        shares = self.importance or {}
        return tuple(sorted(seen, key=lambda path: -shares.get(path, 0.0)))

    @property
    def best(self) -> HistoryPoint | None:
        """The first of those that win by the first objective; None while none is feasible."""
        feasible = [s for s in self.ordered if s.feasible]
        return min(feasible, key=lambda s: self._costs(s)[0], default=None)

    def best_so_far(self, objective: int = 0) -> tuple[float | None, ...]:
        """Return for each of `ordered` the best value of an objective among the feasible up to it.

        None before the first feasible one.
        """
        found: list[float | None] = []
        best: HistoryPoint | None = None
        for s in self.ordered:
            if s.feasible and (
                best is None or self._costs(s)[objective] < self._costs(best)[objective]
            ):
                best = s
            found.append(best.objectives[objective] if best else None)
        return tuple(found)

    def pareto(self) -> tuple[HistoryPoint, ...]:
        """Return the feasible suggestions that no other dominates, by their first objective.

        One dominates another if it is as good in every objective and better in one: of equals,
        all stay.
        """
        feasible = [s for s in self.ordered if s.feasible]
        costs = np.array([self._costs(s) for s in feasible]).reshape(-1, len(self.objectives))
        front = [s for s, cost in zip(feasible, costs, strict=True) if not _dominated(cost, costs)]
        return tuple(sorted(front, key=lambda s: (self._costs(s), s.number)))

    def table(self) -> pa.Table:
        """Return one row a suggestion: its fields, the objectives by name, the paths by name.

        A path's column is text where its values aren't of one type; null where it doesn't apply.
        """
        columns: dict[str, Any] = {
            name: pa.array([getattr(s, name) for s in self.ordered], kind)
            for name, kind in _FIELDS.items()
        }
        for k, (name, _) in enumerate(self.objectives):
            columns[name] = pa.array([s.objectives[k] for s in self.ordered], pa.float64())
        for path in self.paths:
            columns[path] = _column([s.values.get(path) for s in self.ordered])
        return pa.table(columns)

    def _costs(self, suggestion: HistoryPoint) -> tuple[float, ...]:
        """Return the objectives of a feasible suggestion such that less is better."""
        return tuple(
            np.inf if value is None else value if direction == "minimize" else -value
            for value, (_, direction) in zip(suggestion.objectives, self.objectives, strict=True)
        )


_FIELDS = {
    "number": pa.int64(),
    "source": pa.string(),
    "cell_id": pa.string(),
    "feasible": pa.bool_(),
    "bound": pa.float64(),
}


def _dominated(cost: NDArray[np.float64], costs: NDArray[np.float64]) -> bool:
    return bool(np.any(np.all(costs <= cost, axis=1) & np.any(costs < cost, axis=1)))


def _column(values: list[Scalar]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 and not kinds <= {int, float}:
        return pa.array([None if v is None else str(v) for v in values], pa.string())
    return pa.array(values, pa.float64() if kinds == {int, float} else None)
