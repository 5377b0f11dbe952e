"""The time that a launch still takes, from the measured speed of its packs.

A pack is trained until its last trial has ended, at most up to the horizon. Its time left is its
steps left over its own measured speed. Packs that wait take as long per trial as the packs that
have begun. The forecast changes smoothly: it counts down, and follows new measurements slowly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import exp, log1p

KNOWN = 0.02
"""Share of its steps that a pack must have behind it before its speed counts.

The first steps are logged densely, and a logged step takes many times as long as another one."""

SMOOTH = (2.0, 0.3, 15.0)
"""Seconds in which the shown forecast follows the computed one by 63 %: this share of it, between
the least and the most."""

LEAST_S = 2.0
"""Shortest time between two measurements of a speed: rows are committed that often."""


@dataclass(frozen=True, slots=True)
class PackProgress:
    """The progress of one pack.

    Attributes:
        id: The pack.
        trials: Number of its trials that the launch trains.
        ended: Number of those that have ended.
        step: Its last committed step; its first one before there is any.
        first: The step from which the launch trains it.
        horizon: The step at which its last trial ends at the latest.
        gap: Steps to the next logged step, before which there is no news.
        begun: Whether a worker has claimed it in this launch.
        over: Whether it has no work left.
    """

    id: str
    trials: int
    ended: int
    step: int
    first: int
    horizon: int
    gap: int = 1
    begun: bool = False
    over: bool = False

    @property
    def steps(self) -> int:
        """Trial-steps that are done. A trial that has ended has all of its steps behind it."""
        left = 0 if self.over else (self.trials - self.ended) * (self.horizon - self.step)
        return max(0, self.of - left)

    @property
    def of(self) -> int:
        """Trial-steps up to the horizon."""
        return self.trials * max(0, self.horizon - self.first)


class _Speed:
    """The measured speed of one pack.

    Steps have a price, and logged steps another one. Logged steps lie evenly in the logarithm of
    the step, so that the last two stretches, from a quarter of the steps so far to a half and from
    there on, hold equally many and tell both prices.

    Attributes:
        begun: When the pack was first seen at work, in seconds.
    """

    def __init__(self, now: float, step: int) -> None:
        self.begun = now
        self._news: deque[tuple[float, int]] = deque([(now, step)])

    def measure(self, now: float, pack: PackProgress) -> None:
        """Take the step at the time `now` into account."""
        news = self._news
        if pack.step < news[-1][1]:  # a worker has died: another one goes on from a checkpoint
            news.clear()
        if not news or pack.step > news[-1][1]:
            news.append((now, pack.step))
        while len(news) > 3 and 4 * (news[1][1] - pack.first) <= pack.step - pack.first:
            news.popleft()

    def left(self, now: float, pack: PackProgress) -> float | None:
        """Return the seconds up to the horizon of the pack; None before its speed is known."""
        (since, _), (seen, step) = self._news[0], self._news[-1]
        known = step - pack.first >= KNOWN * (pack.horizon - pack.first)
        if not known or len(self._news) < 3 or seen - since < LEAST_S:
            return None
        per_step, per_log = self._prices(pack)
        silent = now - seen
        overdue = silent - 2 * LEAST_S
        if overdue > pack.gap * per_step + per_log * log1p(pack.gap / max(1, step)):
            per_step, per_log = overdue / pack.gap, 0.0
        logs = log1p(pack.horizon) - log1p(step)
        return max(0.0, (pack.horizon - step) * per_step + logs * per_log - silent)

    def _prices(self, pack: PackProgress) -> tuple[float, float]:
        """Return the seconds per step, and those per unit of the natural logarithm of the step."""
        news = self._news
        half = pack.first + (news[-1][1] - pack.first) / 2
        t1, s1 = min(list(news)[1:-1], key=lambda one: abs(one[1] - half))
        (t0, s0), (t2, s2) = news[0], news[-1]
        logs = log1p(s1) - log1p(s0), log1p(s2) - log1p(s1)
        size = (s1 - s0) * logs[1] - (s2 - s1) * logs[0]
        if size == 0:
            return (t2 - t0) / (s2 - s0), 0.0
        per_step = ((t1 - t0) * logs[1] - (t2 - t1) * logs[0]) / size
        per_log = ((s1 - s0) * (t2 - t1) - (s2 - s1) * (t1 - t0)) / size
        if per_log < 0:
            return (t2 - t1) / (s2 - s1), 0.0
        if per_step < 0:
            return 0.0, (t2 - t0) / (logs[0] + logs[1])
        return per_step, per_log


class Forecast:
    """Forecasts the end of a launch. Give it the progress of all packs, again and again."""

    def __init__(self) -> None:
        self._speeds: dict[str, _Speed] = {}
        self._took: dict[str, float] = {}
        self._shown: tuple[float, float] | None = None
        self._workers = 1

    def observe(self, now: float, packs: Sequence[PackProgress]) -> float | None:
        """Return the seconds that the launch still takes; None before that is known.

        Args:
            now: Seconds on a clock that only goes forward.
            packs: All packs of the launch.
        """
        if all(pack.over for pack in packs):
            return 0.0 if packs else None
        left = self._left(now, packs)
        if left is None:
            return None
        if self._shown is not None:
            before, shown = self._shown
            passed = now - before
            counted_down = max(0.0, shown - passed)
            least, share, most = SMOOTH
            follows = 1 - exp(-passed / min(most, max(least, share * counted_down)))
            left = counted_down + follows * (left - counted_down)
        self._shown = now, left
        return left

    def _left(self, now: float, packs: Sequence[PackProgress]) -> float | None:
        """Return the seconds left as these packs alone tell; None before that is known."""
        waiting: list[PackProgress] = []
        running: list[tuple[PackProgress, _Speed]] = []
        for pack in packs:
            if pack.over:
                self._end(now, pack)
            elif pack.begun:
                speed = self._speeds.setdefault(pack.id, _Speed(now, pack.step))
                speed.measure(now, pack)
                running.append((pack, speed))
            else:
                waiting.append(pack)
        known = {p.id: s for p, speed in running if (s := speed.left(now, p)) is not None}
        if not known and not self._took:
            return None
        self._workers = max(self._workers, len(running))
        seconds = sum(self._took.values()) + sum(
            now - speed.begun + known[p.id] for p, speed in running if p.id in known
        )
        trials = sum(p.trials for p in packs if p.id in known or p.id in self._took)
        per_trial = seconds / max(1, trials)
        busy = [
            known.get(p.id, max(0.0, per_trial * p.trials - (now - speed.begun)))
            for p, speed in running
        ]
        busy += [0.0] * (self._workers - len(busy))
        heapify(busy)
        for pack in waiting:  # each is taken by the first worker that is free
            heapreplace(busy, busy[0] + per_trial * pack.trials)
        return max(busy)

    def _end(self, now: float, pack: PackProgress) -> None:
        """Note how long a pack took, if it was seen at work."""
        speed = self._speeds.pop(pack.id, None)
        if speed is not None:
            self._took[pack.id] = now - speed.begun
