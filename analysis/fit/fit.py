"""Power laws fitted to the times of a sweep, with honest censoring.

A law ``t2 ~ u``, u a product of powers of config values, is read in three ways:

- as a whole, ``t2 = C * u^k``: the slope k is free, the law claims k = 1;
- path by path, ``t2 = C * path_1^e_1 * path_2^e_2 ...``: each exponent is free;
- as it stands, ``t2 = C * u``: only the prefactor is fitted, and its collapse is measured.

Trials that ended before t2 are right-censored, all others lie between two logged steps
(`sweeper.analysis.fit.aft`). What can't have the time at all is left out and counted: diverged
trials and, for t2 and delay, those that never memorized. Intervals come from the scatter between
seeds and, where it is hidden, from the likelihood (`sweeper.analysis.fit.interval`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper import sql
from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.fit.aft import Floats, Regression
from sweeper.analysis.fit.interval import JOINED, MEANING, NOT_DETERMINED, PooledFit, student
from sweeper.analysis.fit.law import Law
from sweeper.analysis.fit.sample import Sample
from sweeper.analysis.views.medians import medians
from sweeper.errors import UsageError

_LARGEST_LOG = 709.0
"""The logarithm from which on a number may be too large for a float."""

SAME = 1e-9
"""Logarithms that are nearer to each other are of one value."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fitted number.

    Attributes:
        claimed: What the law says; None where it says nothing.
        value: The maximum likelihood estimate; None where it can't be fitted.
        low: Lower end of its interval; None: the data don't bound it, or there is one seed.
        high: Upper end, likewise.
        note: How the interval was made, where it isn't the jackknife over seeds: see
            `sweeper.analysis.fit.interval.MEANING`.
    """

    claimed: float | None
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None

    def negated(self, claimed: float | None) -> Estimate:
        """Return the exponent of the inverse of a law, of which `claimed` is said."""
        value, low, high = (None if v is None else -v for v in (self.value, self.high, self.low))
        return Estimate(claimed, value, low, high, self.note)

    def between(self, number: Callable[[float], str]) -> str:
        """Return the interval in words: ``0.9 to 1.1``, ``> 0.4``, ``< 2``; empty without ends.

        Args:
            number: Returns the text of a number.
        """
        if self.low is None:
            return "" if self.high is None else f"< {number(self.high)}"
        low = number(self.low)
        return f"> {low}" if self.high is None else f"{low} to {number(self.high)}"


@dataclass(frozen=True, slots=True)
class Collapse:
    """How well the cells agree once the claimed law is divided out.

    Attributes:
        cells: Cells with at least one trial.
        bounded: Those whose median over the seeds isn't known.
        before: Largest over smallest median time of the cells; None without any.
        spread: The same of time over law: 1 is a perfect collapse.
        at_least: Whether the bound of a cell makes `spread` larger than it is without that cell,
            so that the true one may be larger still.
    """

    cells: int
    bounded: int
    before: float | None
    spread: float | None
    at_least: bool


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The law fitted to some trials.

    Attributes:
        value: Value of the path that tells the groups apart; None without one.
        sample: The trials.
        slope: k of ``C * u^k``.
        prefactor: C of ``C * u``, the law as it stands.
        free_prefactor: C of ``C * u^k``; None where k can't be fitted.
        sigma: Standard deviation of ln t around ``C * u^k``, without k around ``C * u``; None
            where neither can be fitted.
        exponents: Path to its exponent, in the order of the law.
        collapse: Of the law as it stands.
        covariance: Of ``(ln C, k)`` by the jackknife over seeds, ``[2, 2]``; None where the
            interval of k isn't the jackknife's.
        notes: Numbers that couldn't be fitted, with the reason, and warnings.
    """

    value: Any
    sample: Sample
    slope: Estimate
    prefactor: Estimate
    free_prefactor: float | None
    sigma: float | None
    exponents: Mapping[str, Estimate]
    collapse: Collapse
    covariance: Floats | None
    notes: tuple[str, ...]

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The numbers with an interval: slope, exponents, prefactor."""
        return (self.slope, *self.exponents.values(), self.prefactor)

    def half_band(self, log_law: Floats, level: float) -> Floats | None:
        """Return half the width of the confidence band of ln t at each of `log_law`."""
        if self.covariance is None:
            return None
        at = np.column_stack([np.ones_like(log_law), log_law])
        variance: Floats = np.sum(at @ self.covariance * at, axis=1)
        return student(self.sample.n_seeds - 1, level) * np.sqrt(variance)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A law fitted to a sweep.

    Attributes:
        law: The law.
        by: Path whose values are fitted apart; None: all trials together.
        level: Confidence level of the intervals.
        left_out: Reason to number of trials that have no such time.
        groups: In the order of their values.
    """

    law: Law
    by: str | None
    level: float
    left_out: Mapping[str, int]
    groups: tuple[Group, ...]

    @property
    def method(self) -> str:
        """How the intervals were made, in words."""
        notes = dict.fromkeys(e.note for g in self.groups for e in g.estimates if e.note in JOINED)
        joined = f" and likelihood ({', '.join(map(str, notes))})" if notes else ""
        return f"{100 * self.level:g} % intervals: jackknife over seeds{joined}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping a group, as JSON can hold it."""
        return [self._row(group) for group in self.groups]

    def _row(self, group: Group) -> dict[str, Any]:
        def plain(e: Estimate) -> dict[str, float | str | None]:
            return {
                "claimed": e.claimed,
                "value": e.value,
                "low": e.low,
                "high": e.high,
                "note": e.note,
            }

        sample, collapse = group.sample, group.collapse
        return {
            "law": self.law.text,
            "by": self.by,
            "value": group.value,
            "level": self.level,
            "trials": sample.size,
            "censored": sample.n_censored,
            "seeds": sample.n_seeds,
            "left_out": dict(self.left_out),
            "slope": plain(group.slope),
            "prefactor": plain(group.prefactor),
            "free_prefactor": group.free_prefactor,
            "sigma": group.sigma,
            "exponents": {p: plain(e) for p, e in group.exponents.items()},
            "collapse": {
                "spread": collapse.spread,
                "at_least": collapse.at_least,
                "before": collapse.before,
                "cells": collapse.cells,
                "bounded": collapse.bounded,
            },
            "notes": list(group.notes),
        }


