"""A trainable without torch whose phase is a known function of where its trial lies.

A trial memorizes at step 1 and generalizes at once where its `height` is above 0, never where it
isn't; with a `ramp`, every trial generalizes, the later the higher it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from sweeper.config.fields import BATCHED, Constraint, Section
from sweeper.config.fields import Config as AnyConfig
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.sink import Sink


class Plane(Section):
    """The only task."""

    name: Literal["plane"] = "plane"
    x: Annotated[float, BATCHED] = 0.0
    y: Annotated[float, BATCHED] = 0.0
    n: Annotated[int, BATCHED] = 0
    shift: Annotated[float, BATCHED] = 0.0
    noise: Annotated[float, BATCHED] = 0.0
    ramp: Annotated[float, BATCHED] = 0.0
    trap: Annotated[float, BATCHED] = -1.0
    multiple: Annotated[int, BATCHED] = 1
    decades: bool = False
    label: str = "a"


class Config(AnyConfig):
    """The plane's config."""

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {"task": {"plane": Plane}}
    names: ClassVar[Mapping[str, str]] = {"task": "plane"}
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "plane": {"metric": "error", "train": 0.1, "test": 0.1, "gap": 1000}
    }
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(("task.n", "task.multiple"), lambda n, m: n % m == 0, "n must be a multiple."),
    )

    task: Plane


def memory_bytes(config: AnyConfig) -> int:
    """Return the bytes of one trial."""
    return 8


def useful_size(config: AnyConfig) -> int:
    """Return the pack size beyond which nothing is gained."""
    return 64


def device(asked: str) -> str:
    """Return the device."""
    return "cpu"


def probe(pack: Pack[Any]) -> float:
    """Return seconds per step."""
    return 1e-6


def height(values: Mapping[str, Any], seed: int = 0) -> float:
    """Return how high a trial lies over the line x + n + shift = y."""
    x = log10(values["task.x"]) if values["task.decades"] else values["task.x"]
    luck = Random(f"{seed} {x} {values['task.y']}").gauss(0, values["task.noise"])
    above: float = values["task.y"] - x - values["task.n"] - values["task.shift"] + luck
    return above


def generalizes_at(values: Mapping[str, Any], seed: int) -> float:
    """Return the step from which the test error is small."""
    above = height(values, seed)
    if values["task.ramp"]:
        return float(10 ** min(2.0, max(0.0, values["task.ramp"] * above)))
    return 1 if above > 0 else float("inf")


def train(pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
    """Write all logged steps of each trial, and how it ends."""
    saved = [int(one.payload) for one in checkpoints.start()]
    logged = [s for s in pack.run.logged_steps() if s > max(saved, default=-1)]
    for trial in pack.trials:
        if trial.values["task.x"] == trial.values["task.trap"]:
            raise ArithmeticError("a trial of this pack raises")
        t2 = generalizes_at(trial.values, trial.seed)
        last = -1
        for last in logged:
            train_error, test_error = float(last < 1), float(last < t2)
            sink.write(
                last,
                [trial.id],
                train_loss=[train_error],
                test_loss=[test_error],
                train_error=[train_error],
                test_error=[test_error],
            )
            if test_error == 0:
                break
        status = "censored" if last < t2 else "generalized"
        steps = pack.run.steps if status == "censored" else last
        sink.end([trial.id], status, last_step=last, steps=steps)
    keep = any(checkpoints.keeps(i) for i in pack.trial_ids)
    checkpoints.finish(pack.run.steps, str(pack.run.steps).encode() if keep else None)
