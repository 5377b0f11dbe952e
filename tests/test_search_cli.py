"""`sweeper search` as a user types it: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeper.compile.loading import load_grid
from tests.commands import sweeper
from tests.searches import attempts, study_of, write

FEW = {
    "search.n_trials": 4,
    "search.batch": 2,
    "seeds": 1,
    "search.finalists": {"top": 1, "seeds": 2},
}


@pytest.fixture
def grid_file(tmp_path: Path) -> str:
    return str(write(tmp_path, FEW))


@pytest.mark.long
def test_a_search_says_each_round_its_leaders_and_how_to_train_the_best_again(
    grid_file: str, store: str, tmp_path: Path
) -> None:
    figure = str(tmp_path / "hill.png")
    done = sweeper("search", grid_file, "--inline", "--store", store, "-o", figure)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 of 4 suggestions")
    assert lines[1].startswith("4 of 4 suggestions; best delay ")
    assert lines[2] == "The leaders on 2 fresh seeds:"
    assert lines[-3].startswith(f"Train the best cell again: sweeper launch {grid_file} ")
    file = Path(store) / "hill" / "search.db"
    assert lines[-2:] == [figure, f"Show the study: optuna-dashboard sqlite:///{file}"]
    assert Path(figure).read_bytes().startswith(b"\x89PNG")
    again = lines[-3].removeprefix("Train the best cell again: sweeper ")
    launched = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m sweeper.cli {again} --inline --store {store}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.stdout.splitlines()[-1] == "2 trials: 2 done", launched.stderr


@pytest.mark.long
def test_json_is_one_object_a_line_and_ends_with_what_was_found(
    grid_file: str, store: str, tmp_path: Path
) -> None:
    figure = str(tmp_path / "hill.svg")
    words = ("--inline", "--store", store, "-o", figure, "--json")
    done = sweeper("search", grid_file, *words)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [e["event"] for e in events if e["event"] != "progress"]
    assert kinds == ["round", "round", "found"]
    last = events[-1]
    assert (last["suggestions"], last["left"], last["failed"], last["exit_code"]) == (4, 0, 0, 0)
    assert (last["objectives"], last["seeds"], last["trials"]) == (["delay"], [1, 2], 4 + 2)
    assert last["reproduce"].startswith(f"sweeper launch {grid_file} name=hill-best ")
    assert last["figure"] == figure
    again = sweeper("search", grid_file, *words)
    same = json.loads(again.stdout.splitlines()[-1])
    for event in (last, same):  # the same changes, in whatever order
        event["reproduce"] = sorted(event["reproduce"].split())
        event["finalists"][0]["overrides"].sort()
    assert same == last


@pytest.mark.long
def test_quiet_says_nothing_and_the_storage_comes_from_the_environment(
    grid_file: str, store: str, tmp_path: Path
) -> None:
    file, figure = tmp_path / "study.db", tmp_path / "hill.png"
    words = ("--inline", "--store", store, "-o", str(figure), "-q")
    done = sweeper("search", grid_file, *words, OPTUNA_STORAGE=f"sqlite:///{file}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.exists()
    assert figure.exists()
    assert not (Path(store) / "hill" / "search.db").exists()


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("-o", "hill.gif"), "hill.gif: a figure is written as .png or .svg.", 2),
        (
            ("--storage", "sqlite:////nowhere/at/all.db"),
            "sqlite:////nowhere/at/all.db: unable to open database file. Check that the database is "
            "up and may be written, and its URL: sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/NAME.",
            5,
        ),
        (
            ("search=null",),
            "hill: the grid file has no section search. "
            "Add one, e.g. search: {space: {selection.tau: {uniform: [0, 1]}}}.",
            2,
        ),
    ],
)
def test_what_cant_be_is_said_before_anything_runs(
    words: tuple[str, ...], message: str, code: int, grid_file: str, store: str
) -> None:
    done = sweeper("search", grid_file, *words, "--inline", "--store", store)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert not Path(store).exists()


@pytest.mark.long
def test_failed_trials_are_exit_code_3_and_another_definition_needs_a_fresh_study(
    tmp_path: Path, store: str
) -> None:
    space = {
        "search.space": {"task.fate": {"categorical": ["well", "raises"]}},
        "search.sampler": "grid",
    }
    file = str(write(tmp_path, {**FEW, **space}))
    words = ("--inline", "--store", store, "-o", str(tmp_path / "hill.png"))
    assert sweeper("search", file, *words).returncode == 3
    other = sweeper("search", file, "seeds=2", *words)
    assert (other.returncode, other.stderr) == (
        2,
        "error: the search 'hill' was begun with other settings: seeds changed. Give the sweep "
        "another name (name=...), or use --fresh to begin a new study that learns from the trials "
        "in the store.\n",
    )
    assert sweeper("search", file, "seeds=2", *words, "--fresh").returncode == 3
    assert set(attempts(store).values()) <= {1, 2}  # a pack that fails is split


def test_the_first_signal_drains_a_search_and_another_one_goes_on(
    tmp_path: Path, store: str
) -> None:
    slow = write(tmp_path, {**FEW, "fixed": {"steps": 3000, "task.pause": 0.02}})
    words = ["search", str(slow), "--inline", "--store", store, "-o", str(tmp_path / "hill.png")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("2 of 4 suggestions"), process.communicate()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, out + err
    assert "stopping: packs save a checkpoint and end." in err
    assert sweeper(*words).returncode == 0
    study = study_of(load_grid(slow, []), store)
    assert (study.pending(), study.n_asked) == ([], 4)
    assert set(attempts(store).values()) == {1}
