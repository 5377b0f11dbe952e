"""What of this machine, or of the storage, is unsafe or slow for a sweep."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock
from packaging.requirements import Requirement

from sweeper.doctor.findings import Finding, Severity
from sweeper.engine.resources import SHARED, machine_memory, mount_of, token_file
from sweeper.errors import StoreError
from sweeper.store.files import Files, local_folder

VOLATILE = ("tmpfs", "ramfs")
"""Types of file systems that lose their files with the power."""

LEAST_BYTES = 1 << 30
"""Free space below which a disk, or a memory, counts as nearly full."""

SLOW_S = 0.1
"""Seconds from which on a durable write is slow: each commit of a pack takes two or three."""

SKEW_S = 5.0
"""Difference between two clocks from which on ages of leases are misjudged; see `STALE_S`."""

LONGEST_TEMP = 45
"""Longest path of the folder for temporary files that Ray's sockets fit into."""

WRITES = 5
"""Number of small files that are written to measure the storage."""

PACKAGES = ("ray", "torch", "pyarrow", "duckdb", "obstore", "numpy")
"""Packages whose versions are listed."""


def check(where: str) -> Iterator[Finding]:
    """Yield what there is to say about this machine and the store `where`.

    In the store a few small files are written, measured and deleted, if it exists.
    """
    yield from versions()
    root = local_folder(where)
    if root is not None:
        yield from disk(root)
    if root is None or root.is_dir():
        yield from storage(where)
    yield from memory(machine_memory(), psutil.virtual_memory().available)
    yield from temporary(Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()))
    yield from token(token_file())


def versions(wanted: list[str] | None = None) -> Iterator[Finding]:
    """Yield the versions in use, and each package that isn't in the range that sweeper needs.

    Args:
        wanted: The requirements; None for those of the installed package.
    """
    with suppress(importlib.metadata.PackageNotFoundError):
        wanted = importlib.metadata.requires("sweeper") if wanted is None else wanted
    for text in wanted or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        there = _version(need.name)
        if there is None:
            yield _finding(
                "error", "versions", "isn't installed.", f"pip install '{need}'", need.name
            )
        elif not need.specifier.contains(there, prereleases=True):
            message = f"version {there} isn't in the range {need.specifier}."
            yield _finding("warning", "versions", message, f"pip install '{need}'", need.name)
    listed = [f"{name} {there}" for name in PACKAGES if (there := _version(name)) is not None]
    text = ", ".join([f"Python {platform.python_version()}", *listed])
    yield _finding("note", "versions", f"{text}. All nodes of a cluster need the same.")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def disk(root: Path) -> Iterator[Finding]:
    """Yield what is unsafe about the disk of the store's folder, which may not exist yet."""
    folder = next(one for one in (root, *root.parents) if one.is_dir())
    place = f"store {root}"
    mount = mount_of(folder)
    yield from file_system(place, mount.fstype if mount else "", mount.opts if mount else "")
    free = psutil.disk_usage(str(folder)).free
    if free < LEAST_BYTES:
        message = f"only {free >> 20} MiB of {mount.device if mount else 'the disk'} are free."
        yield _finding("warning", "disk", message, "Free some space.", place)
    if not os.access(folder, os.W_OK):
        yield _finding("error", "disk", "can't be written.", f"Own {folder}.", place)


def file_system(place: str, kind: str, options: str) -> Iterator[Finding]:
    """Yield what is unsafe about a file system of a type, mounted with some options."""
    given = options.split(",")
    if kind in VOLATILE:
        message = f"on {kind}: it is in memory, and gone when the machine stops."
        yield _finding("warning", "disk", message, "Choose a folder on a disk with --store.", place)
    elif kind.startswith(SHARED):
        message = f"on {kind}, a network file system: nodes of a cluster can share it."
        remedy = "Mount it at the same path on all nodes."
        yield _finding("note", "disk", message, remedy, place)
        if "nolock" in given or "local_lock=all" in given:
            message = "locks don't reach other machines: two could launch the same sweep."
            yield _finding("warning", "disk", message, "Mount it without nolock.", place)
    else:
        message = f"on {kind or 'a local disk'}, which other machines don't see."
        remedy = "For a cluster use a bucket, or a network file system."
        yield _finding("note", "disk", message, remedy, place)
    unsafe = [one for one in given if one in ("nobarrier", "barrier=0")]
    if unsafe:
        message = f"mounted with {unsafe[0]}: a power cut may lose files that were synced."
        yield _finding("warning", "disk", message, "Mount it without that option.", place)


