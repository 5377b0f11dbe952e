"""Deleting and renaming sweeps.

On a disk each of the two is one rename: a kill leaves either the sweep or nothing that a reader
could mistake for it. A bucket can't rename a folder. There ``sweep.json`` goes first, so that
readers and workers see that the sweep is gone, and the root log last, so that no launch takes what
an interrupted deletion has left for a new sweep. A worker that outlives its sweep brings nothing
back: it never writes ``sweep.json``, and it ends once it misses the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweeper.config.messages import counted, duration
from sweeper.errors import StoreError, UsageError
from sweeper.grid.gridfile import NAME
from sweeper.store import disk, records
from sweeper.store.files import Files, local_folder
from sweeper.store.lease import join, open_sweep, sweeps, undriven
from sweeper.store.ledger import META, Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.visible import stored

FOLDERS = (
    *("log", "chains", "snapshots", "plans", "packs", "metrics"),
    *("ends", "checkpoints", "damaged", "stop", "output", "code"),
)
"""The folders of a sweep."""

ROUNDS = 5
"""How often a bucket is listed again for files that late workers have written meanwhile."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a sweep holds, and its deletion frees.

    Attributes:
        name: Name of the sweep.
        where: Its folder or URL.
        size: Bytes of all files.
        trials: Number of trials with results; None if the sweep can't be read.
        trained_s: Seconds for which its packs were trained, up to their last ends; None likewise.
        leftover: Whether an interrupted deletion has left it: no command reads it any more.
    """

    name: str
    where: str
    size: int
    trials: int | None
    trained_s: float | None
    leftover: bool = False

    @property
    def sentence(self) -> str:
        """The contents as a sentence: "depth: 480 trials, 3.2 h of training, 1.4 GB in ..."."""
        if self.leftover:
            return f"{self.name}: an interrupted deletion has left {_bytes(self.size)}"
        held = ["results that can't be read"]
        if self.trials is not None and self.trained_s is not None:
            held = [counted(self.trials, "trial"), f"{duration(self.trained_s)} of training"]
        return f"{self.name}: {', '.join([*held, _bytes(self.size)])} in {self.where}"


def contents(where: str, name: str) -> Contents:
    """Return what the sweep `name` in the store `where` holds, also if it is damaged.

    Raises:
        StoreError: There is no such sweep; lists those that exist.
    """
    left = _left(where, name)
    if name not in sweeps(where):
        if not left:
            open_sweep(where, name)  # raises, and lists the sweeps that exist
        return Contents(name, join(where, name), sum(map(_size, left)), None, None, leftover=True)
    files = Files.at(join(where, name))
    trials = trained_s = None
    with suppress(StoreError):
        ledger = Ledger.open(files)
        trials, trained_s = len(stored(ledger)), _trained_s(ledger)
    return Contents(name, files.uri, _size(files), trials, trained_s)


def _trained_s(ledger: Ledger) -> float:
    """Return the seconds of all attempts together, each up to the last end of a trial."""
    ends = ended_trials(ledger).group_by(["pack_id", "attempt"]).aggregate([("wall_s", "max")])
    return float(np.nansum(ends["wall_s_max"].to_numpy()))


def delete(where: str, name: str) -> None:
    """Delete the sweep `name` in the store `where`, or what an interrupted deletion has left of it.

    Raises:
        BusyError: A launch drives the sweep; names its process and host.
        StoreError: There is no such sweep, or a file can't be deleted.
    """
    left = _left(where, name)
    if name in sweeps(where):
        files = Files.at(join(where, name))
        with undriven(files):
            remove(files)
    elif not left:
        open_sweep(where, name)  # raises, and lists the sweeps that exist
    for files in left:
        remove(files)


def remove(files: Files) -> None:
    """Delete a sweep's folder; `delete` without its checks.

    Raises:
        StoreError: A file can't be deleted.
    """
    if files.root is not None:
        try:
            disk.remove_folder(files.root)
        except OSError as error:
            raise StoreError(
                f"{error.filename or files.root}: can't be deleted: {error.strerror}. Correct its "
                "permissions and delete the sweep again."
            ) from None
        return
    files.delete(META)
    for _ in range(ROUNDS):
        paths = files.paths("")
        if not paths:
            return
        log = [path for path in paths if path.startswith("log/")]
        files.delete_many([path for path in paths if not path.startswith("log/")])
        files.delete_many(log[::-1])
    raise StoreError(
        f"{files.uri}: something goes on writing here. End its workers, and delete the sweep again."
    )


def rename(where: str, name: str, new: str) -> None:
    """Rename the sweep `name` in the store `where` to `new`.

    Raises:
        BusyError: A launch drives the sweep; names its process and host.
        UsageError: `new` is no name, is taken, or the store is a bucket.
        StoreError: There is no such sweep, or it can't be renamed.
    """
    if not re.fullmatch(NAME, new):
        raise UsageError(
            f"{new!r} can't be the name of a sweep. Use letters, digits, dots, hyphens and "
            "underscores, at most 64; the first one is a letter or a digit."
        )
    ledger = open_sweep(where, name)
    files, target = ledger.files, Path(join(where, new))
    if files.root is None:
        raise UsageError(
            f"{files.uri}: a bucket can't rename a folder. Copy it with a tool of the bucket, "
            f"e.g. `aws s3 cp --recursive {files.uri} {join(where, new)}`, and delete the old one "
            f"with `sweeper rm {name}`. The copy is a sweep called {new}."
        )
    with undriven(files):
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target}: exists already. Choose another name, or delete it first.")
        meta = {**ledger.meta, "name": new, "uid": ledger.uid}
        files.write(META, records.json_line(meta))  # readers go by the folder's name
        try:
            disk.rename_folder(files.root, target)
        except OSError as error:
            raise StoreError(f"{files.root}: can't be renamed: {error.strerror}.") from None


def _left(where: str, name: str) -> list[Files]:
    """Return the folders that interrupted deletions have left of the sweep `name`."""
    if not re.fullmatch(NAME, name):
        return []
    root = local_folder(where)
    if root is not None:
        return [Files.at(str(folder)) for folder in disk.removed(root / name)]
    files = Files.at(join(where, name))
    paths = files.paths("") if files.size(META) is None else []
    return [files] if paths and _ours(paths) else []


def _ours(paths: Sequence[str]) -> bool:
    """Return whether all files of a folder without ``sweep.json`` are those of a sweep."""
    return all(path.partition("/")[0] in (*FOLDERS, "lease.json") for path in paths)


def _size(files: Files) -> int:
    return sum(entry.size for entry in files.entries())


def _bytes(size: int) -> str:
    """Return a number of bytes in the unit that a person would choose."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return counted(size, "byte")
