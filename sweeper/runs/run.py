"""The run of one trial, as a user's training code sees it: its config, its steps, its rows.

    run = sweeper.init(lr=1e-3, weight_decay=1.0)
    for step in run.steps(50_000):
        ...
        run.log(step, train_loss=..., test_loss=...)

The same object serves a script that is run by hand (`sweeper.runs.alone`), a script that a worker
started (`sweeper.runs.channel`), and a function that a worker calls (`sweeper.runs.function`). They
differ in the `Session` that takes the rows.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, SupportsInt

from sweeper.runs.state import decode, encode

Status = Literal["generalized", "diverged"]

RESERVED = ("trial_id", "step")
"""Names of columns that no metric can have."""

METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""How the name of a metric looks."""


class RunError(Exception):
    """The training code uses its run in a way that can't work; the message says what to write."""


class Ended(SystemExit):
    """Ends the training code of a trial that has ended; a script exits with 0, without a word."""


class Checked(BaseException):
    """Ends a run that only was a check; not an `Exception`, so that no training code catches it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a trial is trained and watched.

    Attributes:
        seed: The trial's seed.
        steps: The horizon; None for the one that the code names.
        points_per_decade: Density of the steps that `Run.due` offers.
        device: Torch's name of the device, ``cpu`` or ``cuda``.
        metric: M of the criterion's columns ``train_M`` and ``test_M``.
        rising: Whether M is better when larger.
        train: Threshold of M for memorizing; None if no single row can show it.
        test: Threshold of M for generalizing, likewise.
        after_generalization: End the trial at the first row at which it has done both.
        diverged: End the trial at the first row with a loss that isn't finite.
        every_s: Seconds between two checkpoints.
        keep: Which final states are saved: ``all``, ``censored`` or ``none``.
        check: Seconds of training after which a check ends; None for a real trial.
    """

    seed: int = 0
    steps: int | None = None
    points_per_decade: int = 50
    device: str = "cpu"
    metric: str = "acc"
    rising: bool = True
    train: float | None = None
    test: float | None = None
    after_generalization: bool = True
    diverged: bool = True
    every_s: float = 60.0
    keep: str = "all"
    check: float | None = None


