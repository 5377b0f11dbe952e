"""The forecast of a launch against simulated launches whose true end is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from sweeper.engine.forecast import Forecast, PackProgress
from sweeper.store.schema import logged_steps

HORIZON = 100_000
LOGGED = np.array(logged_steps(50, HORIZON))

COST = LOGGED + 30.0 * np.arange(len(LOGGED))
"""The work up to each logged step, in steps: a logged step takes as long as 30 others."""


def simulate(
    seconds: Sequence[float], workers: int, ended: Callable[[int, float], int] = lambda *_: 0
) -> list[tuple[float, float | None, float]]:
    """Return (time, forecast, truth) every half a second of a launch.

    Args:
        seconds: How long each pack takes up to the horizon, one after the other.
        workers: Packs at the same time.
        ended: Pack and share of its time to the number of its ten trials that have ended.
    """
    free = [0.0] * workers
    spans = []
    for lasts in seconds:
        worker = int(np.argmin(free))
        spans.append((free[worker], free[worker] + lasts))
        free[worker] += lasts
    end = max(free)
    forecast, rows = Forecast(), []
    for now in np.arange(0.0, end, 0.5).tolist():
        packs = []
        for i, (start, stop) in enumerate(spans):
            share = (now - start) / (stop - start)
            done = max(0.0, min(1.0, share)) * COST[-1]
            flushed = done - done % (COST[-1] * 2 / (stop - start))  # rows come every 2 s
            step = int(LOGGED[flushed >= COST][-1])
            gap = max(1, round(step * (10 ** (1 / 50) - 1)))
            over = now >= stop
            packs.append(
                PackProgress(
                    str(i),
                    10,
                    10 if over else ended(i, share),
                    HORIZON if over else step,
                    0,
                    HORIZON,
                    gap,
                    begun=now >= start,
                    over=over,
                )
            )
        rows.append((now, forecast.observe(now, packs), end - now))
    return rows


def mostly_ended(_: int, share: float) -> int:
    """Nine of ten trials end within the first tenth of their pack's time."""
    return 9 if share > 0.1 else 0


@pytest.mark.parametrize(
    ("seconds", "workers", "ended"),
    [
        ([100.0], 1, lambda *_: 0),
        ([60.0] * 6, 2, lambda *_: 0),
        ([60.0] * 6, 2, mostly_ended),  # by ended trials alone: 90 % done after a tenth
        ([40.0, 60.0, 50.0, 45.0, 55.0], 2, mostly_ended),
    ],
    ids=["one", "equal", "ended", "unequal"],
)
def test_the_forecast_is_near_the_truth_and_does_not_jump(
    seconds: list[float], workers: int, ended: Callable[[int, float], int]
) -> None:
    rows = simulate(seconds, workers, ended)
    known = [(now, left, truth) for now, left, truth in rows if left is not None]
    assert rows[0][1] is None
    assert known[0][0] <= 15, "the first hundredth of the steps, and two measurements"
    for _, left, truth in known:
        assert abs(left - truth) <= 0.25 * truth + 5, (left, truth)
    for (before, one, _), (now, other, _) in pairwise(known):
        assert now - before == 0.5
        assert abs(other - (one - 0.5)) <= 0.02 * one + 0.5, (now, one, other)


def test_nothing_is_forecast_before_a_speed_is_known() -> None:
    forecast = Forecast()
    waiting = PackProgress("a", 5, 0, 0, 0, 1000)
    begun = PackProgress("a", 5, 0, 0, 0, 1000, begun=True)
    assert forecast.observe(0.0, []) is None
    assert forecast.observe(1.0, [waiting]) is None
    assert forecast.observe(9.0, [begun]) is None
    assert forecast.observe(19.0, [begun]) is None
    steps = [PackProgress("a", 5, 0, step, 0, 1000, begun=True) for step in (100, 200)]
    assert forecast.observe(29.0, steps[:1]) is None, "one measurement can't tell the prices"
    assert forecast.observe(49.0, steps[1:]) == pytest.approx(800 / 5, rel=0.35)
    over = PackProgress("a", 5, 5, 1000, 0, 1000, begun=True, over=True)
    assert forecast.observe(30.0, [over]) == 0.0


def test_a_pack_that_stands_still_moves_the_end_away() -> None:
    forecast = Forecast()

    def seen(now: float, step: int) -> float | None:
        return forecast.observe(
            now, [PackProgress("a", 5, 0, step, 0, 10_000, gap=500, begun=True)]
        )

    seen(0.0, 0)
    seen(5.0, 2500)
    assert seen(10.0, 5000) == pytest.approx(10.0)
    late = [seen(10.0 + k, 5000) for k in range(1, 120)]
    assert late[-1] is not None
    assert late[-1] > 300


def test_a_worker_that_died_is_measured_anew() -> None:
    forecast = Forecast()

    def seen(now: float, step: int) -> float | None:
        pack = PackProgress("a", 1, 0, step, 0, 20_000, gap=200, begun=True)
        return forecast.observe(now, [pack])

    seen(0.0, 0)
    seen(5.0, 250)
    assert seen(10.0, 500) == pytest.approx(19_500 / 50)
    seen(11.0, 200)  # goes on from its checkpoint
    left = [seen(11.0 + 2 * k, 200 + 100 * k) for k in range(1, 31)]
    assert left[-1] == pytest.approx((20_000 - 3200) / 50, abs=3)


def test_trial_steps_of_a_pack() -> None:
    pack = PackProgress("a", 10, 4, 300, 100, 1000, begun=True)
    assert pack.of == 10 * 900
    assert pack.steps == 4 * 900 + 6 * 200
    assert PackProgress("a", 10, 7, 300, 100, 1000, over=True).steps == 10 * 900
