"""Tune runs all packs of a launch without a barrier, and keeps none that has ended."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeper.engine.failures import Failure, PackError
from sweeper.engine.tune import STORE_ERRORS, Ends, error_of

PENDING, RUNNING, TERMINATED, ERROR = "PENDING", "RUNNING", "TERMINATED", "ERROR"


class Trial:
    """What Tune offers of a trial."""

    ERROR = ERROR

    def __init__(self, number: int, error: Exception | None = None) -> None:
        self.trial_id = f"t{number}"
        self.config = {"task": {"pack_id": f"p{number}"}}
        self.status = PENDING
        self.error = error

    def is_finished(self) -> bool:
        return self.status in (TERMINATED, ERROR)

    pickled_error_file: str | None = None

    def get_pickled_error(self) -> Exception | None:
        return self.error

    def end(self) -> None:
        self.status = ERROR if self.error is not None else TERMINATED


class RaisedError(Exception):
    """An error as Ray raises it: that of the worker is its cause."""

    def __init__(self, kind: str, message: str) -> None:
        self.cause = PackError(kind, message, "10.0.0.2")


def failing(number: int) -> Exception | None:
    """Every seventh pack fails."""
    return RaisedError("ValueError", f"no {number}") if number % 7 == 3 else None


@pytest.mark.parametrize("seed", range(5))
def test_trials_that_have_ended_are_let_go_and_failures_noted_once(seed: int) -> None:
    rng = random.Random(seed)
    ends = Ends()
    following = ends.callback(tune.Callback)
    trials: list[Any] = []
    waiting = [Trial(i, failing(i)) for i in range(300)]
    most = 0
    while waiting or not all(trial.is_finished() for trial in trials):
        while waiting and sum(not t.is_finished() for t in trials) < 20:
            trials.append(waiting.pop(0))
        open_ = [trial for trial in trials if not trial.is_finished()]
        for trial in rng.sample(open_, rng.randint(1, len(open_))):
            trial.status = RUNNING
            if rng.random() < 0.7:
                trial.end()
        following.on_step_end(iteration=0, trials=trials)
        most = max(most, len(trials))
    assert len(trials) == 1, "Tune expects one at the end"
    assert most <= 20
    expected = [
        Failure(f"p{i}", "ValueError", f"no {i}", "10.0.0.2") for i in range(300) if failing(i)
    ]
    assert sorted(ends.failures, key=lambda f: int(f.pack_id[1:])) == expected


def test_a_pack_that_failed_without_a_readable_error_is_a_failure() -> None:
    ends = Ends()
    trial = Trial(1)
    trial.status = ERROR
    trials: list[Any] = [trial]
    ends.let_go(trials)
    ends.let_go(trials)  # the last one stays, and is noted once
    assert trials == [trial]
    assert ends.failures == [Failure("p1", "RuntimeError", "the worker failed")]


def test_the_error_of_a_trial_is_read_before_tune_has_copied_it(tmp_path: Path) -> None:
    trial = Trial(1)
    file = tmp_path / "error.pkl"
    trial.pickled_error_file = str(file)
    assert error_of(trial) is None
    file.write_bytes(pickle.dumps(PackError("ValueError", "no", "10.0.0.2")))
    error = error_of(trial)
    assert isinstance(error, PackError)
    assert (error.kind, error.message, error.node) == ("ValueError", "no", "10.0.0.2")


@pytest.mark.parametrize(
    ("kinds", "gone"),
    [
        (["StoreError"] * STORE_ERRORS, True),
        (["StoreError"] * (STORE_ERRORS - 1), False),
        (["StoreError"] * (STORE_ERRORS - 1) + [""] + ["StoreError"], False),
        (["StoreError"] * (STORE_ERRORS - 1) + ["ValueError"] + ["StoreError"], False),
        (["ValueError"] * 2 * STORE_ERRORS, False),
        ([""] + ["StoreFullError"] * STORE_ERRORS, True),
    ],
)
def test_a_run_ends_if_no_pack_has_a_store(kinds: list[str], gone: bool) -> None:
    ends = Ends()
    stopper = ends.stopper(tune.Stopper)
    for number, kind in enumerate(kinds):
        assert not stopper.stop_all()
        trial = Trial(number, RaisedError(kind, "gone") if kind else None)
        trial.end()
        ends.let_go([trial])
    assert stopper.stop_all() == gone
    assert stopper("t1", {}) is False
