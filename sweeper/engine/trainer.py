"""The child process in which a worker trains, so that the worker outlives its trials.

A trial may end its process: by a crash in compiled code, by ``os._exit``, or because the
out-of-memory killer chose it. Then only the child dies. Its worker learns the exit code or the
signal, starts another child, and tells it (`sweeper.engine.deaths`). The child is forked before
torch is imported, keeps its imports from one pack to the next, and dies with its worker.

Only on Linux. Elsewhere a process with threads can't be forked safely, so the worker itself trains.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from sweeper.engine.deaths import Death, Observer, Output, cause_of
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_pack
from sweeper.errors import DiedError, WorkerError
from sweeper.store.sink import Sink

TICK_S = 0.2
"""Seconds between two looks at the child."""

IDLE_DEATHS = 3
"""Number of deaths in a row, without a pack in training, after which a task is given up."""

ABORT_S = 5.0
"""Seconds that a child has to print its stack, before it is killed."""

GARBAGE = (50_000, 20, 20)
"""Thresholds of garbage collection: the default slows the import of torch by a third."""

_PDEATHSIG = 1
"""The option of `prctl` that names the signal for a process whose parent has ended."""

_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


class RaisedError(Exception):
    """An error that `run_pack` raised in the child.

    Attributes:
        kind: The name of the error's class.
        message: Its text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


class Trainer:
    """Trains packs in a child process; one per worker."""

    def __init__(self) -> None:
        self._forking = ThreadPoolExecutor(1, "fork")  # a child ends with the thread that forked it
        self._pid = 0
        self._status: int | None = None
        self._talk: Connection | None = None
        self._gpus: str | None = None

    def train(self, task: PackTask) -> None:
        """Train the pack of `task` as `run_pack` does.

        Raises:
            RaisedError: `run_pack` raised an error in the child.
            WorkerError: The child died again and again without a pack in training.
        """
        last: Death | None = None  # of a child that had a pack in training
        idle = 0
        while (death := self._ask(task, last)) is not None:
            if death.pack_id:
                idle = 0
                again = last is not None and death.outside and last.pack_id == death.pack_id
                last = replace(death, times=last.times + 1) if last and again else death
                continue
            idle += 1
            if idle == IDLE_DEATHS:
                raise WorkerError(f"{death.cause} before it began to train the pack.")

    def _ask(self, task: PackTask, death: Death | None) -> Death | None:
        """Let the child train; return its death, or None if it has done the task."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        if self._talk is not None and gpus != self._gpus:  # torch reads it only once
            self._end()
        if self._talk is None:
            self._gpus = gpus
            self._pid, self._talk = self._forking.submit(_fork).result()
            self._status = None
        try:
            with suppress(OSError):  # it may have died since
                self._talk.send((task, death))
            return self._listen(self._talk, task.timeout)
        except RaisedError:
            raise
        except BaseException:  # this process was interrupted, and the child still trains
            self._end()
            raise

    def _listen(self, talk: Connection, timeout: float | None) -> Death | None:
        """Follow the child until it has done its task, or until it is dead."""
        pack_id, output, heard = "", Output(), time.monotonic()
        word: str | None
        said: list[Any]
        while True:
            try:
                word, *said = talk.recv() if talk.poll(TICK_S) else [None]
            except (EOFError, OSError):
                break
            if word is not None:
                heard = time.monotonic()
            if word == "done":
                return None
            if word == "raised":
                raise RaisedError(*said)
            if word == "pack":
                pack_id, output = said[0], Output(said[1])
            elif not self._alive():  # a process that the child started holds the connection
                break
            elif pack_id and timeout and time.monotonic() - heard > timeout:
                self._abort()
                self._end()
                return Death(pack_id, f"no row for {timeout:g} s", output.tail())
        cause, outside = cause_of(self._end())
        return Death(pack_id, cause, output.tail(), outside)

    def _alive(self) -> bool:
        """Return whether the child is alive."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    def _wait(self, seconds: float) -> None:
        """Wait until the child is dead, but not longer than `seconds`."""
        until = time.monotonic() + seconds
        while self._alive() and time.monotonic() < until:
            time.sleep(0.01)

    def _abort(self) -> None:
        """Let the child print its stack and end."""
        if sys.platform == "linux":  # else the abort would also write a file with its memory
            resource.prlimit(self._pid, resource.RLIMIT_CORE, (0, 0))
        os.kill(self._pid, signal.SIGABRT)
        self._wait(ABORT_S)

    def _end(self) -> int:
        """End the child if it is alive; return its exit code, or minus the signal's number."""
        self._wait(TICK_S)
        if self._alive():
            os.kill(self._pid, signal.SIGKILL)
        while self._alive():
            time.sleep(0.01)
        assert self._talk is not None
        assert self._status is not None
        self._talk.close()
        self._talk = None
        return self._status

    def close(self) -> None:
        """End the child."""
        if self._talk is not None:
            self._end()
        self._forking.shutdown()


