"""The run of a trial, with a session that only takes notes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweeper.runs.run import Checked, Run, RunError, Settings, is_logged
from sweeper.runs.state import decode
from sweeper.steps import logged_steps


class Notes:
    """A session that takes notes."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        self.saved: list[tuple[int, bytes]] = []
        self.ended: tuple[str, int] | None = None
        self.stop = False
        self.result: Any = None

    def row(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((step, values))

    def save(self, step: int, payload: bytes) -> None:
        self.saved.append((step, payload))

    def over(self, status: str, step: int) -> None:
        self.ended = status, step

    def loop(self, *, whole: bool) -> None:
        self.whole = whole

    def stopping(self) -> bool:
        return self.stop

    def checked(self, seconds_per_step: float | None, metrics: list[str], *, saves: bool) -> None:
        self.result = seconds_per_step, metrics, saves


SETTINGS = Settings(steps=10, train=0.9, test=0.9)


def begin(settings: Settings = SETTINGS, payload: bytes | None = None) -> tuple[Run, Notes]:
    notes = Notes()
    return Run({}, settings, notes, swept=True, payload=payload), notes


@given(st.integers(1, 100), st.integers(1, 3000))
def test_due_offers_the_log_spaced_steps_and_the_last_one(density: int, horizon: int) -> None:
    run, _ = begin(Settings(steps=horizon, points_per_decade=density))
    due = [step for step in run.steps() if run.due(step)]
    assert due == sorted({*logged_steps(density, horizon - 1), horizon - 1})


def test_large_steps_are_due_as_well() -> None:
    steps = logged_steps(50, 10**9)
    assert all(is_logged(step, 50) for step in steps)
    assert not any(is_logged(step + 1, 50) for step in steps[-100:])


def test_the_steps_are_those_of_the_grid() -> None:
    run, _ = begin()
    assert (list(run.steps(3)), run.horizon) == (list(range(10)), 10)
    alone, _ = begin(Settings())
    with pytest.raises(RunError, match=r"needs the number of steps: run.steps\(50_000\)"):
        next(alone.steps())
    assert list(alone.steps(3)) == [0, 1, 2]
    alone, _ = begin(Settings())
    assert (list(alone.steps(1, 4)), alone.horizon) == ([1, 2, 3], 3)
    counted, _ = begin()
    assert list(counted.steps(1, 4)) == list(range(1, 11))
    assert [step for step in (95, 96, 100, 101) if counted.due(step)] == [95, 100]


def test_numbers_of_every_library_are_logged() -> None:
    run, notes = begin()
    run.log(0, {"a": 1, "b": np.float32(0.5)}, c=torch.tensor(2.0), d=True, e=np.array([3.0]))
    run.log(np.int64(1), f=None, g=torch.tensor([[4]]))
    assert notes.rows == [(0, {"a": 1, "b": 0.5, "c": 2, "d": 1, "e": 3}), (1, {"g": 4})]


@pytest.mark.parametrize(
    ("steps", "metrics", "message"),
    [
        ((1, 1), {"a": 1}, "step 1 was logged twice. Log all metrics of a step in one call"),
        ((2, 1), {"a": 1}, "step 1 was logged after step 2. Log the steps in ascending order"),
        ((-1,), {"a": 1}, "the step must be a whole number, at least 0"),
        ((0.5,), {"a": 1}, "the step must be a whole number, at least 0"),
        ((True,), {"a": 1}, "the step must be a whole number, at least 0"),
        ((0,), {"a": "high"}, "the metric 'a' = 'high' is of the type str. Log a number"),
        ((0,), {"a": torch.ones(3)}, "the metric 'a' has 3 values. Log one number, e.g. a.mean()"),
        ((0,), {"val/loss": 1}, "'val/loss' can't be the name of a metric. Write 'val_loss'"),
        ((0,), {"step": 1}, "'step' can't be the name of a metric. Write 'step_'"),
    ],
)
def test_bad_rows_are_refused(steps: tuple[Any, ...], metrics: Any, message: str) -> None:
    run, notes = begin()
    *before, last = steps
    for step in before:
        run.log(step, metrics)
    with pytest.raises(RunError) as caught:
        run.log(last, metrics)
    assert message in str(caught.value)
    assert len(notes.rows) == len(before)


def test_a_row_without_metrics_is_none() -> None:
    run, notes = begin()
    assert run.log(0, {})
    assert notes.rows == []
    with pytest.raises(RunError, match=r"run.log\(0\) has no metrics: run.log\(0, train_loss="):
        run.log(0)


def test_validation_is_the_test_side() -> None:
    run, notes = begin()
    run.log(0, val_loss=1, valid_acc=0.5)
    run.log(1, eval_f1=0.5, val_loss=1, test_loss=2)
    assert notes.rows == [
        (0, {"test_loss": 1, "test_acc": 0.5}),
        (1, {"test_f1": 0.5, "test_loss": 2}),
    ]


def test_a_loop_of_its_own_ends_at_the_horizon() -> None:
    run, notes = begin()
    for step in range(1, 11):
        run.log(step, train_loss=1)
    with pytest.raises(SystemExit):
        run.log(11, train_loss=1)
    assert [step for step, _ in notes.rows] == list(range(1, 11))


def test_a_trial_ends_once_it_has_memorized_and_generalized() -> None:
    run, notes = begin()
    goes_on = [
        run.log(step, train_acc=train, test_acc=test)
        for step, (train, test) in enumerate([(0.95, 0.1), (0.5, 0.8), (0.4, 0.9)])
    ]
    assert goes_on == [True, True, False]
    with pytest.raises(SystemExit) as caught:
        run.log(3, train_acc=1, test_acc=1)
    assert caught.value.code == 0
    assert (run.over, notes.ended, len(notes.rows)) == (True, ("generalized", 2), 3)


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, train=None),
        replace(SETTINGS, test=None),
        replace(SETTINGS, after_generalization=False),
        replace(SETTINGS, metric="loss"),
    ],
)
def test_other_trials_go_on(settings: Settings) -> None:
    run, notes = begin(settings)
    assert run.log(0, train_acc=1, test_acc=1)
    assert notes.ended is None


