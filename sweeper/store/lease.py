"""A store is a folder of sweeps; the lease of a sweep tells readers who drives it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from filelock import FileLock, Timeout

from sweeper.errors import BusyError, StoreError, SweeperError
from sweeper.store.files import Files, local_folder
from sweeper.store.ledger import META, Ledger, Record

DEFAULT = "sweeps"
LEASE = "lease.json"
LEASE_S = 5.0
"""Seconds between two renewals of a driver's lease."""

STALE_S = 30.0
"""Age in seconds from which on a lease is ignored: its driver is dead."""


def join(uri: str, name: str) -> str:
    """Return the folder `name` in the store `uri`: a path of this machine, or a URL.

    Raises:
        StoreError: `uri` isn't usable, see `local_folder`.
    """
    root = local_folder(uri)
    return f"{(uri if root is None else str(root)).rstrip('/')}/{name}"


def sweeps(uri: str) -> list[str]:
    """Return the names of the sweeps in the store at `uri`, sorted; none if the folder is missing.

    Raises:
        StoreError: The URL isn't usable, or its storage can't be read.
    """
    root = local_folder(uri)
    if root is not None and not root.is_dir():
        return []
    files = Files.at(uri)
    return [name for name in files.folders() if files.size(f"{name}/{META}") is not None]


def open_sweep(uri: str, name: str) -> Ledger:
    """Return the ledger of the sweep `name`.

    Raises:
        StoreError: There is no such sweep; lists those that exist.
    """
    if name not in (known := sweeps(uri)):
        names = ", ".join(known) if known else "none"
        raise StoreError(f"no sweep {name!r} in {uri}. There: {names}.")
    return Ledger.open(Files.at(join(uri, name)))


class Lease:
    """The lease of a driver on its sweep, renewed by a thread.

    Attributes:
        launch_id: The launch that the driver runs.
    """

    def __init__(self, files: Files, launch_id: str) -> None:
        self.launch_id = launch_id
        self._files = files
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def hold(self, launch_id: str) -> None:
        """Write that the driver runs the launch `launch_id` now."""
        self.launch_id = launch_id
        self._write()

    def begin(self) -> None:
        """Write the lease and keep it fresh."""
        self._write()
        self._thread.start()

    def end(self) -> None:
        """Remove the lease."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(SweeperError):
            self._files.delete(LEASE)

    def _renew(self) -> None:
        while not self._over.wait(LEASE_S):
            with suppress(SweeperError):  # a full disk: the lease grows stale, which does no harm
                self._write()

    def _write(self) -> None:
        lease = {
            "launch_id": self.launch_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "at": time.time(),
        }
        self._files.write(LEASE, json.dumps(lease).encode(), durable=False)


@contextmanager
def driving(files: Files, launch_id: str) -> Iterator[Lease]:
    """Hold the sweep as its only driver, with a lease for readers.

    Raises:
        BusyError: Another driver holds the sweep; names its process and host.
    """
    lock = FileLock(files.root / "driver.lock") if files.root is not None else None
    try:
        if lock is not None:
            lock.acquire(timeout=0)
        elif is_fresh(held := read_lease(files)):
            raise Timeout(str(held))
    except OSError as error:
        if not isinstance(error, Timeout):
            raise StoreError(f"{files.uri}: can't be written: {error.strerror}.") from None
        held = read_lease(files) or {}
        raise BusyError(
            f"{files.uri}: process {held.get('pid', '?')} on {held.get('host', '?')} is launching "
            "this sweep. Wait for it, or stop it with `sweeper stop`."
        ) from None
    lease = Lease(files, launch_id)
    try:
        lease.begin()
        yield lease
    finally:
        lease.end()
        if lock is not None:
            lock.release()


def read_lease(files: Files) -> Record | None:
    """Return the lease: launch_id, host, pid, at (Unix time); None if there is none."""
    raw = files.read(LEASE)
    with suppress(ValueError):
        return dict(json.loads(raw or b"null") or {}) or None
    return None


def is_fresh(lease: Record | None) -> bool:
    """Return whether the driver that wrote `lease` is alive."""
    if lease is None or time.time() - float(lease.get("at", 0)) >= STALE_S:
        return False
    return lease.get("host") != socket.gethostname() or psutil.pid_exists(int(lease["pid"]))
