"""The connection between a worker and a script that it started, at the script's end.

The worker passes one end of a socket to the script and names it in `VARIABLE`. Messages are JSON
lists, each of a word and its arguments; the bytes of a checkpoint follow their message.
`sweeper.runs.script` is the other end.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from sweeper.runs.fields import Declaration
from sweeper.runs.run import Checked, Run, Settings, Status

VARIABLE = "SWEEPER_RUN"
"""The environment variable with the number of the script's end of the socket."""

ASK_S = 0.1
"""Seconds between two looks for a message of the worker."""


def claim() -> Connection | None:
    """Return the script's end of the connection; None if no worker started this process.

    The variable is removed, and the socket isn't inherited, so that processes which the script
    starts are their own.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    connection = Connection(int(number))
    os.set_inheritable(connection.fileno(), False)
    return connection


def send(connection: Connection, word: str, *arguments: Any) -> None:
    """Send one message."""
    connection.send_bytes(json.dumps([word, *arguments]).encode())


def receive(connection: Connection) -> list[Any]:
    """Return the next message."""
    message: list[Any] = json.loads(connection.recv_bytes())
    return message


def begin(connection: Connection, declaration: Declaration) -> Run:
    """Return the run of a script that a worker started.

    If the worker only asks for the declaration, it is sent, and the process ends.
    """
    word, *rest = receive(connection)
    if word == "declare":
        fields = [field.as_dict() for field in declaration.fields]
        send(connection, "declared", fields, list(declaration.filled), *local_files())
        leave()
    settings, values, resumes = rest
    payload = connection.recv_bytes() if resumes else None
    made = Settings(**settings)
    given = {"seed": made.seed, "steps": made.steps, "device": made.device}
    config = declaration.build(values, given)
    seed_generators(made.seed)
    run = Run(config, made, Worker(connection), swept=True, payload=payload)
    if made.check is not None:
        sys.excepthook = _silent_after_a_check
    return run


def leave() -> NoReturn:
    """End the process at once, whatever the script would do with an exception."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _silent_after_a_check(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if kind is not Checked:
        sys.__excepthook__(kind, error, trace)


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, and of NumPy and torch where they are imported."""
    random.seed(seed)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    if torch is not None:
        torch.manual_seed(seed)


def local_files() -> tuple[str, list[str]]:
    """Return the folder of the script, and the imported Python files below it that are its own."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    root = Path(sys.path[0] or ".").resolve()
    return str(root), below(root, set() if main is None else {Path(main).resolve()})


def below(root: Path, own: set[Path]) -> list[str]:
    """Return the files in `own` and those of the imported modules below `root`, sorted.

    Modules of Python's installations and of this package are left out.
    """
    places = (sys.prefix, sys.base_prefix, Path(__file__).parents[1])
    others = [Path(place).resolve() for place in places]
    every = set(own)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) if module is not None else None
        if isinstance(file, str) and file.endswith(".py") and Path(file).is_file():
            path = Path(file).resolve()
            if path.is_relative_to(root) and not any(map(path.is_relative_to, others)):
                every.add(path)
    return sorted(map(str, every))


class Worker:
    """The session of a script that a worker started."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._asked = time.monotonic()
        self._stopping = False

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Send the row."""
        self._send("row", step, values)

    def save(self, step: int, payload: bytes) -> None:
        """Send the state and wait until it is saved; end the process if the sweep stops."""
        if step < 0:
            self._send("leave")
            leave()
        with self._lock:
            send(self._connection, "save", step)
            self._connection.send_bytes(payload)
            while (word := receive(self._connection)[0]) == "stop":
                self._stopping = True
        if word == "leave":
            leave()

    def over(self, status: Status, step: int) -> None:
        """Send the end of the trial."""
        self._send("over", status, step)

    def loop(self, *, whole: bool) -> None:
        """Send the note."""
        self._send("loop", whole)

    def stopping(self) -> bool:
        """Return whether the worker has sent a request to stop."""
        now = time.monotonic()
        if not self._stopping and now - self._asked >= ASK_S:
            self._asked = now
            with self._lock:
                if self._connection.poll():
                    self._stopping = receive(self._connection)[0] == "stop"
        return self._stopping

    def checked(self, seconds_per_step: float | None, metrics: list[str], *, saves: bool) -> None:
        """Send the result of the check; the process ends."""
        self._send("checked", seconds_per_step, metrics, saves)
        leave()

    def _send(self, *words: Any) -> None:
        try:
            with self._lock:
                send(self._connection, *words)
        except OSError:  # the worker is gone: another one trains the trial
            os._exit(1)
