"""A trial that ends its process, hangs or raises anything at all fails alone. Real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeper.engine.deaths import KILLS, LOST, Death, cause_of, fruitless, verdict
from sweeper.engine.driver import Outcome
from sweeper.engine.task import PackTask
from sweeper.engine.trainer import IDLE_DEATHS, RaisedError
from sweeper.errors import UsageError, WorkerError
from sweeper.grid.grid import Grid
from sweeper.store.outcomes import ended_trials
from sweeper.store.state import Attempt, PackState, Part
from tests import toy
from tests.dying import train_in_worker
from tests.sweeps import assert_whole, ledger, rows, run, statuses, toy_grid

Launcher = Callable[[Sequence[PackTask]], None]


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    """Trains packs as a worker of Ray does."""
    return lambda tasks: train_in_worker(tasks, tmp_path / "output.txt")


def dying_grid(tmp_path: Path, *overrides: str) -> Grid:
    return toy_grid(tmp_path, "trainable=tests.dying", "task.shift=0", *overrides)


def errors(store: str) -> dict[str, str]:
    """Return the error of each failed trial."""
    ends = ended_trials(ledger(store)).to_pylist()
    return {row["trial_id"]: row["error"] for row in ends if row["status"] == "failed"}


def assert_mates_trained(grid: Grid, outcome: Outcome, store: str, tmp_path: Path) -> None:
    """Assert that the failed trials are those that don't fare well, and the rows of the rest."""
    fates = {t.id: t.values["task.fate"] for t in grid.trials()}
    unwell = {i for i, fate in fates.items() if fate != "well"}
    assert set(errors(store)) == unwell
    assert (outcome.counts.new, outcome.counts.failed, outcome.exit_code) == (0, len(unwell), 3)
    reference = str(tmp_path / "reference")
    run(dying_grid(tmp_path, "task.fate=well", "seeds=1"), reference)
    have = rows(store)
    well = have.filter([i not in unwell for i in have["trial_id"].to_pylist()])
    assert well.equals(rows(reference))


STACK = """Fatal Python error: Segmentation fault
Stack (most recent call first):
"""


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("segfaults", "worker died (signal 11)"),
        ("exits", "worker died (exit code 7)"),
        ("is_killed", "worker died (signal 9)"),
    ],
)
def test_a_trial_that_ends_its_process_fails_alone_with_its_last_output(
    fate: str, said: str, launcher: Launcher, tmp_path: Path, store: str
) -> None:
    grid = dying_grid(tmp_path, f"task.fate=well,{fate}", "seeds=1")
    outcome = run(grid, store, workers=1, launcher=launcher)
    assert_mates_trained(grid, outcome, store, tmp_path)
    for error in errors(store).values():
        first, *middle, last = error.splitlines()
        assert (first, last) == (f"last words of one that {fate}", said)
        if fate == "segfaults":
            assert "\n".join(middle).startswith(STACK)
            assert "tests/dying.py" in middle[3]
            assert "sweeper/engine" not in error
        else:
            assert middle == []


def test_a_process_that_crashes_is_tried_once_per_pack_and_one_that_is_killed_twice(
    launcher: Launcher, tmp_path: Path, store: str
) -> None:
    for fate, claims, alone in (("exits", 2, 2), ("is_killed", KILLS + 1, KILLS + 2)):
        grid = dying_grid(tmp_path, f"task.fate={fate}", "seeds=2", "task.rate=0.5")
        where = f"{store}-{fate}"
        run(grid, where, workers=1, launcher=launcher)
        packs = list(ledger(where).state.packs.values())
        assert [(p.size, len(p.attempts)) for p in packs] == [(2, claims), (1, alone), (1, alone)]


def test_a_trial_that_hangs_fails_alone_once_its_timeout_is_over(
    launcher: Launcher, tmp_path: Path, store: str
) -> None:
    grid = dying_grid(
        tmp_path, "task.fate=well,hangs", "seeds=1", "task.rate=0.5", "resources.timeout=0.7"
    )
    outcome = run(grid, store, workers=1, launcher=launcher)
    reference = dying_grid(tmp_path, "task.fate=well", "seeds=1", "task.rate=0.5")
    (error,) = errors(store).values()
    assert "tests/dying.py" in error
    assert error.endswith("\nno row for 0.7 s")
    assert (outcome.counts.done, outcome.counts.failed) == (1, 1)
    (well,) = reference.trials()
    assert statuses(store)[well.id] == "generalized"


def test_a_slow_trial_does_not_hang(launcher: Launcher, tmp_path: Path, store: str) -> None:
    options = ("steps=12", "stop.after_generalization=false", "resources.timeout=0.7")
    grid = dying_grid(tmp_path, "task.rate=0.5", "seeds=1", "task.pause=0.15", *options)
    begun = time.monotonic()
    assert run(grid, store, workers=1, launcher=launcher).exit_code == 0
    assert time.monotonic() - begun > 1.5


