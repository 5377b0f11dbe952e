"""The architectures and the problems, by the names they have in a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from sweeper.trial import Trial
from trainables.networks import images, teacher_student
from trainables.networks.dense import Dense
from trainables.networks.examples import Data
from trainables.networks.losses import Loss

Values = Mapping[str, Any]


class Architecture(Protocol):
    """A network, written for B trials at once; its weights are those of `config.shapes`.

    Shape suffixes: B trials, N examples.
    """

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes of one trial's weights as they are held, padded with zeros.

        Padding stays zero as long as its gradient is. Inner sizes that are multiples of 8 keep
        a trial's numbers free of its pack-mates to the last bit (`trainables.blocks`).
        """

    def base(self, seed: int) -> list[Tensor]:
        """Return the initial weights of one trial for init_scale 1, unpadded, in float64."""

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs ``[B, N, outputs]`` for weights ``[B, ...]``, inputs ``[B, N, ...]``.

        Made of differentiable operations that never mix trials.
        """


@dataclass(frozen=True, slots=True)
class Problem:
    """A task for networks.

    Attributes:
        data: The examples of a trial; trials with the same data get the same object.
        loss: Values of a trial to how its outputs are judged.
    """

    data: Callable[[Trial], Data]
    loss: Callable[[Values], Loss]


ARCHITECTURES: dict[str, Callable[[Values], Architecture]] = {
    "dense": Dense,
}
"""Model name to its architecture, made of a trial's values."""

PROBLEMS: dict[str, Problem] = {
    "digits": Problem(images.data_of, images.loss_of),
    "mnist": Problem(images.data_of, images.loss_of),
    "teacher_student": Problem(teacher_student.data_of, teacher_student.loss_of),
}
"""Task name to its problem."""
