"""The interface to Optuna: a study that suggests points and is told their evaluations.

The study is derived data: the trials are in the store, and a lost study can be made again from
them. Only the driver of the sweep asks and tells.

A suggestion is asked, trained and told. After a kill between asking and telling, `Study.pending`
returns the suggestion, and it is told once. A suggestion is added to the study in one write, with
all its parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeper.errors import UsageError
from sweeper.grid.search_section import Search
from sweeper.search.samplers import distribution, lattice, pruner, sampler, suggest
from sweeper.search.storage import database, quiet, reaching, shown
from sweeper.space.conditions import conditional
from sweeper.space.dimension import Choice
from sweeper.space.space import Params, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

ASKED = "asked"
"""User attribute of an Optuna trial that `Study.ask` added; points trained before lack it."""

ABOUT = "sweeper"
"""User attribute of the study: the sweep and the definition of its search."""

CONSTRAINT = "generalizing"

GIVEN_UP = "given up"
"""User attribute of an Optuna trial that the pruner has stopped."""

GOAL = "asked"
"""User attribute of the study: the number of suggestions once the current batch is asked."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point that the study suggests.

    Attributes:
        number: Its number in the study, from 0.
        params: Dimension to value, for the dimensions that apply to it.
    """

    number: int
    params: Params


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of a point.

    Attributes:
        values: One number per objective; None if the point has no result.
        violation: By how much the point violates the constraint; at most 0 if it is feasible.
        about: Further JSON values, stored as user attributes of the Optuna trial.
    """

    values: tuple[float, ...] | None
    violation: float
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Whether it has a result that meets the constraint."""
        return self.values is not None and self.violation <= 0


@dataclass(frozen=True, slots=True)
class Observation:
    """A point of the study and its evaluation.

    Attributes:
        number: Its number in the study.
        params: Dimension to value.
        evaluation: Its result.
        suggested: Whether the study suggested it; otherwise it was trained before.
    """

    number: int
    params: Params
    evaluation: Evaluation
    suggested: bool


class Study:
    """A study of one search, made by `open_study`."""

    def __init__(self, study: optuna.Study, storage: str, space: Space, search: Search) -> None:
        self._study = study
        self._storage = storage
        self._space = space
        self._search = search

    @property
    def n_asked(self) -> int:
        """Number of suggestions so far, told or pending."""
        return sum(ASKED in t.user_attrs for t in self._trials())

    def ask(self, n: int) -> list[Suggestion]:
        """Return up to `n` new suggestions; fewer if a finite space has no more points."""
        with self._reaching():
            self._study.set_user_attr(GOAL, self.n_asked + n)
            return self._fill()

    def pending(self) -> list[Suggestion]:
        """Return the suggestions that were asked but not told.

        If the asking of a batch was cut short, the rest of the batch is asked first.
        """
        with self._reaching():
            if self.n_asked < self._study.user_attrs.get(GOAL, 0):
                self._fill()
            return [
                Suggestion(trial.number, dict(trial.params))
                for trial in self._trials(TrialState.RUNNING)
                if ASKED in trial.user_attrs
            ]

    def _fill(self) -> list[Suggestion]:
        """Ask until the study has as many suggestions as its attribute `GOAL` says."""
        numbers = range(self.n_asked, self._study.user_attrs[GOAL])
        with quiet():
            suggestions, finite = [], self._search.sampler == "grid"
            for trial in self._unvisited(len(numbers)) if finite else self._sampled(numbers):
                self._study.add_trial(trial)  # with all its parameters, or not at all
                suggestions.append(Suggestion(self._trials()[-1].number, dict(trial.params)))
            return suggestions

    def _sampled(self, numbers: Iterable[int]) -> Iterator[FrozenTrial]:
        """Yield the sampler's suggestions.

        The sampler works on a copy of the study in memory. Each suggestion has a new sampler,
        seeded by the suggestion's number, so a search that was killed continues with the same
        suggestions as one that was not.
        """
        beside = self._beside()
        sometimes = conditional(self._space)
        for number in numbers:
            if self._search.sampler == "nsga2":  # it stores parents in an order of its own
                beside = self._beside()
            beside.sampler = sampler(self._search, self._space, sometimes, number)
            trial = beside.ask()
            params: dict[str, Choice] = {}
            for dimension in self._space.dimensions:
                if self._space.asks(dimension, params):
                    params[dimension.name] = suggest(trial, dimension)
            trial.set_user_attr(ASKED, True)
            yield beside.get_trials(deepcopy=False)[trial.number]

    def _beside(self) -> optuna.Study:
        """Return a copy of the study in memory."""
        beside = optuna.create_study(directions=self._study.directions)
        beside.add_trials([t for t in self._trials() if t.state != TrialState.WAITING])
        return beside

    def _unvisited(self, n: int) -> Iterator[FrozenTrial]:
        """Yield the first `n` points of a finite space that are not in the study."""
        visited = {frozenset(t.params.items()) for t in self._trials()}
        kinds = {d.name: distribution(d) for d in self._space.dimensions}
        left = (p for p in lattice(self._space) if frozenset(p.items()) not in visited)
        for params in islice(left, n):
            yield optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=dict(params),
                distributions={name: kinds[name] for name in params},
                user_attrs={ASKED: True},
            )

    def tell(self, number: int, evaluation: Evaluation) -> None:
        """Tell the evaluation of suggestion `number`, unless it has one already."""
        with self._reaching(), quiet():
            trial = self._trial(number)
            if self._trials()[number].state.is_finished():
                return
            for key, value in evaluation.about.items():
                trial.set_user_attr(key, value)
            trial.set_constraint(CONSTRAINT, evaluation.violation)
            if self._learns_from(evaluation):
                self._study.tell(trial, list(evaluation.values or ()))
            else:
                many = len(self._study.directions) > 1  # Optuna prunes for one objective only
                self._study.tell(trial, state=TrialState.FAIL if many else TrialState.PRUNED)

    def _learns_from(self, evaluation: Evaluation) -> bool:
        """Return whether the sampler can use it: CMA-ES would take a bound for a value."""
        if self._search.sampler == "cmaes":
            return evaluation.feasible
        return evaluation.values is not None

    def report(self, number: int, value: float, step: int) -> bool:
        """Report the value of a suggestion at `step`; return whether the pruner stops it."""
        with self._reaching(), quiet():
            trial = self._trial(number)
            trial.report(value, step)
            given_up = GIVEN_UP in trial.user_attrs or trial.should_prune()
            if given_up:  # the answer stays the same if it is asked again
                trial.set_user_attr(GIVEN_UP, True)
            return given_up

    def learn(self, known: Sequence[tuple[Params, Evaluation]]) -> None:
        """Add points that were trained before and not suggested by the study."""
        kinds = {d.name: distribution(d) for d in self._space.dimensions}
        with self._reaching(), quiet():
            for params, evaluation in known:
                if self._learns_from(evaluation):
                    self._study.add_trial(
                        optuna.trial.create_trial(
                            params=dict(params),
                            distributions={name: kinds[name] for name in params},
                            values=list(evaluation.values or ()),
                            user_attrs=dict(evaluation.about),
                            constraints={CONSTRAINT: evaluation.violation},
                        )
                    )

    def observations(self) -> list[Observation]:
        """Return the points with an evaluation, in the order of their numbers."""
        observations = []
        with self._reaching():
            trials = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        for trial in trials:
            asked = ASKED in trial.user_attrs
            if asked or trial.state == TrialState.COMPLETE:
                values = tuple(trial.values) if trial.state == TrialState.COMPLETE else None
                violation = trial.constraints.get(CONSTRAINT, 1.0)
                evaluation = Evaluation(values, violation, dict(trial.user_attrs))
                observations.append(
                    Observation(trial.number, dict(trial.params), evaluation, asked)
                )
        return observations

    def importance(self) -> dict[str, float]:
        """Return the importance of each dimension for the first objective, by PED-ANOVA.

        A point that isn't feasible counts as the worst feasible one. Empty if fewer than two
        values differ.
        """
        good = [o for o in self.observations() if o.evaluation.feasible]
        values = [o.evaluation.values[0] for o in good if o.evaluation.values]
        if len(set(values)) < 2:
            return {}
        direction = self._study.directions[0]
        worst = min(values) if direction == StudyDirection.MAXIMIZE else max(values)
        beside = optuna.create_study(direction=direction)
        value = {o.number: v for o, v in zip(good, values, strict=True)}
        with self._reaching(), quiet():
            for trial in self._trials(TrialState.COMPLETE):
                beside.add_trial(
                    optuna.trial.create_trial(
                        params=trial.params,
                        distributions=trial.distributions,
                        value=value.get(trial.number, worst),
                    )
                )
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return optuna.importance.get_param_importances(beside, evaluator=evaluator)

    def _reaching(self) -> AbstractContextManager[None]:
        return reaching(self._storage)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _trial(self, number: int) -> Trial:
        return Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)


def open_study(
    storage: str,
    name: str,
    space: Space,
    search: Search,
    about: Mapping[str, Any],
    *,
    fresh: bool = False,
) -> Study:
    """Return the study `name` in `storage`; create it if it doesn't exist.

    Args:
        storage: URL of a database, in Optuna's form.
        name: The study, named like the sweep.
        space: The space of its suggestions.
        search: The settings.
        about: ``sweep``, the sweep's own id, and ``definition``, the settings on which the
            study's numbers depend.
        fresh: Replace a study that has another definition; the trials in the store stay.

    Raises:
        StorageError: The database can't be reached.
        UsageError: The study of that name belongs to another sweep or has another definition.
    """
    directions = [objective.direction for objective in search.objectives]
    with reaching(storage), quiet():
        opened = database(storage)
        names = optuna.get_all_study_names(opened)
        if name in names:
            before = optuna.load_study(study_name=name, storage=opened)
            if not _same(before, name, storage, about, fresh=fresh):
                optuna.delete_study(study_name=name, storage=opened)
        study = optuna.create_study(
            study_name=name,
            storage=opened,
            directions=directions,
            load_if_exists=True,
            pruner=pruner(search),
        )
        study.set_user_attr(ABOUT, json.loads(json.dumps(about)))
    return Study(study, storage, space, search)


def _same(
    study: optuna.Study, name: str, storage: str, about: Mapping[str, Any], *, fresh: bool
) -> bool:
    """Return whether `study` is the wanted one; False if it is to be replaced."""
    there = study.user_attrs.get(ABOUT)
    if there is None and not study.get_trials(deepcopy=False):
        return True  # its creation was cut short
    if there is None or there["sweep"] != about["sweep"]:
        raise UsageError(
            f"{shown(storage)}: the study {name!r} there belongs to another sweep. "
            "Give this one another name (name=...), or use another storage."
        )
    old, new = there["definition"], json.loads(json.dumps(about["definition"]))
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if changed and not fresh:
        raise UsageError(
            f"the search {name!r} was begun with other settings: {', '.join(changed)} changed. "
            "Give the sweep another name (name=...), or use --fresh to begin a new study that "
            "learns from the trials in the store."
        )
    return not changed