_trainer: list[Trainer] = []
"""The trainer of this process, once there is one."""


def train(task: PackTask) -> None:
    """Train the pack of `task` in the child process of this worker; see `Trainer.train`."""
    if sys.platform == "linux":
        if not _trainer:
            _trainer.append(Trainer())
        _trainer[0].train(task)
    else:
        run_pack(task)


def _fork() -> tuple[int, Connection]:
    """Fork a child; return its process and the connection to it."""
    ours, theirs = Pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads: the child uses none of them
        pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        _prepare(parent, theirs.fileno())
        _serve(theirs)
    except BaseException:  # e.g. the worker is gone
        os._exit(1)
    os._exit(0)


def _prepare(parent: int, talk: int) -> None:
    """Make this process, which was just forked, independent of the worker's Ray."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - no path is needed
        if number > 2 and number not in (talk, null):
            with suppress(OSError):  # the descriptor of the listing itself
                os.dup2(null, number)  # not closed: an object that still owns it may close it later
    faulthandler.disable()
    for number in (*_CRASHES, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # those of Ray need its threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    faulthandler.enable(2, all_threads=False)
    gc.set_threshold(*GARBAGE)
    put_packages_first()


def put_packages_first() -> None:
    """Move the working folder to the end of Python's path.

    Ray puts it first, where a user's folder could hide our packages.
    """
    here = str(Path.cwd())
    sys.path[:] = [*(path for path in sys.path if path != here), here]


def _serve(talk: Connection) -> None:
    """Train the packs that the worker asks for."""
    while True:
        task, death = talk.recv()
        try:
            run_pack(task, death=death, observer=_Reports(talk, task))
        except DiedError as error:  # its script was killed: so is this process, and it counts
            with suppress(OSError):  # nothing handles SIGKILL
                signal.signal(error.signal, signal.SIG_DFL)
            os.kill(os.getpid(), error.signal)
        except BaseException as error:  # whatever the trainable's module raises as it is imported
            talk.send(("raised", type(error).__name__, str(error)))
        else:
            talk.send(("done",))


class _Reports(Observer):
    """Reports to the worker which pack is in training, and its new rows."""

    outlives_trials = True

    def __init__(self, talk: Connection, task: PackTask) -> None:
        self._talk = talk
        self._rows = task.timeout is not None
        self._lock = threading.Lock()

    @contextmanager
    def training(self, sink: Sink) -> Iterator[None]:
        """Report the pack of `sink` at the beginning, and each of its rows."""
        self._send("pack", sink.claim.pack_id, Output().begun)
        over = threading.Event()
        thread = threading.Thread(target=self._follow, args=(sink, over), daemon=True)
        if self._rows:
            thread.start()
        died = False
        try:
            yield
        except DiedError:  # this process ends with the pack in training
            died = True
            raise
        finally:
            over.set()
            if self._rows:
                thread.join()
            if not died:
                self._send("pack", "", {})

    def _follow(self, sink: Sink, over: threading.Event) -> None:
        reported = sink.last_step
        while not over.wait(TICK_S):
            if sink.last_step != reported:
                reported = sink.last_step
                self._send("row")

    def _send(self, *words: Any) -> None:
        with self._lock:
            self._talk.send(words)
