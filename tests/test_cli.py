"""The commands as a user types them: what they print, what they write, how they exit."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweeper.errors import SweeperError
from tests.commands import PHASE, process, sweeper
from tests.sweeps import TOY, assert_whole, ledger, rows, run, toy_grid


@pytest.fixture
def grid_file(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return str(path)


@pytest.fixture
def finished(tmp_path: Path, store: str) -> str:
    """A store with a finished toy sweep."""
    run(toy_grid(tmp_path), store)
    return store


def test_launch_says_first_what_it_will_do_and_last_what_was_done(
    grid_file: str, store: str
) -> None:
    first = sweeper("launch", grid_file, "--inline", "--store", store)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == "12 trials: 0 done, 12 new, 0 failed; 1 pack on 1 CPU"
    assert lines[-1] == "12 trials: 12 done"
    again = sweeper("launch", grid_file, "--inline", "--store", store)
    assert again.stdout.splitlines() == [
        "12 trials: 12 done, 0 new, 0 failed; nothing to do",
        "12 trials: 12 done",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("sql", "toy", "select phase, count(*) as n from delays group by all order by all"),
        ("status", "toy"),
        ("sql", "toy", "select nothing from cells"),
        ("phase", "toy", "--x", "task.rat", "--y", "task.shift"),
        ("sql", "nope", "select 1"),
    ],
)
def test_a_process_of_its_own_prints_the_same_and_exits_alike(
    finished: str, words: tuple[str, ...]
) -> None:
    here, apart = (way(*words, "--store", finished) for way in (sweeper, process))
    assert (here.returncode, here.stdout) == (apart.returncode, apart.stdout)
    assert here.stderr.split() == apart.stderr.split()


def test_json_is_one_object_a_line(grid_file: str, store: str) -> None:
    done = sweeper("launch", grid_file, "--inline", "--store", store, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["plan", "end"]
    assert events[-1]["done"] == 12
    assert events[-1]["exit_code"] == 0


def test_quiet_says_nothing(grid_file: str, store: str) -> None:
    assert sweeper("launch", grid_file, "--inline", "--store", store, "-q").stdout == ""


def test_failed_trials_are_exit_code_3_and_status_shows_their_traceback(
    grid_file: str, store: str
) -> None:
    done = sweeper("launch", grid_file, "task.fate=raises", "--inline", "--store", store)
    assert done.returncode == 3
    assert f"12 failed: see `sweeper status toy --store {store}`" in done.stdout
    shown = sweeper("status", "toy", "--store", store).stdout
    assert "and 11 others failed" in shown
    assert "ArithmeticError: a trial of this pack raises" in shown
    assert sweeper("retry", "toy", "--store", store).stdout.startswith("12 failed trials")


def test_max_failures_stops_a_launch_with_work_left(grid_file: str, store: str) -> None:
    changes = ("task.fate=raises,well", "task.pause=0.02", "seeds=20", "resources.pack=1")
    words = ("--max-failures", "2", "--inline", "--store", store)
    done = sweeper("launch", grid_file, *changes, *words)
    assert done.returncode == 4, done.stdout
    assert "left: launch again to continue" in done.stdout


def test_a_broken_grid_file_is_exit_code_2_with_line_and_column_and_makes_no_store(
    tmp_path: Path, store: str
) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(TOY.replace("task.rate: [0.1", "task.rat: [0.1"))
    done = sweeper("launch", str(path), "--store", store)
    assert done.returncode == 2
    assert done.stderr == f"error: {path}:7:5: task has no field 'rat'. Did you mean 'rate'?\n"
    assert not Path(store).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("launch", "nowhere.yaml"), "error: nowhere.yaml: no such file."),
        (("sql", "nope", "select 1"), "error: no sweep 'nope' in "),
        (("phase", "nope", "--x", "a", "--y", "b"), "error: no sweep 'nope' in "),
        (("status", "nope"), "error: no sweep 'nope' in "),
        (("stop", "nope"), "error: no sweep 'nope' in "),
    ],
)
def test_what_is_not_there_is_exit_code_2(words: tuple[str, ...], message: str, store: str) -> None:
    done = sweeper(*words, "--store", store)
    assert done.returncode == 2
    assert done.stderr.startswith(message), done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_or_option_is_exit_code_2(grid_file: str) -> None:
    assert sweeper("lunch", grid_file).returncode == 2
    assert sweeper("launch", grid_file, "--stor", "x").returncode == 2


def test_the_store_comes_from_flag_then_environment(grid_file: str, tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    sweeper("launch", grid_file, "--inline", SWEEPER_STORE=a)
    sweeper("launch", grid_file, "--inline", "--store", b, SWEEPER_STORE=a)
    assert sweeper("ls", SWEEPER_STORE=a).stdout.count("toy") == 1
    assert sweeper("ls", "--store", b).stdout.count("toy") == 1


def test_ls_and_status_tell_how_far_each_sweep_is(finished: str) -> None:
    row = json.loads(sweeper("ls", "--store", finished, "--json").stdout)
    assert (row["name"], row["trials"], row["ended"]) == ("toy", 12, 12)
    assert "toy" in sweeper("status", "--store", finished).stdout
    assert "no sweep in nowhere" in sweeper("ls", "--store", "nowhere").stdout


def test_sql_prints_and_writes_every_format(finished: str, tmp_path: Path) -> None:
    query = "select cell_id, n_seeds, task.rate from cells order by cell_id"
    base = ("sql", "toy", query, "--store", finished)
    assert len(sweeper(*base).stdout.splitlines()) == 1 + 6
    parsed = [json.loads(line) for line in sweeper(*base, "--format", "json").stdout.splitlines()]
    assert [row["n_seeds"] for row in parsed] == [2] * 6
    for suffix in ("csv", "json", "parquet"):
        sweeper(*base, "-o", str(tmp_path / f"out.{suffix}"))
    assert len(list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))) == 6
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 6


@pytest.mark.parametrize(
    "query",
    [
        "copy (select 1) to 'stolen.csv'",
        "with x as (copy (select 1) to 'stolen.csv') select 1",
        "create table t as select 1",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "attach 'x.db'",
        "set threads = 1",
        "select 1; select 2",
        "selec 1",
    ],
)
def test_sql_is_read_only_and_reads_nothing_else(query: str, finished: str, tmp_path: Path) -> None:
    done = sweeper("sql", "toy", query, "--store", finished)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not Path("stolen.csv").exists()


def test_the_prompt_answers_line_by_line_and_survives_mistakes(finished: str) -> None:
    typed = "select count(*) as n from trials;\nselec 1;\nselect 7\nas seven\n\n"
    done = sweeper("sql", "toy", "--store", finished, stdin=typed)
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[:2] == ["n", "12"]
    assert lines[2].startswith("error: Parser Error")
    assert lines[3:] == ["seven", "7"]


def test_phase_and_curves_write_pictures(finished: str, tmp_path: Path) -> None:
    picture = tmp_path / "phase.png"
    done = sweeper(*PHASE, "-o", str(picture), "--store", finished)
    assert done.stdout == f"{picture}\n", done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = tmp_path / "phase.csv"
    sweeper(*PHASE, "-o", str(table), "--store", finished)
    assert len(list(csv.DictReader(table.read_text().splitlines()))) == 6
    done = sweeper("phase", "toy", "--x", "task.rate", "--y", "task.shift", "--store", finished)
    assert done.returncode == 0
    assert "0.5" in done.stdout
    drawn = tmp_path / "curves.svg"
    sweeper("curves", "toy", "--where", "task.rate = 1.0", "-o", str(drawn), "--store", finished)
    assert drawn.read_text().lstrip().startswith("<?xml")


def test_plan_writes_nothing_and_says_the_cost(grid_file: str, store: str) -> None:
    done = sweeper("plan", grid_file, "--store", store)
    assert done.stdout.startswith("12 trials: 0 done, 12 new, 0 failed; 2 packs on ")
    assert "axes: task.rate x 3, task.shift x 2" in done.stdout
    assert not Path(store).exists()


def test_schema_is_json(store: str) -> None:
    assert json.loads(sweeper("schema").stdout)["type"] == "object"


def begun(words: list[str], where: str) -> subprocess.Popen[str]:
    """Start a launch and wait until a pack has saved a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests' may ignore it
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if any(p.parts for p in ledger(where).state.packs.values()):
                return process
        except SweeperError:
            pass
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(
    ("number", "code", "inline"),
    [
        pytest.param(signal.SIGINT, 130, True, id="interrupt-inline"),
        pytest.param(signal.SIGINT, 130, False, id="interrupt-ray", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 143, True, id="terminate-inline", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 143, False, id="terminate-ray", marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, 129, True, id="hang-up-inline", marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, 129, False, id="hang-up-ray", marks=pytest.mark.long),
    ],
)
def test_the_first_signal_drains_and_a_relaunch_goes_on(
    number: signal.Signals, code: int, inline: bool, grid_file: str, store: str, tmp_path: Path
) -> None:
    options = ("task.pause=0.05", "task.shift=0", "stop.after_generalization=false", "steps=120")
    words = ["launch", grid_file, *options, "--store", store, *(["--inline"] if inline else [])]
    process = begun(words, store)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert "stopping: packs save a checkpoint and end." in err
    packs = ledger(store).state.packs.values()
    assert all(p.checkpoint is not None and not p.done for p in packs if p.attempts)
    grid = toy_grid(tmp_path, *options)
    run(grid, store, workers=1 if inline else 2)
    reference = str(tmp_path / "reference")
    run(grid, reference)
    assert rows(store).equals(rows(reference))
    assert_whole(store, grid)


