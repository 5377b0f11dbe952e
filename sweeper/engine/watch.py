"""Watches the processes of Ray that a driver depends on, and ends its wait once one is lost.

If its raylet dies, a driver waits for ever; without the head, Ray ends it after a minute with a
stack of C++. The driver therefore waits for its packs in a thread, and asks meanwhile whether its
raylet and the head are there.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from sweeper.errors import ClusterLostError

Answer = TypeVar("Answer")

POLL_S = 0.25
"""Seconds between two looks at the processes and at the work."""

RECORD = "sweeper-"
"""How the name of a file begins that lists the processes of a driver."""

ASK_S = 2.0
"""Seconds between two questions to a server, and the longest wait for its answer."""

FAMILY_S = 5.0
"""Seconds between two looks at what the processes have started."""

SILENT_S = 10.0
"""Seconds without an answer after which a server is lost: the network may fail for a moment."""


class Watch:
    """Watches processes of this machine and servers of a cluster.

    Args:
        where: The cluster, as a message names it.
        processes: Processes of this machine that this one has started, by role.
        servers: Host and port of the servers of a running cluster, by role.
        record: File that lists the processes, for `end_leftovers` after this one was killed.
    """

    def __init__(
        self,
        where: str,
        processes: Mapping[str, psutil.Process],
        servers: Mapping[str, tuple[str, int]],
        record: Path | None = None,
    ) -> None:
        self._where = where
        self._processes = dict(processes)
        self._family: dict[psutil.Process, None] = {}  # in order
        self._listed = 0.0
        self._record = record
        self._servers = dict(servers)
        self._lost: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="watch", daemon=True)
        if servers:
            self._thread.start()

    def check(self) -> None:
        """Check that all are there.

        Raises:
            ClusterLostError: One of them is lost.
        """
        for role, process in self._processes.items():
            if not alive(process):
                self._lost = f"its {role} (process {process.pid}) has ended"
        if self._lost is None and time.monotonic() - self._listed > FAMILY_S:
            self._listed = time.monotonic()
            family = self._family | dict.fromkeys(descendants(self._processes.values()))
            if self._record is not None and family.keys() != self._family.keys():
                remember(self._record, family)
            self._family = family
        if self._lost is not None:
            raise ClusterLostError(
                f"{self._where} is lost: {self._lost}. All committed results are safe. Launch "
                "again to go on."
            )

    def end(self) -> None:
        """Ask no more, and forget the processes."""
        self._over.set()
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def end_family(self, processes: Iterable[psutil.Process]) -> None:
        """End `processes`, and all that the watched processes and they have ever started."""
        for process in [*self._family, *descendants(processes)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _ask(self) -> None:
        answered = dict.fromkeys(self._servers, time.monotonic())
        while not self._over.wait(ASK_S):
            for role, (host, port) in self._servers.items():
                with suppress(OSError):
                    socket.create_connection((host, port), timeout=ASK_S).close()
                    answered[role] = time.monotonic()
                if time.monotonic() - answered[role] > SILENT_S:
                    self._lost = f"its {role} at {host}:{port} doesn't answer"


def alive(process: psutil.Process) -> bool:
    """Return whether `process` runs."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def remember(record: Path, family: Iterable[psutil.Process]) -> None:
    """Write this process and its `family` to the file `record`."""
    every = [[p.pid, p.create_time()] for p in (psutil.Process(), *family) if alive(p)]
    aside = record.with_suffix(".new")
    aside.write_text(json.dumps(every))
    aside.replace(record)


def record_in(folder: Path) -> Path:
    """Return the file in `folder` for the record of this process."""
    return folder / f"{RECORD}{os.getpid()}.json"


def end_leftovers(folder: Path) -> None:
    """End the processes that drivers of this user have left behind when they were killed.

    Ray's agents live on for a minute, and use memory and ports.
    """
    for record in folder.glob(f"{RECORD}*.json"):
        with suppress(OSError, ValueError, TypeError):
            if record.stat().st_uid != os.getuid():
                continue
            driver, *family = json.loads(record.read_text())
            if _same(*driver) is None:
                for pid, created in family:
                    if (process := _same(pid, created)) is not None:
                        process.kill()
                record.unlink()


def _same(pid: int, created: float) -> psutil.Process | None:
    """Return the process `pid` if it is the one that began at `created`, in seconds."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.create_time() == created and alive(process):
            return process
    return None


def descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return `processes` and all that they have started, directly or not."""
    every = list(processes)
    for process in list(every):
        with suppress(psutil.NoSuchProcess):
            every += process.children(recursive=True)
    return every


def watched(watch: Watch, work: Callable[..., Answer], *args: Any) -> Answer:
    """Return what ``work(*args)`` returns or raises, from a thread.

    Raises:
        ClusterLostError: The cluster was lost. The thread may wait for ever: it is left behind.
    """
    future: Future[Answer] = Future()
    over = threading.Event()

    def run() -> None:
        try:
            future.set_result(work(*args))
        except BaseException as error:
            future.set_exception(error)
        over.set()

    threading.Thread(target=run, name="work", daemon=True).start()
    while not over.wait(POLL_S):
        watch.check()
    if future.exception() is not None:
        watch.check()  # it may have failed because the cluster was lost
    return future.result()
