"""A user's function as a trainable: ``def train(config, run)``, many trials in turn in a process.

Run as a program (``python -m sweeper.runs.function my_lab.train:train``) it trains one trial as a
script does, for the check before a launch.
"""

from __future__ import annotations

import inspect
import io
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sweeper.config.messages import described
from sweeper.errors import DrainedError, StoreError, SupersededError, UsageError, redact
from sweeper.packing import Pack
from sweeper.runs import channel
from sweeper.runs.fields import Declaration, DeclarationError, of_annotation
from sweeper.runs.process import ERROR_LINES, OUTPUT_BYTES
from sweeper.runs.run import Ended, Run, Status
from sweeper.runs.single import Rows, Single, keep_output, left_early, settings_of
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.sink import Sink

ROWS = 500
"""The number of rows that are given to the sink at once."""


def load(name: str) -> Callable[..., Any]:
    """Return the function at the import path `name`.

    Raises:
        UsageError: It can't be imported, or isn't a function.
    """
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except ImportError as error:
        raise UsageError(
            f"trainable {name!r} can't be imported: {error}. Install it, or add its folder to "
            "PYTHONPATH."
        ) from error
    except AttributeError:
        raise UsageError(f"trainable {name!r}: the module {module} has no {attribute!r}.") from None
    except (Exception, SystemExit) as error:  # whatever its code does
        raise UsageError(f"trainable {name!r} can't be imported: {described(error)}.") from error
    if not callable(function):
        raise UsageError(f"trainable {name!r} isn't a function. Write `def train(config, run)`.")
    return typing.cast("Callable[..., Any]", function)


def declaration_of(name: str) -> tuple[Declaration, Path]:
    """Return the config that the function at `name` declares, and the file of its module.

    Raises:
        UsageError: It can't be imported, or has another signature.
    """
    function = load(name)
    try:
        parameters = list(inspect.signature(function).parameters.values())
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = [p for p in parameters if p.default is p.empty and p.kind not in several]
        if len(positional) < 2 or len(needed) > 2:
            raise DeclarationError(
                f"it has the parameters ({', '.join(map(str, parameters))}). Write "
                "`def train(config, run)`: the config of the trial, and its run, with run.steps(), "
                "run.log() and so on."
            )
        hints = typing.get_type_hints(function)
        if positional[0].name not in hints:
            raise DeclarationError(
                f"its parameter {positional[0].name!r} has no type. Write a dataclass or a "
                "pydantic model with the fields of the config: `def train(config: Config, run)`."
            )
        declaration = of_annotation(hints[positional[0].name])
    except (DeclarationError, NameError) as error:
        raise UsageError(f"trainable {name!r}: {error}") from None
    return declaration, Path(inspect.getfile(inspect.unwrap(function))).resolve()


def root_of(name: str, path: Path) -> Path:
    """Return the folder from which the module of the function at `name` is imported."""
    depth = name.partition(":")[0].count(".")
    if path.name == "__init__.py":
        depth += 1
    return path.parents[depth]


def own_files(path: Path, root: Path) -> list[str]:
    """Return the file of a function and the imported modules of the same project, sorted.

    Args:
        path: The file of the function's module.
        root: The folder from which it is imported. The project is the package of the module; for a
            module of its own, all modules below that folder.
    """
    project = root / path.relative_to(root).parts[0]
    return channel.below(root if project == path else project, {path})


