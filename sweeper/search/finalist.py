"""The records that a search reports: its progress, its finalists, its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.analysis.diagrams.history import History
from sweeper.search.objectives import generalizes
from sweeper.search.study import Observation
from sweeper.space.space import Params


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """The progress of a search after a round.

    Attributes:
        asked: Suggestions so far.
        of: Suggestions of the whole search.
        known: Points that an earlier launch had trained.
        best: The best feasible point by the first objective; None while there is none.
        front: Number of points on the Pareto front.
        objectives: Names of the objectives.
    """

    asked: int
    of: int
    known: int
    best: Observation | None
    front: int
    objectives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finalist:
    """A leader of the search, evaluated again on seeds that the search did not use.

    Attributes:
        params: Dimension to value.
        searched: The objectives as the search saw them.
        values: The objectives on the fresh seeds; None for one that is unknown.
        interval: Interval of the first objective, None for an unbounded end. None if the
            objective has no interval.
        level: Confidence level of the interval, which few seeds leave below 0.95 for a delay.
            None without an interval.
        row: Its row of `sweeper.analysis.diagrams.amplification.evaluate`.
        overrides: Overrides with which `sweeper launch` trains exactly this cell.
    """

    params: Params
    searched: tuple[float, ...]
    values: tuple[float | None, ...]
    interval: tuple[float | None, float | None] | None
    level: float | None
    row: Mapping[str, Any]
    overrides: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether fresh seeds confirm it: all objectives known, most seeds generalize."""
        return None not in self.values and generalizes(self.row)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        history: Every point.
        finalists: The leaders on fresh seeds, the best first.
        seeds: The fresh seeds.
        trials: Number of trials that the search needed, including those trained before.
        failed: Number of them that failed.
        left: Suggestions that still have to be made or trained.
        storage: URL of the study's database.
    """

    history: History
    finalists: tuple[Finalist, ...]
    seeds: tuple[int, ...]
    trials: int
    failed: int
    left: int
    storage: str

    @property
    def exit_code(self) -> int:
        """0 done, 3 some trials failed, 4 work remains."""
        return 4 if self.left else 3 if self.failed else 0