class Session(Protocol):
    """Takes what a run has to say."""

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Take one row."""

    def save(self, step: int, payload: bytes) -> None:
        """Save the state after `step`. It may raise, to end the run of a sweep that stops."""

    def over(self, status: Status, step: int) -> None:
        """Take the end of the trial at the row of `step`."""

    def loop(self, *, whole: bool) -> None:
        """Take note that the loop over the steps has begun, or that its last step has."""

    def stopping(self) -> bool:
        """Return whether the sweep was asked to stop: the run should save and end."""

    def checked(self, seconds_per_step: float | None, metrics: list[str], *, saves: bool) -> None:
        """Take the result of a check."""


class Run:
    """One trial: one config with one seed.

    Attributes:
        config: The config, in the form in which it was declared.
        seed: The seed. In a sweep, the global generators of Python, NumPy and torch start with it.
        device: The device to train on, by its name in torch: ``cpu`` or ``cuda``.
        swept: Whether a sweep started this run; False for a script that is run by hand.
    """

    def __init__(
        self,
        config: Any,
        settings: Settings,
        session: Session,
        *,
        swept: bool,
        payload: bytes | None = None,
    ) -> None:
        """Begin; `payload` is the checkpoint to continue from."""
        self.config = config
        self.seed = settings.seed
        self.device = settings.device
        self.swept = swept
        self._settings = settings
        self._session = session
        self._saved: dict[str, Any] | None = None if payload is None else decode(payload)
        self._process = os.getpid()
        self._restores = False
        self._saves = False
        self._offered = -1  # the step of the state that was offered last
        self._final = -1  # the step of the final state, once it is saved
        self._over: Status | None = None
        self._step: int | None = None
        self._last_row = -1
        self._best = dict.fromkeys(("train", "test"), math.nan)
        self._horizon = self._end = settings.steps
        self._time = time.monotonic()
        self._begun = 0, self._time
        self._metrics: dict[str, None] = {}
        if self._saved is not None:
            self._best = dict(self._saved["best"])
            self._last_row = int(self._saved["last_row"])

    # What the training code calls

    @property
    def over(self) -> bool:
        """Whether the trial has ended: it generalized, or a loss isn't finite."""
        return self._over is not None

    @property
    def horizon(self) -> int | None:
        """The number of steps: the grid's `fixed.steps`; by hand the one given to `steps`."""
        return self._horizon

    def steps(self, start: int | None = None, stop: int | None = None) -> Iterator[int]:
        """Yield the steps as ``range(stop)`` or ``range(start, stop)`` does.

        In a sweep the number of steps is the grid's `fixed.steps`. The loop continues after the
        checkpoint that `restore` has returned, and it ends early if the trial is `over`.

        Args:
            start: The first step; with one argument the number of steps, as for `range`.
            stop: The step after the last one, for a script that is run by hand.

        Raises:
            RunError: The number of steps is unknown, or the trial continues from a checkpoint that
                was not restored.
        """
        first, stop = (0, start) if stop is None else (start or 0, stop)
        if self._horizon is None:
            if stop is None:
                raise RunError("run.steps() needs the number of steps: run.steps(50_000).")
            self._horizon = max(0, stop - first)
        self._end = first + self._horizon
        if self._saved is not None:
            if not self._restores:
                raise RunError(
                    f"the trial continues from its checkpoint after step {self._saved['step']}, so "
                    "call run.restore() before run.steps() and load what it returns."
                )
            first = int(self._saved["step"]) + 1
        self._begun = first, time.monotonic()
        self._session.loop(whole=first >= self._end)
        for step in range(first, self._end):
            self._pause()
            if self._over is not None:
                return
            self._step = step
            if step == self._end - 1:
                self._session.loop(whole=True)
            yield step

    def due(self, step: int) -> bool:
        """Return whether `step` is one of the log-spaced steps, or the last step.

        The steps are 0 and ``round(10 ** (k / points_per_decade))``; `points_per_decade` is 50, or
        that of the grid's section `log`.
        """
        if self._end is not None and step == self._end - 1:
            return True
        return is_logged(step, self._settings.points_per_decade)

    def log(
        self, step: SupportsInt, metrics: Mapping[str, Any] | None = None, /, **values: Any
    ) -> bool:
        """Log the metrics of one step: one row. Return whether the training should go on.

        ``train_M`` and ``test_M`` are the columns that a criterion on the metric M reads.
        ``val_M``, ``valid_M`` and ``eval_M`` are stored as ``test_M``, unless the row has one. A
        number may be of Python, NumPy or torch. NaN and infinities are stored as null; None logs
        nothing.

        In a sweep, a call after the end of the trial, or after its horizon, ends the training code:
        it raises `SystemExit`.

        Args:
            step: The step. Each is logged once, in ascending order.
            metrics: Name to number.
            values: The same as keyword arguments.

        Raises:
            RunError: The step was logged already, or a value isn't a number.
        """
        self._check_process()
        step = self._checked_step(step)
        row = {
            name: _number(name, value)
            for name, value in {**(metrics or {}), **values}.items()
            if value is not None
        }
        if self.swept and (self._over is not None or self._past(step)):
            raise Ended(0)
        if not row:
            if metrics is None and not values:
                raise RunError(f"run.log({step}) has no metrics: run.log({step}, train_loss=...).")
            return self._over is None
        for name in [name for name in row if name.startswith(("val_", "valid_", "eval_"))]:
            row.setdefault(f"test_{name.partition('_')[2]}", row.pop(name))
        self._last_row = step
        self._metrics |= dict.fromkeys(row)
        self._session.row(step, row)
        self._judge(step, row)
        self._pause()
        return self._over is None

    def checkpoint(self, state: Any) -> bool:
        """Offer the state after the current step. Return whether it was saved.

        It is saved if the grid's `checkpoint.every_s` seconds have passed, if the sweep stops, and
        at the end of the trial. So call it in every step, after the update.

        Args:
            state: Tensors, arrays, numbers, text, None, and lists and dictionaries of these, e.g.
                ``{"model": model.state_dict(), "optimizer": optimizer.state_dict()}``. A function
                that returns it is called only if the state is saved.

        Raises:
            RunError: `restore` was never called.
            StateError: The state holds a value of another type.
        """
        self._check_process()
        if not self._restores:
            raise RunError(
                "run.checkpoint() without run.restore(): call run.restore() before the loop and "
                "load what it returns, else nothing continues from the checkpoints."
            )
        step = self._step if self._step is not None else self._last_row
        if step < 0:
            raise RunError("run.checkpoint() before the first step. Call it in the loop.")
        first, self._saves, self._offered = not self._saves, True, step
        if self._settings.check is not None and first:
            encode(state() if callable(state) else state)
        if not self._due_to_save(step):
            return False
        content = state() if callable(state) else state
        rows = {"best": self._best, "last_row": self._last_row}
        self._session.save(step, encode({"step": step, **rows, "state": content}))
        self._time = time.monotonic()
        return True

    def restore(self) -> Any:
        """Return the state that the trial continues from; None if it begins.

        Tensors are on the CPU. ``load_state_dict`` copies them to the device of the model.
        """
        self._restores = True
        return None if self._saved is None else self._saved["state"]

    # The rest

    def _checked_step(self, step: Any) -> int:
        number = step.item() if hasattr(step, "item") else step
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise RunError(f"run.log({step!r}): the step must be a whole number, at least 0.")
        if number == self._last_row:
            raise RunError(
                f"step {number} was logged twice. Log all metrics of a step in one call: "
                f"run.log({number}, train_loss=..., test_loss=...)."
            )
        if number < self._last_row:
            raise RunError(
                f"step {number} was logged after step {self._last_row}. Log the steps in ascending "
                "order; count on across epochs."
            )
        if number <= self._offered:
            raise RunError(
                f"step {number} was logged after run.checkpoint(), so a trial that continues from "
                "there would lack the row. Call run.checkpoint() last in the loop."
            )
        return number

    def _past(self, step: int) -> bool:
        """Return whether a step is past the horizon; one at it is the last of an own loop."""
        return self._end is not None and step > self._end

    def _judge(self, step: int, row: Mapping[str, float]) -> None:
        """End the trial if the row shows that it has diverged or generalized."""
        settings = self._settings
        losses = [v for k, v in row.items() if k == "loss" or k.endswith("_loss")]
        better = max if settings.rising else min
        for side, best in self._best.items():
            value = row.get(f"{side}_{settings.metric}", math.nan)
            if math.isfinite(value):
                self._best[side] = value if math.isnan(best) else better(best, value)
        if settings.diverged and not all(map(math.isfinite, losses)):
            self._finish("diverged", step)
        elif settings.after_generalization and self._generalized():
            self._finish("generalized", step)

    def _generalized(self) -> bool:
        bounds = {"train": self._settings.train, "test": self._settings.test}
        for side, bound in bounds.items():
            best = self._best[side]
            if bound is None or math.isnan(best):
                return False
            if not (best >= bound if self._settings.rising else best <= bound):
                return False
        return True

    def _finish(self, status: Status, step: int) -> None:
        self._over = status
        self._session.over(status, step)

    def _due_to_save(self, step: int) -> bool:
        """Return whether the state after `step` is to be saved now."""
        if not self.swept or step == self._final:
            return False
        if self._over is not None or (self._end is not None and step >= self._end - 1):
            self._final = step
            return self._settings.keep in ("all", self._over or "censored")
        passed = time.monotonic() - self._time
        return passed >= self._settings.every_s or self._session.stopping()

    def _pause(self) -> None:
        """End a check that has seen enough; leave a trial without checkpoints if it has to stop."""
        seconds = self._settings.check
        if seconds is not None:
            first, begun = self._begun
            passed = time.monotonic() - begun
            taken = (self._last_row if self._step is None else self._step) - first
            if not self._metrics:
                return
            if passed >= seconds or self._over is not None:
                rate = passed / taken if taken > 0 else None
                self._session.checked(rate, list(self._metrics), saves=self._saves)
                raise Checked
        elif not self._restores and self._session.stopping():
            self._session.save(-1, b"")

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RunError(
                "a process that was forked from the training can't use its run. Call run.log and "
                "run.checkpoint in the process that called sweeper.init."
            )


