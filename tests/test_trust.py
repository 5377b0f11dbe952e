"""No code of a grid that comes from anywhere is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commands import sweeper

GRID = "name: g\nfixed: {task: {name: sparse_recovery}, steps: 10}\n"

EVIL = """
from pathlib import Path
Path("ran").write_text("")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module that leaves a trace when it is imported."""
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "plain.yaml").write_text(GRID)
    (tmp_path / "trainable.yaml").write_text(f"{GRID}trainable: evil\n")
    (tmp_path / "part.yaml").write_text(GRID.replace("sparse_recovery", "'evil:Task'"))
    (tmp_path / "axis.yaml").write_text(
        f"{GRID}grid: {{product: {{regularizer.name: [none, 'evil:Penalty']}}}}\n"
    )
    sys.modules.pop("evil", None)
    return tmp_path


PLACES = {
    "trainable": ("3:12", "trainable = 'evil'"),
    "part": ("2:22", "fixed.task.name = 'evil:Task'"),
    "axis": ("3:43", "grid.product.regularizer.name.1 = 'evil:Penalty'"),
}


@pytest.mark.parametrize("command", ["plan", "launch", "search"])
@pytest.mark.parametrize("grid", PLACES)
def test_no_module_that_a_grid_names_is_imported_unasked(
    folder: Path, grid: str, command: str
) -> None:
    place, value = PLACES[grid]
    text = (folder / f"{grid}.yaml").read_text()
    refusal = (
        f"{place}: {value} would import a module of that name and run its code. Add --trust if you "
        "trust the grid and that module.\n"
    )
    piped = sweeper(command, "-", stdin=text, cwd=folder)
    assert (piped.returncode, piped.stdout, piped.stderr) == (2, "", f"error: stdin:{refusal}")
    safe = sweeper(command, f"{grid}.yaml", "--safe", cwd=folder)
    assert (safe.returncode, safe.stderr) == (2, f"error: {grid}.yaml:{refusal}")
    assert not (folder / "ran").exists()
    assert sweeper(command, "-", "--trust", stdin=text, cwd=folder).returncode == 2  # no Task
    assert (folder / "ran").exists()


def test_a_file_is_trusted_by_default(folder: Path) -> None:
    assert sweeper("plan", "trainable.yaml", cwd=folder).returncode == 2  # it lacks Config
    assert (folder / "ran").exists()


def test_a_grid_of_ours_needs_no_trust(folder: Path) -> None:
    assert sweeper("plan", "-", stdin=GRID, cwd=folder).returncode == 0
    assert sweeper("plan", "plain.yaml", "--safe", cwd=folder).returncode == 0
    done = sweeper("launch", "-", "--inline", "-q", stdin=GRID, cwd=folder)
    assert done.returncode == 0
    for words in (["ls"], ["status"], ["sql", "g", "select * from trials"]):
        assert sweeper(*words, cwd=folder).returncode == 0
