"""The sources are read without a warning by the oldest and the newest Python that is supported."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.13", "3.14")


def interpreter(version: str) -> str | None:
    """Return the command of a Python of `version`, if this machine has one."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for command in (*map(str, kept), shutil.which(f"python{version}")):
        if command is not None:
            shown = subprocess.run([command, "-V"], capture_output=True, text=True, check=False)
            if shown.stdout.startswith(f"Python {version}."):
                return command
    return None


@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
def test_the_sources_are_read_by_python(version: str, tmp_path: Path) -> None:
    command = interpreter(version)
    if command is None:
        pytest.skip(f"this machine has no Python {version}")
    rooms = [str(ROOT / room) for room in ("sweeper", "analysis", "trainables", "tests")]
    # -W error makes a SyntaxWarning, e.g. of an escape or of `return` in `finally`, an error
    options = ["-X", f"pycache_prefix={tmp_path}", "-W", "error", "-m", "compileall", "-q", "-f"]
    done = subprocess.run([command, *options, *rooms], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(tmp_path.rglob("*.pyc"))) > 300


def test_the_oldest_python_is_the_one_that_the_project_asks_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'requires-python = ">=([\d.]+)"', text)
    assert found is not None
    assert found[1] == VERSIONS[0]
    assert sys.version_info[:2] >= tuple(map(int, VERSIONS[0].split(".")))
