"""The scripts of docs/examples/scripts: each runs alone and in a sweep, with at most five lines added."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.compile.loading import load_grid
from tests.commands import process

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "docs" / "examples" / "scripts"

NEEDS = {"digits_sgd": "sklearn", "lightning_mlp": "lightning"}
"""Packages that a script needs beyond those of the project."""

ALONE = {
    "char_gpt": ["--max_iters=4", "--eval_interval=2", "--eval_iters=1", "--max_chars=2000"],
    "digits_sgd": ["--epochs=2", "--verbose"],
    "lightning_mlp": ["--lr=0.2"],
    "linear_numpy": ["--n_steps=20", "--print_every=5", "--n_features=20"],
    "modular_addition": ["--steps=101", "--P=5"],
}
"""Options that make a run by hand short."""

SHORT = {
    "lightning_mlp": """
from functools import partial
import lightning
lightning.Trainer = partial(lightning.Trainer, limit_train_batches=1)
"""
}
"""Code to run before a script whose options can't make it short."""

SWEPT = {
    "char_gpt": ["max_chars=2000,4000", "n_embd=16", "steps=20"],
    "digits_sgd": ["train_size=50,100", "alpha=1e-4", "epochs=2", "steps=2"],
    "lightning_mlp": ["lr=0.1,0.4", "weight_decay=0.01", "steps=160"],
    "linear_numpy": ["n_train=20,40", "init_scale=1e-2", "steps=100"],
    "modular_addition": ["P=5,7", "WEIGHT_DECAY=1.0", "TRAIN_FRACTION=0.7", "steps=101"],
}
"""Values that make a sweep of two trials."""

NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of a script whose packages are installed."""
    script = str(request.param)
    if script in NEEDS and importlib.util.find_spec(NEEDS[script]) is None:
        pytest.skip(f"{script}.py needs {NEEDS[script]}")
    return script


def run(*words: str, cwd: Path) -> str:
    """Return what a command prints, after it has ended well."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without_times(text: str) -> str:
    """Return the text without numbers of seconds."""
    return re.sub(r"[0-9.]+ s$", "", text, flags=re.MULTILINE)


def test_every_script_has_its_former_self_and_a_grid() -> None:
    assert set(NAMES) == set(ALONE) == set(SWEPT)
    assert [path.stem for path in sorted((SCRIPTS / "before").glob("*.py"))] == NAMES
    assert [path.stem for path in sorted(SCRIPTS.glob("*.yaml"))] == NAMES


@pytest.mark.parametrize("script", NAMES)
def test_at_most_five_lines_were_added(script: str) -> None:
    before = (SCRIPTS / "before" / f"{script}.py").read_text().splitlines()
    after = (SCRIPTS / f"{script}.py").read_text().splitlines()
    changes = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    added = [line for line in changes if line.startswith("+")]
    removed = [line for line in changes if line.startswith("-")]
    assert 4 <= len(added) <= 5, added
    assert len(removed) < len(added), removed


