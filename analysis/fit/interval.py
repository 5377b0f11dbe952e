"""Intervals of fitted coefficients that cover also with few seeds and coarse logged steps.

Trials of one seed share their data and initialization, so the seeds are the independent units. The
interval is a jackknife over seeds with Student's t [T58]: the regression is fitted again without
each seed. It fails in two cases, and there the likelihood's profile interval [VM88] joins it:

- The scatter is below the spacing of the logged steps. Then all seeds are rounded alike and
  agree better than they may: the jackknife's width can be 0.
- At most half of the seeds tell the coefficient by times of their own.

The profile interval takes trials for independent. Its cut, ``n ln(1 + t^2 / nu)``, makes it
Student's interval if the noise is normal and no time is censored. `benchmarks/coverage.py`
measures how often the intervals cover.

References:
    [T58] Tukey, Bias and Confidence in Not-Quite Large Samples, 1958.
    [VM88] Venzon and Moolgavkar, A Method for Computing Profile-Likelihood-Based Confidence
        Intervals, Applied Statistics, 1988.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from sweeper.analysis.fit.aft import Floats, Regression

GRID = "grid"
"""The scatter is below the spacing of the logged steps: seeds and likelihood are joined."""

FEW_TIMES = "few times"
"""At most half of the seeds tell the coefficient: seeds and likelihood are joined."""

ONE_LEFT_OUT = "rests on one seed"
"""Without one of the seeds there is no fit: the interval is the likelihood's alone."""

EQUAL_SEEDS = "equal seeds"
"""All seeds give the same value, as if there were one: there is no interval."""

NOT_DETERMINED = "not determined"
"""The data bound the number on neither side."""

ONE_SEED = "one seed"
"""There is no interval."""

MEANING = {
    GRID: "the scatter is below the spacing of the logged steps, which hides how seeds differ. "
    "The interval joins the scatter between seeds with the likelihood.",
    FEW_TIMES: "at most half of the seeds reached the time where it tells the number. "
    "The interval joins the scatter between seeds with the likelihood.",
    ONE_LEFT_OUT: "without one of the seeds the number can't be fitted. A prefactor then has no "
    "interval, an exponent the likelihood's, which takes trials of one seed for independent.",
    EQUAL_SEEDS: "all seeds give the same value, though the times don't follow the law exactly. "
    "The scatter between seeds is unknown, so there is no interval.",
    ONE_SEED: "no interval.",
}
"""Note of an interval to its meaning."""

JOINED = (GRID, FEW_TIMES, ONE_LEFT_OUT)
"""Notes of intervals that the likelihood has a part in."""

ALIKE = 1e-3
"""Share of the scatter by noise, below which seeds differ by rounding errors only."""

FARTHEST = 1e4
"""First steps from the estimate within which an end of a profile interval is looked for."""

PRECISION = 1e-3
"""Error of an end of a profile interval, as a share of its distance from the estimate."""

Ends = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Interval:
    """Between which values a coefficient lies.

    Attributes:
        low: Lower end; None: the data don't bound it.
        high: Upper end, likewise.
        note: How it was made or why there is none, see `MEANING`; None: the jackknife over seeds.
    """

    low: float | None
    high: float | None
    note: str | None = None


class PooledFit:
    """A regression fitted to the trials of all seeds, and again without each seed.

    Attributes:
        best: Coefficients of the design and sigma, ``[k + 1]``; None where there is no fit.
        n_seeds: Distinct seeds.
    """

    def __init__(self, regression: Regression, seeds: NDArray[np.int64]) -> None:
        """Fit `regression`, whose times have these `seeds`, ``[n]``."""
        self._regression = regression
        self._seeds = seeds
        distinct = np.unique(seeds)
        self.n_seeds = len(distinct)
        self.best = regression.fit()
        if self.best is None or self.n_seeds < 2:
            return
        fits = [regression.fit(1.0 * (seeds != seed)) for seed in distinct]
        missing = np.full(len(self.best), np.nan)
        self._without = np.array([missing if fit is None else fit for fit in fits])

    def interval(self, column: int, level: float) -> Interval:
        """Return the interval of the coefficient of a column of the design.

        Args:
            column: Of the design.
            level: Confidence level, in (0, 1).
        """
        if self.best is None:
            return Interval(None, None, NOT_DETERMINED)
        if self.n_seeds < 2:
            return Interval(None, None, ONE_SEED)
        value, sigma, spacing = self.best[column], self.best[-1], self._regression.spacing
        if np.isnan(self._without).any():  # a constant takes up all that a single seed is off by
            ends = self._profile(column, level) if column else (None, None)
            return Interval(*ends, ONE_LEFT_OUT)
        half = student(self.n_seeds - 1, level) * math.sqrt(self.covariance()[column, column])
        if sigma >= spacing and half < ALIKE * self._first_step(column):
            return Interval(None, None, EQUAL_SEEDS)
        low, high = float(value - half), float(value + half)
        few = 2 * self._telling(column) <= self.n_seeds
        if sigma >= spacing and not few:
            return Interval(low, high)
        ends = self._profile(column, level)
        if sigma < spacing / 2:  # rounding is common to the seeds, and the seeds differ besides
            lower, upper = (None if end is None else math.hypot(half, end - value) for end in ends)
            return Interval(
                None if lower is None else float(value - lower),
                None if upper is None else float(value + upper),
                GRID,
            )
        return Interval(
            None if ends[0] is None else min(low, ends[0]),
            None if ends[1] is None else max(high, ends[1]),
            GRID if sigma < spacing else FEW_TIMES,
        )

    def covariance(self) -> Floats:
        """Return the jackknife covariance of the coefficients and sigma, ``[k + 1, k + 1]``."""
        off = self._without - self.best
        return (self.n_seeds - 1) / self.n_seeds * off.T @ off

    def _telling(self, column: int) -> int:
        """Return how many seeds have known times at two values of a column; at one if constant."""
        x, known = self._regression.design[:, column], self._regression.known
        needed = min(2, len(np.unique(x)))
        return sum(
            len(np.unique(x[known & (self._seeds == seed)])) >= needed
            for seed in np.unique(self._seeds)
        )

    def _first_step(self, column: int) -> float:
        """Return about how well the times tell a coefficient if seeds don't differ."""
        assert self.best is not None
        regression, sigma = self._regression, float(self.best[-1])
        spread = float(np.ptp(regression.design[:, column])) or 1.0
        return max(sigma / math.sqrt(regression.known.sum()), regression.spacing / 10) / spread

    def _profile(self, column: int, level: float) -> Ends:
        """Return the ends of the profile interval; None where the likelihood stays near its top."""
        assert self.best is not None
        regression, value = self._regression, float(self.best[column])
        n = int(regression.known.sum())
        nu = max(1, n - regression.design.shape[1])
        cut = n * math.log1p(student(nu, level) ** 2 / nu)
        top = regression.log_likelihood(self.best)

        def excess(at: float) -> float:
            return 2 * (top - regression.profile(column, at)) - cut

        first = self._first_step(column)

        def end(side: int) -> float | None:
            inside, step = 0.0, first
            while excess(value + side * step) < 0:
                inside, step = step, 2 * step
                if step > FARTHEST * first:
                    return None
            found: float = optimize.brentq(
                lambda off: excess(value + side * off), inside, step, xtol=PRECISION * step
            )
            return value + side * found

        return end(-1), end(1)


def student(nu: int, level: float) -> float:
    """Return the quantile of Student's t that `level` lies within, on both sides."""
    return float(special.stdtrit(nu, (1 + level) / 2))
