"""The kinds of faults that befall the processes of a launch, and its disk."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.injected import Fault, Kind, Record
from benchmarks.launched import Process
from tests.heads import OBJECT_STORE, head_without_room


class Signal(Kind):
    """A signal to the driver."""

    def __init__(self, name: str, number: signal.Signals) -> None:
        self.name, self._number = name, number

    def strike(self, launched: Process, known: list[Record]) -> Fault | None:  # noqa: ARG002
        """Send the signal."""
        fault = Fault(time.time())
        launched.process.send_signal(self._number)
        return fault


class Worker(Kind):
    """SIGKILL of the child process that trains a pack, and of the worker of Ray, in turns.

    Attributes:
        levels: How many parents the victims are above the process that trains, in turns.
    """

    name = "SIGKILL of a worker"
    ends_launch = False
    levels: tuple[int, ...] = (0, 1)

    def __init__(self) -> None:
        self._turn = 0

    def strike(self, launched: Process, known: list[Record]) -> Fault | None:
        """Kill a worker with an open pack."""
        family = {p.pid: p for p in launched.family()}
        newest = {r["pack_id"]: r["pid"] for r in known if r["kind"] == "claim"}
        ended = {r["pack_id"] for r in known if r.get("done") or r["kind"] == "split"}
        for pack, pid in newest.items():
            if pack in ended or pid not in family:
                continue
            victim = family[pid]
            for _ in range(self.levels[self._turn % len(self.levels)]):
                victim = family[victim.ppid()]
            self._turn += 1
            fault = Fault(time.time(), pack)
            victim.kill()
            return fault
        return None


class Raylet(Kind):
    """SIGKILL of the raylet that the launch started."""

    name = "SIGKILL of the raylet"

    def strike(self, launched: Process, known: list[Record]) -> Fault | None:  # noqa: ARG002
        """Kill it."""
        for process in launched.family():
            if process.name() == "raylet":
                fault = Fault(time.time())
                process.kill()
                return fault
        return None


class Head(Kind):
    """SIGKILL of the control service of the cluster's head; the cluster is this process's own."""

    name = "SIGKILL of the head's control service"
    remedy = "start the head and launch again"

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self, grid: Path, store: str, log: Path) -> Process:
        """Start a cluster, and launch on it."""
        self._cluster = self._stack.enter_context(head_without_room())
        self._cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE)
        self._cluster.wait_for_nodes()
        return Process.start(grid, store, "--address", self._cluster.address, log=log)

    def strike(self, launched: Process, known: list[Record]) -> Fault | None:  # noqa: ARG002
        """Kill the service."""
        fault = Fault(time.time())
        self._cluster.head_node.kill_gcs_server()
        return fault

    def mend(self) -> None:
        """End what is left of the cluster."""
        before = psutil.Process().children(recursive=True)
        self._stack.close()
        for process in before:
            if process.is_running() and process.name() in ("raylet", "gcs_server"):
                process.kill()

    close = mend


class FullDisk(Kind):
    """A file system of the store's own that becomes full; then there is room again. As root.

    Args:
        needed: Bytes that an undisturbed sweep needs.
        dice: Says how much room there is.
    """

    name = "full disk"
    remedy = "make room and launch again"

    def __init__(self, needed: int, dice: random.Random) -> None:
        self._needed, self._dice = needed, dice
        self._folder: Path | None = None

    def start(self, grid: Path, store: str, log: Path) -> Process:
        """Launch, at first in a file system that is too small."""
        if self._folder is None:
            self._folder = Path(store).parent
            size = int(self._needed * self._dice.uniform(0.2, 0.8))
            self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
        return super().start(grid, store, log)

    def strike(self, launched: Process, known: list[Record]) -> Fault | None:  # noqa: ARG002
        """Wait until the file system is full."""
        while launched.process.poll() is None:
            if psutil.disk_usage(str(self._folder)).free < 1 << 14:
                return Fault(time.time())
            time.sleep(0.02)
        return None

    def mend(self) -> None:
        """Make room."""
        self._mount("-o", "remount,size=1g")

    def close(self) -> None:
        """Remove the file system."""
        if self._folder is not None:
            subprocess.run(["umount", str(self._folder)], check=True)
            self._folder = None

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self._folder)], check=True)
