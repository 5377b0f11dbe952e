"""A trainable without torch whose trials do what their config says: a way to test the engine.

A trial's state is one number that every step multiplies; `train_error` falls with the steps,
`test_error` later. `fate` makes trials raise, diverge or need too much memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from sweeper.config.fields import BATCHED, DRAWN, Section
from sweeper.config.fields import Config as AnyConfig
from sweeper.errors import PackTooLargeError
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.schema import logged_steps
from sweeper.store.sink import Sink


class Toy(Section):
    """The only task."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    name: Literal["toy"] = "toy"
    rate: Annotated[float, Field(gt=0), BATCHED] = 0.5
    shift: Annotated[int, DRAWN] = 0
    size: int = 1
    fate: Annotated[Literal["well", "raises", "diverges", "huge"], BATCHED] = "well"
    pause: Annotated[float, BATCHED] = 0.0


class Config(AnyConfig):
    """The toy's config."""

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {"task": {"toy": Toy}}
    names: ClassVar[Mapping[str, str]] = {"task": "toy"}
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "toy": {"metric": "error", "train": 0.1, "test": 0.1, "gap": 10}
    }
    on_request: ClassVar[Mapping[str, str]] = {"halves": "half: the state over two."}

    task: Toy


MAX_PACK = 4
"""Packs that hold a `huge` trial don't fit beyond this many trials."""


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
    """Train: error after k steps is 1 / (1 + rate * k), the test error three times that."""
    fates = dict(zip(pack.trial_ids, pack.column("task.fate"), strict=True))
    if "huge" in fates.values() and len(fates) > MAX_PACK:
        raise PackTooLargeError("huge")
    rates = {t.id: float(t.values["task.rate"]) for t in pack.trials}  # type: ignore[arg-type]
    state = dict.fromkeys(pack.trial_ids, 1.0)
    step = -1
    for saved in checkpoints.start():
        content = json.loads(saved.payload)
        state |= {i: content["state"][i] for i in saved.trial_ids}
        step = content["steps"][saved.trial_ids[0]]  # the same for all trials of a pack
    started = step
    step = max(step, 0)
    steps: dict[str, int] = {}
    alive = list(pack.trial_ids)
    logged = set(pack.run.logged_steps())
    pause = max(pack.column("task.pause"))
    while True:
        if step in logged and step != started:
            train_error = [1 / (1 + rates[i] * step) for i in alive]
            test_error = [min(1.0, 3 * e) for e in train_error]
            loss = [
                float("nan") if fates[i] == "diverges" and step >= 5 else state[i] for i in alive
            ]
            more = {"half": [state[i] / 2 for i in alive]} if "halves" in pack.run.metrics else {}
            sink.write(
                step,
                alive,
                train_loss=loss,
                test_loss=loss,
                train_error=train_error,
                test_error=test_error,
                product=[state[i] for i in alive],
                **more,
            )
            if step >= 3 and "raises" in fates.values():
                raise ArithmeticError("a trial of this pack raises")
            broken = [i for i, x in zip(alive, loss, strict=True) if x != x]
            sink.end(broken, "diverged", last_step=step, steps=step)
            holds = pack.criterion.train_holds(np.array(train_error))
            holds &= pack.criterion.test_holds(np.array(test_error))
            done = (
                [i for i, held in zip(alive, holds, strict=True) if i not in broken and held]
                if pack.run.after_generalization
                else []
            )
            sink.end(done, "generalized", last_step=step, steps=step)
            alive = [i for i in alive if i not in broken and i not in done]
            steps |= dict.fromkeys([*broken, *done], step)
        if not alive or step >= pack.run.steps:
            break
        if checkpoints.due():
            checkpoints.save(step, _payload(step, steps, state))
        time.sleep(pause)
        for i in alive:
            state[i] = state[i] * (1 - rates[i] * 1e-3) + 1e-3
        step += 1
    last = logged_steps(pack.run.points_per_decade, step)[-1]
    sink.end(alive, "censored", last_step=last, steps=step)
    keep = {i: state[i] for i in pack.trial_ids if checkpoints.keeps(i)}
    checkpoints.finish(step, _payload(step, steps, keep) if keep else None)


def _payload(step: int, steps: dict[str, int], state: dict[str, float]) -> bytes:
    at = {i: steps.get(i, step) for i in state}
    return json.dumps({"steps": at, "state": state}).encode()
