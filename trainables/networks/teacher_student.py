"""Regression on a random network of the student's kind.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, section 2
    [N25] Notsawo et al., Grokking Beyond the Euclidean Norm, 2025. arXiv 2506.05718, Figs 10, 11
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.dense import DenseNetwork
from sweeper.trainables.networks.losses import Loss, half_squares, squares, within

Teacher = tuple[DenseNetwork, list[Tensor]]
"""A network and its weights, ``[1, ...]``."""


def data_of(trial: Trial) -> Data:
    """Return the examples of `trial`: x ~ N(0, I), y the teacher's outputs."""
    v: Any = trial.values
    return _data(data_seed(trial), v["task.N"], v["task.N_test"], *_kind(v))


def jacobian_of(trial: Trial) -> Tensor:
    """Return the teacher's derivatives at the train examples, ``[N, outputs, inputs]``."""
    v: Any = trial.values
    return _jacobian(data_seed(trial), v["task.N"], v["task.N_test"], *_kind(v))


def loss_of(values: Any) -> Loss:
    """Return the squared error as `task.loss` says; an example is right below `task.tolerance`."""
    each = {"mse": squares, "half_square": half_squares}[values["task.loss"]]
    return Loss(each, within(values["task.tolerance"]), relative=True)


def _kind(v: Any) -> tuple[Any, ...]:
    """Return the fields that make a teacher, inputs first."""
    names = ("inputs", "hidden", "depth", "outputs", "activation", "teacher")
    return tuple(v[f"task.{name}"] for name in names)


@lru_cache(maxsize=512)
def _data(seed: int, N: int, N_test: int, *kind: Any) -> Data:
    network, weights = _teacher(seed, *kind)
    points = _points(seed, N, N_test, kind[0])
    return Data(*(Examples((x,), network.forward(weights, [x[None]])[0]) for x in points))


def _points(seed: int, N: int, N_test: int, inputs: int) -> list[Tensor]:
    """Return x of the train and of the test examples."""
    g = stream(seed, "inputs", inputs, N, N_test)
    return [torch.randn(n, inputs, generator=g, dtype=torch.float64) for n in (N, N_test)]


@lru_cache(maxsize=128)
def _jacobian(seed: int, N: int, N_test: int, *kind: Any) -> Tensor:
    network, weights = _teacher(seed, *kind)
    x, _ = _points(seed, N, N_test, kind[0])
    return network.jacobian(weights, [x[None]])[0]


def _teacher(
    seed: int, inputs: int, hidden: int, depth: int, outputs: int, activation: str, law: str
) -> Teacher:
    network = DenseNetwork(
        {
            "task.name": "teacher_student",
            "task.inputs": inputs,
            "task.outputs": outputs,
            "model.width": hidden,
            "model.depth": depth,
            "model.activation": activation,
            "model.bias": law == "default",
            "model.last_bias": True,
            "model.init": "default",
        }
    )
    shapes = (inputs, hidden, depth, outputs)
    if law == "default":
        drawn = network.drawn(stream(seed, "teacher", *shapes))
    else:
        drawn = _gaussian(network.shapes, stream(seed, "gaussian teacher", *shapes))
    weights = [
        torch.nn.functional.pad(w, pad_to(w.shape, full))[None]
        for w, full in zip(drawn, network.held(), strict=True)
    ]
    return network, weights


def _gaussian(shapes: list[tuple[int, ...]], g: torch.Generator) -> list[Tensor]:
    """Return N(0, 1) for the first matrix and N(0, 1) / fan_in for the others ([N25] code)."""
    drawn = [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes]
    return [drawn[0], *(w / w.shape[1] for w in drawn[1:])]


def pad_to(shape: torch.Size, full: tuple[int, ...]) -> list[int]:
    """Return the padding, as torch takes it, that makes `shape` as large as `full`."""
    return [
        n
        for have, want in zip(reversed(shape), reversed(full), strict=True)
        for n in (0, want - have)
    ]
