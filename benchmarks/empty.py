"""A trainable that trains nothing: what a trial costs when all of it is overhead.

Every trial writes its metrics at step 0 and ends there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, Section
from sweeper.config.fields import Config as AnyConfig
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.sink import Sink


class Empty(Section):
    """The only task: a number."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    name: Literal["empty"] = "empty"
    x: Annotated[float, Field(gt=0), BATCHED] = 1.0


class Config(AnyConfig):
    """The config of an empty trial."""

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {"task": {"empty": Empty}}
    names: ClassVar[Mapping[str, str]] = {"task": "empty"}
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "empty": {"metric": "error", "train": 1.0, "test": 1.0}
    }

    task: Empty


def memory_bytes(config: AnyConfig) -> int:  # noqa: ARG001
    """Return the bytes of one trial."""
    return 8


def useful_size(config: AnyConfig) -> int:  # noqa: ARG001
    """Return the pack size of the linear family."""
    return 512


def device(asked: str) -> str:  # noqa: ARG001
    """Return the device."""
    return "cpu"


def probe(pack: Pack[Any]) -> float:  # noqa: ARG001
    """Return seconds per step."""
    return 1e-9


def train(pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
    """Write step 0 and end every trial."""
    ones = [1.0] * len(pack.trials)
    sink.write(
        0, pack.trial_ids, train_loss=ones, test_loss=ones, train_error=ones, test_error=ones
    )
    sink.end(pack.trial_ids, "generalized", last_step=0, steps=0)
    checkpoints.finish(0, None)
