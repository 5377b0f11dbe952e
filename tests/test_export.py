"""A result replaces the file before it once it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeper.analysis.diagrams.export import writing
from sweeper.errors import UsageError


def half(path: Path, error: Exception) -> None:
    with writing(path) as file:
        file.write(b"half")
        raise error


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError):
        half(path, RuntimeError())
    assert path.read_bytes() == b"before"
    with pytest.raises(UsageError, match=r"out\.csv: can't be written: No space left"):
        half(path, OSError(28, "No space left on device"))
    assert path.read_bytes() == b"before"
    with writing(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"before")
    link.symlink_to(target)
    with writing(link) as file:
        file.write(b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with writing(path) as file:
            file.write(b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
