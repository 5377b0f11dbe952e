"""Censored regression of log-normal times: an accelerated failure time model by maximum likelihood.

``ln t = x . beta + sigma * noise`` with standard normal noise. Of each time only an interval
(low, high] is known: a right-censored one has no upper end, one that was read off a log grid lies
between two logged steps, an exact one has equal ends. Leaving censored times out, or counting
their bounds as times, bends the slope towards 0; the likelihood of what is known doesn't.

It is maximized over ``beta / sigma`` and ``1 / sigma``, in which it is concave [Olsen78, Pratt81]:
there is one maximum, and any start finds it. Where a line meets all intervals, the likelihood
doesn't tell how little the times scatter and where the line lies in them. A penalty of
``least / sigma``, with `least` far below what can be told apart, then puts it into their middle;
elsewhere it doesn't matter.

References:
    [Olsen78] Olsen, Note on the Uniqueness of the Maximum Likelihood Estimator for the Tobit
        Model, Econometrica, 1978.
    [NW06] Nocedal and Wright, Numerical Optimization, 2006.
    [Pratt81] Pratt, Concavity of the Log Likelihood, JASA, 1981.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

LEAST_SIGMA = 1e-5
"""Scatter of ln t that is far below anything that is told apart."""

RESOLVED = 1e-3
"""The same as a share of the typical width of an interval."""

FLAT = 1e-12
"""Added to the curvature, so that no step is infinite where the likelihood is flat."""

MOST_STEPS = 200
"""Newton steps. A handful is enough; some 20 where a line meets all intervals."""

CONVERGED = 1e-10
"""Mean log likelihood that is to be gained at most where the last step is taken."""

SUFFICIENT = 1e-4
"""Share of the expected gain that a step must bring."""

_NORM = 0.5 * np.log(2 * np.pi)


class Regression:
    """Times and the variables that they depend on, ready to be fitted with any weights.

    Attributes:
        design: What the times depend on, ``[n, k]``.
        known: For each time whether it has two ends or is exact. The others only bound.
        spacing: Median width of the known times' intervals in ln t; 0 for exact times.
    """

    def __init__(self, low: Floats, high: Floats, design: Floats) -> None:
        """Prepare a regression; scales everything, so that the optimizer sees numbers near 1.

        Args:
            low: Natural logarithm of a time's lower bound, ``[n]``; -inf: nothing is known.
            high: Of its upper bound; inf: right-censored; equal to `low`: exact.
            design: What it depends on, ``[n, k]``; the first column is 1.
        """
        self.design = design
        self.known = np.isfinite(low) & np.isfinite(high)
        self.spacing = (
            float(np.median(high[self.known] - low[self.known])) if self.known.any() else 0.0
        )
        ends = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0))
        middle = np.where(self.known, (ends + np.where(np.isfinite(high), high, 0.0)) / 2, ends)
        self._shift, self._unit = float(np.mean(middle)), max(float(np.std(middle)), 1e-3)
        self._means = np.append(0.0, design[:, 1:].mean(axis=0))
        spread = design[:, 1:].std(axis=0)
        self._spreads = np.append(1.0, np.where(spread > 0, spread, 1.0))
        self._x = (design - self._means) / self._spreads
        self._low, self._high = ((v - self._shift) / self._unit for v in (low, high))
        self._ends = [np.where(np.isfinite(v), v, 0.0) for v in (self._low, self._high)]
        self._middle = (middle - self._shift) / self._unit
        self._exact = self.known & (low == high)
        widths = (self._high - self._low)[self.known & ~self._exact]
        width = float(np.median(widths)) if widths.size else 0.0
        self._least = max(LEAST_SIGMA / self._unit, RESOLVED * width)
        self._width = max(width, 1e-2)
        self._start: Floats | None = None

    def fit(self, weights: Floats | None = None) -> Floats | None:
        """Return the coefficients of the design and sigma, ``[k + 1]``.

        Args:
            weights: How often each time counts, ``[n]``; once by default.

        Returns:
            None where the known times alone can't tell the coefficients apart: bounds would
            push one to infinity.
        """
        w = np.ones(len(self._x)) if weights is None else weights
        known = self._x[self.known & (w > 0)]
        k = self._x.shape[1]
        if np.linalg.matrix_rank(np.unique(known, axis=0), tol=1e-6) < k:
            return None
        start = self._guess() if self._start is None else self._start
        best = self._minimize(start, w)
        if self._start is None:  # the first one, of all times, is near those of some of them
            self._start = best
        beta = best[:-1] / best[-1] * self._unit / self._spreads
        beta[0] += self._shift - beta[1:] @ self._means[1:]
        return np.append(beta, self._unit / best[-1])

    def profile(self, column: int, value: float) -> float:
        """Return the largest log likelihood of all lines whose coefficient of `column` is `value`.

        It is that of the times in a unit of their own: differences have a meaning, not the number.
        The penalty of a small sigma isn't part of it.

        Args:
            column: Of the design.
            value: Of its coefficient.
        """
        start = self._guess() if self._start is None else self._start
        held = np.zeros(len(start))  # the held coordinate, linear in the others
        if column:
            held[-1] = value * self._spreads[column] / self._unit
        else:
            held[1:-1] = (self._means / self._spreads)[1:]
            held[-1] = (value - self._shift) / self._unit
        embed = np.delete(np.eye(len(start)), column, axis=1)
        embed[column] = np.delete(held, column)
        w = np.ones(len(self._x))
        best = self._minimize(np.delete(start, column), w, embed)
        return self._log_likelihood(embed @ best, w)

    def log_likelihood(self, coefficients: Floats) -> float:
        """Return the log likelihood of coefficients and sigma, ``[k + 1]``, as `profile` does."""
        gamma = self._unit / coefficients[-1]
        beta = coefficients[:-1].copy()
        beta[0] += beta[1:] @ self._means[1:] - self._shift
        point = np.append(beta * self._spreads / coefficients[-1], gamma)
        return self._log_likelihood(point, np.ones(len(self._x)))

    def _log_likelihood(self, point: Floats, weights: Floats) -> float:
        penalized = -self._loss(point, weights)[0] * weights.sum()
        return float(penalized + self._least * point[-1])

    def _minimize(self, start: Floats, weights: Floats, embed: Floats | None = None) -> Floats:
        """Return where the loss is least, by Newton's method with backtracking [NW06].

        Args:
            start: Where to begin.
            weights: How often each time counts, ``[n]``.
            embed: Tried points are this matrix times the returned ones; by default the unit matrix.
        """
        into = np.eye(len(start)) if embed is None else embed
        point = start
        value, slope, bend = self._loss(into @ point, weights)
        for _ in range(MOST_STEPS):
            step = np.linalg.solve(into.T @ bend @ into, slope @ into)
            drop = float(slope @ into @ step)  # twice the possible gain of a quadratic loss
            if drop < CONVERGED:  # the last step doubles the digits: no need to look
                return point - step
            size = 1.0
            while size > CONVERGED:
                tried = self._loss(into @ (point - size * step), weights)
                if tried[0] <= value - SUFFICIENT * size * drop:
                    break
                size /= 2
            else:
                break
            point, (value, slope, bend) = point - size * step, tried
        return point

    def _guess(self) -> Floats:
        """Return the least-squares fit, with bounds taken as times."""
        beta = np.linalg.lstsq(self._x, self._middle, rcond=None)[0]
        scatter = float(np.std(self._middle - self._x @ beta))
        gamma = 1 / max(scatter, self._width)  # not yet where the likelihood is flat
        return np.append(beta * gamma, gamma)

    def _loss(self, point: Floats, weights: Floats) -> tuple[float, Floats, Floats]:
        """Return the negative mean log likelihood at (beta / sigma, 1 / sigma).

        Returns:
            Its value, slope ``[k + 1]`` and curvature ``[k + 1, k + 1]``.
        """
        gamma, line, x = point[-1], self._x @ point[:-1], self._x
        if gamma <= 0:
            return np.inf, np.zeros_like(point), np.eye(len(point))
        low, high, exact = self._ends[0], self._ends[1], self._exact
        below, above = gamma * self._low - line, gamma * self._high - line
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = _log_between(below, above)
            at_low, at_high = (np.exp(-0.5 * z**2 - _NORM - value) for z in (below, above))
            bend_low, bend_high = (
                np.where(np.isfinite(z), -z * at, 0.0)
                for z, at in ((below, at_low), (above, at_high))
            )
            by_line, by_gamma = at_low - at_high, at_high * high - at_low * low
            line_line = bend_high - bend_low - by_line**2
            line_gamma = bend_low * low - bend_high * high - by_line * by_gamma
            gamma_gamma = bend_high * high**2 - bend_low * low**2 - by_gamma**2
        z, y = below[exact], low[exact]
        value[exact] = np.log(gamma) - 0.5 * z**2 - _NORM
        by_line[exact], by_gamma[exact] = z, 1 / gamma - z * y
        line_line[exact], line_gamma[exact], gamma_gamma[exact] = -1, y, -1 / gamma**2 - y**2
        w = weights / weights.sum()
        penalty = self._least / weights.sum()
        slope = np.append((w * by_line) @ x, w @ by_gamma - penalty)
        bend = np.empty((len(point), len(point)))
        bend[:-1, :-1] = (x.T * (w * line_line)) @ x
        bend[-1, :-1] = bend[:-1, -1] = (w * line_gamma) @ x
        bend[-1, -1] = w @ gamma_gamma
        bend[np.diag_indices(len(point))] -= FLAT
        return penalty * gamma - float(w @ value), -slope, -bend


def _log_between(below: Floats, above: Floats) -> Floats:
    """Return the logarithm of the normal probability of (below, above), also far out."""
    flip = below > 0
    small, large = np.where(flip, -above, below), np.where(flip, -below, above)
    tail = special.log_ndtr(large)
    found: Floats = tail + np.log1p(-np.exp(special.log_ndtr(small) - tail))
    return found
