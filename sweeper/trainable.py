"""What the engine asks of the module that `trainable:` names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from sweeper.config.fields import Config as AnyConfig
from sweeper.config.messages import described
from sweeper.errors import UsageError
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.sink import Sink

OFFERS = ("Config", "memory_bytes", "useful_size", "device", "probe", "train")
"""What a trainable has to offer."""


DEFAULT = "trainables.grokking"
"""Names the trainable of this package, whatever else is called `trainables` where it runs."""


class Trainable(Protocol):
    """A module that trains packs.

    Attributes:
        Config: What a trial means; importing the module must not import torch.
    """

    Config: type[AnyConfig]

    def memory_bytes(self, config: AnyConfig) -> int:
        """Return the bytes that one trial of `config` adds to a pack."""

    def useful_size(self, config: AnyConfig) -> int:
        """Return the pack size beyond which packs of `config` train no faster per trial."""

    def device(self, asked: str) -> str:
        """Return the device to train on where `asked` is wanted; called where it trains.

        A trainable that has no use for a GPU returns cpu, also where cuda is asked for. Optional
        beside it: ``device_count(asked)``, the number of such devices of the machine, and
        ``device_memory(asked)``, the bytes of the smallest one.

        Raises:
            UsageError: The machine has no such device.
        """

    def probe(self, pack: Pack[Any]) -> float:
        """Return the measured seconds of one optimizer step of `pack`."""

    def train(self, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
        """Train every trial of `pack` to its end.

        Starts from ``checkpoints.start()``, writes the metrics of every logged step after
        that to `sink`, ends every trial with ``sink.end``, and saves when
        ``checkpoints.due()``.

        Raises:
            PackTooLargeError: The pack doesn't fit into memory; the engine runs its halves.
        """


def is_code(name: str) -> bool:
    """Return whether `name` is that of a user's script, command or function (`sweeper.runs`)."""
    return name.endswith(".py") or ":" in name or " " in name


def load(
    name: str, code: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> Trainable:
    """Return the trainable `name`: a module, or a user's script or function as one.

    Args:
        name: Its name in the grid file.
        code: The stored description of a script or a function, if there is one.
        folder: The folder of the grid file, for the path of a script.

    Raises:
        UsageError: It can't be imported, or isn't a trainable.
    """
    if is_code(name):
        own = import_module("sweeper.runs.own")
        return cast("Trainable", own.load(name, code, folder))
    if (folder or Path()).joinpath(f"{name}.py").is_file() and b"sweeper.init" in (
        (folder or Path()).joinpath(f"{name}.py").read_bytes()
    ):
        raise UsageError(f"trainable {name!r}: to train with the script, write ./{name}.py.")
    try:
        module = import_module(f"sweeper.{name}" if name == DEFAULT else name)
    except ImportError as error:
        raise UsageError(
            f"trainable {name!r} can't be imported: {error}. Install it, or add its folder to "
            "PYTHONPATH."
        ) from error
    except (Exception, SystemExit) as error:  # whatever its code does
        raise UsageError(f"trainable {name!r} can't be imported: {described(error)}.") from error
    offered = {*vars(module), *getattr(module, "__all__", ())}  # some are loaded on first use
    missing = [name for name in OFFERS if name not in offered]
    if missing:
        raise UsageError(f"trainable {name!r} lacks {', '.join(missing)}: see sweeper.trainable.")
    return cast("Trainable", module)
