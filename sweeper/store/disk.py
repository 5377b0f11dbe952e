"""Files on a disk: listed, and written such that a power cut takes nothing acknowledged."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "sweep.json"
"""The file by which a folder is known to be that of a sweep; it is written first."""


def stats(root: Path) -> Iterator[tuple[str, int, float]]:
    """Yield the path, size and time of the last change of every file in the folder `root`."""
    for folder, _, names in os.walk(root):
        for name in filter(is_text, names):
            path = Path(folder, name)
            with suppress(FileNotFoundError):  # renamed or deleted meanwhile
                about = path.lstat()
                yield path.relative_to(root).as_posix(), about.st_size, about.st_mtime


def walk(root: Path, prefix: str) -> Iterator[str]:
    """Yield the paths of the files below `prefix` in the folder `root`, in no order.

    Raises:
        OSError: A folder can't be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(root / prefix, onerror=fail):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - a store holds 10^5 files
            if is_text(name) and not ASIDE.search(name) and os.path.isfile(path):  # noqa: PTH113
                yield os.path.relpath(path, root)


ASIDE = re.compile(r"#\d+$")
"""Matches the name of a file that is being written."""


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a listing is a folder, also through a link."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def is_text(name: str) -> bool:
    """Return whether the name of a file is valid UTF-8; Python marks other bytes as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def write(root: Path, path: str, content: bytes, *, create: bool, sync: bool) -> None:
    """Write a file on a disk: aside, then under its name.

    Raises:
        FileExistsError: `create` met a file.
        FileNotFoundError: The sweep's folder is gone.
        OSError: Anything else.
    """
    target = root / path
    aside = f"{target}#{secrets.randbelow(10**15)}"  # see `ASIDE`
    try:
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileNotFoundError:
        _make_folder(root, target.parent)
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(file, "wb") as stream:  # noqa: PTH123
            stream.write(content)
            stream.flush()
            if sync:
                os.fsync(file)
        if create:
            os.link(aside, target)
        else:
            Path(aside).replace(target)
    finally:
        Path(aside).unlink(missing_ok=True)
    if sync:
        _sync_folder(target.parent)


def rename_folder(old: Path, new: Path) -> None:
    """Rename a folder in one step, durably.

    Raises:
        OSError: It can't be renamed.
    """
    old.rename(new)
    _sync_folder(new.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all files: in one step for readers, under another name for the rest.

    A kill in between leaves a folder that `removed` lists.

    Raises:
        OSError: It can't be renamed, or a file can't be removed.
    """
    real = aside = folder.resolve()
    if not folder.name.startswith("."):  # else an earlier call has renamed it
        aside = real.with_name(f"{_removed(folder.name)}{secrets.token_hex(4)}")
        rename_folder(real, aside)
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(aside)


def removed(folder: Path) -> list[Path]:
    """Return what an interrupted `remove_folder` has left of `folder`."""
    beside = folder.parent
    if not beside.is_dir():
        return []
    return sorted(p for p in beside.iterdir() if p.name.startswith(_removed(folder.name)))


def _removed(name: str) -> str:
    """Return how the names of removed folders begin that were called `name`."""
    return f".{name}.removed-"


def _make_folder(root: Path, folder: Path) -> None:
    """Make a folder of a sweep, durably.

    Raises:
        FileNotFoundError: The sweep is gone: it was deleted or moved.
    """
    if not (root / MARK).exists():
        raise FileNotFoundError("the sweep isn't there any more: it was deleted or moved.")
    made = [f for f in (folder, *folder.parents) if root in f.parents and not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