class FunctionTrainable(Single):
    """Trains trials by calls of the user's function."""

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002
        """Return the command that calls the function once."""
        return [sys.executable, "-m", "sweeper.runs.function", self.__name__]

    def path(self, folder: Path) -> Sequence[str]:
        """Return the folder from which the function is imported."""
        return [str(folder)]

    def train(self, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
        """Train the trial by one call of the function."""
        trial = pack.trials[0]
        for root in self.path(self.unpacked(sink)):
            if root not in sys.path:
                sys.path.append(root)
        function = load(self.__name__)
        declaration, _ = declaration_of(self.__name__)
        saved = checkpoints.start()
        settings = settings_of(pack, every_s=checkpoints.every_s, keep=checkpoints.keep)
        given = {"seed": settings.seed, "steps": settings.steps, "device": settings.device}
        config = declaration.build(trial.values, given)
        session = _Direct(Rows(sink, trial.id), sink, checkpoints)
        payload = saved[0].payload if saved else None
        _set_threads(pack.run.threads)
        channel.seed_generators(settings.seed)
        run = Run(config, settings, session, swept=True, payload=payload)
        error: str | None = None
        with _output_kept(sink):
            try:
                function(config, run)
            except (DrainedError, SupersededError, StoreError):
                raise
            except Ended:
                pass
            except (Exception, SystemExit) as raised:
                error = _traceback(raised)
        session.rows.flush()
        last = max(session.rows.last_step, sink.last_step)
        if session.ended is not None:
            status, step = session.ended
            sink.end(pack.trial_ids, status, last_step=step, steps=step)
            return
        if error is None and last < 0:
            error = "the function returned without logging anything: call run.log(step, ...)"
        if error is None and not session.whole:
            error = left_early("function", last, pack.run.steps)
        if error is not None:
            steps = max(last, 0)
            sink.end(pack.trial_ids, "failed", last_step=last, steps=steps, error=redact(error))
        else:
            sink.end(pack.trial_ids, "censored", last_step=last, steps=pack.run.steps)


def _traceback(error: BaseException) -> str:
    """Return the last lines of the traceback of an error, without the frames of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(mine)]
    lines += traceback.format_exception_only(error)
    return "\n".join("".join(lines).strip().split("\n")[-ERROR_LINES:])


def _set_threads(threads: int) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


class _Direct:
    """The session of a function: its rows go straight to the sink.

    Attributes:
        rows: The rows that the sink doesn't have yet.
        whole: Whether the loop over the steps has come to its last step, if there is one.
        ended: The status and the step at which the trial ended, if it ended before the horizon.
    """

    def __init__(self, rows: Rows, sink: Sink, checkpoints: Checkpoints) -> None:
        self.rows = rows
        self.ended: tuple[Status, int] | None = None
        self.whole = True
        self._sink = sink
        self._checkpoints = checkpoints
        self._flusher = threading.Lock()

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Take one row."""
        self.rows.add(step, values)
        self.rows.flush()

    def save(self, step: int, payload: bytes) -> None:
        """Save the state; raise `DrainedError` if the sweep stops."""
        self.rows.flush()
        if step < 0:
            raise DrainedError
        self._checkpoints.save(step, payload)

    def over(self, status: Status, step: int) -> None:
        """Take the end of the trial."""
        self.ended = status, step

    def loop(self, *, whole: bool) -> None:
        """Take the note."""
        self.whole = whole

    def stopping(self) -> bool:
        """Return whether the sweep was asked to stop."""
        return self._sink.stopping

    def checked(self, seconds_per_step: float | None, metrics: list[str], *, saves: bool) -> None:
        """Take nothing: a check runs in a process of its own."""


class _Split(io.TextIOBase):
    """A stream that keeps what one thread writes, and passes on what the others write."""

    def __init__(self, thread: int, stream: Any, kept: list[str]) -> None:
        self._thread = thread
        self._stream = stream
        self._kept = kept

    def write(self, text: str) -> int:
        """Keep the text, or pass it on."""
        if threading.get_ident() != self._thread:
            return int(self._stream.write(text))
        self._kept.append(text)
        if len(self._kept) > OUTPUT_BYTES:
            del self._kept[OUTPUT_BYTES // 4 : -OUTPUT_BYTES // 4]
        return len(text)

    def flush(self) -> None:
        """Pass it on."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output_kept(sink: Sink) -> Iterator[None]:
    """Keep what this thread prints out of the screen, and store it."""
    kept: list[str] = []
    before = sys.stdout, sys.stderr
    mine = threading.get_ident()
    sys.stdout, sys.stderr = (_Split(mine, stream, kept) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        text = "".join(kept)
        keep_output(sink, text if len(text) <= OUTPUT_BYTES else text[-OUTPUT_BYTES:])


def main(name: str) -> None:
    """Train one trial as a script does: `sweeper.init` by the type of the function's config."""
    connection = channel.claim()
    assert connection is not None, "a worker starts this program"
    declaration, _ = declaration_of(name)
    run = channel.begin(connection, declaration)
    load(name)(run.config, run)


if __name__ == "__main__":
    main(sys.argv[1])
