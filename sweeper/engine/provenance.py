"""The provenance of numbers: code, versions, machine. It is recorded once per launch."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sweeper.errors import redact

PACKAGES = ("sweeper", "torch", "ray", "optuna", "duckdb", "pyarrow", "numpy", "scipy")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a number."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


@cache
def provenance() -> dict[str, Any]:
    """Return commit, dirtiness, versions, host and command of this process, without secrets.

    `git_commit` is null outside of a repository. `dirty` is a hash of the uncommitted changes, or
    null if there are none.
    """
    changes = _git("status", "--porcelain")
    diff = _git("diff", "HEAD") if changes else None
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "dirty": sha256(f"{changes}\n{diff}".encode()).hexdigest()[:16] if changes else None,
        "versions": versions(),
        "host": socket.gethostname(),
        "command": redact(" ".join(sys.argv)),
    }
