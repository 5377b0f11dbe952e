"""The parts that commands share: consoles, errors in red, the runner, signals, the plan."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from sweeper.errors import ClusterLostError, ConfigError, SweeperError, UsageError, redact

if TYPE_CHECKING:
    from types import FrameType

    from sweeper.cli.options import Training
    from sweeper.engine.driver import Launched, Outcome, Runner
    from sweeper.engine.planner import Plan
    from sweeper.engine.progress import Monitor
    from sweeper.grid.grid import Grid

_width = None if sys.stdout.isatty() else 200
out = Console(highlight=False, soft_wrap=True, width=_width)
err = Console(stderr=True, highlight=False, soft_wrap=True, width=_width)

ASK_ABOVE = 100_000
"""A launch of more new trials than this asks first, unless --yes is given."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Print an error that the user can fix in red, and exit with its code; with 130 for Ctrl-C."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        raise typer.Exit(error.exit_code) from None
    except ClusterLostError as error:
        _complain(str(error))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(error.exit_code)  # Ray would wait for its processes, or abort
    except SweeperError as error:
        _complain(str(error))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        if err.is_terminal:
            err.print()  # the terminal has written ^C in front
        err.print("interrupted")
        raise typer.Exit(128 + signal.SIGINT) from None


class _NoPandas:
    """A finder that reports pandas as missing and leaves all other modules to the next finder."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:  # noqa: ARG004
        """Return None for any module except pandas."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def skip_pandas() -> None:
    """Keep pyarrow from importing pandas, in a process that only reads a store.

    pyarrow tries to import it with the first array, and remembers the answer. Without pandas
    `sweeper sql` took 0.64 s instead of 0.86 s, `status` 0.70 s instead of 0.88 s (medians of 8).
    """
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_NoPandas)


def _complain(message: str) -> None:
    err.print("[bold red]error:[/] ", end="")
    err.print(redact(message), markup=False)


def runner(
    grid: Grid, training: Training, *, rounds: bool = False, wait_s: float | None = None
) -> AbstractContextManager[Runner]:
    """Return the runner of the packs of `grid`; use it as a context manager.

    Args:
        grid: The grid, with the resources of a pack.
        training: The options of the command.
        rounds: Whether there will be many short runs.
        wait_s: The most seconds to wait for a node with room; None for some minutes.
    """
    if training.inline:
        from sweeper.engine import driver

        return nullcontext(driver.inline(grid))
    from sweeper.engine.ray import on_ray

    return on_ray(
        grid,
        address=training.address,
        max_concurrent=training.max_concurrent,
        rounds=rounds,
        store=training.store,
        say=partial(_say, training),
        wait_s=wait_s,
    )


def _say(training: Training, message: str) -> None:
    """Print a message about the cluster."""
    from sweeper.engine import progress

    if training.as_json:
        progress.emit(event="cluster", message=message)
    elif not training.quiet:
        out.print(message, markup=False)


class Stopper:
    """Stops a launch: after the first signal packs save and end, the second one kills it.

    The signals are those of Ctrl-C, of a system that shuts down, and of a terminal that closes.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._launched: Launched | None = None

    def arm(self, launched: Launched) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP from now on."""
        self._launched = launched
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._on_signal)

    def ask(self) -> None:
        """Ask the launch to stop."""
        from sweeper.engine import commands

        if self._launched is not None:
            commands.request_stop(self._launched.ledger.files, self._launched.launch_id)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        if self.signal:
            if err.is_terminal:
                err.print()
            err.print("killed: all committed results are safe")
            os._exit(128 + number)
        self.signal = number
        if err.is_terminal:
            err.print()  # the terminal has written ^C in front
        again = "Press Ctrl-C again" if number == signal.SIGINT else "Send the signal again"
        err.print(f"stopping: packs save a checkpoint and end. {again} to kill them.")
        self.ask()


def _leave_terminal() -> None:
    """Discard what would be written to the terminal: it is gone, and writing raises an error."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        if os.isatty(number):
            os.dup2(null, number)
    os.close(null)


class Shown:
    """The output of a command that trains, for its launches. `showing` makes it.

    Attributes:
        stopper: Handles signals.
    """

    def __init__(self, grid: Grid, monitor: Monitor, training: Training, *, yes: bool) -> None:
        self.grid = grid
        self.stopper = Stopper()
        self.as_json = training.as_json
        self.quiet = training.quiet
        self.store = training.store
        self._monitor = monitor
        self._yes = yes

    def announce(self, plan: Plan) -> None:
        """Print the plan, and ask before very many trials."""
        from sweeper.engine import own_code, progress

        for message in plan.damage:
            err.print(f"damaged: {message} Its trials are trained again.", markup=False)
        if self.as_json:
            progress.emit(**progress.plan_event(self.grid, plan))
        elif not self.quiet:
            out.print(progress.plan_sentence(self.grid, plan), markup=False)
            if plan.hidden:
                out.print(progress.hidden_before(self.grid, plan.hidden), markup=False)
            if own_code.edited(self.grid):  # of a stored grid, as `extend` and `refine` have it
                out.print(progress.edited(self.grid), markup=False)
            elif plan.outdated:
                out.print(progress.outdated(self.grid, plan.outdated), markup=False)
        _confirm(plan.counts.new, yes=self._yes)

    def started(self, launched: Launched) -> None:
        """Handle signals, and follow the launch."""
        self.stopper.arm(launched)
        self._monitor.start(launched)

    def signalled(self, code: int, *, work_left: bool) -> int:
        """Return the exit code: `code`, or that of the signal that left trials untrained."""
        return 128 + self.stopper.signal if self.stopper.signal and work_left else code

    def finish(self, outcome: Outcome) -> int:
        """Print how the launch ended; return the exit code."""
        from sweeper.engine import progress

        counts = outcome.counts
        code = self.signalled(outcome.exit_code, work_left=counts.new > 0)
        if self.as_json:
            progress.emit(
                event="end",
                trials=counts.trials,
                done=counts.done,
                new=counts.new,
                failed=counts.failed,
                hidden=outcome.hidden,
                exit_code=code,
            )
        elif not self.quiet:
            out.print(progress.end_sentence(self.grid, counts, self.store), markup=False)
            if outcome.hidden:
                out.print(
                    progress.hidden_after(self.grid, outcome.hidden, self.store), markup=False
                )
        return code


@contextmanager
def showing(grid: Grid, training: Training, *, yes: bool = False) -> Iterator[Shown]:
    """Yield the output of a command's launches on this terminal."""
    from sweeper.engine import progress

    with (
        progress.display(out, as_json=training.as_json, quiet=training.quiet) as show,
        progress.Monitor(show, max_failures=training.max_failures) as monitor,
    ):
        shown = Shown(grid, monitor, training, yes=yes)
        monitor.stop = shown.stopper.ask
        yield shown


def _confirm(new: int, *, yes: bool) -> None:
    if new > ASK_ABOVE and not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"{new} new trials are more than {ASK_ABOVE}. Add --yes to train them."
            )
        if not typer.confirm(f"Train {new} new trials?"):
            raise typer.Exit(4)
