"""The status of a sweep: trials by status, rate and time left, failures, the driver."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper.engine.worker import run_inline
from sweeper.errors import UsageError
from sweeper.report import status as module
from sweeper.report.status import Status, status, status_view
from sweeper.store.files import Files
from sweeper.store.lease import driving, join
from sweeper.store.ledger import Ledger
from tests.commands import sweeper
from tests.sweeps import ledger, run, toy_grid


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


def shown(*sweeps: Status, width: int = 200) -> str:
    """Return the view of `status` as text."""
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(status_view(list(sweeps)))
    return capture.get()


def test_the_status_of_a_finished_sweep(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=well,raises,diverges", "task.shift=0", "resources.pack=1")
    before = time.time()
    run(grid, store)
    found = status(store, "toy")
    assert found.counts == {"generalized": 4, "censored": 2, "failed": 6, "diverged": 6}
    assert (found.trials, found.ended, found.steps, found.settled) == (18, 18, 100, True)
    assert (found.driver, found.rate, found.eta_s) == (None, None, None)
    assert before <= found.launched_at <= time.time()
    ((n, trial_id, error),) = found.failures
    failed = [t.id for t in grid.trials() if t.values["task.fate"] == "raises"]
    assert (n, trial_id) == (6, min(failed))
    text = shown(found)
    assert f"toy: trial {trial_id} and 5 others failed\n" in text
    assert error.splitlines()[-1] in text
    assert text.splitlines()[:2] == [
        "sweep  trials  ended  generalized  horizon  diverged  failed",
        "toy        18     18            4        2         6       6",
    ]


def test_a_driver_at_work_has_a_rate_and_a_time_left(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = toy_grid(tmp_path, "task.shift=0", "resources.pack=3")  # two packs of three

    def first(tasks: Any) -> None:
        run_inline(tasks[:1])

    run(grid, store, launcher=first)
    launched_at = ledger(store).state.launch["at"]  # type: ignore[index]
    clock = Clock()
    clock.now = launched_at + 12.0
    monkeypatch.setattr(module, "time", clock)
    with driving(Ledger.open(Files.at(join(store, "toy"))), "later"):
        found = status(store, "toy")
    assert found.ended == 3
    assert found.counts["pending"] == 3
    assert found.driver is not None
    assert found.driver.startswith("process ")
    assert not found.settled
    assert found.rate == pytest.approx(3 / 12)
    assert found.eta_s == pytest.approx(3 / (3 / 12))
    assert shown(found).splitlines() == [
        "sweep  trials  ended  generalized  horizon  pending",
        "toy         6      3            2        1        3",
        f"toy: {found.driver} trains, 0.25 trials per second, 12 s left",
    ]


def test_a_sweep_without_a_launch_has_no_status(store: str) -> None:
    meta = {"name": "toy", "points_per_decade": 50, "uid": "u"}
    Ledger.create(Files.at(join(store, "toy"), create=True), meta)
    with pytest.raises(UsageError, match=r"^toy: nothing was launched yet\.$"):
        status(store, "toy")


def test_the_table_fits_80_columns_whatever_the_trials_came_to() -> None:
    statuses = ("generalized", "censored", "diverged", "failed", "running", "pending")
    counts = dict.fromkeys(statuses, 123_456)
    one, other = (
        Status(name, counts, None, None, None, [], 100, 0.0) for name in ("a-longer-name.", "b")
    )
    assert shown(one, other, width=80).splitlines() == [
        "sweep          trials  ended generalized horizon diverged failed running pending",
        "a-longer-name. 740736 493824      123456  123456   123456 123456  123456  123456",
        "b              740736 493824      123456  123456   123456 123456  123456  123456",
    ]
    longer = Status("a-name-that-is-much-too-long", counts, None, None, None, [], 100, 0.0)
    lines = shown(longer, width=80).splitlines()
    assert lines == [
        "sweep          trials  ended generalized horizon diverged failed running pending",
        "a-name-that-is 740736 493824      123456  123456   123456 123456  123456  123456",
        "-much-too-long                                                                  ",
    ]


def test_a_status_that_no_trial_has_takes_no_column() -> None:
    sweeps = [
        Status("a", {"censored": 2}, None, None, None, [], 100, 0.0),
        Status("b", {"failed": 1}, None, None, None, [], 100, 0.0),
    ]
    assert shown(*sweeps, width=80).splitlines()[:3] == [
        "sweep  trials  ended  horizon  failed",
        "a           2      2        2       0",
        "b           1      1        0       1",
    ]


def test_a_damaged_sweep_hides_no_other(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "task.shift=0"), store)
    meta = {"name": "b", "points_per_decade": 50}
    for name in ("b", "c"):
        Ledger.create(Files.at(join(store, name), create=True), meta)
    (Path(store) / "a").mkdir()
    (Path(store) / "a" / "sweep.json").write_text("{")
    (Path(store) / "c" / "sweep.json").write_text("[]")
    (Path(store) / "stray").write_text("no sweep")
    (Path(store) / "folder").mkdir()
    damage = "damaged: {} that aren't a record. Restore it from a backup, or run `sweeper doctor`; the files it names are untouched."
    reasons = [
        f"a: {store}/a/sweep.json: {damage.format('1 bytes')}",
        "b: nothing was launched yet.",
        f"c: {store}/c/sweep.json: {damage.format('2 bytes')}",
    ]
    for command in ("ls", "status"):
        shown = sweeper(command, "--store", store)
        assert (shown.returncode, shown.stderr) == (2, "")
        lines = [line.rstrip() for line in shown.stdout.splitlines()]
        assert lines == [
            "sweep  trials  ended  generalized  horizon",
            "a           -      -            -        -",
            "b           -      -            -        -",
            "c           -      -            -        -",
            "toy         6      6            4        2",
            *reasons,
        ]
        shown = sweeper(command, "--store", store, "--json")
        assert shown.returncode == 2
        rows = [json.loads(line) for line in shown.stdout.splitlines()]
        assert [row["name"] for row in rows] == ["a", "b", "c", "toy"]
        assert [f"{row['name']}: {row['error']}" for row in rows[:3]] == reasons
        assert [row["damaged"] for row in rows[:3]] == [True, False, True]


def test_a_sweep_that_was_not_launched_yet_is_no_error(store: str) -> None:
    meta = {"name": "b", "points_per_decade": 50}
    Ledger.create(Files.at(join(store, "b"), create=True), meta)
    for command in ("ls", "status"):
        shown = sweeper(command, "--store", store)
        assert shown.returncode == 0
        assert "b: nothing was launched yet." in shown.stdout
