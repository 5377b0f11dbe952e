"""The progress of a launch: the lines that are printed, and the launch that is stopped."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sweeper.engine import progress as module
from sweeper.engine.driver import Progress
from sweeper.engine.estimate import axis_sizes, estimate
from sweeper.engine.forecast import PackProgress
from sweeper.engine.planner import Counts, plan_launch
from sweeper.engine.progress import Monitor, display, plan_event, plan_sentence
from sweeper.errors import StoreError
from tests.sweeps import run, toy_grid


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of `sweeper.engine.progress`."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def pack(name: str, ended: int, step: int, **more: bool) -> PackProgress:
    """Return a pack of two trials with a horizon of 100,000 steps."""
    return PackProgress(name, 2, ended, step, 0, 100_000, **more)


WAIT = pack("b", 0, 0)
STEPS = [
    (0.0, Progress(0, 0, 0, 0, 0)),  # nothing to do
    (0.0, Progress(4, 0, 0, 2, 1, (pack("a", 0, 0, begun=True), WAIT))),
    (5.0, Progress(4, 0, 0, 2, 1, (pack("a", 0, 20_000, begun=True), WAIT))),  # too soon
    (6.0, Progress(4, 1, 1, 2, 1, (pack("a", 1, 40_100, begun=True), WAIT))),
    (20.0, Progress(4, 1, 1, 2, 1, (pack("a", 1, 40_100, begun=True), WAIT))),  # unchanged
    (
        1.0,
        Progress(
            4,
            4,
            1,
            2,
            0,
            tuple(pack(name, 2, 90_000, begun=True, over=True) for name in ("a", "b")),
        ),
    ),  # the end
]


def test_a_line_is_printed_at_most_every_ten_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with display(Console(width=200), as_json=False, quiet=False) as show:
        for wait, progress in STEPS:
            clock.now += wait
            show(progress)
    assert capsys.readouterr().out.splitlines() == [
        "0% of 400k trial-steps, 0/4 trials ended, 0/2 packs ended, 1 running",
        "35% of 400k trial-steps, 1/4 trials ended, 1 failed, 0/2 packs ended, 1 running, "
        "about 47 s left",
        "100% of 400k trial-steps, 4/4 trials ended, 1 failed, 2/2 packs ended, 0 running",
    ]


def test_json_has_the_same_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with display(Console(), as_json=True, quiet=False) as show:
        for wait, progress in STEPS:
            clock.now += wait
            show(progress)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ended"] for line in lines] == [0, 1, 4]
    assert [line["left_s"] for line in lines] == [None, 46.8, 0.0]
    assert lines[1] == {
        "event": "progress",
        "trials": 4,
        "ended": 1,
        "failed": 1,
        "running_packs": 1,
        "packs": 2,
        "ended_packs": 0,
        "steps": 140_100,
        "of_steps": 400_000,
        "left_s": 46.8,
    }


def test_the_bar_fits_80_columns_and_every_launch_has_its_own_total() -> None:
    console = Console(width=80, force_terminal=True, color_system=None, legacy_windows=False)
    many = tuple(replace(pack(str(i), 1, 40_100, begun=True), trials=10) for i in range(500))
    with console.capture() as capture, display(console, as_json=False, quiet=False) as show:
        show(STEPS[1][1])
        show(Progress(5000, 500, 20, 500, 2, many))
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capture.get()))
    shown = [line.strip() for line in lines if "trained" in line]
    assert shown
    last = " ".join(shown[-1].split()[2:])
    assert last == "46% trained, 500/5000 trials, 0/500 packs 20 failed 0:00:00"
    assert max(map(len, lines)) <= 80


def test_nothing_is_printed_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Console(), as_json=True, quiet=True) as show:
        show(Progress(1, 1, 0, 1, 0))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("most", "stops"), [(None, 0), (3, 0), (2, 1), (1, 1)])
def test_a_launch_is_asked_once_to_stop_when_too_many_trials_failed(
    monkeypatch: pytest.MonkeyPatch, most: int | None, stops: int
) -> None:
    looks: list[Any] = [
        Progress(9, 0, 0, 1, 1),
        StoreError("the network is away"),  # one look fails: the next one tells
        Progress(9, 2, 2, 1, 1),
        Progress(9, 3, 2, 1, 1),
    ]
    shown: list[Progress] = []
    asked: list[None] = []

    def look(_: object) -> Progress:
        at: Progress | Exception = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(at, Exception):
            raise at
        return at

    monkeypatch.setattr(module, "POLL_S", 0.001)
    monkeypatch.setattr(module, "POLL_SHARE", 1.0)
    monkeypatch.setattr("sweeper.engine.progress.Ledger.open", lambda _: None)
    launched: Any = SimpleNamespace(ledger=SimpleNamespace(files=None), progress=look)
    with Monitor(shown.append, max_failures=most, stop=lambda: asked.append(None)) as monitor:
        monitor.start(launched)
        while len(looks) > 1:
            time.sleep(0.001)
    assert len(asked) == stops
    assert shown[0] == Progress(9, 0, 0, 1, 1)
    assert shown[-1] == Progress(9, 3, 2, 1, 1)
    assert all(isinstance(one, Progress) for one in shown)


def test_a_plan_is_a_sentence_and_an_event(tmp_path: Path) -> None:
    grid = toy_grid(tmp_path, "resources.pack=5", "exclude=task.rate > 0.6", "task.shift=0,0,1")
    plan = plan_launch(grid, None, workers=2)
    assert plan_sentence(grid, plan, 90) == (
        "8 trials: 0 done, 8 new, 0 failed; 2 packs on 2 CPUs, at most about 1.5 min "
        "(2 cells collapsed: each means the same as another one)"
    )
    assert plan_event(grid, plan) == {
        "event": "plan",
        "name": "toy",
        "cells": 4,
        "trials": 8,
        "done": 0,
        "new": 8,
        "failed": 0,
        "outdated": 0,
        "packs": 2,
        "workers": 2,
        "collapsed_cells": 2,
        "excluded_cells": 3,
        "hidden": 0,
    }


def test_the_estimate_of_a_launch(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.engine.resources.local_cpus", lambda: 3)
    monkeypatch.setattr("tests.toy.probe", lambda pack: 1e-3 * len(pack.trials))
    grid = toy_grid(tmp_path, "resources.cpu=1.5", "resources.pack=5")
    assert axis_sizes(grid) == {"task.rate": 3, "task.shift": 2}
    cost = estimate(grid, store)
    assert (cost.counts, cost.n_packs, cost.workers) == (Counts(12, 0, 12, 0), 3, 2)
    assert cost.seconds == pytest.approx(12 * 100 * 1e-3 / 2)  # trials * steps * s / workers
    assert cost.memory == 5 * 8
    run(grid, store)
    cost = estimate(grid, store)
    assert (cost.counts, cost.n_packs, cost.seconds) == (Counts(12, 12, 0, 0), 0, 0.0)
