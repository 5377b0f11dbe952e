"""The documentation is true: its commands run, its grids parse, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from sweeper.compile.loading import load_grid
from sweeper.trainables.config import GrokkingConfig
from tests.commands import process, sweeper
from tests.slow import long_but

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]


GUIDES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("grid-file", "delays", "search-refine-extend")),
    *(ROOT / "docs" / f"{name}.md" for name in ("laws", "cluster", "troubleshooting", "python")),
    *sorted((ROOT / "docs" / "cluster").glob("*.md")),
]
"""The pages for users, in the order in which their commands are run."""

GRID_FILE = ROOT / "docs" / "grid-file.md"


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(language: str) -> list[list[str]]:
    """Return the sweeper commands in the guides' blocks of a language."""
    lines = [
        line for page in GUIDES for block in blocks(page, language) for line in block.splitlines()
    ]
    return [shlex.split(line) for line in lines if line.startswith("sweeper ")]


STARTS_RAY = ("launch", "search", "refine", "extend")
"""Commands of the guides that start Ray."""


@pytest.mark.parametrize("typed", long_but((False,), (False, True)))
def test_the_guides_commands_run_in_the_order_that_they_stand_in(
    typed: bool, tmp_path: Path
) -> None:
    """As typed, or the first launch as typed and the rest of them in this process, without Ray."""
    (tmp_path / "grids").symlink_to(ROOT / "grids")
    lines = commands("sh")
    assert len(lines) >= 17
    for number, (_, command, *words) in enumerate(lines):
        trains = command in STARTS_RAY
        if typed or number == 0:
            done = process(command, *words, cwd=tmp_path, PYTHONPATH=str(ROOT))
        else:
            inline = ["--inline"] if trains else []
            done = sweeper(command, *words, *inline, cwd=tmp_path)
        assert done.returncode == 0, f"{command} {words}: {done.stdout}{done.stderr}"
    for picture in ("smoke.png", "curves.png", "smoke.csv", "metrics.parquet"):
        assert (tmp_path / picture).stat().st_size > 0


def test_the_guides_grid_file_is_valid(tmp_path: Path) -> None:
    (block,) = blocks(GRID_FILE, "yaml")
    path = tmp_path / "grid.yaml"
    path.write_text(block)
    grid = load_grid(path)
    assert (grid.n_cells, grid.n_trials) == (68, 340)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_command_is_in_the_guides() -> None:
    from sweeper.cli import app

    text = "".join(page.read_text() for page in GUIDES)
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert f"sweeper {name}" in text, name


def test_every_field_of_a_grid_file_is_shown_in_its_guide() -> None:
    from sweeper.grid.gridfile import GridFile

    (block,) = blocks(GRID_FILE, "yaml")
    for key in set(GridFile.model_fields) - {"trainable", "search"}:
        assert re.search(rf"^{key}:", block, re.MULTILINE), key


def test_every_part_is_named_in_the_guide_to_the_grid_file() -> None:
    text = GRID_FILE.read_text()
    for part, choices in GrokkingConfig.parts.items():
        (row,) = re.findall(rf"^\| `{part}` \| .*$", text, re.MULTILINE)
        for name in choices:
            assert f"`{name}`" in row, f"{part}.name: {name}"


def test_the_readme_shows_a_small_picture_within_fifteen_lines() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    (place,) = [n for n, line in enumerate(lines, start=1) if line.startswith("![")]
    assert place <= 15
    picture = ROOT / re.findall(r"\]\(([^)]+)\)", lines[place - 1])[0]
    assert picture.stat().st_size < 150_000


def test_the_index_lists_every_page() -> None:
    folder = ROOT / "docs"
    listed = re.findall(r"\]\(([^)#]+)\)", (folder / "README.md").read_text())
    pages = {str(path.relative_to(folder)) for path in folder.rglob("*.md")}
    assert pages - {"README.md"} <= set(listed)


def test_the_python_of_its_guide_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks(ROOT / "docs" / "python.md", "python")
    assert len(code) == 7
    names: dict[str, Any] = {}
    for number, block in enumerate(code):
        exec(compile(block, f"block {number}", "exec"), names)
    assert names["outcome"].counts.done == 27
    assert names["again"].counts.done == 1
    assert len(names["best"]) == len(names["amplified"]) == 3
    assert names["weights"]["w"].shape == (30,)
    for picture in ("lasso.png", "curves.png"):
        assert (tmp_path / picture).stat().st_size > 0
    assert [path.name for path in (tmp_path / "sweeps").iterdir()] == ["lasso-first-try"]