def test_the_second_signal_kills(grid_file: str, store: str) -> None:
    words = ["launch", grid_file, "task.pause=5", "--store", store, "--inline"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not [*Path(store, "toy", "chains").glob("*/*.json")]:  # a pack is in training
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "killed" in err


def test_stop_drains_a_launch_from_outside(grid_file: str, store: str) -> None:
    process = begun(["launch", grid_file, "task.pause=0.05", "--store", store, "--inline"], store)
    said = sweeper("stop", "toy", "--store", store).stdout
    assert f"process {process.pid} on " in said
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, out + err
    assert sweeper("stop", "toy", "--store", store).stdout == "toy has no running launch\n"


def test_colours_are_only_for_a_terminal(finished: str) -> None:
    assert "\x1b" not in sweeper("status", "--store", finished).stdout


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "ray"])
def test_a_trainable_in_the_working_folder_is_found_and_hides_nothing_of_ours(
    inline: bool, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text((Path(__file__).parent / "toy.py").read_text())
    for name in ("analysis", "trainables", *(["sweeper"] if inline else [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')")
    (tmp_path / "mine.yaml").write_text(TOY.replace("tests.toy", "mine"))
    command = "import sys; sys.path.pop(0); from sweeper.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "launch", "mine.yaml", *(["--inline"] if inline else [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "12 trials: 12 done"
