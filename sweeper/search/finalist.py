"""What a search reports: where it stands, its leaders on fresh seeds, all that it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.analysis.diagrams.history import History
from sweeper.search.objectives import lacking
from sweeper.search.study import Told
from sweeper.space.space import Params


@dataclass(frozen=True, slots=True)
class Progressed:
    """Where a search stands after a round.

    Attributes:
        asked: Suggestions so far.
        of: Suggestions in the end.
        known: Points that were known before.
        best: The best point so far, by the first objective; None before a feasible one.
        front: Points that no other one beats in all objectives.
        objectives: Names of the objectives.
    """

    asked: int
    of: int
    known: int
    best: Told | None
    front: int
    objectives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finalist:
    """A leader, evaluated again on seeds that chose none of the leaders.

    Attributes:
        params: Dimension to value.
        searched: The objectives as the search saw them.
        values: The objectives on the fresh seeds; None where one isn't known.
        interval: 95 % interval of the first objective, None for an end that is unbounded; None
            where there is no way to one.
        row: All that `sweeper.analysis.diagrams.amplification.evaluate` says of it.
        overrides: What makes `sweeper launch` train this very cell.
    """

    params: Params
    searched: tuple[float, ...]
    values: tuple[float | None, ...]
    interval: tuple[float | None, float | None] | None
    row: Mapping[str, Any]
    overrides: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it is what it seemed: objectives known, half of the seeds generalize."""
        return None not in self.values and lacking(self.row) <= 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        history: Every point.
        finalists: The leaders on fresh seeds, the best first.
        seeds: Those fresh seeds.
        trials: Trials that the search trained or found trained.
        failed: Those of them that failed.
        left: Suggestions that are still to be made or trained.
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
