"""A store is a folder of sweeps; the lease of a sweep tells readers who drives it.

On a file system a lock keeps a second driver out. On object storage there are no locks: a second
driver watches the lease for a while, and takes the sweep over only if it isn't renewed meanwhile.
It compares no clocks of different machines. The records in the root log decide in every case
(`Ledger.take_over`): a driver that was taken over can write no more.
"""

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
from sweeper.store.ledger import META, Ledger
from sweeper.store.records import Record

DEFAULT = "sweeps"
LEASE = "lease.json"
LOCK = "driver.lock"
LEASE_S = 5.0
"""Seconds between two renewals of a driver's lease."""

LEASE_FIELDS = {"launch_id": str, "host": str, "pid": int, "at": int | float}
"""Fields of a lease and their types; a file with others is no lease."""

WATCH_S = 15.0
"""Seconds for which a second driver on object storage watches the lease of the first."""

BEGIN_S = 2.0
"""Seconds from the record by which a driver takes a sweep over to its first lease, at most."""

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
    return [
        name
        for name in files.folders()
        if not name.startswith(".") and files.size(f"{name}/{META}") is not None
    ]


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

    def __init__(self, ledger: Ledger, launch_id: str) -> None:
        self.launch_id = launch_id
        self._ledger = ledger
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
        """Remove the lease, unless another driver has written its own."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(SweeperError):
            if self._ours():
                self._ledger.files.delete(LEASE)

    def _ours(self) -> bool:
        held = read_lease(self._ledger.files)
        return held is None or held.get("driver") == self._ledger.driver

    def _renew(self) -> None:
        while not self._over.wait(LEASE_S):
            with suppress(SweeperError):  # a full disk: the lease grows stale, which does no harm
                if not self._ours():
                    return
                self._write()

    def _write(self) -> None:
        lease = {
            "driver": self._ledger.driver,
            "launch_id": self.launch_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "at": time.time(),
        }
        self._ledger.files.write(LEASE, json.dumps(lease).encode(), durable=False)


@contextmanager
def driving(ledger: Ledger, launch_id: str) -> Iterator[Lease]:
    """Hold the sweep as its only driver, with a lease for readers.

    Damaged records at the end of the root log are moved aside first (`Ledger.repair`).

    Raises:
        BusyError: Another driver holds the sweep; names its process and host.
        StoreError: The store can't be read or written.
    """
    files = ledger.files
    with _locked(files):
        ledger.repair()
        before = ledger.state.driver
        if files.root is None and _is_renewed(files, before):
            raise _busy(files)
        ledger.take_over(before, at_once=files.root is None)
        lease = Lease(ledger, launch_id)
        try:
            lease.begin()
            yield lease
        finally:
            lease.end()


@contextmanager
def alone(files: Files) -> Iterator[None]:
    """Hold the sweep without reading it: its root log may be damaged.

    Raises:
        BusyError: A driver holds the sweep.
        StoreError: The store can't be read or written.
    """
    with _locked(files):
        if files.root is None and _is_renewed(files, "any"):
            raise _busy(files)
        yield


@contextmanager
def undriven(files: Files) -> Iterator[None]:
    """Hold the sweep while no process drives it.

    A fresh lease counts as a driver, even if this machine holds the lock: locks of another machine
    may be invisible here.

    Raises:
        BusyError: A driver holds the sweep.
        StoreError: The store can't be read or written.
    """
    with alone(files):
        if is_fresh(read_lease(files)):
            raise _busy(files)
        yield


@contextmanager
def _locked(files: Files) -> Iterator[None]:
    """Hold the sweep's lock file, on a file system."""
    if files.root is None:
        yield
        return
    lock = FileLock(files.root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _busy(files) from None
    except OSError as error:
        raise StoreError(f"{files.uri}: can't be written: {error.strerror}.") from None
    try:
        yield
    finally:
        lock.release()


def _is_renewed(files: Files, driver: str | None) -> bool:
    """Return whether a lease is renewed while this waits, for up to `WATCH_S` seconds.

    A driver removes its lease when it ends. So it doesn't wait if there is no lease, unless
    `driver`, the last one in the root log, has just begun and is about to write its first one.
    """
    first = read_lease(files)
    begun = time.monotonic()
    limit = BEGIN_S if first is None else WATCH_S
    while driver is not None and time.monotonic() - begun < limit:
        time.sleep(LEASE_S / 10)
        if (now := read_lease(files)) is None:
            limit = BEGIN_S
        elif now != first:
            return True
    return False


def _busy(files: Files) -> BusyError:
    held = read_lease(files) or {}
    return BusyError(
        f"{files.uri}: process {held.get('pid', '?')} on {held.get('host', '?')} is launching "
        "this sweep. Wait for it, or stop it with `sweeper stop`."
    )


def read_lease(files: Files) -> Record | None:
    """Return the lease: launch_id, host, pid, at (Unix time); None if there is none."""
    try:
        lease = json.loads(files.read(LEASE) or b"null")
    except ValueError:
        return None
    known = isinstance(lease, dict) and all(
        isinstance(lease.get(name), kind) for name, kind in LEASE_FIELDS.items()
    )
    return lease if known else None


def is_fresh(lease: Record | None) -> bool:
    """Return whether the driver that wrote `lease` is alive."""
    if lease is None or time.time() - float(lease.get("at", 0)) >= STALE_S:
        return False
    return lease.get("host") != socket.gethostname() or psutil.pid_exists(int(lease["pid"]))