def is_logged(step: int, points_per_decade: int) -> bool:
    """Return whether `step` is one of `sweeper.steps.logged_steps`."""
    if step < 1:
        return step == 0
    near = round(points_per_decade * math.log10(step))
    return any(round(10 ** (k / points_per_decade)) == step for k in range(near - 1, near + 2))


def _number(name: str, value: Any) -> float:
    """Return the value of a metric as a float.

    Raises:
        RunError: The name can't be a column, or the value is no number.
    """
    if not METRIC.fullmatch(name) or name in RESERVED:
        better = re.sub(r"[^A-Za-z0-9_]", "_", name)
        better = f"{better}_" if better in RESERVED or not METRIC.fullmatch(better) else better
        raise RunError(f"{name!r} can't be the name of a metric. Write {better!r}, for instance.")
    item: Callable[[], Any] | None = getattr(value, "item", None)
    if item is not None:
        size = getattr(value, "numel", None)
        n = size() if callable(size) else getattr(value, "size", 1)
        if n != 1:
            raise RunError(
                f"the metric {name!r} has {n} values. Log one number, e.g. {name}.mean()."
            )
        value = item()
    if isinstance(value, int | float):
        return float(value)
    raise RunError(
        f"the metric {name!r} = {value!r} is of the type {type(value).__name__}. Log a number."
    )
