"""The scripts of docs/examples/scripts: each runs alone and in a sweep, with at most five lines added."""

from __future__ import annotations

import difflib
import importlib.util
import os
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
    "modular_addition": ["--steps=60", "--P=5"],
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
    "char_gpt": ["max_chars=2000,4000", "n_embd=16", "max_iters=20", "steps=21"],
    "digits_sgd": ["train_size=50,100", "alpha=1e-4", "epochs=2", "steps=2"],
    "lightning_mlp": ["lr=0.1,0.4", "weight_decay=0.01", "steps=160"],
    "linear_numpy": ["n_train=20,40", "init_scale=1e-2", "steps=101"],
    "modular_addition": ["P=5,7", "WEIGHT_DECAY=1.0", "TRAIN_FRACTION=0.7", "steps=101"],
}
"""Values that make a sweep of two trials."""

MOST = {"lightning_mlp": 6}
"""Lines of a script that were added, where they are more than 5: its metrics are called val_M."""

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
    assert 4 <= len(added) <= MOST.get(script, 5), added
    assert len(removed) < len(added), removed


@pytest.mark.long
def test_a_script_runs_by_hand(name: str, tmp_path: Path) -> None:
    """It prints what it printed before, and writes nothing."""
    script = str(SCRIPTS / f"{name}.py")
    code = f"""
import runpy, sys
{SHORT.get(name, "")}
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""
    printed = run("-c", code, *ALONE[name], cwd=tmp_path)
    assert len(printed.splitlines()) >= 3, printed
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
