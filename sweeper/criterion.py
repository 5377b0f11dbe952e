"""The one definition of memorization and generalization.

A trial *memorizes* at t1, the first logged step at which the train criterion holds, and
*generalizes* at t2, likewise for the test criterion. Accuracies hold at or above their
threshold, every other metric at or below; a metric that isn't finite never holds.
The criterion belongs to the analysis: changing it never re-runs a finished trial.

The training loop stops by this definition and the SQL views are tested against it.

References:
    [Power22] Power et al., Grokking, 2022. https://arxiv.org/abs/2201.02177
    [Liu22] Liu et al., Towards Understanding Grokking, 2022. https://arxiv.org/abs/2205.10343
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

RISING = ("acc",)
"""Metrics that are better when larger; all others are better when smaller."""


class Phase(StrEnum):
    """What became of a trial, after [Liu22]."""

    COMPREHENSION = "comprehension"
    GROKKING = "grokking"
    MEMORIZATION = "memorization"
    CONFUSION = "confusion"
    GENERALIZED_ONLY = "generalized_only"
    DIVERGED = "diverged"


class Criterion(BaseModel):
    """How t1 and t2 are read off the metrics.

    Attributes:
        metric: `M` reads the columns ``train_M`` and ``test_M``.
        train: Threshold of t1, in units of the metric.
        test: Threshold of t2, in units of the metric.
        rule: How the step is found; `threshold` takes the first logged step that holds.
        gap: Smallest delay that is called grokking, in optimizer steps ([Liu22] takes 10^3).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    metric: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    train: float
    test: float
    rule: Literal["threshold"] = "threshold"
    gap: Annotated[int, Field(ge=1)] = 1000

    @property
    def rising(self) -> bool:
        """Whether the metric is better when larger."""
        return self.metric in RISING

    def train_holds(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return where the train criterion holds."""
        return self._holds(values, self.train)

    def test_holds(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return where the test criterion holds."""
        return self._holds(values, self.test)

    def _holds(self, values: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
        values = np.asarray(values, dtype=np.float64)
        reached = values >= threshold if self.rising else values <= threshold
        return np.asarray(np.isfinite(values) & reached)


def first_step(steps: NDArray[np.integer], holds: NDArray[np.bool_]) -> int | None:
    """Return the first of the logged `steps`, ascending, at which `holds`; None if nowhere."""
    where = np.flatnonzero(holds)
    return int(steps[where[0]]) if where.size else None


def delay(t1: int | None, t2: int | None, last_step: int) -> tuple[int, bool] | None:
    """Return (delay, censored) of one trial that didn't diverge, or None if it has no delay.

    Args:
        t1: Memorization step; None if never reached.
        t2: Generalization step; None if never reached.
        last_step: Last logged step, where a missing `t2` is censored.

    Returns:
        The delay t2 - t1 in optimizer steps, at least 0; with `censored` it is only known to
        exceed that number. None without t1: nothing was memorized, so nothing was delayed.
    """
    if t1 is None:
        return None
    if t2 is None:
        return last_step - t1, True
    return max(0, t2 - t1), False


def phase(t1: int | None, t2: int | None, *, diverged: bool, gap: int) -> Phase:
    """Return the phase of one ended trial; `gap` as in `Criterion`."""
    if diverged:
        return Phase.DIVERGED
    if t1 is None:
        return Phase.CONFUSION if t2 is None else Phase.GENERALIZED_ONLY
    if t2 is None:
        return Phase.MEMORIZATION
    return Phase.GROKKING if t2 - t1 >= gap else Phase.COMPREHENSION
