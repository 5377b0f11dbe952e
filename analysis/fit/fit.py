"""Power laws fitted to the times of a sweep, with honest censoring.

A law ``t2 ~ u``, u a product of powers of config values, is read in three ways:

- as a whole, ``t2 = C * u^k``: the slope k is free, the law claims k = 1;
- path by path, ``t2 = C * path_1^e_1 * path_2^e_2 ...``: each exponent is free;
- as it stands, ``t2 = C * u``: only the prefactor is fitted, and its collapse is measured.

Trials that ended before t2 are right-censored, all others lie between two logged steps
(`sweeper.analysis.fit.aft`). What can't have the time at all is left out and counted: diverged
trials and, for t2 and delay, those that never memorized. Intervals come from a bootstrap over whole
seeds [ET93].

References:
    [ET93] Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sweeper import sql
from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.fit.aft import Floats, Regression, bootstrap, draw_seeds, interval
from sweeper.analysis.fit.law import Law
from sweeper.analysis.fit.sample import Sample
from sweeper.analysis.views.kaplan_meier import encode, survival
from sweeper.errors import UsageError

FEW_SEEDS = 5
"""With fewer seeds the intervals carry a warning."""

SAME = 1e-9
"""Logarithms that are nearer to each other are of one value."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fitted number.

    Attributes:
        claimed: What the law says; None where it says nothing.
        value: The maximum likelihood estimate; None where it can't be fitted.
        low: Lower end of its bootstrap interval over seeds; None: unbounded, or a single seed.
        high: Upper end, likewise.
    """

    claimed: float | None
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Collapse:
    """How well the cells agree once the claimed law is divided out.

    Attributes:
        cells: Cells with at least one trial.
        bounded: Those whose Kaplan-Meier median over the seeds isn't reached.
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
        lines: Resampled ``(ln C, k)``, ``[resamples, 2]``; empty without a slope or with one seed.
        notes: What couldn't be fitted and why, and what to beware of.
    """

    value: Any
    sample: Sample
    slope: Estimate
    prefactor: Estimate
    free_prefactor: float | None
    sigma: float | None
    exponents: Mapping[str, Estimate]
    collapse: Collapse
    lines: Floats
    notes: tuple[str, ...]


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

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping a group, as JSON can hold it."""
        return [self._row(group) for group in self.groups]

    def _row(self, group: Group) -> dict[str, Any]:
        def plain(e: Estimate) -> dict[str, float | None]:
            return {"claimed": e.claimed, "value": e.value, "low": e.low, "high": e.high}

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
    resamples: int = 1000,
    seed: int = 0,
) -> Fit:
    """Return `law` fitted to the trials of a sweep.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        law: What is claimed; no exponent of it is taken for granted.
        where: SQL condition over the columns of `trials` and `delays`; all trials without.
        by: Dotted name of a config value, or seed: each of its values is fitted apart.
        level: Confidence level of the intervals, in (0, 1).
        resamples: How often seeds are drawn.
        seed: Of the draws; the same data and seed give the same intervals.

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
        rng = np.random.default_rng(seed)
        groups.append(_Fitter(law, sample.take(chosen), level, resamples, rng).group(value))
    if all(group.sigma is None for group in groups):
        raise UsageError(f"no group can be fitted: {groups[0].notes[0]}")
    return Fit(law, by, level, left_out, tuple(groups))


class _Fitter:
    """Fits the law to one group as far as it goes.

    Attributes:
        notes: What couldn't be fitted and why.
    """

    def __init__(
        self, law: Law, sample: Sample, level: float, resamples: int, rng: np.random.Generator
    ) -> None:
        self.law = law
        self.sample = sample
        self.level = level
        self.notes: list[str] = []
        distinct, self.places = np.unique(sample.seeds, return_inverse=True)
        self.draws = draw_seeds(len(distinct), resamples, rng)

    def group(self, value: Any) -> Group:
        """Return the group; `value` is what its trials have in common."""
        sample = self.sample
        slope, free, lines = self._slope()
        exponents = self._exponents()
        plain, draws = self._regress(np.empty((sample.size, 0)), shift=sample.log_law)
        prefactor = Estimate(None, None)
        if plain is None:
            self.notes = [
                f"none of {sample.size} trials reached {self.law.time} at a step that is known."
            ]
        else:
            ends = interval(draws[:, 0], self.level)
            prefactor = Estimate(None, *(_exp(v) for v in (plain[0], *ends)))
        n, best = sample.n_seeds, plain if free is None else free
        if n == 1:
            self.notes.append("one seed: no interval.")
        elif n < FEW_SEEDS:
            self.notes.append(f"{n} seeds: intervals over so few are too narrow.")
        return Group(
            value,
            sample,
            slope,
            prefactor,
            None if free is None else math.exp(free[0]),
            None if best is None else float(best[-1]),
            exponents,
            _collapse(sample),
            lines,
            tuple(self.notes),
        )

    def _regress(
        self, columns: Floats, shift: Floats | float = 0.0
    ) -> tuple[Floats | None, Floats]:
        """Return the coefficients behind a constant and `columns`, and those of the resamples."""
        sample = self.sample
        design = np.column_stack([np.ones(sample.size), columns])
        regression = Regression(sample.low - shift, sample.high - shift, design)
        found = regression.fit()
        if found is None:
            return None, np.empty((0, design.shape[1] + 1))
        return found, bootstrap(regression, self.places, self.draws)

    def _slope(self) -> tuple[Estimate, Floats | None, Floats]:
        """Return the slope k, the fit ``[ln C, k, sigma]`` and its resampled lines."""
        log_law, right = self.sample.log_law, self.law.right
        found, draws = None, np.empty((0, 2))
        if np.ptp(log_law) < SAME:
            said = f"{right} has one value in all {self.sample.size} trials"
        else:
            said = f"{self.law.time} is reached at fewer than two values of {right}"
            found, draws = self._regress(log_law[:, None])
        if found is None:
            self.notes.append(f"{said}: its slope can't be fitted.")
            return Estimate(1.0, None), None, draws[:, :2]
        return _estimate(1.0, found, draws, 1, self.level), found, draws[:, :2]

    def _exponents(self) -> dict[str, Estimate]:
        """Return the exponent of each path, fitted together."""
        sample, powers = self.sample, self.law.powers
        estimates = {p.path: Estimate(p.exponent, None) for p in powers}
        varying = [k for k in range(len(powers)) if np.ptp(sample.log_paths[:, k]) >= SAME]
        for k in sorted(set(range(len(powers))) - set(varying)):
            only = math.exp(sample.log_paths[0, k])
            self.notes.append(
                f"{powers[k].path} = {only:g} in all {sample.size} trials: "
                "its exponent can't be fitted."
            )
        if not varying:
            return estimates
        found, draws = self._regress(sample.log_paths[:, varying])
        if found is None:
            names = ", ".join(powers[k].path for k in varying)
            self.notes.append(
                f"the trials that reached {self.law.time} don't tell the exponents of {names} "
                "apart."
                if len(varying) > 1
                else f"{self.law.time} is reached at fewer than two values of {names}: "
                "its exponent can't be fitted."
            )
            return estimates
        for place, k in enumerate(varying, start=1):
            path, claimed = powers[k].path, powers[k].exponent
            estimates[path] = _estimate(claimed, found, draws, place, self.level)
        return estimates


def _estimate(claimed: float, found: Floats, draws: Floats, place: int, level: float) -> Estimate:
    return Estimate(claimed, float(found[place]), *interval(draws[:, place], level))


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


def _collapse(sample: Sample) -> Collapse:
    """Return how the medians of the cells agree, before and after the law is divided out."""
    rows: dict[str, list[int]] = {}
    for row, cell in enumerate(sample.cells):
        rows.setdefault(cell, []).append(row)
    codes = encode(sample.shown, ~sample.reached)
    lists = pa.array([codes[r].tolist() for r in rows.values()], pa.list_(pa.int64()))
    medians = survival(lists).to_pylist()
    law = np.exp([sample.log_law[r[0]] for r in rows.values()])
    reached = np.array([m["median"] or np.nan for m in medians], dtype=np.float64)
    bounds = np.array([m["bound"] or np.nan for m in medians], dtype=np.float64)
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
