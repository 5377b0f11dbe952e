"""The way of a user's code to the workers: through the store, which all of them can read.

A launch writes each file of the code once, under its hash. A worker uses the files where they lie
if they are there and unchanged. Otherwise, on another machine or after an edit, it takes those of
the launch, so that all trials of a launch run the same code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from sweeper.errors import StoreError
from sweeper.store.files import Files

CODE = "code"
"""The folder of a sweep with the files of its code, each under its hash."""


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return sha256(content).hexdigest()


def pack_up(code: Mapping[str, Any], files: Files) -> None:
    """Write the code's files to a sweep's folder, unless they are there.

    Raises:
        StoreError: One of them has changed since the code was described.
    """
    for path, expected in code["files"].items():
        target = f"{CODE}/{expected}.py"
        if files.size(target) is None:
            source = Path(code["folder"], path)
            content = source.read_bytes()
            if digest(content) != expected:
                raise StoreError(f"{source} was changed while the launch began. Launch again.")
            files.create(target, content)


def unpacked(code: Mapping[str, Any], files: Files) -> Path:
    """Return a folder of this machine with the code's files as they were at the launch.

    Raises:
        StoreError: A file is in neither place.
    """
    folder = Path(code["folder"])
    if not changed(code):
        return folder
    copy = Path(tempfile.gettempdir(), f"sweeper-code-{code['sha256'][:16]}")
    for path, expected in code["files"].items():
        target = copy / path
        if _is(target, expected):
            continue
        content = files.read(f"{CODE}/{expected}.py")
        if content is None or digest(content) != expected:
            raise StoreError(
                f"{folder / path}: this machine lacks the file of the launch, and the sweep keeps "
                f"no copy of it ({files.location(CODE)}). Launch again."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.NamedTemporaryFile(dir=target.parent, delete=False)  # noqa: SIM115
        with aside:
            aside.write(content)
        Path(aside.name).replace(target)
    return copy


def changed(code: Mapping[str, Any]) -> bool:
    """Return whether a file of the code isn't where it was, or has another content."""
    folder = Path(code["folder"])
    return not all(_is(folder / path, expected) for path, expected in code["files"].items())


def _is(path: Path, expected: str) -> bool:
    """Return whether the file at `path` has the expected content."""
    try:
        return digest(path.read_bytes()) == expected
    except OSError:
        return False
