"""A user's script as a trainable: each trial is a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.errors import DiedError, DrainedError, UsageError, redact
from sweeper.packing import Pack
from sweeper.runs.process import Process
from sweeper.runs.single import Rows, Single, keep_output, left_early, settings_of
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.sink import Sink

TICK_S = 0.1
"""The longest time in seconds that a row waits for others."""

ROWS = 5000
"""The most rows that wait."""

DRAIN_S = 20.0
"""Seconds that a script has to offer a checkpoint when the sweep stops."""

FROM_OUTSIDE = (1, 2, 3, 9, 15)
"""Signals that another process may have sent."""


class ScriptTrainable(Single):
    """Trains a trial in a process that runs the user's script."""

    def command(self, folder: Path) -> Sequence[str]:
        """Return the program and the arguments of the script."""
        words = [
            word.replace(self.code["folder"], str(folder), 1)
            if word.startswith(self.code["folder"])
            else word
            for word in self.code["command"]
        ]
        return [sys.executable if words[0] == self.code["python"] else words[0], *words[1:]]

    def path(self, folder: Path) -> Sequence[str]:
        """Return the folder of a copy of the code: a command line imports from there."""
        return () if str(folder) == self.code["folder"] else [str(folder)]

    def train(self, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
        """Train the trial in a process of its own."""
        trial = pack.trials[0]
        saved = checkpoints.start()
        payload = saved[0].payload if saved else None
        settings = settings_of(pack, every_s=checkpoints.every_s, keep=checkpoints.keep)
        place = self.unpacked(sink)
        try:
            running = Process(
                self.command(place),
                self.folder(),
                device=pack.run.device,
                threads=pack.run.threads,
                path=self.path(place),
            )
        except OSError as error:
            raise UsageError(f"trainable {self.__name__!r} can't be started: {error}.") from None
        with running:
            begin = asdict(settings), dict(trial.values), payload is not None
            running.send("begin", *begin, payload=payload)
            follower = _Follower(running, Rows(sink, trial.id), sink, checkpoints)
            try:
                follower.follow()
                status = running.status()
            finally:
                text = running.output()
                keep_output(sink, text)
            _end(pack, sink, follower, status, running.tail())


def _end(pack: Pack[Any], sink: Sink, follower: _Follower, status: int, tail: str) -> None:
    """Record the end of the trial of a script that has ended with `status`."""
    ids, last = pack.trial_ids, max(follower.rows.last_step, sink.last_step)
    if follower.over is not None:
        how, step = follower.over
        sink.end(ids, how, last_step=step, steps=step)
        return
    if -status in FROM_OUTSIDE:
        sys.stderr.write(f"{tail}\n")
        sys.stderr.flush()
        raise DiedError(-status)
    error = None
    if status:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        error = f"{tail}\nthe script ended with {how}".lstrip()
    elif follower.refused is not None:
        error = follower.refused
    elif last < 0:
        error = f"{tail}\nthe script ended without logging anything".lstrip()
    elif not follower.whole:
        error = f"{tail}\n{left_early('script', last, pack.run.steps)}".lstrip()
    if error is not None:
        sink.end(ids, "failed", last_step=last, steps=max(last, 0), error=redact(error))
    else:
        sink.end(ids, "censored", last_step=last, steps=pack.run.steps)


class _Follower:
    """Takes what a script says, until it ends.

    Attributes:
        rows: Its rows.
        over: The status and the step at which the trial ended, if it ended before the horizon.
        whole: Whether the loop over the steps has come to its last step, if there is one.
        refused: Why the script couldn't declare its config.
    """

    def __init__(self, running: Process, rows: Rows, sink: Sink, checkpoints: Checkpoints) -> None:
        self.rows = rows
        self.over: tuple[str, int] | None = None
        self.whole = True
        self.refused: str | None = None
        self._running = running
        self._sink = sink
        self._checkpoints = checkpoints
        self._stopping: float | None = None

    def follow(self) -> None:
        """Take the messages.

        Raises:
            DrainedError: The sweep was asked to stop, and what could be saved is saved.
        """
        flushed = time.monotonic()
        while True:
            try:
                message = self._running.message(TICK_S)
                if message is not None:
                    self._take(*message)
            except EOFError:
                break
            now = time.monotonic()
            if len(self.rows) >= ROWS or now - flushed >= TICK_S:
                self.rows.flush()
                self._sink.check()
                flushed = now
                self._stop(now)

        self.rows.flush()
        while not self._running.wait(TICK_S):  # it does something else yet, e.g. writes its files
            self._sink.check()
            self._stop(time.monotonic())

    def _stop(self, now: float) -> None:
        """Ask the script to stop if the sweep was asked to; leave if it takes too long."""
        if not self._sink.stopping:
            return
        if self._stopping is None:
            self._stopping = now
            self._running.send("stop")
        elif now - self._stopping > DRAIN_S:
            raise DrainedError

    def _take(self, word: str, *arguments: Any) -> None:
        if word == "row":
            self.rows.add(*arguments)
        elif word == "over":
            status, step = arguments
            self.over = status, step
        elif word == "save":
            payload = self._running.payload()
            self.rows.flush()
            self._checkpoints.save(arguments[0], payload)
            self._running.send("saved")
        elif word == "loop":
            self.whole = arguments[0]
        elif word == "leave":
            raise DrainedError
        elif word == "refused":
            self.refused = arguments[0]
