"""Ray Tune: one Tune trial per pack, in reused actors, without any output of Tune.

Tune takes most of a second to import, so `load_tune` does it while Ray starts.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
        tuner = self.tune.Tuner(
            self.tune.with_resources(train, {"cpu": cpu, "gpu": gpu}),
            param_space={"task": self.tune.grid_search([task.as_dict() for task in tasks])},
            tune_config=self.tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=max_concurrent
            ),
            run_config=self.tune.RunConfig(
                name=f"wave-{tasks[0].pack_id}",
                storage_path=scratch,
                verbose=0,
                failure_config=self.tune.FailureConfig(max_failures=RETRIES),
                callbacks=[self._counting()],
            ),
        )
        with warnings.catch_warnings(), _silent(logging.getLogger("ray.tune")):
            warnings.simplefilter("ignore")
            try:
                results = tuner.fit()
            except self.error as error:
                raise ClusterError(f"Ray failed: {str(error).splitlines()[0]}") from error
        return [
            Failure.of(result.config["task"]["pack_id"], result.error)
            for result in results
            if result.error is not None
        ]

    def _counting(self) -> Any:
        """Return a callback of Tune that corrects its count of failures: it counts deaths, too."""
        retries = Retries()

        def on_trial_recover(*_: Any, trial: Any, **__: Any) -> None:
            count_retries(retries, trial)

        return type("Counting", (self.tune.Callback,), {"on_trial_recover": on_trial_recover})()


def count_retries(retries: Retries, trial: Any) -> None:
    """Set the count of failures of Tune's `trial`, which is to be retried, by its last error."""
    error = trial.get_pickled_error()
    if error is not None:
        used = retries.used(trial.config["task"]["pack_id"], error)
        trial.run_metadata.num_failures = min(used, RETRIES)


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
