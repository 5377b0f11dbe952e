"""A launch in a process of its own, with all that it starts: found by a mark, killed whole."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
MARK = "SWEEPER_CHAOS"


@dataclass
class Process:
    """A launch and everything that it started.

    Attributes:
        process: The driver.
        mark: Value of `MARK` in the environment of all of them.
        begun: Clock reading at its start.
        seen: Pids that ever belonged to it, with their times of creation.
    """

    process: subprocess.Popen[bytes]
    mark: str
    begun: float
    seen: dict[int, float] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        grid: Path,
        store: str,
        *options: str,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `sweeper launch` in a session of its own.

        Args:
            grid: The grid file.
            store: URI of the store.
            options: Further options of the command.
            log: File to which its output is appended; by default beside the store.
            env: Further variables of its environment.
        """
        command = ["-m", "sweeper.cli", "launch", str(grid), "--store", store, "--yes", "--quiet"]
        return cls.python([*command, *options], log or Path(f"{store}.log"), env)

    @classmethod
    def python(
        cls,
        words: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        without: tuple[str, ...] = (),
    ) -> Process:
        """Start Python in a session of its own.

        Args:
            words: Its arguments.
            log: File to which its output is appended.
            env: Further variables of its environment.
            without: Beginnings of the names of variables of ours that it shall not have.
        """
        mark = secrets.token_hex(8)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        every = dict(os.environ)
        drop = ("SWEEPER_STORE", "SWEEPER_ADDRESS", "RAY_ADDRESS", *without)
        every = {name: value for name, value in every.items() if not name.startswith(drop)}
        ours = {
            MARK: mark,
            "PYTHONPATH": path,
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                env={**every, **ours, **(env or {})},
                cwd=ROOT,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return cls(process, mark, time.monotonic())

    def family(self) -> list[psutil.Process]:
        """Return all processes of this launch that are alive.

        Those that carry the mark, their descendants (a worker that names itself overwrites its
        environment), and those that were found so before and lost their parents since.
        """
        marked = f"{MARK}={self.mark}".encode()
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                content = Path(f"/proc/{process.pid}/environ").read_bytes()
                known = self.seen.get(process.pid) == process.create_time()
                if known or marked in content.split(b"\0"):
                    found[process.pid] = process
        for process in list(found.values()):
            with suppress(psutil.Error):
                found |= {c.pid: c for c in process.children(recursive=True)}
        alive = []
        for process in found.values():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    self.seen[process.pid] = process.create_time()
                    alive.append(process)
        return alive

    def kill_all(self) -> int:
        """Kill everything of this launch; return how many processes that were."""
        killed: set[int] = set()
        for _ in range(10):
            family = self.family()
            if not family:
                break
            for process in family:
                with suppress(psutil.Error):
                    process.kill()
                    killed.add(process.pid)
            time.sleep(0.1)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        return len(killed)

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.begun
