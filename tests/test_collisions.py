"""A user's own modules called `analysis`, `trainables`, `tests` or `benchmarks`, beside ours.

Neither theirs hide ours nor ours theirs: installed editable and from a wheel, as modules, as
packages and as folders without `__init__.py`. Ray's workers: `tests/test_ray.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.sweeps import TOY
from tests.theirs import NAMES, write_theirs

ROOT = Path(__file__).parents[1]
WORDS = (
    ("launch", "toy.yaml", "--inline", "--yes", "--quiet"),
    ("status", "toy"),
    ("sql", "toy", "select count(*) as trials from delays", "--format", "csv"),
    ("phase", "toy", "--x", "task.rate", "--y", "task.shift", "-o", "toy.csv"),
)
OWN_PART = (
    ("launch", "parity.yaml", "--inline", "--yes", "--quiet"),
    ("sql", "parity", "select count(*) as trials from trials where status <> 'failed'"),
)
RUN_ALL = """
from sweeper.cli import app
for words in {}:
    try:
        app(list(words))
    except SystemExit as end:
        assert not end.code, (words, end.code)
import analysis, sweeper.analysis
assert analysis.WHOSE == "theirs"
print("ours:", sweeper.__file__)
"""
"""Runs commands in one process that has imported nothing yet."""
PARITY = """
name: parity
fixed: {task: {name: "lab:Parity"}, steps: 10}
grid: {product: {model.name: [dense]}}
seeds: 1
"""
LAB = """
import torch
import analysis, trainables
from sweeper.trainables.config.own import Task

assert analysis.WHOSE == trainables.WHOSE == "theirs"


class Parity(Task):
    inputs: int = 4
    outputs: int = 2

    def examples(self, g):
        bits = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * self.inputs)
        return 2 * bits - 1, bits[:, :2].sum(dim=1) % 2
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pip install` of the wheel leaves it in site-packages."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_wheel_holds_one_name_and_all_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.partition("/")[0] for n in names} == {"sweeper", "sweeper-0.1.0.dist-info"}
    shipped = {
        f"sweeper/{path.relative_to(base).as_posix()}"
        for base, folder in (
            (ROOT / "sweeper", ROOT / "sweeper"),
            (ROOT, ROOT / "analysis"),
            (ROOT, ROOT / "trainables"),
        )
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == {n for n in names if n.startswith("sweeper/")}


def run_all(folder: Path, words: object, *path: Path) -> str:
    """Run commands in `folder`, with it and `path` on the path; return what they print."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL.format(repr(words))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", *map(str, path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["module", "package", "folder"])
@pytest.mark.parametrize("installed", ["editable", "wheel"])
def test_modules_of_a_user_with_the_names_of_ours_are_met_by_neither(
    tmp_path: Path, site: Path, installed: str, kind: str
) -> None:
    write_theirs(tmp_path, kind)
    (tmp_path / "toy.yaml").write_text(TOY.replace("tests.toy", "mine"))
    said = run_all(tmp_path, WORDS, *([site] if installed == "wheel" else []))
    assert '"trials"\n12\n' in said
    assert (f"ours: {site}" in said) == (installed == "wheel")


def test_a_part_of_a_user_imports_its_base_class_beside_modules_of_their_own(
    tmp_path: Path, site: Path
) -> None:
    write_theirs(tmp_path, "module")
    (tmp_path / "parity.yaml").write_text(PARITY)
    (tmp_path / "lab.py").write_text(LAB)
    assert "trials\n     1\n" in run_all(tmp_path, OWN_PART, site)


def test_old_names_of_public_modules_are_the_same_objects(tmp_path: Path, site: Path) -> None:
    code = """
import sweeper
import analysis.views.views, trainables.grokking
from trainables.config.own import Task
import sweeper.analysis.views.views, sweeper.trainables.config.own as own
assert Task is own.Task
assert analysis.views.views is sweeper.analysis.views.views
assert trainables.grokking.__name__ == "sweeper.trainables.grokking"
"""
    for folder, path in ((tmp_path, str(site)), (ROOT, "")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_checkout_imports_its_folders_by_either_name_first() -> None:
    code = """
from trainables.config.own import Task
from sweeper.trainables.config.own import Task as Same
assert Task is Same
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_names_are_those_of_our_top_level_folders() -> None:
    assert {n for n in NAMES if (ROOT / n).is_dir()} == set(NAMES)
