"""The architectures and the problems, by the names they have in a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from sweeper.config.fields import Section
from sweeper.config.trial import Trial
from sweeper.packing import Pack
from sweeper.trainables.config import GrokkingConfig, shapes
from sweeper.trainables.config.own import Model, Task
from sweeper.trainables.data.examples import Data
from sweeper.trainables.networks import (
    images,
    imdb,
    operations,
    qm9,
    relu_regression,
    teacher_student,
    toy_addition,
    user_defined,
)
from sweeper.trainables.networks.dense import DenseNetwork
from sweeper.trainables.networks.losses import Loss
from sweeper.trainables.networks.lstm import LstmNetwork
from sweeper.trainables.networks.message_passing import MessagePassingNetwork
from sweeper.trainables.networks.transformer import TransformerNetwork

Values = Mapping[str, Any]


class Architecture(Protocol):
    """A network, written for B trials at once; its weights are those of `config.shapes`.

    Shape suffixes: B trials, N examples.
    """

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes of one trial's weights as they are held, padded with zeros.

        Padding stays zero as long as its gradient is. Inner sizes that are multiples of 8 keep
        a trial's numbers free of its pack-mates to the last bit
        (`sweeper.trainables.batch.weights`).
        """

    def base(self, seed: int) -> list[Tensor]:
        """Return the initial weights of one trial for init_scale 1, unpadded, in float64."""

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs ``[B, N, outputs]`` for weights ``[B, ...]``, inputs ``[B, N, ...]``.

        Made of differentiable operations that never mix trials.
        """


@runtime_checkable
class HasMetrics(Protocol):
    """An architecture with metrics of its own."""

    def measure(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the metrics of every trial, ``[B]``, in float64, for weights ``[B, ...]``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A task for networks.

    Attributes:
        data: The examples of a trial; trials with the same data get the same object.
        loss: The values of a trial to its loss.
        jacobian: The derivatives that outputs should have at the train examples of a trial,
            ``[N, outputs, inputs]`` in float64, for the penalty `sobolev`; None: the penalty does
            not apply. The architectures of such a task are `sobolev.Differentiable`.
    """

    data: Callable[[Trial], Data]
    loss: Callable[[Values], Loss]
    jacobian: Callable[[Trial], Tensor] | None = None


ARCHITECTURES: dict[str, Callable[[Values], Architecture]] = {
    "dense": DenseNetwork,
    "transformer": TransformerNetwork,
    "lstm": LstmNetwork,
    "message_passing": MessagePassingNetwork,
}
"""Model name to its architecture, made of a trial's values."""

PROBLEMS: dict[str, Problem] = {
    "modular_arithmetic": Problem(operations.data_of, operations.loss_of),
    "symmetric_group": Problem(operations.data_of, operations.loss_of),
    "digits": Problem(images.data_of, images.loss_of),
    "mnist": Problem(images.data_of, images.loss_of),
    "teacher_student": Problem(
        teacher_student.data_of, teacher_student.loss_of, teacher_student.jacobian_of
    ),
    "relu_regression": Problem(relu_regression.data_of, relu_regression.loss_of),
    "toy_addition": Problem(toy_addition.data_of, toy_addition.loss_of),
    "imdb": Problem(imdb.data_of, imdb.loss_of),
    "qm9": Problem(qm9.data_of, qm9.loss_of),
}
"""Task name to its problem."""


def problem_of(pack: Pack[GrokkingConfig]) -> Problem:
    """Return the problem that the networks of `pack` learn."""
    task: Section = pack.config.task
    if isinstance(task, Task):
        return Problem(user_defined.data_of, lambda _: user_defined.loss_of(task))
    return PROBLEMS[str(pack.trials[0].values["task.name"])]


def architecture_of(
    pack: Pack[GrokkingConfig], data: Data
) -> tuple[Architecture, list[tuple[int, ...]]]:
    """Return the networks of `pack`, and the shapes of one trial's weights.

    Args:
        pack: The trials.
        data: The examples of one of them.
    """
    values = pack.trials[0].values
    model: Section = pack.config.model
    if isinstance(model, Model):
        made = user_defined.OwnModel(
            model, tuple(data.train.inputs[0].shape[1:]), shapes.ends(values)[1]
        )
        return made, made.shapes
    name = str(values["model.name"])
    return ARCHITECTURES[name](values), shapes.SHAPES[name](values)
