"""A trainable without torch whose delays are known: a search over it has a known answer.

A trial memorizes at step `T1` and generalizes `delay` steps later; its errors say no more than
that, its `product` goes through every step, so that a wrong resumption shows. `hill` has one best
point next to a cliff behind which nothing generalizes; `twist` opens a sub-space; `fate` makes
trials diverge or raise.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, Section, Values
from sweeper.config.fields import Config as AnyConfig
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.schema import logged_steps
from sweeper.store.sink import Sink

T1 = 10
"""Step at which every trial memorizes."""

CLIFF = 0.8
"""Trials with a larger `task.x` never generalize."""

BEST = {"task.x": 0.7, "task.y": 1e-2}
"""Where a hill is highest."""


class Hill(Section):
    """The task: a delay of at most 2,000 steps, at `BEST`."""

    name: Literal["hill"] = "hill"
    x: Annotated[float, Field(ge=0, le=1), BATCHED] = 0.0
    y: Annotated[float, Field(gt=0), BATCHED] = 1e-4
    k: Annotated[int, Field(ge=1)] = 1
    fate: Annotated[Literal["well", "raises", "diverges"], BATCHED] = "well"
    pause: Annotated[float, BATCHED] = 0.0


class Straight(Section):
    """No twist."""

    name: Literal["straight"] = "straight"


class Bent(Section):
    """A twist that makes the delay longer by its `angle`."""

    name: Literal["bent"] = "bent"
    angle: Annotated[float, Field(ge=0, le=1), BATCHED]
    neutral: ClassVar[Mapping[str, Any]] = {"twist.angle": 0.0}


class Config(AnyConfig):
    """The searchable config."""

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {
        "task": {"hill": Hill},
        "twist": {"straight": Straight, "bent": Bent},
    }
    names: ClassVar[Mapping[str, str]] = {"task": "hill", "twist": "straight"}
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "hill": {"metric": "error", "train": 0.1, "test": 0.1, "gap": 10}
    }

    task: Hill
    twist: Straight | Bent


def delay(values: Values, seed: int) -> float:
    """Return the delay of a trial in steps; infinite where it never generalizes."""
    x, y = float(values["task.x"]), float(values["task.y"])  # type: ignore[arg-type]
    if x > CLIFF:
        return math.inf
    far = ((x - BEST["task.x"]) / 0.3) ** 2 + (math.log10(y / BEST["task.y"]) / 1.5) ** 2
    angle = float(values.get("twist.angle") or 0.0)  # type: ignore[arg-type]
    return (50 + 1950 * math.exp(-far)) * (1 + 9 * angle) * (1 + 0.05 * (seed % 3 - 1))


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


def train(pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
    """Train: both errors fall as one over the step, the test error `delay` steps behind."""
    fates = dict(zip(pack.trial_ids, pack.column("task.fate"), strict=True))
    delays = {t.id: delay(t.values, t.seed) for t in pack.trials}
    pause = max(pack.column("task.pause"))
    state = dict.fromkeys(pack.trial_ids, 1.0)
    ended: dict[str, int] = {}
    started = -1
    for saved in checkpoints.start():
        content = json.loads(saved.payload)
        state |= {i: content["state"][i] for i in saved.trial_ids}
        started = content["steps"][saved.trial_ids[0]]  # the same for all trials of a pack
    alive = list(pack.trial_ids)
    before = started
    for step in (s for s in pack.run.logged_steps() if s > started):
        if before > started and checkpoints.due():
            checkpoints.save(before, _payload(before, ended, state))
        time.sleep(pause)
        state |= {i: math.fmod(state[i] * 1.1 + step, 7.0) for i in alive}
        train_error = [0.1 * T1 / max(step, 1) for _ in alive]
        test_error = [min(1.0, 0.1 * (T1 + delays[i]) / max(step, 1)) for i in alive]
        loss = [math.nan if fates[i] == "diverges" and step >= 5 else state[i] for i in alive]
        sink.write(
            step,
            alive,
            train_loss=loss,
            test_loss=loss,
            train_error=train_error,
            test_error=test_error,
            product=[state[i] for i in alive],
        )
        if step >= 3 and "raises" in fates.values():
            raise ArithmeticError("a trial of this pack raises")
        broken = [i for i, value in zip(alive, loss, strict=True) if math.isnan(value)]
        sink.end(broken, "diverged", last_step=step, steps=step)
        done = (
            [
                i
                for i, error in zip(alive, test_error, strict=True)
                if i not in broken and step >= T1 and error <= (pack.criterion.test or 0.0)
            ]
            if pack.run.after_generalization
            else []
        )
        sink.end(done, "generalized", last_step=step, steps=step)
        ended |= dict.fromkeys([*broken, *done], step)
        alive = [i for i in alive if i not in ended]
        before = step
        if not alive:
            break
    else:
        step = pack.run.steps
    last = logged_steps(pack.run.points_per_decade, step)[-1]
    sink.end(alive, "censored", last_step=last, steps=step)
    keep = {i: state[i] for i in pack.trial_ids if checkpoints.keeps(i)}
    checkpoints.finish(step, _payload(step, ended, keep) if keep else None)


def _payload(step: int, ended: Mapping[str, int], state: Mapping[str, float]) -> bytes:
    at = {i: ended.get(i, step) for i in state}
    return json.dumps({"steps": at, "state": state}).encode()
