"""Watches the processes of Ray that a driver depends on, and ends its wait once one is lost.

If its raylet dies, a driver waits for ever; without the head, Ray ends it after a minute with a
stack of C++. The driver therefore waits for its packs in a thread, and asks meanwhile whether its
raylet and the head are there.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import psutil

from sweeper.errors import ClusterLostError

Answer = TypeVar("Answer")

POLL_S = 0.25
"""Seconds between two looks at the processes and at the work."""

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
    """

    def __init__(
        self,
        where: str,
        processes: Mapping[str, psutil.Process],
        servers: Mapping[str, tuple[str, int]],
    ) -> None:
        self._where = where
        self._processes = dict(processes)
        self._family: dict[psutil.Process, None] = {}  # in order
        self._listed = 0.0
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
            self._family |= dict.fromkeys(descendants(self._processes.values()))
        if self._lost is not None:
            raise ClusterLostError(
                f"{self._where} is lost: {self._lost}. All committed results are safe. Launch "
                "again to go on."
            )

    def end(self) -> None:
        """Ask no more."""
        self._over.set()

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
