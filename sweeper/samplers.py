"""Optuna's samplers and distributions, by the names of the grid file; all settings pinned.

Optuna changes its defaults between versions; a search must not.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial

from sweeper.dimension import Choice, Dimension
from sweeper.searching import Search
from sweeper.space import Space
from sweeper.structure import conditional

STARTUP = 10
"""Random suggestions before a model is believed: Optuna's own default."""


def sampler(search: Search, space: Space, done: int) -> BaseSampler:
    """Return the sampler of a search whose study has `done` trials; all settings pinned."""
    text = f"{search.sampler_seed}:{done}"
    seed = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
    grouped = bool(conditional(space))  # of dimensions that are asked together
    made: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: TPESampler(
            n_startup_trials=STARTUP, multivariate=True, group=grouped, constant_liar=True,
            seed=seed,
        ),
        "gp": lambda: GPSampler(n_startup_trials=STARTUP, deterministic_objective=False, seed=seed),
        "cmaes": lambda: CmaEsSampler(n_startup_trials=STARTUP, with_margin=True, seed=seed),
        "nsga2": lambda: NSGAIISampler(
            population_size=max(8, min(50, search.n_trials // 5)), seed=seed
        ),
        "random": lambda: RandomSampler(seed=seed),
        "qmc": lambda: QMCSampler(
            qmc_type="sobol", scramble=True, seed=search.sampler_seed,
            warn_independent_sampling=False,
        ),
        "grid": lambda: RandomSampler(seed=seed),  # its points are enqueued
    }  # fmt: skip
    return made[search.sampler]()


def pruner(search: Search) -> optuna.pruners.BasePruner:
    """Return the pruner; by default none: a late bloomer looks like a failure until it blooms."""
    made: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5),
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    }
    return made[search.pruner]()


def suggest(trial: Trial, dimension: Dimension) -> Choice:
    """Return the value that `trial` is to take along `dimension`."""
    d = dimension
    if d.kind == "categorical":
        choice: Choice = trial.suggest_categorical(d.name, d.choices)
        return choice
    low: Any = d.low
    high: Any = d.high
    if d.kind == "int":
        step = 1 if d.step is None else int(d.step)
        return trial.suggest_int(d.name, low, high, step=step, log=d.log)
    return trial.suggest_float(d.name, low, high, step=d.step, log=d.log)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's distribution of `dimension`."""
    d = dimension
    low: Any = d.low
    high: Any = d.high
    if d.kind == "categorical":
        return CategoricalDistribution(d.choices)
    if d.kind == "int":
        return IntDistribution(low, high, log=d.log, step=1 if d.step is None else int(d.step))
    return FloatDistribution(low, high, log=d.log, step=d.step)