def test_a_launch_in_this_process_refuses_a_timeout(tmp_path: Path) -> None:
    from sweeper.engine.driver import inline

    with pytest.raises(UsageError) as caught:
        inline(toy_grid(tmp_path, "resources.timeout=60"))
    assert str(caught.value) == (
        "resources.timeout = 60: with --inline a trial that hangs can't be ended, because the "
        "launch itself trains it. Leave out --inline or resources.timeout."
    )


@pytest.mark.parametrize("fate", ["interrupts", "needs_memory"])
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "child"])
def test_a_trial_that_raises_no_ordinary_error_fails_alone(
    fate: str, inline: bool, launcher: Launcher, tmp_path: Path, store: str
) -> None:
    grid = dying_grid(tmp_path, f"task.fate=well,{fate}", "seeds=1")
    outcome = run(grid, store, workers=1, **({} if inline else {"launcher": launcher}))
    assert_mates_trained(grid, outcome, store, tmp_path)
    name = {"interrupts": "KeyboardInterrupt", "needs_memory": "MemoryError"}[fate]
    assert all(error.endswith(f"\n{name}") for error in errors(store).values())
    assert_whole(store, grid)


def test_ctrl_c_ends_a_launch_in_this_process_and_is_no_failure(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = toy_grid(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def interrupted(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the handler raises")

    with monkeypatch.context() as patch:
        patch.setattr(toy, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(grid, store)
    assert signal.getsignal(signal.SIGINT) is before
    assert run(grid, store).exit_code == 0


def test_a_failed_trial_keeps_the_rows_before_the_checkpoint_from_which_it_went_on(
    tmp_path: Path, store: str
) -> None:
    grid = dying_grid(
        tmp_path,
        "task.fate=exits",
        "seeds=1",
        "task.rate=0.5",
        "checkpoint.every_s=0.000001",
        "stop.after_generalization=false",
    )
    later = lambda tasks: train_in_worker(tasks, tmp_path / "output.txt", doom=40)  # noqa: E731
    run(grid, store, workers=1, launcher=later)
    ends = ended_trials(ledger(store)).to_pylist()
    assert [(end["status"], end["last_step"]) for end in ends] == [("failed", 38)]
    assert_whole(store, grid)


def test_a_task_whose_pack_was_split_goes_on_with_the_open_parts(
    launcher: Launcher, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies between the split and the training of the parts."""
    from sweeper.engine import worker

    whole = worker._attempt
    tried: list[str] = []

    def dies_later(*args: Any) -> list[str]:
        tried.append(args[2])
        if len(tried) == 2:
            raise SystemExit
        return whole(*args)

    grid = toy_grid(tmp_path, "task.fate=well,raises", "task.shift=0", "task.rate=0.5")

    def dies_and_is_retried(tasks: Sequence[PackTask]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(worker, "_attempt", dies_later)
            with pytest.raises(SystemExit):
                worker.run_inline(tasks)
        launcher(tasks)

    outcome = run(grid, store, workers=1, launcher=dies_and_is_retried)
    assert (outcome.counts.new, outcome.counts.done, outcome.counts.failed) == (0, 2, 2)


EXITS = """
import os
from pathlib import Path

with Path(__file__).with_name("imports").open("a") as file:
    file.write("x")
if Path(__file__).with_name("armed").exists():
    os._exit(3)
from tests.toy import *
from tests.toy import Config, train
"""


def test_a_child_that_dies_before_it_trains_is_given_up(
    tmp_path: Path, store: str, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits.py").write_text(EXITS)
    monkeypatch.syspath_prepend(tmp_path)
    grid = toy_grid(tmp_path, "trainable=exits", "task.shift=0")
    (tmp_path / "imports").unlink()

    def armed(tasks: Sequence[PackTask]) -> None:
        (tmp_path / "armed").touch()
        launcher(tasks)

    with pytest.raises(WorkerError) as caught:
        run(grid, store, workers=1, launcher=armed)
    assert str(caught.value) == (
        "worker died (exit code 3) before it began to train the pack. 6 of 6 trials are left to "
        "train: fix the cause and launch again."
    )
    assert (tmp_path / "imports").read_text() == "x" * IDLE_DEATHS


def test_an_error_of_the_store_is_raised_in_the_worker(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RaisedError) as caught:
        launcher([PackTask(str(tmp_path / "empty"), "l", "p")])
    assert (caught.value.kind, caught.value.message) == (
        "StoreError",
        f"{tmp_path}/empty: no sweep. See `sweeper ls`.",
    )


WORKER = """
import sys, time
from sweeper.engine import trainer

trainer.run_pack = lambda *a, **k: time.sleep(600)
trainer.train(trainer.PackTask("s", "l", "p"))
"""


def test_a_child_dies_with_its_worker() -> None:
    worker = psutil.Popen([sys.executable, "-c", WORKER])
    deadline = time.monotonic() + 30
    while not (children := worker.children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    (child,) = children
    worker.kill()
    worker.wait()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def pack_with(*attempts: tuple[str, int, int], size: int = 2) -> PackState:
    """Return a pack with attempts of (launch, step resumed at, last step), and one more."""
    pack = PackState("p", size, "packs/p.parquet")
    for number, (launch, resumed_at, last) in enumerate((*attempts, ("now", -1, -1)), 1):
        pack.attempts.append(Attempt(number, resumed_at, {"launch_id": launch}))
        if last > resumed_at:
            pack.parts.append((number, Part("m", 1, "0", 1, resumed_at + 1, last)))
    return pack


@pytest.mark.parametrize(
    ("attempts", "count"),
    [
        ([], 0),
        ([("now", -1, -1)], 1),
        ([("now", -1, 5)], 0),
        ([("now", -1, 5), ("now", -1, 5)], 1),
        ([("now", -1, 5), ("now", -1, 4), ("now", -1, 5)], 2),
        ([("now", -1, 5), ("now", -1, 4), ("now", -1, 6)], 0),
        ([("now", -1, 5), ("now", 5, 5), ("now", 5, 5)], 2),
        ([("before", -1, -1), ("before", -1, -1)], 0),
        ([("before", -1, -1), ("now", -1, -1)], 1),
    ],
)
def test_attempts_of_this_launch_without_a_new_row_count(
    attempts: list[tuple[str, int, int]], count: int
) -> None:
    assert fruitless(pack_with(*attempts), "now") == count


NOTHING = ("now", -1, -1)
KILLED = Death("p", "worker died (signal 9)", "out", outside=True, times=2)


@pytest.mark.parametrize(
    ("pack", "death", "error"),
    [
        (pack_with(NOTHING), None, None),
        (pack_with(*[NOTHING] * (LOST - 1)), None, None),
        (pack_with(*[NOTHING] * LOST), None, "worker lost 10 times in a row without a new row"),
        (pack_with(*[("before", -1, -1)] * LOST), None, None),
        (pack_with(("now", -1, 5)), Death("p", "x"), "x"),
        (pack_with(("now", -1, 5)), Death("other", "x"), None),
        (pack_with(*[NOTHING] * 2), KILLED, "out\nworker died (signal 9)"),
        (pack_with(NOTHING, ("now", -1, 7)), KILLED, None),
        (pack_with(*[NOTHING] * 2, size=1), KILLED, None),
        (pack_with(NOTHING), KILLED, None),
    ],
)
def test_a_pack_is_given_up_for_what_it_did_itself(
    pack: PackState, death: Death | None, error: str | None
) -> None:
    assert verdict(pack, "now", death) == error


@pytest.mark.long
@pytest.mark.parametrize("rounds", [False, True], ids=["tune", "tasks"])
def test_on_ray_trials_that_end_their_process_fail_alone(
    rounds: bool, tmp_path: Path, store: str
) -> None:
    dying_grid(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, str(tmp_path / "toy.yaml"), store, str(rounds)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    lasts = sorted((e.splitlines()[0], e.splitlines()[-1]) for e in errors(store).values())
    assert lasts == [
        ("last words of one that exits", "worker died (exit code 7)"),
        ("last words of one that hangs", "no row for 2 s"),
        ("last words of one that is_killed", "worker died (signal 9)"),
        ("last words of one that segfaults", "worker died (signal 11)"),
    ]
    assert sorted(statuses(store).values()) == ["failed"] * 4 + ["generalized"]


ON_RAY = """
import sys
from pathlib import Path
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.ray import on_ray

fates = "task.fate=well,segfaults,exits,is_killed,hangs"
settings = ["seeds=1", "task.rate=0.5", "task.shift=0", "resources.timeout=2"]
grid = load_grid(Path(sys.argv[1]), ["trainable=tests.dying", fates, *settings])
with on_ray(grid, rounds=sys.argv[3] == "True") as runner:
    outcome = commands.launch(grid, sys.argv[2], runner)
sys.exit(outcome.exit_code)
"""


@pytest.mark.parametrize(
    ("status", "cause", "outside"),
    [
        (7, "worker died (exit code 7)", False),
        (0, "worker died (exit code 0)", False),
        (-11, "worker died (signal 11)", False),
        (-6, "worker died (signal 6)", False),
        (-9, "worker died (signal 9)", True),
        (-15, "worker died (signal 15)", True),
    ],
)
def test_only_some_signals_come_from_outside(status: int, cause: str, outside: bool) -> None:
    assert cause_of(status) == (cause, outside)
