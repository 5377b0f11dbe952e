"""Regression on a random network of the student's kind.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, section 2
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from sweeper.trial import Trial
from trainables.networks.dense import Dense
from trainables.networks.examples import Data, Examples
from trainables.networks.losses import Loss, squares, within
from trainables.streams import stream


def data_of(trial: Trial) -> Data:
    """Return the examples of `trial`: x ~ N(0, I), y the teacher's outputs."""
    v: Any = trial.values
    data_seed = v["task.data_seed"]
    seed = trial.seed if data_seed is None else data_seed
    return _data(
        seed, v["task.inputs"], v["task.hidden"], v["task.depth"], v["task.outputs"],
        v["task.activation"], v["task.N"], v["task.N_test"],
    )  # fmt: skip


@lru_cache(maxsize=512)
def _data(
    seed: int, inputs: int, hidden: int, depth: int, outputs: int, activation: str, N: int,
    N_test: int,
) -> Data:  # fmt: skip
    teacher = Dense({
        "task.name": "teacher_student", "task.inputs": inputs, "task.outputs": outputs,
        "model.width": hidden, "model.depth": depth, "model.activation": activation,
        "model.bias": True,
    })  # fmt: skip
    shapes = (inputs, hidden, depth, outputs)
    weights = [
        torch.nn.functional.pad(w, pad_to(w.shape, full))[None]
        for w, full in zip(
            teacher.drawn(stream(seed, "teacher", *shapes)), teacher.held(), strict=True
        )
    ]
    g = stream(seed, "inputs", inputs, N, N_test)
    found = []
    for count in (N, N_test):
        x = torch.randn(count, inputs, generator=g, dtype=torch.float64)
        found.append(Examples((x,), teacher.forward(weights, [x[None]])[0]))
    return Data(*found)


def pad_to(shape: torch.Size, full: tuple[int, ...]) -> list[int]:
    """Return the padding, as torch takes it, that makes `shape` as large as `full`."""
    return [
        n for have, want in zip(reversed(shape), reversed(full), strict=True)
        for n in (0, want - have)
    ]  # fmt: skip


def loss_of(values: Any) -> Loss:
    """Return the mean squared error; an example is right below `task.tolerance`."""
    return Loss(squares, within(values["task.tolerance"]), relative=True)
