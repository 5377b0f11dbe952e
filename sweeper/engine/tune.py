"""Ray Tune: one Tune trial per pack, in reused actors, without any output of Tune.

Tune takes most of a second to import, so `load_tune` does it while Ray starts.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.engine.failures import RETRIES, Failure, Retries
from sweeper.engine.task import PackTask
from sweeper.errors import ClusterError

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

ASKED = ("DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE")
"""Names of the dictionaries in which Tune keeps the variables that its actors ask for."""


STORE_ERRORS = 16
"""Number of packs in a row after whose errors of the store no more packs are tried."""


@dataclass(frozen=True, slots=True)
class Tune:
    """Ray Tune, imported.

    Attributes:
        tune: The module.
        class_cache: The module with the environment variables that Tune's actors ask for.
        error: The class of all errors of Ray.
    """

    tune: Any
    class_cache: Any
    error: type[Exception]

    @contextmanager
    def inherited(self, ours: bool) -> Iterator[None]:
        """Let Tune's actors ask for no environment variables within the context, if Ray is `ours`.

        The workers of a Ray that this process started inherit its variables. An actor that asks
        for variables gets a new process, and the workers that Ray started in advance stay idle.
        Without this the smoke grid took 20.8 s instead of 17.7 s (medians of 7, a busy machine).
        """
        asked = [vars(self.class_cache)[name] for name in ASKED if name in vars(self.class_cache)]
        before = [variables.copy() for variables in asked]
        for variables in asked if ours else ():
            variables.clear()
        try:
            yield
        finally:
            for variables, kept in zip(asked, before, strict=True):
                variables.update(kept)

    def run(
        self,
        train: Callable[[dict[str, Any]], dict[str, Any]],
        tasks: Sequence[PackTask],
        scratch: str,
        cpu: float,
        gpu: float,
        max_concurrent: int | None,
    ) -> list[Failure]:
        """Run `train` once per task; return the packs that failed.

        Args:
            train: Is called in a worker with the task as a dictionary.
            tasks: The tasks.
            scratch: Folder for the files of Tune.
            cpu: CPUs of a pack.
            gpu: GPUs of a pack.
            max_concurrent: The most packs at the same time; None for as many as fit.
        """
        ends = Ends()
        tuner = self.tune.Tuner(
            self.tune.with_resources(train, {"cpu": cpu, "gpu": gpu}),
            param_space={"task": self.tune.grid_search([task.as_dict() for task in tasks])},
            tune_config=self.tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=max_concurrent
            ),
            run_config=self.tune.RunConfig(
                name=f"packs-{tasks[0].pack_id}",
                storage_path=scratch,
                verbose=0,
                stop=ends.stopper(self.tune.Stopper),
                failure_config=self.tune.FailureConfig(max_failures=RETRIES),
                callbacks=[ends.callback(self.tune.Callback)],
            ),
        )
        with warnings.catch_warnings(), _silent(logging.getLogger("ray.tune")):
            warnings.simplefilter("ignore")
            try:
                tuner.fit()
            except self.error as error:
                raise ClusterError(f"Ray failed: {str(error).splitlines()[0]}") from error
        return ends.failures


class Ends:
    """Follows the Tune trials of a run: notes those that fail, and lets go of those that end.

    Tune makes a trial when it may start soon, but keeps it for ever: it goes through all trials at
    each step, and writes all of them once a minute. With many thousand packs it would become slower
    and slower. All results are in the store, so nothing is lost.

    Attributes:
        failures: The packs that failed, after all retries.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._retries = Retries()
        self._ended: set[str] = set()
        self._store_errors = 0

    def callback(self, base: Any) -> Any:
        """Return the callback of Tune, of the class `base`, that calls `recover` and `let_go`."""

        def on_trial_recover(*_: Any, trial: Any, **__: Any) -> None:
            count_retries(self._retries, trial)  # Tune counts deaths, too

        def on_step_end(*_: Any, trials: list[Any], **__: Any) -> None:
            self.let_go(trials)

        functions: dict[str, Any] = {
            "on_trial_recover": on_trial_recover,
            "on_step_end": on_step_end,
        }
        return type("Following", (base,), functions)()

    def stopper(self, base: Any) -> Any:
        """Return the object of Tune, of the class `base`, that ends a run without a store."""
        functions: dict[str, Any] = {
            "__call__": lambda *_: False,
            "stop_all": lambda _: self.store_is_gone(),
        }
        return type("WithoutStore", (base,), functions)()

    def let_go(self, trials: list[Any]) -> None:
        """Note the trials that have ended, and remove them from `trials`, which is Tune's own list.

        One stays if none is left: Tune expects one at the end.
        """
        for trial in trials:
            if trial.is_finished() and trial.trial_id not in self._ended:
                self._ended.add(trial.trial_id)
                self._note(trial)
        trials[:] = [trial for trial in trials if not trial.is_finished()] or trials[-1:]

    def store_is_gone(self) -> bool:
        """Return whether so many packs in a row had no store that the others will have none."""
        return self._store_errors >= STORE_ERRORS

    def _note(self, trial: Any) -> None:
        if trial.status != trial.ERROR:
            self._store_errors = 0
            return
        error = error_of(trial) or RuntimeError("the worker failed")
        failure = Failure.of(trial.config["task"]["pack_id"], error)
        self.failures.append(failure)
        self._store_errors = self._store_errors + 1 if failure.store_error is not None else 0


def error_of(trial: Any) -> BaseException | None:
    """Return the last error of Tune's `trial`; None if it can't be read.

    Tune writes it into a local file, and copies that to the folder of the run later.
    """
    path = getattr(trial, "pickled_error_file", None)
    if path is not None and Path(path).exists():
        error: BaseException = pickle.loads(Path(path).read_bytes())  # noqa: S301
        return error
    copied: BaseException | None = trial.get_pickled_error()
    return copied


def count_retries(retries: Retries, trial: Any) -> None:
    """Set the count of failures of Tune's `trial`, which is to be retried, by its last error."""
    error = error_of(trial)
    if error is not None:
        used = retries.used(trial.config["task"]["pack_id"], error)
        trial.run_metadata.num_failures = used


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Silence `logger` within the context: Tune logs errors of workers, which are raised later."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def load_tune() -> Tune:
    """Import Ray Tune. This takes most of a second, in which Ray can start."""
    from ray import tune
    from ray.exceptions import RayError
    from ray.tune.execution import class_cache

    return Tune(tune, class_cache, RayError)
