"""The provenance of a launch: commit, uncommitted changes, versions."""

from __future__ import annotations

import platform
import socket
import subprocess
from pathlib import Path

import pytest

from sweeper.engine import provenance as module


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and return what it prints."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, as the working folder."""
    git(tmp_path, "init", "-q")
    (tmp_path / "grid.yaml").write_text("name: a\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_clean_repository_gives_its_commit_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["sweeper", "launch", "grid.yaml"])
    assert module.provenance.__wrapped__() == {
        "git_commit": git(repository, "rev-parse", "HEAD"),
        "dirty": None,
        "versions": module.versions(),
        "host": socket.gethostname(),
        "command": "sweeper launch grid.yaml",
    }


def test_each_set_of_uncommitted_changes_has_its_own_hash(repository: Path) -> None:
    hashes = []
    for text in ("name: b\n", "name: c\n", "name: b\n"):
        (repository / "grid.yaml").write_text(text)
        hashes.append(module.provenance.__wrapped__()["dirty"])
    assert hashes[0] == hashes[2] != hashes[1]
    assert len(hashes[0]) == 16


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_repository_or_git_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if path:
        monkeypatch.setenv("PATH", path)
    record = module.provenance.__wrapped__()
    assert (record["git_commit"], record["dirty"]) == (None, None)


def test_versions_leave_out_packages_that_are_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("numpy", "no-such-package"))
    found = module.versions()
    assert list(found) == ["python", "numpy"]
    assert found["python"] == platform.python_version()
