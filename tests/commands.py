"""`sweeper` as a user types it, run in the test's own process: that saves a start of Python.

Tests of signals and of Ray start a process. `tests/test_cli.py` checks that both ways print the same
and exit with the same code.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from sweeper.cli import app

PHASE = ("phase", "toy", "--x", "task.rate", "--y", "task.shift")
"""The command that draws the phase diagram of the toy's sweep."""


def sweeper(
    *words: str, stdin: str = "", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that doesn't start Ray in this process; environment variables by keyword."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        chdir(cwd or Path.cwd()),
        _found_here(),
        patch.dict(os.environ, env),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            app(list(words), prog_name="sweeper")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return subprocess.CompletedProcess(list(words), code, out.getvalue(), err.getvalue())


def process(
    *words: str, stdin: str = "", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sweeper.cli", *words],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


@contextmanager
def _found_here() -> Iterator[None]:
    """Let modules of the working folder be found, as the command does."""
    before, cwd = list(sys.path), str(Path.cwd())
    sys.path.append(cwd)
    try:
        yield
    finally:
        sys.path[:] = before
