"""What a network learns from: the examples of one trial."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Some examples of one trial.

    Attributes:
        inputs: What the network sees, tensors of ``[N, ...]``; numbers are in float64.
        targets: ``[N]`` numbers of classes, or ``[N, outputs]`` in float64.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The examples that a trial is trained on, and those that it is tested on."""

    train: Examples
    test: Examples
