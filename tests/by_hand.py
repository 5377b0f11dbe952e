"""Delay, bound and phase of a cell, by hand: the rules of docs/cells.md without any array."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of a seed that has a logged row and didn't fail.

    Steps are logged ones. Without t1 or t2, `last` is the last step that it is known to exceed.
    """

    t1: int | None
    t2: int | None
    last: int
    t1_lower: int | None = None
    t2_lower: int | None = None
    diverged: bool = False
    over: bool = True
    gap: int = 1000

    @property
    def phase(self) -> str | None:
        """The phase of the trial; None while it may still change."""
        if self.diverged:
            return "diverged"
        if self.t1 is not None and self.t2 is not None:
            return "grokking" if self.t2 - self.t1 >= self.gap else "comprehension"
        if not self.over:
            return None
        if self.t1 is not None:
            return "memorization"
        return "confusion" if self.t2 is None else "generalized_only"

    @property
    def delay(self) -> float | None:
        """The best number for its delay; None where that isn't known."""
        if self.phase == "generalized_only":
            return 0
        if self.phase not in ("grokking", "comprehension"):
            return None
        assert self.t1 is not None
        assert self.t2 is not None
        between = middle(self.t2, self.t2_lower) - middle(self.t1, self.t1_lower)
        return (
            max(between, self.gap)
            if self.phase == "grokking"
            else min(max(between, 0), self.gap - 1)
        )

    @property
    def counted(self) -> float | None:
        """The delay as an amplification counts it: at least the log resolution and a step."""
        if self.delay is None or self.phase == "generalized_only":
            return None if self.delay is None else 1
        assert self.t2 is not None
        resolution = 0 if self.t2_lower is None else self.t2 - self.t2_lower
        return max(self.delay, resolution, 1)

    @property
    def least(self) -> float:
        """What its delay is at least, where it isn't known; infinite if it never comes."""
        if self.diverged:
            return math.inf
        return 0 if self.t1 is None else max(0, self.last - self.t1)


def middle(step: int, lower: int | None) -> float:
    return math.sqrt(lower * step) if lower else float(step)


def mean(a: float, b: float) -> float:
    return a if a == b else math.sqrt(max(a, 1)) * math.sqrt(max(b, 1))


def median(
    known: Sequence[float | None], least: Sequence[float]
) -> tuple[float | None, float | None]:
    """Return (median, bound) of times of which the others are only known to exceed `least`."""
    pairs = list(zip(known, least, strict=True))
    low = sorted(least if time is None else time for time, least in pairs)
    high = sorted(math.inf if time is None else time for time, least in pairs)
    a, b = (len(pairs) - 1) // 2, len(pairs) // 2
    bound = mean(low[a], low[b])
    if math.isfinite(high[b]):
        return mean(bound, mean(high[a], high[b])), None
    return None, bound if math.isfinite(bound) else None


@dataclass(frozen=True)
class CellByHand:
    """What a cell comes to."""

    delay: float | None
    bound: float | None
    counted: float | None
    phase: str | None
    agreement: float | None


def cell(seeds: Sequence[Outcome]) -> CellByHand:
    """Return what `seeds` come to, at least one."""
    n = len(seeds)
    least = [s.least for s in seeds]
    delay, bound = median([s.delay for s in seeds], least)
    counted, _ = median([s.counted for s in seeds], least)
    memorized = sum(s.t1 is not None and not s.diverged for s in seeds)
    if 2 * memorized <= n:
        delay = bound = counted = None
    votes = Counter(s.phase for s in seeds if s.phase is not None)
    most = max(votes.values(), default=0)
    waiting = n - sum(votes.values())
    phase = None
    if 2 * most > n:
        phase = next(p for p, count in votes.items() if count == most)
    elif votes and not (waiting and 2 * (most + waiting) > n):
        phase = "split"
    return CellByHand(delay, bound, counted, phase, most / n if votes else None)
