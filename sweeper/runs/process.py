"""The process of a user's script, and the worker's end of the connection to it."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from sweeper.runs.channel import VARIABLE, receive, send

OUTPUT_BYTES = 64 << 10
"""The most bytes of a trial's output that are kept: half from its beginning, half from its end."""

ERROR_LINES = 20
"""The most lines of the output that an error shows."""

GRACE_S = 60.0
"""Seconds that a process has to end after it closed the connection, if nothing else limits it."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Variables that set the number of threads of numerical libraries."""

_PDEATHSIG = 1
"""The option of `prctl` that names the signal for a process whose parent has ended."""


class Process:
    """A running script; use it as a context manager, which ends it and all processes it started.

    Args:
        command: The program and its arguments.
        folder: The working folder.
        device: The device: on ``cpu``, the script sees no GPU.
        threads: Threads of numerical libraries.
        path: Folders to put first on the path of Python.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        device: str = "cpu",
        threads: int = 1,
        path: Sequence[str] = (),
    ) -> None:
        self._ours, self._theirs = Pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the process
        environment = os.environ | dict.fromkeys(THREADS, str(threads))
        environment |= {VARIABLE: str(self._theirs.fileno()), "PYTHONUNBUFFERED": "1"}
        if path:
            rest = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join([*path, *([rest] if rest else [])])
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=[self._theirs.fileno()],
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        self._theirs.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._ours.close()
        self._output.close()

    def send(self, word: str, *arguments: Any, payload: bytes | None = None) -> None:
        """Send a message; a process that has ended gets none."""
        with suppress(OSError):
            send(self._ours, word, *arguments)
            if payload is not None:
                self._ours.send_bytes(payload)

    def message(self, seconds: float) -> list[Any] | None:
        """Return the next message, or None if none comes within `seconds`.

        Raises:
            EOFError: The script has ended, or closed the connection.
        """
        try:
            if self._ours.poll(seconds):
                return receive(self._ours)
        except OSError as error:
            raise EOFError from error
        if self._process.poll() is not None and not self._ours.poll():
            raise EOFError  # a process that the script left behind holds the connection
        return None

    def payload(self) -> bytes:
        """Return the bytes that follow a message.

        Raises:
            EOFError: The script has ended.
        """
        try:
            return self._ours.recv_bytes()
        except OSError as error:
            raise EOFError from error

    def status(self) -> int:
        """Return the exit code, or minus the number of the signal, of a script that ends now."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(GRACE_S)
        self.end()
        return self._process.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Return whether the process ends within `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return True
        return False

    def end(self) -> None:
        """End the script and the processes that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def output(self) -> str:
        """Return the output so far: its beginning and its end if it is long."""
        size = os.fstat(self._output.fileno()).st_size
        half = OUTPUT_BYTES // 2
        if size <= OUTPUT_BYTES:
            return os.pread(self._output.fileno(), size, 0).decode(errors="replace")
        first = os.pread(self._output.fileno(), half, 0)
        last = os.pread(self._output.fileno(), half, size - half)
        left_out = f"\n... {size - 2 * half} bytes left out ...\n"
        return f"{first.decode(errors='replace')}{left_out}{last.decode(errors='replace')}"

    def tail(self) -> str:
        """Return the last lines of the output."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return "\n".join(lines[-ERROR_LINES:])


def _die_with_parent() -> None:
    """Let the system kill this process as soon as its parent has ended."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def python(command: str, folder: Path) -> list[str]:
    """Return the program and the arguments of a script or of a command line."""
    words = shlex.split(command)
    if len(words) == 1:
        return [sys.executable, str(folder / words[0])]
    return [sys.executable if words[0] in ("python", "python3") else words[0], *words[1:]]


def answers(
    process: Process, first: Sequence[Any], seconds: float, payload: bytes | None = None
) -> Mapping[str, list[Any]]:
    """Send the `first` message to a script; return its answers by their words until it ends.

    Rows are counted under ``row``. A script that takes longer than `seconds` is ended.
    """
    process.send(*first, payload=payload)
    found: dict[str, list[Any]] = {}
    until = time.monotonic() + seconds
    with suppress(EOFError):
        while time.monotonic() < until:
            message = process.message(0.1)
            if message is not None:
                found.setdefault(message[0], message[1:])
                if message[0] == "save":
                    process.payload()
                    process.send("saved")
        found["late"] = []
    return found