def fit_law(
    connection: sql.Connection,
    law: Law,
    *,
    where: str | None = None,
    by: str | None = None,
    level: float = 0.95,
) -> Fit:
    """Return `law` fitted to the trials of a sweep.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        law: What is claimed; no exponent of it is taken for granted.
        where: SQL condition over the columns of `trials` and `delays`; all trials without.
        by: Dotted name of a config value, or seed: each of its values is fitted apart.
        level: Confidence level of the intervals, in (0, 1).

    Raises:
        UsageError: The law names what isn't there, isn't a number or isn't above 0, no trial is
            left, or too few reached the time to fit anything.
    """
    if not 0 < level < 1:
        raise UsageError(f"level = {level:g} must be between 0 and 1, e.g. 0.95.")
    sample, left_out = Sample.read(connection, law, where=where, by=by)
    if not sample.reached.any():
        raise UsageError(
            f"none of {sample.size} trials reached {law.time}: bounds alone determine no law. "
            "Train longer with sweeper extend, or choose other trials."
        )
    names = Axis.of(by, sample.groups) if by else None
    groups = []
    for value in names.values if names else (None,):
        chosen = np.array([names is None or g == value for g in sample.groups], dtype=bool)
        groups.append(_Fitter(law, sample.take(chosen), level).group(value))
    if all(group.sigma is None for group in groups):
        raise UsageError(f"no group can be fitted: {groups[0].notes[0]}")
    return Fit(law, by, level, left_out, tuple(groups))


