"""Worker processes that died while they trained a pack: the cause, and what becomes of the pack.

A worker on Ray trains in a child process (`sweeper.engine.trainer`), so it learns how the child
ended. A child that crashed or exited was ended by one of the pack's trials, as if that trial had
raised an exception. A signal such as SIGKILL may come from outside, e.g. from the out-of-memory
killer, so it counts only if it comes again before the pack has made progress.

If the worker dies too, or its node, nobody knows the cause. Such attempts count as well, but the
limit is high, because a preempted node is no fault of a trial. Attempts of earlier launches never
count: a launch that was killed as a whole proves nothing about its trials.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sweeper.store.sink import Sink
from sweeper.store.state import PackState

KILLS = 2
"""Number of deaths by a signal from outside after which a pack is split; a pack of one trial
fails after one more."""

LOST = 10
"""Number of attempts in a row that ended for an unknown reason after which a pack is split."""

OUTPUT_LINES = 20
"""The most lines of a process's last output that are kept."""

OUTPUT_BYTES = 16 << 10
"""The most bytes that are read of them."""

FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}
"""Signals that other processes send. A process that crashes gets others."""

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_OURS = r"sweeper/engine/\w+|concurrent/futures/thread|threading"
_NOISE = re.compile(
    rf"Extension modules: |.*\b(fork_posix|ev_poll_posix)\.cc:|  File \".*/({_OURS})\.py\", line"
)
"""Lines that say nothing about the trial: gRPC at a fork, and the stack below the trainable."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a child process that trained a pack.

    Attributes:
        pack_id: The pack; empty if none was in training.
        cause: How the process ended, e.g. ``worker died (signal 11)``.
        output: The last lines that it wrote to its output.
        outside: Whether another process may have ended it.
        times: Number of such deaths of the same pack in a row.
    """

    pack_id: str
    cause: str
    output: str = ""
    outside: bool = False
    times: int = 1

    @property
    def error(self) -> str:
        """The last output, and the cause as the last line."""
        return f"{self.output}\n{self.cause}" if self.output else self.cause


class Observer:
    """Receives the pack that is in training. This class does nothing with it.

    Attributes:
        outlives_trials: Whether another process watches this one: if a script is killed, it can end
            in the same way, so that the deaths of a trial are counted.
    """

    outlives_trials = False

    @contextmanager
    def training(self, sink: Sink) -> Iterator[None]:  # noqa: ARG002 - for subclasses
        """Observe the training of the pack of `sink` within the context."""
        yield


ALONE = Observer()
"""The observer of a process that no other one watches."""


def cause_of(status: int) -> tuple[str, bool]:
    """Return the cause of a death, and whether it may be from outside.

    Args:
        status: The exit code of the process, or minus the number of the signal that ended it.
    """
    if status < 0:
        return f"worker died (signal {-status})", -status in FROM_OUTSIDE
    return f"worker died (exit code {status})", False


def verdict(pack: PackState, launch_id: str, death: Death | None) -> str | None:
    """Return the error of a pack that must not be trained again as it is, else None.

    Args:
        pack: The pack, already claimed for the next attempt.
        launch_id: The launch of the attempt.
        death: The last death of the worker's child process, if there was one.
    """
    attempts = fruitless(pack, launch_id)
    if death is not None and death.pack_id == pack.id:
        limit = KILLS if pack.size > 1 else KILLS + 1
        if not death.outside or min(death.times, attempts) >= limit:
            return death.error
    if attempts >= LOST:
        return f"worker lost {attempts} times in a row without a new row"
    return None


def fruitless(pack: PackState, launch_id: str) -> int:
    """Return the number of latest attempts of the launch, without the last, that made no progress.

    An attempt makes progress if it commits a later step than all earlier attempts did.
    """
    reached: dict[int, int] = {}
    for number, part in pack.parts:
        reached[number] = max(part.max_step, reached.get(number, -1))
    count, furthest = 0, -1
    for attempt in pack.attempts[:-1]:
        step = max(attempt.resumed_at, reached.get(attempt.number, -1))
        made_progress = step > furthest
        furthest = max(furthest, step)
        same_launch = attempt.record["launch_id"] == launch_id
        count = count + 1 if same_launch and not made_progress else 0
    return count


class Output:
    """The output of this process since a moment, as far as it goes to files.

    Attributes:
        begun: File to its size at that moment. As plain values, which another process can use.
    """

    def __init__(self, begun: Mapping[str, int] | None = None) -> None:
        """Begin now, or at the moment of `begun`."""
        if begun is None:
            files = [Path(f"/proc/self/fd/{number}") for number in (1, 2)]
            paths = dict.fromkeys(file.resolve() for file in files if file.exists())
            begun = {str(path): path.stat().st_size for path in paths if path.is_file()}
        self.begun = begun

    def tail(self) -> str:
        """Return the last lines since then, without what differs between equal crashes."""
        lines: list[str] = []
        for path, begun in self.begun.items():
            with suppress(OSError), Path(path).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(begun, size - OUTPUT_BYTES))
                lines += file.read().decode(errors="replace").splitlines()
        kept = [_ADDRESS.sub("0x...", x) for x in lines if x.strip() and not _NOISE.match(x)]
        return "\n".join(kept[-OUTPUT_LINES:])
