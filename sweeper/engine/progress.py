"""The progress of a launch, shown while it runs: a bar, plain lines, or JSON objects.

Everything is read from the ledger, so it is correct on any runner and on any machine.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from sweeper.config.messages import STORE, counted, duration, store_option
from sweeper.engine.driver import Launched, Progress
from sweeper.engine.estimate import Estimate
from sweeper.engine.forecast import Forecast
from sweeper.engine.planner import Counts, Plan
from sweeper.errors import SweeperError
from sweeper.grid.grid import Grid
from sweeper.store.ledger import POLL_S, SNAPSHOT_S, Ledger

POLL_SHARE = 0.05
"""Largest share of a core that polling may take: with very many packs it polls less often."""

PLAIN_S = 10.0
"""Seconds between two plain lines, where the output isn't a terminal."""


def emit(**event: object) -> None:
    """Print one JSON object on a line of its own."""
    sys.stdout.write(json.dumps(event, allow_nan=False) + "\n")
    sys.stdout.flush()


class Monitor:
    """Follows a launch in a thread of its own; use it as a context manager.

    Args:
        show: Called with the progress every `POLL_S` seconds, less often if reading the ledger
            takes long, and once at the end.
        max_failures: Stop the launch once this many trials have failed; None for no limit.
        stop: Called to stop the launch.
    """

    def __init__(
        self,
        show: Callable[[Progress], None],
        *,
        max_failures: int | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.stop = stop
        self._show = show
        self._max_failures = max_failures
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, launched: Launched) -> None:
        """Follow `launched` from now on, instead of an earlier launch."""
        self._end()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(launched, self._over), daemon=True)
        self._thread.start()

    def _end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, launched: Launched, ending: threading.Event) -> None:
        ledger = Ledger.open(launched.ledger.files)
        asked = False
        wait = POLL_S
        saved = time.monotonic()
        while True:
            over = ending.wait(wait)
            begun = time.monotonic()
            try:
                progress = launched.progress(ledger)
            except SweeperError:
                progress = None
            if progress is not None:
                self._show(progress)
                limit = self._max_failures
                if limit is not None and progress.failed >= limit and not asked:
                    asked = True
                    self.stop()
            if over:
                return
            if time.monotonic() - saved > SNAPSHOT_S:
                saved = time.monotonic()
                with suppress(SweeperError):
                    ledger.save_snapshot()
            wait = min(PLAIN_S, max(POLL_S, (time.monotonic() - begun) / POLL_SHARE))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