class _Fitter:
    """Fits the law to one group as far as it goes.

    Attributes:
        notes: What couldn't be fitted and why.
    """

    def __init__(self, law: Law, sample: Sample, level: float) -> None:
        self.law = law
        self.sample = sample
        self.level = level
        self.notes: list[str] = []

    def group(self, value: Any) -> Group:
        """Return the group; `value` is the common value of its trials."""
        sample = self.sample
        slope, free = self._slope()
        exponents = self._exponents()
        plain = self._pool(np.empty((sample.size, 0)), shift=sample.log_law)
        prefactor = _exp(self._estimate(None, plain, 0))
        if plain.best is None:
            self.notes = [
                f"none of {sample.size} trials reached {self.law.time} at a step that is known."
            ]
        line = None if free is None else free.best
        best = plain.best if line is None else line
        notes = dict.fromkeys(e.note for e in (slope, *exponents.values(), prefactor))
        self.notes += [f"{note}: {MEANING[note]}" for note in notes if note in MEANING]
        return Group(
            value,
            sample,
            slope,
            prefactor,
            None if line is None else _power(line[0]),
            None if best is None else float(best[-1]),
            exponents,
            _collapse(sample),
            free.covariance()[:2, :2] if free is not None and slope.note is None else None,
            tuple(self.notes),
        )

    def _pool(self, columns: Floats, shift: Floats | float = 0.0) -> PooledFit:
        """Return the fit of the times over their law, on a constant and `columns`."""
        sample = self.sample
        design = np.column_stack([np.ones(sample.size), columns])
        return PooledFit(Regression(sample.low - shift, sample.high - shift, design), sample.seeds)

    def _estimate(self, claimed: float | None, fit: PooledFit, column: int) -> Estimate:
        """Return the coefficient of a column of the design."""
        if fit.best is None:
            return Estimate(claimed, None, note=NOT_DETERMINED)
        ends = fit.interval(column, self.level)
        return Estimate(claimed, float(fit.best[column]), ends.low, ends.high, ends.note)

    def _slope(self) -> tuple[Estimate, PooledFit | None]:
        """Return the slope k and the fit on ``[1, ln law]``; None where it can't be fitted."""
        log_law, right = self.sample.log_law, self.law.right
        if np.ptp(log_law) < SAME:
            said = f"{right} has one value in all {self.sample.size} trials"
        else:
            said = f"{self.law.time} is reached at fewer than two values of {right}"
            fit = self._pool(log_law[:, None])
            if fit.best is not None:
                return self._estimate(1.0, fit, 1), fit
        self.notes.append(f"{said}: its slope can't be fitted.")
        return Estimate(1.0, None, note=NOT_DETERMINED), None

    def _exponents(self) -> dict[str, Estimate]:
        """Return the exponent of each path, fitted together."""
        sample, powers = self.sample, self.law.powers
        estimates = {p.path: Estimate(p.exponent, None, note=NOT_DETERMINED) for p in powers}
        varying = [k for k in range(len(powers)) if np.ptp(sample.log_paths[:, k]) >= SAME]
        for k in sorted(set(range(len(powers))) - set(varying)):
            only = math.exp(sample.log_paths[0, k])
            self.notes.append(
                f"{powers[k].path} = {only:g} in all {sample.size} trials: "
                "its exponent can't be fitted."
            )
        if not varying:
            return estimates
        fit = self._pool(sample.log_paths[:, varying])
        if fit.best is None:
            names = ", ".join(powers[k].path for k in varying)
            self.notes.append(
                f"the trials that reached {self.law.time} don't tell the exponents of {names} "
                "apart."
                if len(varying) > 1
                else f"{self.law.time} is reached at fewer than two values of {names}: "
                "its exponent can't be fitted."
            )
            return estimates
        for column, k in enumerate(varying, start=1):
            estimates[powers[k].path] = self._estimate(powers[k].exponent, fit, column)
        return estimates


def _power(log: float) -> float | None:
    """Return e to the power of `log`; None if it is too large for a float."""
    return math.exp(log) if log < _LARGEST_LOG else None


def _exp(log: Estimate) -> Estimate:
    """Return the estimate of a number whose logarithm was estimated."""
    value, low, high = (None if v is None else _power(v) for v in (log.value, log.low, log.high))
    return Estimate(log.claimed, value, low, high, log.note)


def _collapse(sample: Sample) -> Collapse:
    """Return how the medians of the cells agree, before and after the law is divided out."""
    rows: dict[str, list[int]] = {}
    for row, cell in enumerate(sample.cells):
        rows.setdefault(cell, []).append(row)
    low, high = np.exp(sample.low), np.exp(sample.high)
    middle = np.where(low >= 1, np.sqrt(np.maximum(low, 1)) * np.sqrt(high), high)
    value = np.where(sample.reached, middle, np.nan)
    found = [medians(low[r], value[r], high[r]) for r in rows.values()]
    logs = np.array([sample.log_law[r[0]] for r in rows.values()])
    law = np.exp(logs - logs.mean())  # only ratios count
    reached = np.array([m.median for m in found], dtype=np.float64)
    bounds = np.array([m.bound for m in found], dtype=np.float64)
    known = ~np.isnan(reached)
    if not known.any():
        return Collapse(len(rows), len(rows), None, None, at_least=True)
    top = float(np.nanmax(reached / law))
    beyond = bounds[~known] / law[~known]
    most = float(np.nanmax([top, *beyond]))
    return Collapse(
        len(rows),
        int(np.sum(~known)),
        float(np.nanmax(reached) / np.nanmin(reached)),
        most / float(np.nanmin(reached / law)),
        at_least=most > top,
    )