def storage(where: str) -> Iterator[Finding]:
    """Write a few files into the store, and yield what is unsafe or slow about it."""
    place = f"store {where}"
    try:
        files = Files.at(f"{where.rstrip('/')}/doctor-{secrets.token_hex(4)}", create=True)
    except StoreError as error:
        yield _finding("error", "storage", str(error), "", place)
        return
    try:
        yield from _probed(files, "probe", place)
        if files.root is not None:
            yield from locks(files.root, place)
    finally:
        if files.root is not None:
            shutil.rmtree(files.root, ignore_errors=True)


def _probed(files: Files, path: str, place: str) -> Iterator[Finding]:
    """Yield what is wrong with put-if-absent, the clock and the speed of a storage."""
    try:
        if not files.create(path, b"one") or files.create(path, b"two"):
            yield _finding(
                "error",
                "storage",
                "can't create a file only if it is absent: two launches could overwrite each "
                "other's records.",
                "Use another storage.",
                place,
            )
        begun = time.perf_counter()
        for _ in range(WRITES):
            files.write(path, b"x" * 4096)
        each = (time.perf_counter() - begun) / WRITES
        there = next(entry.modified for entry in files.entries() if entry.path == path)
        yield from clock(there, time.time(), place)
        if each > SLOW_S:
            message = f"a durable write takes {1000 * each:.0f} ms."
            yield _finding("warning", "storage", message, "A faster disk commits faster.", place)
        else:
            yield _finding(
                "note", "storage", f"a durable write takes {1000 * each:.1f} ms.", "", place
            )
    except StoreError as error:
        yield _finding("error", "storage", str(error), "", place)
    finally:
        with suppress(StoreError):
            files.delete(path)


def clock(there: float, here: float, place: str) -> Iterator[Finding]:
    """Yield a finding if the clock of the storage and that of this machine differ."""
    skew = there - here
    if abs(skew) > SKEW_S:
        message = f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}."
        yield _finding("warning", "clock", message, "Synchronize the clocks, e.g. by NTP.", place)


_LOCK = """
import sys
from filelock import FileLock, Timeout
try:
    FileLock(sys.argv[1]).acquire(timeout=0)
except Timeout:
    sys.exit(9)
"""


def locks(folder: Path, place: str) -> Iterator[Finding]:
    """Yield a finding if two processes can hold the same lock file in `folder`."""
    path = folder / "lock"
    with FileLock(path):
        command = [sys.executable, "-c", _LOCK, str(path)]
        code = subprocess.run(command, check=False, capture_output=True).returncode
    if code != 9:
        yield _finding(
            "error",
            "locks",
            "two processes can hold the same lock: two launches of one sweep would disturb each "
            "other.",
            "Mount the file system with locks, or use another.",
            place,
        )


def memory(limit: int, available: int) -> Iterator[Finding]:
    """Yield a finding if little memory is left, of `limit` bytes that this process may use."""
    left = min(limit, available)
    if left < LEAST_BYTES:
        message = f"only {left >> 20} MiB of memory are left."
        yield _finding("warning", "memory", message, "End other programs.")


def temporary(folder: Path) -> Iterator[Finding]:
    """Yield a finding if Ray's sockets don't fit into the folder for temporary files."""
    if len(str(folder)) > LONGEST_TEMP:
        message = f"{len(str(folder))} characters long: Ray's sockets allow {LONGEST_TEMP}."
        yield _finding("error", "temp", message, "Set RAY_TMPDIR=/tmp.", str(folder))
    elif not os.access(folder, os.W_OK):
        yield _finding("error", "temp", "can't be written.", "Set RAY_TMPDIR.", str(folder))


def token(path: Path) -> Iterator[Finding]:
    """Yield a finding if others can read the token of Ray clusters."""
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        message = "other users can read it, and use your clusters with it."
        yield _finding("warning", "token", message, f"chmod 600 {path}", str(path))


def _finding(
    severity: Severity, check: str, message: str, remedy: str = "", place: str = "this machine"
) -> Finding:
    return Finding(severity, check, place, message, remedy)