@pytest.mark.long
def test_a_script_runs_by_hand(name: str, tmp_path: Path) -> None:
    """With a command line as before it prints what it printed before. No script writes a file."""
    script = str(SCRIPTS / f"{name}.py")
    code = f"""
import runpy, sys
{SHORT.get(name, "")}
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""
    printed = run("-c", code, *ALONE[name], cwd=tmp_path)
    assert len(printed.splitlines()) >= 3, printed
    if name in ("char_gpt", "digits_sgd"):  # the others had no command line before
        former = run(str(SCRIPTS / "before" / f"{name}.py"), *ALONE[name], cwd=tmp_path)
        assert without_times(printed) == without_times(former)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_script_is_swept(name: str, tmp_path: Path) -> None:
    grid = SCRIPTS / f"{name}.yaml"
    launch = ["launch", str(grid), *SWEPT[name], "--inline", "--yes"]
    done = process(*launch, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 trials: 2 done"
    query = "select count(*) n, count(distinct (trial_id, step)) d, count(distinct trial_id) t from metrics"
    answer = process("sql", name, query, "--format", "csv", cwd=tmp_path, PYTHONPATH=str(ROOT))
    rows, distinct, trials = map(int, answer.stdout.splitlines()[1].split(","))
    assert rows == distinct >= 4
    assert trials == 2


@pytest.mark.parametrize("script", NAMES)
def test_a_grid_of_a_script_is_small(script: str) -> None:
    if script in NEEDS and importlib.util.find_spec(NEEDS[script]) is None:
        pytest.skip(f"{script}.py needs {NEEDS[script]}")
    grid = load_grid(SCRIPTS / f"{script}.yaml")
    assert 12 <= grid.n_trials <= 30


TUTORIAL = ROOT / "docs" / "your_script.md"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of the tutorial in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE
    )


def commands() -> list[list[str]]:
    """Return the words of the tutorial's commands, in order."""
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


def with_checkpoints(script: str) -> str:
    """Return the script with the two blocks of the tutorial about checkpoints."""
    before, after = blocks("python")
    head, loop = script.split("for epoch in run.steps")
    return f"{head}{before}\nfor epoch in run.steps{loop}{after}"


def test_the_tutorial_shows_the_lines_that_were_added() -> None:
    (shown,) = blocks("diff")
    before = (SCRIPTS / "before" / "modular_addition.py").read_text().splitlines()
    after = (SCRIPTS / "modular_addition.py").read_text().splitlines()
    changes = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    real = [line for line in changes if line[0] in "+-" and line != "+"]
    assert sorted(real) == sorted(line for line in shown.splitlines() if line[0] in "+-")


def test_the_tutorials_grid_is_that_of_the_example() -> None:
    (block,) = blocks("yaml")
    example = (SCRIPTS / "modular_addition.yaml").read_text()
    assert example.split("\n", 3)[3] == block.split("\n", 2)[2]


@pytest.mark.long
def test_the_tutorials_commands_run_as_typed(tmp_path: Path) -> None:
    """In a fresh folder beside the checkout; the trials are smaller, and nothing starts Ray."""
    (tmp_path / "sweeper").symlink_to(ROOT)
    lab = tmp_path / "my-lab"
    (block,) = blocks("yaml")
    for program, *words in commands():
        if program == "mkdir":
            lab.mkdir()
            (lab / "train.yaml").write_text(block.replace("{steps: 1001}", "{steps: 101, P: 7}"))
        elif program == "cp":
            shutil.copy(lab / words[0], lab / words[1])
        elif program == "python":
            run(*words, cwd=lab)
        elif program == "sweeper":
            if "name=longer" in words:
                script = lab / "train.py"
                script.write_text(with_checkpoints(script.read_text()))
            inline = ["--inline", "--yes"] if words[0] == "launch" else []
            inline = ["--inline"] if words[0] == "extend" else inline
            done = process(*words, *inline, cwd=lab, PYTHONPATH=str(ROOT))
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        else:
            assert program == "cd", program
    for picture in ("phase.png", "curves.png"):
        assert (lab / picture).stat().st_size > 0
    query = "select last_step, attempt from trials"
    rows = process("sql", "longer", query, "--format", "csv", cwd=lab, PYTHONPATH=str(ROOT))
    assert {row.split(",")[0] for row in rows.stdout.splitlines()[1:]} == {"400"}


@pytest.mark.long
def test_the_tutorials_mistake_is_refused_as_shown(tmp_path: Path) -> None:
    (shown,) = blocks("console")
    (typed, message) = shown.splitlines()
    shutil.copy(SCRIPTS / "modular_addition.py", tmp_path / "train.py")
    (block,) = blocks("yaml")
    (tmp_path / "train.yaml").write_text(block)
    words = shlex.split(typed)[2:]
    done = process(*words, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 2
    assert done.stderr == f"{message}\n"