@contextmanager
def display(
    console: Console, *, as_json: bool, quiet: bool
) -> Iterator[Callable[[Progress], None]]:
    """Yield the function that shows progress: a bar, plain lines, JSON, or nothing."""
    if quiet:
        yield lambda _: None
    elif as_json:
        yield _Lines(lambda p, left: emit(event="progress", **_fields(p, left)))
    elif not console.is_terminal:
        yield _Lines(lambda p, left: console.print(_sentence(p, left), highlight=False))
    else:
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[state]}"),
            TextColumn("[red]{task.fields[failures]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Bar(*columns, console=console, transient=True) as bar:
            yield _Live(bar)


def _fields(p: Progress, left: float | None) -> dict[str, object]:
    return {
        "trials": p.trials,
        "ended": p.ended,
        "failed": p.failed,
        "running_packs": p.running,
        "packs": p.packs,
        "ended_packs": p.packs_over,
        "steps": p.steps,
        "of_steps": p.of_steps,
        "left_s": None if left is None else round(left, 1),
    }


def _sentence(p: Progress, left: float | None) -> str:
    failed = f", {p.failed} failed" if p.failed else ""
    time_left = f", about {duration(left)} left" if left else ""
    return (
        f"{_percent(p)} of {_rounded(p.of_steps)} trial-steps, {p.ended}/{p.trials} trials ended"
        f"{failed}, {p.packs_over}/{counted(p.packs, 'pack')} ended, {p.running} running{time_left}"
    )


def _percent(p: Progress) -> str:
    """Return the share of trial-steps that are done, rounded down: 100 % is the end."""
    return f"{100 * p.steps // p.of_steps if p.of_steps else 100}%"


def _rounded(n: int) -> str:
    """Return a large number with three digits, e.g. 26.2M."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


class _Lines:
    """Prints a line when the progress has changed, at most every `PLAIN_S` seconds."""

    def __init__(self, write: Callable[[Progress, float | None], None]) -> None:
        self._write = write
        self._last: tuple[float, Progress | None] = (0.0, None)
        self._forecast = Forecast()

    def __call__(self, progress: Progress) -> None:
        at, before = self._last
        left = self._forecast.observe(time.monotonic(), progress.each)
        over = progress.ended == progress.trials
        if progress.trials and progress != before and (over or time.monotonic() - at >= PLAIN_S):
            self._last = (time.monotonic(), progress)
            self._write(progress, left)


class _Live:
    """Updates a progress bar. Its spinner and clock move by themselves between two updates."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._forecast = Forecast()

    def __call__(self, p: Progress) -> None:
        if not p.trials:
            return
        left = self._forecast.observe(time.monotonic(), p.each)
        fields = {
            "state": f"{_percent(p)} trained, {p.ended}/{p.trials} trials, "
            f"{p.packs_over}/{counted(p.packs, 'pack')}",
            "failures": f"{p.failed} failed" if p.failed else "",
            "left": f"{duration(left)} left" if left else "",
        }
        if self._task is None:
            self._task = self._bar.add_task("", total=p.of_steps, **fields)  # type: ignore[arg-type]
        self._bar.update(self._task, total=p.of_steps, completed=p.steps, **fields)  # type: ignore[arg-type]


def plan_event(grid: Grid, plan: Plan | Estimate) -> dict[str, object]:
    """Return a plan as the fields of a JSON event."""
    c = plan.counts
    return {
        "event": "plan",
        "name": grid.name,
        "cells": grid.n_cells,
        "trials": c.trials,
        "done": c.done,
        "new": c.new,
        "failed": c.failed,
        "packs": plan.n_packs,
        "workers": plan.workers,
        "collapsed_cells": grid.n_duplicates,
        "excluded_cells": grid.n_excluded,
        "hidden": plan.hidden,
        "outdated": plan.outdated,
    }


def end_sentence(grid: Grid, counts: Counts, store: str = STORE) -> str:
    """Return the outcome of a launch as a sentence: "12 trials: 10 done, 2 failed: see ..."."""
    text = f"{counted(counts.trials, 'trial')}: {counts.done} done"
    if counts.failed:
        text += f", {counts.failed} failed: see `sweeper status {grid.name}{store_option(store)}`"
    return text + (f", {counts.new} left: launch again to continue" if counts.new else "")


def plan_sentence(grid: Grid, plan: Plan | Estimate, seconds: float | None = None) -> str:
    """Return a plan as a sentence: "480 trials: 360 done, 120 new, 0 failed; 4 packs on 2 CPUs"."""
    c = plan.counts
    text = f"{counted(c.trials, 'trial')}: {c.done} done, {c.new} new, {c.failed} failed"
    if c.new:
        n = plan.workers
        what = "GPU slots" if grid.file.resources.gpu else "CPUs" if n > 1 else "CPU"
        text += f"; {counted(plan.n_packs, 'pack')} on {n} {what}"
        if seconds is not None:
            text += f", at most about {duration(seconds)}"
    else:
        text += "; nothing to do"
    if grid.n_duplicates:
        cells = counted(grid.n_duplicates, "cell")
        text += f" ({cells} collapsed: each means the same as another one)"
    return text


def criterion_sentence(grid: Grid) -> str:
    """Return how memorizing and generalizing are read from the metrics of a user's code."""
    criterion = grid.criteria[""]
    m = criterion.metric
    way = "larger" if criterion.rising else "smaller"
    if criterion.rule != "threshold":
        return f"criterion: {criterion.rule} of train_{m} and test_{m}; {way} is better"
    sign = ">=" if criterion.rising else "<="
    return (
        f"criterion: train_{m} {sign} {criterion.train:g} is memorizing, test_{m} {sign} "
        f"{criterion.test:g} generalizing"
    )


def edited(grid: Grid) -> str:
    """Return the message that the sweep's own version of a user's code is trained."""
    return (
        f"{grid.file.trainable} has changed since the last launch. These trials run the version of "
        "that launch; to train with the new one, launch the grid file."
    )


def outdated(grid: Grid, n: int) -> str:
    """Return the message about trials that count as done though other code or data trained them."""
    other = f"another version of {grid.file.trainable}" if grid.config.code else "other data"
    return (
        f"{counted(n, 'trial')} of the store ran {other}. Add --rerun to train "
        f"{'it' if n == 1 else 'them'} again."
    )


def hidden_before(grid: Grid, hidden: int) -> str:
    """Return the warning that the views will show no stored trials but those of the grid."""
    return (
        f"This grid hides {counted(hidden, 'trial')} that the store keeps. Add name={grid.name}-2 "
        "to the command to make a sweep of its own."
    )


def hidden_after(grid: Grid, hidden: int, store: str = STORE) -> str:
    """Return how to see the stored trials that a launch of `grid` has hidden."""
    return (
        f"{counted(hidden, 'stored trial')} hidden: `sweeper sql {grid.name} --all"
        f"{store_option(store)}` queries every trial. A launch of the larger grid shows them again."
    )
