"""What scripts and functions have in common as trainables: they train one trial at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from sweeper.config.fields import Config as AnyConfig
from sweeper.config.trial import Trial
from sweeper.errors import UsageError, redact
from sweeper.packing import Pack
from sweeper.runs.process import Process, answers
from sweeper.runs.run import Settings
from sweeper.runs.state import decode
from sweeper.runs.travel import changed, pack_up, unpacked
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.files import Files
from sweeper.store.sink import Sink

CHECK_S = 60.0
"""The most seconds that a check takes."""

TRAIN_S = 1.0
"""Seconds of training after which a check ends."""

WEIGHTS = ("model", "net", "network", "weights", "params", "state_dict", "model_state_dict")
"""The usual names of the weights in the state of a training."""

OUTPUT = "output"
"""The folder of a sweep with the output of its trials."""


class Single:
    """A trainable that trains one trial at a time; see `sweeper.trainable.Trainable`.

    Attributes:
        Config: The config, made from the user's fields.
        code: The description of the user's code (`sweeper.runs.own`).
        single: Packs have one trial.
    """

    single = True

    def __init__(self, code: Mapping[str, Any], config: type[AnyConfig]) -> None:
        self.code = code
        self.Config = config
        self.__name__ = str(code["name"])

    def memory_bytes(self, config: AnyConfig) -> int:  # noqa: ARG002
        """Return 0: the memory that a user's code needs isn't known."""
        return 0

    def useful_size(self, config: AnyConfig) -> int:  # noqa: ARG002
        """Return 1."""
        return 1

    def device(self, asked: str) -> str:
        """Return `asked`.

        Raises:
            UsageError: It is a GPU, and this machine has none.
        """
        if asked.startswith("cuda") and not self.device_count(asked):
            raise UsageError(
                "no GPU found on this machine by torch. Train on a machine with a GPU and a build "
                "of torch that supports it, or set resources.gpu=0."
            )
        return asked

    def device_count(self, asked: str) -> int:
        """Return the number of devices of the kind of `asked` on this machine; 1 for the CPU."""
        if not asked.startswith("cuda"):
            return 1
        cuda = import_module("torch").cuda
        return int(cuda.device_count()) if cuda.is_available() else 0

    def probe(self, pack: Pack[Any]) -> float:
        """Return the measured seconds of one step, with its share of the start of a process.

        Raises:
            UsageError: The training can't be run.
        """
        begun = time.monotonic()
        seconds = self.check(pack) or 0.0
        start = max(0.0, time.monotonic() - begun - TRAIN_S)
        return seconds + start / pack.run.steps

    def command(self, folder: Path) -> Sequence[str]:
        """Return the program and the arguments that train one trial in a process of its own.

        Args:
            folder: The folder with the files of the code.
        """
        raise NotImplementedError

    def folder(self) -> Path:
        """Return the working folder of a trial: that of the launch, if this machine has it."""
        cwd = Path(self.code.get("cwd", ""))
        return cwd if cwd.is_dir() else Path.cwd()

    def path(self, folder: Path) -> Sequence[str]:
        """Return the folders that Python's path needs; `folder` has the files of the code."""
        raise NotImplementedError

    def pack_up(self, files: Files) -> None:
        """Write the files of the code to a sweep's folder, for the workers."""
        pack_up(self.code, files)

    def edited(self) -> bool:
        """Return whether the files of the code have changed since they were described."""
        return changed(self.code)

    def unpacked(self, sink: Sink) -> Path:
        """Return the folder with the files of the code as they were at the launch."""
        return unpacked(self.code, sink.claim.ledger.files)

    def check(self, pack: Pack[Any]) -> float | None:
        """Train the first trial of `pack` for a second, in a process of its own.

        Returns:
            The seconds per step; None if no row came within `CHECK_S` seconds.

        Raises:
            UsageError: It fails, logs nothing, or logs other metrics than the criterion reads.
        """
        trial = pack.trials[0]
        settings = settings_of(pack, check=TRAIN_S)
        values = dict(trial.values)
        place = Path(self.code["folder"])
        with Process(self.command(place), self.folder(), path=self.path(place)) as running:
            begin = ["begin", asdict(settings), values, False]
            found = answers(running, begin, CHECK_S)
            late = "late" in found
            status, tail = (0, "") if late else (running.status(), running.tail())
        shown = ", ".join(f"{k}={v}" for k, v in [*values.items(), ("seed", trial.seed)])
        tried = f"trainable {self.__name__!r}, tried with {shown},"
        if "refused" in found:
            raise UsageError(f"{tried} {found['refused'][0]}")
        if "checked" not in found and status:
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise UsageError(redact(f"{tried} failed with {how}. Its last output:\n{tail}"))
        if late and "row" not in found:
            return None
        if "row" not in found:
            raise UsageError(
                f"{tried} ended without logging anything. Call run.log(step, train_loss=..., "
                "test_loss=...) in the loop."
            )
        seconds, metrics = found.get("checked", [None, list(found["row"][1])])[:2]
        wanted = [f"{side}_{pack.criterion.metric}" for side in ("train", "test")]
        missing = [name for name in wanted if name not in metrics]
        if missing and not late:
            raise UsageError(
                f"{tried} logs {', '.join(metrics)}, but the criterion reads "
                f"{' and '.join(wanted)}. Log {' and '.join(missing)}, or name a metric M in the "
                "grid file that is logged as train_M and test_M, e.g. criterion: {metric: loss, "
                "train: 0.1, test: 0.1}."
            )
        return None if seconds is None else float(seconds)

    def weights(self, payload: bytes, trial: Trial) -> dict[str, Any]:  # noqa: ARG002
        """Return the trained weights in a checkpoint: the mapping under one of `WEIGHTS`.

        Without one, all tensors and arrays of the state, by the dotted path to each.
        """
        state = decode(payload)["state"]
        if isinstance(state, dict):
            for name in WEIGHTS:
                if isinstance(state.get(name), dict):
                    return dict(state[name])
        return dict(_arrays(state, ""))

    def train(self, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
        """Train the trial; see `sweeper.trainable.Trainable.train`."""
        raise NotImplementedError


def _arrays(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and arrays in a state, with their paths."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _arrays(inner, f"{path}.{key}" if path else str(key))
    elif hasattr(value, "shape"):
        yield path, value


def settings_of(
    pack: Pack[Any], *, every_s: float = 60.0, keep: str = "all", check: float | None = None
) -> Settings:
    """Return the settings of the trial of `pack`."""
    run, criterion = pack.run, pack.criterion
    return Settings(
        seed=pack.trials[0].seed,
        steps=run.steps,
        points_per_decade=run.points_per_decade,
        device=run.device,
        metric=criterion.metric,
        rising=criterion.rising,
        train=criterion.train if criterion.stops else None,
        test=criterion.test if criterion.stops else None,
        after_generalization=run.after_generalization,
        diverged=run.diverged,
        every_s=every_s,
        keep=keep,
        check=check,
    )


def left_early(what: str, last: int, steps: int) -> str:
    """Return the error of a trial whose code left its loop over the steps, without an error."""
    return (
        f"the {what} left the loop of run.steps() after its row at step {last}, before its last "
        f"step: the horizon is {steps} steps. Leave it only when run.log has returned False, or "
        "set fixed.steps to a smaller number."
    )


def keep_output(sink: Sink, text: str) -> None:
    """Store the output of a trial, if there is any."""
    if text.strip():
        claim = sink.claim
        path = f"{OUTPUT}/{claim.prefix}.txt"
        claim.ledger.files.write(path, redact(text).encode(), durable=False)


class Rows:
    """Collects the rows of a trial and gives them to the sink, many at a time.

    Attributes:
        last_step: The step of the last row; -1 before the first.
    """

    def __init__(self, sink: Sink, trial_id: str) -> None:
        self._sink = sink
        self._trial_id = trial_id
        self._rows: list[tuple[int, Mapping[str, float]]] = []
        self.last_step = -1

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take one row."""
        self._rows.append((step, values))
        self.last_step = step

    def flush(self) -> None:
        """Give all rows to the sink."""
        if self._rows:
            self._sink.write_curve(self._trial_id, self._rows)
            self._rows = []
