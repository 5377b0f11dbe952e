"""One trial of `benchmarks.own_code`: it waits a while and logs its rows, evenly spread.

As a function for sweeper (`train`), as one for Ray Tune (`tune_train`), and as a script.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sweeper


@dataclass
class Config:
    """The config of a trial.

    Attributes:
        seconds: How long it takes.
        number: Tells the trials apart.
    """

    seconds: float = 1.0
    number: int = 0


def metrics(step: int) -> dict[str, float]:
    """Return the four metrics of a row."""
    value = 1.0 / (1 + step)
    return {"train_loss": value, "test_loss": 2 * value, "train_acc": 0.5, "test_acc": 0.25}


def spread(steps: Iterable[int], n: int, seconds: float, log: Callable[[int], Any]) -> None:
    """Log each of `n` steps at its time, within so many seconds."""
    begun = time.monotonic()
    for step in steps:
        wait = begun + seconds * (step + 1) / n - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        log(step)


def train(config: Config, run: sweeper.Run) -> None:
    """Train a trial of sweeper's."""
    n = run.horizon or 100
    spread(run.steps(), n, config.seconds, lambda step: run.log(step, metrics(step)))


def tune_train(config: dict[str, Any]) -> None:
    """Train a trial of Ray Tune's."""
    from ray import tune

    n = config["rows"]

    def log(step: int) -> None:
        tune.report({"step": step, **metrics(step)})

    spread(range(n), n, config["seconds"], log)


if __name__ == "__main__":
    run = sweeper.init(Config)
    train(run.config, run)
