"""Optuna's samplers and distributions, by the names of the grid file; all settings pinned.

Optuna changes its defaults between versions; a search must not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
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
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from sweeper.grid.search_section import Search
from sweeper.space.dimension import Choice, Dimension
from sweeper.space.space import Space

STARTUP = 10
"""Random suggestions before the first one by a model: Optuna's own default."""


class Sobol(QMCSampler):
    """A low-discrepancy sequence whose point is chosen by its number.

    Optuna's own sampler counts the points in the study and takes the space from its first trial,
    so a search that was killed would skip points.

    Args:
        number: The number of the point, from 0.
        kinds: The dimensions that every suggestion has, each with its distribution.
        scramble: Seed of the sequence.
        seed: Seed of the dimensions that the sequence doesn't cover.
    """

    def __init__(
        self, number: int, kinds: dict[str, BaseDistribution], *, scramble: int, seed: int
    ) -> None:
        super().__init__(
            qmc_type="sobol",
            scramble=True,
            seed=scramble,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
        self._number = number
        self._kinds = kinds

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 - the space depends on neither
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return the dimensions that the sequence covers."""
        return self._kinds

    def _find_sample_id(self, *_: object) -> int:
        return self._number


def sampler(search: Search, space: Space, sometimes: Collection[str], number: int) -> BaseSampler:
    """Return the sampler of suggestion `number` of a search; all settings pinned.

    Args:
        search: The settings.
        space: The space of the suggestions.
        sometimes: The dimensions that only some suggestions have.
        number: The number of the suggestion, from 0.
    """
    text = f"{search.sampler_seed}:{number}"
    seed = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
    always = {d.name: distribution(d) for d in space.dimensions if d.name not in sometimes}
    made: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: TPESampler(
            n_startup_trials=STARTUP,
            multivariate=True,
            group=bool(sometimes),
            constant_liar=True,
            seed=seed,
        ),
        "gp": lambda: GPSampler(n_startup_trials=STARTUP, deterministic_objective=False, seed=seed),
        "cmaes": lambda: CmaEsSampler(n_startup_trials=STARTUP, with_margin=True, seed=seed),
        "nsga2": lambda: NSGAIISampler(
            population_size=max(8, min(50, search.n_trials // 5)), seed=seed
        ),
        "random": lambda: RandomSampler(seed=seed),
        "qmc": lambda: Sobol(number, always, scramble=search.sampler_seed, seed=seed),
    }
    return made[search.sampler]()


def pruner(search: Search) -> optuna.pruners.BasePruner:
    """Return the pruner of a search.

    The default prunes nothing: a trial that groks late looks like a failure until it does.
    """
    made: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5),
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    }
    return made[search.pruner]()


def suggest(trial: Trial, dimension: Dimension) -> Choice:
    """Return the value that `trial` suggests for `dimension`."""
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


def lattice(space: Space) -> list[dict[str, Choice]]:
    """Return every point of a finite space."""
    points: list[dict[str, Choice]] = [{}]
    for dimension in space.dimensions:
        points = [
            {**point, **more}
            for point in points
            for more in (
                [{dimension.name: value} for value in dimension.values()]
                if space.asks(dimension, point)
                else [{}]
            )
        ]
    return points
