"""The one door to Optuna: a study that suggests points and is told what became of them.

The study is derived data: what was trained stands in the store, and a study that is lost can be
made again from it. Only the driver of the sweep asks and tells.

A suggestion is asked, trained, told. One that a kill left between asking and telling is found by
`Study.pending` and told once; one whose asking itself was cut short was never a suggestion.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from sweeper.dimension import Choice
from sweeper.errors import StorageError, UsageError
from sweeper.samplers import distribution, pruner, sampler, suggest
from sweeper.searching import Search
from sweeper.space import Params, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

ASKED = "asked"
"""Marks a trial of the study all of whose parameters were suggested."""

ABOUT = "sweeper"
"""The study's attribute that says what it is the study of."""

CONSTRAINT = "generalizing"

LOCK_S = 60
"""Seconds that SQLite waits for another process, e.g. a dashboard."""


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's warnings: what it calls experimental is pinned here by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Study:
    """A study of one search, made by `open_study`."""

    def __init__(self, study: optuna.Study, space: Space, search: Search) -> None:
        self._study = study
        self._space = space
        self._search = search

    @property
    def n_asked(self) -> int:
        """Suggestions so far, told or pending."""
        return sum(ASKED in t.user_attrs for t in self._trials())

    def ask(self, n: int) -> list[Suggestion]:
        """Return up to `n` new suggestions; fewer where a finite space has no more.

        The sampler begins anew each time, seeded by the number of trials that the study has:
        so a search that was killed suggests what it would have suggested.
        """
        with _quiet():
            self._study.sampler = sampler(self._search, self._space, len(self._trials()))
            if self._search.sampler == "grid":
                done = sum(t.state != TrialState.FAIL for t in self._trials())
                for params in self._lattice()[done : done + n]:
                    self._study.enqueue_trial(params)
                n = len(self._trials(TrialState.WAITING))
            return [self._ask() for _ in range(n)]

    def _ask(self) -> Suggestion:
        trial = self._study.ask()
        params: dict[str, Choice] = {}
        for dimension in self._space.dimensions:
            if self._space.asks(dimension, params):
                params[dimension.name] = suggest(trial, dimension)
        trial.set_user_attr(ASKED, True)
        return Suggestion(trial.number, params)

    def _lattice(self) -> list[dict[str, Choice]]:
        """Return every point of a finite space."""
        points: list[dict[str, Choice]] = [{}]
        for dimension in self._space.dimensions:
            points = [
                {**point, **more}
                for point in points
                for more in (
                    [{dimension.name: v} for v in dimension.values()]
                    if self._space.asks(dimension, point)
                    else [{}]
                )
            ]
        return points

    def pending(self) -> list[Suggestion]:
        """Return the suggestions that were asked and not told."""
        found = []
        for trial in self._trials(TrialState.RUNNING):
            if ASKED in trial.user_attrs:
                found.append(Suggestion(trial.number, dict(trial.params)))
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)
        return found

    def tell(self, number: int, verdict: Verdict) -> None:
        """Say what became of suggestion `number`, once."""
        trial = self._trial(number)
        with _quiet():
            for key, value in verdict.about.items():
                trial.set_user_attr(key, value)
            trial.set_constraint(CONSTRAINT, verdict.violation)
            if verdict.values is not None:
                self._study.tell(trial, list(verdict.values))
            else:
                many = len(self._study.directions) > 1  # Optuna prunes for one objective only
                self._study.tell(trial, state=TrialState.FAIL if many else TrialState.PRUNED)

    def report(self, number: int, value: float, step: int) -> bool:
        """Say how far suggestion `number` is at `step`; return whether the pruner gives it up."""
        trial = self._trial(number)
        with _quiet():
            trial.report(value, step)
            return trial.should_prune()

    def learn(self, known: Sequence[tuple[Params, Verdict]]) -> None:
        """Tell points that weren't suggested: they were trained before."""
        kinds = {d.name: distribution(d) for d in self._space.dimensions}
        with _quiet():
            for params, verdict in known:
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
        for trial in self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            asked = ASKED in trial.user_attrs
            if asked or trial.state == TrialState.COMPLETE:
                values = tuple(trial.values) if trial.state == TrialState.COMPLETE else None
                violation = trial.constraints.get(CONSTRAINT, 1.0)
                verdict = Verdict(values, violation, dict(trial.user_attrs))
                found.append(Told(trial.number, dict(trial.params), verdict, asked))
        return found

    def importance(self) -> dict[str, float]:
        """Return each dimension's share in what makes points good, by PED-ANOVA.

        Empty where too few points differ.
        """
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        complete = self._trials(TrialState.COMPLETE)
        if len({tuple(t.values) for t in complete}) < 2:
            return {}
        with _quiet():
            return optuna.importance.get_param_importances(self._study, evaluator=evaluator)

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
    with _reaching(storage), _quiet():
        database = RDBStorage(storage, engine_kwargs=_engine(storage))
        names = optuna.get_all_study_names(database)
        if name in names:
            before = optuna.load_study(study_name=name, storage=database)
            if not _same(before, name, storage, about, fresh=fresh):
                optuna.delete_study(study_name=name, storage=database)
        study = optuna.create_study(
            study_name=name, storage=database, directions=directions, load_if_exists=True,
            pruner=pruner(search),
        )  # fmt: skip
        study.set_user_attr(ABOUT, json.loads(json.dumps(about)))
    return Study(study, space, search)


def reach(storage: str) -> None:
    """Check that the database can be reached.

    Raises:
        StorageError: It can't.
    """
    with _reaching(storage), _quiet():
        RDBStorage(storage, engine_kwargs=_engine(storage))


def _same(
    study: optuna.Study, name: str, storage: str, about: Mapping[str, Any], *, fresh: bool
) -> bool:
    """Return whether `study` is the one that is wanted; False if it may be replaced."""
    there = study.user_attrs.get(ABOUT)
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


@contextmanager
def _reaching(storage: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split("\n")[0].split())
        raise StorageError(
            f"{shown(storage)}: {reason}. Check that the database is up and may be written, and "
            "its URL: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
        ) from None


def shown(storage: str) -> str:
    """Return the URL of a storage without its password."""
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return repr(storage)


def _engine(storage: str) -> dict[str, Any]:
    return {"connect_args": {"timeout": LOCK_S}} if storage.startswith("sqlite") else {}
