"""The steps at which metrics are logged. Imports nothing, so that scripts start fast."""

from __future__ import annotations

from functools import cache

LOG_VERSION = 1
"""Version of `logged_steps`."""


@cache
def logged_steps(points_per_decade: int, horizon: int) -> tuple[int, ...]:
    """Return the steps up to `horizon` at which metrics are logged, ascending, from 0.

    Step 0 and round(10^(k / points_per_decade)) for k = 0, 1, ...: a longer horizon adds steps at
    the end and changes none before.
    """
    steps = {0}
    k = 0
    while (step := round(10 ** (k / points_per_decade))) <= horizon:
        steps.add(step)
        k += 1
    return tuple(sorted(steps))
