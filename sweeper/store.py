"""The store: a folder of sweeps, each a folder of its own."""

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
from sweeper.files import Files
from sweeper.ledger import META, Ledger, Record

DEFAULT = "sweeps"
LEASE = "lease.json"
LEASE_S = 5.0
"""Seconds between two renewals of a driver's lease."""

STALE_S = 30.0
"""Age in seconds beyond which a lease means nothing: its driver is dead."""


def join(uri: str, name: str) -> str:
    """Return the URI of the folder `name` in `uri`."""
    return f"{uri.rstrip('/')}/{name}"


def sweeps(uri: str) -> list[str]:
    """Return the names of the sweeps in the store at `uri`, sorted; none if it doesn't exist."""
    try:
        files = Files.at(uri)
    except StoreError:
        return []
    return [name for name in files.folders() if files.size(f"{name}/{META}") is not None]


def open_sweep(uri: str, name: str) -> Ledger:
    """Return the ledger of the sweep `name`.

    Raises:
        StoreError: There is no such sweep; says which there are.
    """
    if name not in (known := sweeps(uri)):
        names = ", ".join(known) if known else "none"
        raise StoreError(f"no sweep {name!r} in {uri}. There: {names}.")
    return Ledger.open(Files.at(join(uri, name)))


@contextmanager
def driving(files: Files, launch_id: str) -> Iterator[None]:
    """Hold the sweep as its only driver, and keep a lease that tells readers so.

    Raises:
        BusyError: Another driver is at work; says who.
    """
    lock = FileLock(files.root / "driver.lock") if files.root is not None else None
    try:
        if lock is not None:
            lock.acquire(timeout=0)
        elif is_fresh(lease := read_lease(files)):
            raise Timeout(str(lease))
    except OSError as error:
        if not isinstance(error, Timeout):
            raise StoreError(f"{files.uri}: can't be written: {error.strerror}.") from None
        who = read_lease(files) or {}
        raise BusyError(
            f"{files.uri}: process {who.get('pid', '?')} on {who.get('host', '?')} is launching "
            "this sweep. Wait for it, or stop it with `sweeper stop`."
        ) from None
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(files, launch_id, stop), daemon=True)
    try:
        _write_lease(files, launch_id)
        thread.start()
        yield
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join()
        with suppress(SweeperError):
            files.delete(LEASE)
        if lock is not None:
            lock.release()


def _renew(files: Files, launch_id: str, stop: threading.Event) -> None:
    while not stop.wait(LEASE_S):
        with suppress(SweeperError):  # a full disk: the lease grows stale, no harm
            _write_lease(files, launch_id)


def _write_lease(files: Files, launch_id: str) -> None:
    lease = {
        "launch_id": launch_id, "host": socket.gethostname(), "pid": os.getpid(), "at": time.time()
    }  # fmt: skip
    files.write(LEASE, json.dumps(lease).encode())


def read_lease(files: Files) -> Record | None:
    """Return the lease on a sweep: launch_id, host, pid, at; None if nobody holds one."""
    raw = files.read(LEASE)
    with suppress(ValueError):
        return dict(json.loads(raw or b"null") or {}) or None
    return None


def is_fresh(lease: Record | None) -> bool:
    """Return whether a driver is alive behind `lease`."""
    if lease is None or time.time() - float(lease.get("at", 0)) >= STALE_S:
        return False
    return lease.get("host") != socket.gethostname() or psutil.pid_exists(int(lease["pid"]))
