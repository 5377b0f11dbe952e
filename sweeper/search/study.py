"""The one door to Optuna: a study that suggests points and is told what became of them.

The study is derived data: what was trained stands in the store, and a study that is lost can be
made again from it. Only the driver of the sweep asks and tells.

A suggestion is asked, trained, told. One that a kill left between asking and telling is found by
`Study.pending` and told once. It enters the study whole, with all its parameters.
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
"""Marks a trial of the study all of whose parameters were suggested."""

ABOUT = "sweeper"
"""The study's attribute that says what it is the study of."""

CONSTRAINT = "generalizing"

GIVEN_UP = "given up"
"""Marks a trial that the pruner ends."""

GOAL = "asked"
"""The study's attribute that says how many suggestions there are once a batch is asked."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point that was asked for.

    Attributes:
        number: Its number in the study, from 0.
        params: Dimension to value, for the dimensions that apply.
    """

    number: int
    params: Params


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a point.

    Attributes:
        values: One number an objective; None where there is nothing to tell.
        violation: How far the point is from being allowed to win; at most 0 if it is.
        about: What else to keep, as JSON has it.
    """

    values: tuple[float, ...] | None
    violation: float
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """A point and what became of it.

    Attributes:
        number: Its number in the study.
        params: Dimension to value.
        verdict: What became of it.
        suggested: Whether the study suggested it; otherwise it was known before.
    """

    number: int
    params: Params
    verdict: Verdict
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
        """Suggestions so far, told or pending."""
        return sum(ASKED in t.user_attrs for t in self._trials())

    def ask(self, n: int) -> list[Suggestion]:
        """Return up to `n` new suggestions; fewer where a finite space has no more."""
        with self._reaching():
            self._study.set_user_attr(GOAL, self.n_asked + n)
            return self._fill()

    def pending(self) -> list[Suggestion]:
        """Return the suggestions that were asked and not told.

        Where the asking of a batch was cut short, the rest of the batch is asked first.
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
        """Ask until there are as many suggestions as there shall be."""
        numbers = range(self.n_asked, self._study.user_attrs[GOAL])
        with quiet():
            found, finite = [], self._search.sampler == "grid"
            for trial in self._unvisited(len(numbers)) if finite else self._sampled(numbers):
                self._study.add_trial(trial)  # with all its parameters, or not at all
                found.append(Suggestion(self._trials()[-1].number, dict(trial.params)))
            return found

    def _sampled(self, numbers: Iterable[int]) -> Iterator[FrozenTrial]:
        """Yield what the sampler suggests.

        It is asked beside the study, in memory, and begins anew with each suggestion, seeded by
        its number: so a search that was killed suggests what it would have suggested.
        """
        beside = self._beside()
        sometimes = conditional(self._space)
        for number in numbers:
            if self._search.sampler == "nsga2":  # it notes parents, in another order than it chose
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
        """Yield the first `n` points of a finite space that the study doesn't have."""
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

    def tell(self, number: int, verdict: Verdict) -> None:
        """Say what became of suggestion `number`; what was told before stands."""
        with self._reaching(), quiet():
            trial = self._trial(number)
            if self._trials()[number].state.is_finished():
                return
            for key, value in verdict.about.items():
                trial.set_user_attr(key, value)
            trial.set_constraint(CONSTRAINT, verdict.violation)
            if self._learns_from(verdict):
                self._study.tell(trial, list(verdict.values or ()))
            else:
                many = len(self._study.directions) > 1  # Optuna prunes for one objective only
                self._study.tell(trial, state=TrialState.FAIL if many else TrialState.PRUNED)

    def _learns_from(self, verdict: Verdict) -> bool:
        """Return whether there are values, and the sampler can tell a bound from a value."""
        knows = self._search.sampler != "cmaes" or verdict.violation <= 0
        return verdict.values is not None and knows

    def report(self, number: int, value: float, step: int) -> bool:
        """Say how far suggestion `number` is at `step`; return whether the pruner gives it up."""
        with self._reaching(), quiet():
            trial = self._trial(number)
            trial.report(value, step)
            given_up = GIVEN_UP in trial.user_attrs or trial.should_prune()
            if given_up:  # a pruner that is asked again might change its mind
                trial.set_user_attr(GIVEN_UP, True)
            return given_up

    def learn(self, known: Sequence[tuple[Params, Verdict]]) -> None:
        """Tell points that weren't suggested: they were trained before."""
        kinds = {d.name: distribution(d) for d in self._space.dimensions}
        with self._reaching(), quiet():
            for params, verdict in known:
                if self._learns_from(verdict):
                    self._study.add_trial(
                        optuna.trial.create_trial(
                            params=dict(params),
                            distributions={name: kinds[name] for name in params},
                            values=list(verdict.values or ()),
                            user_attrs=dict(verdict.about),
                            constraints={CONSTRAINT: verdict.violation},
                        )
                    )

    def told(self) -> list[Told]:
        """Return all points that were told, in the order of their numbers."""
        found = []
        with self._reaching():
            trials = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        for trial in trials:
            asked = ASKED in trial.user_attrs
            if asked or trial.state == TrialState.COMPLETE:
                values = tuple(trial.values) if trial.state == TrialState.COMPLETE else None
                violation = trial.constraints.get(CONSTRAINT, 1.0)
                verdict = Verdict(values, violation, dict(trial.user_attrs))
                found.append(Told(trial.number, dict(trial.params), verdict, asked))
        return found

    def importance(self) -> dict[str, float]:
        """Return each dimension's share in what makes points good, by PED-ANOVA.

        By the first objective; what isn't allowed to win counts as bad as what is worst. Empty
        where too few points differ.
        """
        good = [t for t in self.told() if t.verdict.values and t.verdict.violation <= 0]
        values = [t.verdict.values[0] for t in good if t.verdict.values]
        if len(set(values)) < 2:
            return {}
        direction = self._study.directions[0]
        worst = min(values) if direction == StudyDirection.MAXIMIZE else max(values)
        beside = optuna.create_study(direction=direction)
        value = {t.number: v for t, v in zip(good, values, strict=True)}
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
    """Return the study `name` in `storage`, made if there is none.

    Args:
        storage: URL of a database, as Optuna takes it.
        name: The study, named as the sweep.
        space: What may be suggested.
        search: The settings.
        about: What the study is of: ``sweep``, the sweep's own id, and ``definition``, all that
            gives its numbers their meaning.
        fresh: Begin anew where one was made for another definition; what was trained stays.

    Raises:
        StorageError: The database can't be reached.
        UsageError: There is a study of that name of another sweep, or of another definition.
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
    """Return whether `study` is the one that is wanted; False if it may be replaced."""
    there = study.user_attrs.get(ABOUT)
    if there is None and not study.get_trials(deepcopy=False):
        return True  # its making was cut short
    if there is None or there["sweep"] != about["sweep"]:
        raise UsageError(
            f"{shown(storage)}: the study {name!r} there belongs to another sweep. "
            "Give this one another name (name=...), or use another storage."
        )
    old, new = there["definition"], json.loads(json.dumps(about["definition"]))
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if changed and not fresh:
        raise UsageError(
            f"the search {name!r} was begun with another {', '.join(changed)}. Give the sweep "
            "another name (name=...), or say --fresh: a new study begins, and learns from what "
            "was trained."
        )
    return not changed
