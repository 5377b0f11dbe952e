"""A user's own task, model, regularizer or selection, written for one trial.

A grid file names it by import path, ``task: {name: my_lab.parity:Parity}``, and `trainables`
runs it for as many trials side by side as a pack has. Subclass one of these, declare the fields
that a grid may set as pydantic does, and write one method. Draw from the generator that you are
given, never from a global one, so that a trial has the same numbers wherever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, DRAWN, Scalar, Section
from sweeper.trainables.config.fields import DENSE, MODULAR, Count, NonNegative, Positive, Seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Task(Section):
    """Examples, of which the selection picks those to train on; the others are for the test.

    Class attributes:
        loss: The mean of ``cross_entropy`` (targets are whole numbers below `outputs`), or of
            the squared error, ``mse`` (targets are ``[N, outputs]``).
        criterion: Default criterion, as in a grid file. With `mse` there is no accuracy:
            ``{"metric": "error", "train": 0.05, "test": 0.05}``, say.
        defaults: Defaults of other parts' fields under this task.

    Attributes:
        inputs: Number of values per example, for the model `dense`.
        outputs: Number of outputs that a model must have.
        data_seed: Seed of `examples`, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    needed: ClassVar[tuple[str, ...]] = ("examples",)
    like: ClassVar[str | None] = "teacher_student"
    loss: ClassVar[Literal["cross_entropy", "mse"]] = "cross_entropy"
    criterion: ClassVar[Mapping[str, Any] | None] = {"metric": "acc", "train": 0.99, "test": 0.99}
    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "dense",
        "optimizer.name": "adamw",
        "dtype": "float32",
        "selection.fraction": 0.5,
    }

    name: str = "own"
    inputs: Count
    outputs: Count
    data_seed: Annotated[Seed | None, DRAWN] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Check the name of the loss.

        Raises:
            TypeError: `loss` is a field, or its value is no known loss.
        """
        if "loss" in cls.model_fields:
            raise TypeError(
                "loss cannot be a field: write `loss: ClassVar[str] = ...` or `loss = ...`"
            )
        if cls.loss not in ("cross_entropy", "mse"):
            raise TypeError(f"loss = {cls.loss!r} must be 'cross_entropy' or 'mse'")
        cls.logged_metrics = ("loss", "acc" if cls.loss == "cross_entropy" else "error")

    def examples(self, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return all inputs ``[N, ...]`` and targets, ``[N]`` or ``[N, outputs]``.

        Args:
            g: Seeded by the trial's data seed; the only source of randomness.
        """
        raise NotImplementedError


class Model(Section):
    """A network of one trial, as a torch module without buffers and without dropout.

    It goes with the tasks that `dense` goes with, and with own ones.

    Attributes:
        init_scale: Factor of the initial value of every weight, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": (*DENSE, "own")}
    needed: ClassVar[tuple[str, ...]] = ("module",)

    name: str = "own"
    init_scale: Annotated[Positive, BATCHED] = 1.0

    def module(self, shape: tuple[int, ...], outputs: int) -> torch.nn.Module:
        """Return the network; its initial weights are drawn from torch's global generator here.

        That generator is seeded by the trial's seed before, and put back after.

        Args:
            shape: Of one example's input; the module gets ``[N, *shape]``.
            outputs: The module returns ``[N, outputs]``.
        """
        raise NotImplementedError


class Regularizer(Section):
    """strength * a penalty on the weights of one trial, for any task and model.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
    """

    needed: ClassVar[tuple[str, ...]] = ("penalty",)

    name: str = "own"
    strength: Annotated[NonNegative, BATCHED]

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """Return a number; its gradient is taken by torch.

        Args:
            weights: The trained tensors of one trial in a fixed order, e.g. W_1, b_1, W_2, ...
        """
        raise NotImplementedError


class Selection(Section):
    """The train examples of a task with a table of examples: modular arithmetic, or an own task.

    Attributes:
        fraction: Share of the examples to train on, above 0 and below 1; `train` may use it.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": (*MODULAR, "own")}
    needed: ClassVar[tuple[str, ...]] = ("train",)
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: str = "own"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def train(self, inputs: Tensor, targets: Tensor, g: torch.Generator) -> Tensor:
        """Return the indices of the train examples, each once, or a mask of all examples.

        How many there are may not depend on `g`: trials of a pack have equally many.

        Args:
            inputs: All inputs, ``[N, ...]``; of modular arithmetic the operands, ``[N, 2]``.
            targets: All targets.
            g: Seeded by the trial's data seed.
        """
        raise NotImplementedError


BASES: Mapping[str, type[Section]] = {
    "task": Task,
    "model": Model,
    "regularizer": Regularizer,
    "selection": Selection,
}
"""Part to the class that an own choice subclasses."""