def test_a_metric_that_falls_has_thresholds_from_above() -> None:
    settings = Settings(steps=10, metric="loss", rising=False, train=0.1, test=0.2)
    run, notes = begin(settings)
    assert [run.log(k, train_loss=0.05, test_loss=x) for k, x in enumerate((0.3, 0.2))] == [
        True,
        False,
    ]
    assert notes.ended == ("generalized", 1)


def test_a_loss_that_is_not_finite_ends_the_trial() -> None:
    run, notes = begin()
    assert run.log(0, train_loss=1.0, margin=math.inf)
    assert not run.log(1, test_loss=math.nan)
    assert notes.ended == ("diverged", 1)
    run, notes = begin(replace(SETTINGS, diverged=False))
    assert run.log(0, train_loss=math.inf)


def test_the_loop_ends_with_the_trial() -> None:
    run, _ = begin()
    steps = []
    for step in run.steps():
        steps.append(step)
        run.log(step, train_acc=1, test_acc=step / 4)
    assert steps == [0, 1, 2, 3, 4]


def train(run: Run, *, every: int = 1) -> list[int]:
    start = run.restore()
    total = start["total"] if start else 0
    steps = []
    for step in run.steps():
        steps.append(step)
        total += step
        run.log(step, train_loss=total)
        if step % every == 0:
            run.checkpoint({"total": total})
    return steps


def test_states_are_saved_when_they_are_due_and_at_the_end() -> None:
    run, notes = begin(replace(SETTINGS, every_s=1e9))
    assert train(run) == list(range(10))
    assert [step for step, _ in notes.saved] == [9]
    run, notes = begin(replace(SETTINGS, every_s=0))
    train(run)
    assert [step for step, _ in notes.saved] == list(range(10))
    run, notes = begin(replace(SETTINGS, every_s=1e9, keep="none"))
    train(run)
    assert notes.saved == []
    run, notes = begin(replace(SETTINGS, every_s=1e9))
    notes.stop = True
    train(run, every=4)
    assert [step for step, _ in notes.saved][:3] == [0, 4, 8]


def test_a_trial_continues_from_its_state() -> None:
    run, notes = begin(replace(SETTINGS, every_s=0))
    train(run)
    step, payload = notes.saved[4]
    again, after = begin(SETTINGS, payload)
    assert (step, train(again)) == (4, [5, 6, 7, 8, 9])
    assert after.rows == notes.rows[5:]
    assert decode(after.saved[-1][1]) == decode(notes.saved[-1][1])


def test_the_best_values_before_a_checkpoint_count_after_it() -> None:
    settings = replace(SETTINGS, every_s=0)
    run, notes = begin(settings)
    run.restore()
    for step in run.steps():
        run.log(step, train_acc=1.0 if step == 0 else 0.5, test_acc=0.1)
        run.checkpoint({})
        if step == 2:
            break
    again, after = begin(settings, notes.saved[-1][1])
    again.restore()
    assert next(again.steps()) == 3
    assert not again.log(3, train_acc=0.5, test_acc=1.0)
    assert after.ended == ("generalized", 3)


def test_states_without_a_restore_are_refused() -> None:
    run, notes = begin(replace(SETTINGS, every_s=0))
    with pytest.raises(RunError, match=r"call run.restore\(\) before the loop"):
        run.checkpoint({})
    train(run)
    again, _ = begin(SETTINGS, notes.saved[3][1])
    with pytest.raises(RunError, match="its checkpoint after step 3"):
        next(again.steps())


def test_a_row_after_the_state_of_its_step_is_refused() -> None:
    run, _ = begin()
    run.restore()
    for step in run.steps():
        run.checkpoint({})
        with pytest.raises(RunError, match="was logged after"):
            run.log(step, a=1)
        break


def test_a_state_can_be_a_function_that_is_called_only_when_it_is_saved() -> None:
    run, notes = begin(replace(SETTINGS, every_s=1e9))
    run.restore()
    calls: list[int] = []

    def content() -> dict[str, int]:
        calls.append(len(calls))
        return {"calls": len(calls)}

    for _ in run.steps():
        run.checkpoint(content)
    assert calls == [0]
    assert decode(notes.saved[0][1])["state"] == {"calls": 1}


def test_a_run_without_checkpoints_leaves_when_the_sweep_stops() -> None:
    run, notes = begin()
    notes.stop = True
    run.log(0, a=1)
    assert notes.saved == [(-1, b"")]


def test_a_check_ends_after_its_time_and_reports_what_it_saw() -> None:
    run, notes = begin(replace(SETTINGS, check=0.0))
    with pytest.raises(Checked):
        train(run)
    seconds, metrics, saves = notes.result
    assert (metrics, saves) == (["train_loss"], False)
    assert len(notes.rows) == 1
    assert seconds is None or seconds >= 0


def test_a_check_encodes_the_first_state() -> None:
    run, _ = begin(replace(SETTINGS, check=1e9, every_s=1e9))
    run.restore()
    for _ in run.steps():
        with pytest.raises(Exception, match="is of the type object"):
            run.checkpoint({"a": object()})
        break


def test_a_forked_process_cannot_use_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = begin()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(RunError, match="a process that was forked from the training"):
        run.log(0, a=1)
