"""The toy whose trials end their process, raise what isn't an error, or hang, as `fate` says.

And a worker as on Ray, in which their packs are trained: a process of its own.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from sweeper.config.fields import BATCHED, Section
from sweeper.engine import trainer
from sweeper.engine.task import PackTask
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.sink import Sink
from tests import toy
from tests.toy import device, memory_bytes, probe, useful_size

__all__ = ["Config", "device", "memory_bytes", "probe", "train", "useful_size"]

DOOM = 3
"""The step at which a trial meets its fate."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.dying"])

Fate = Literal["well", "segfaults", "exits", "is_killed", "interrupts", "needs_memory", "hangs"]


class Dying(toy.Toy):
    """The only task."""

    fate: Annotated[Fate, BATCHED] = "well"  # type: ignore[assignment]


class Config(toy.Config):
    """The config."""

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {"task": {"toy": Dying}}

    task: Dying


def meet(fate: str) -> None:
    """End the process, raise or hang."""
    os.write(2, f"last words of one that {fate}\n".encode())
    if fate == "segfaults":
        ctypes.string_at(0)
    elif fate == "exits":
        os._exit(7)
    elif fate == "is_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate == "interrupts":
        raise KeyboardInterrupt
    elif fate == "needs_memory":
        raise MemoryError
    elif fate == "hangs":
        time.sleep(3600)


class _Watched:
    """A sink that lets trials meet their fates."""

    def __init__(self, sink: Sink, fates: set[str]) -> None:
        self._sink, self._fates = sink, fates

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def write(self, step: int, trial_ids: Sequence[str], **metrics: Any) -> None:
        self._sink.write(step, trial_ids, **metrics)
        if step >= DOOM:
            for fate in self._fates - {"well"}:
                meet(fate)


def train(pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
    """Train as the toy does until a trial meets its fate."""
    watched: Any = _Watched(sink, {str(f) for f in pack.column("task.fate")})
    toy.train(pack, watched, checkpoints)


def train_in_worker(tasks: Sequence[PackTask], output: Path, doom: int = DOOM) -> None:
    """Train packs in a new process, as a worker of Ray does.

    Args:
        tasks: The packs.
        output: The file to which the process writes its output.
        doom: The step at which trials meet their fates.

    Raises:
        RaisedError, WorkerError: As `Trainer.train` does.
    """
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_working, args=(theirs, tasks, output, doom))
    process.start()
    theirs.close()
    try:
        error = ours.recv()
    finally:
        process.join()
    if error is not None:
        raise error


def _working(talk: Connection, tasks: Sequence[PackTask], output: Path, doom: int) -> None:
    global DOOM
    DOOM = doom
    with output.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        for task in tasks:
            trainer.train(task)
    except Exception as error:
        talk.send(error)
    else:
        talk.send(None)
