"""Blocks of trials that are trained side by side, and their weights.

The tensors of a block have leading trial dimensions and never mix trials: the numbers of a trial
do not depend on its neighbours. Rows that only pad a block are inert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypedDict

import torch
from torch import Tensor

ALIGN = 64
"""Flat buffers are padded to a multiple of this many elements: no scalar tail in any pass."""

EIGHT = 8
"""Inner dimensions of products are padded to a multiple of this, with zeros that stay zeros.

Then a trial's numbers are aligned in the same way wherever in a block it stands. Without it,
results differed in the last bit by position, and by the number of pack-mates.
"""


def padded(size: int, multiple: int = EIGHT) -> int:
    """Return the smallest multiple of `multiple` that holds `size`."""
    return size + -size % multiple


class Placement(TypedDict):
    """The dtype and the device of a block's tensors, as keywords of torch's functions."""

    dtype: torch.dtype
    device: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """One number for every number of a block's weights.

    Attributes:
        flat: All of them in one tensor, with zeros at its end; operations that do not depend on
            the trial are one pass over it.
        each: The part of each weight, shaped as its value.
    """

    flat: Tensor
    each: list[Tensor]


@dataclass(slots=True)
class Weight:
    """One weight tensor of all trials of a block.

    Attributes:
        value: ``[*lead, ...]``: leading trial dimensions, then the tensor of one trial.
        grad: As `value`.
        lead: The leading trial dimensions.
        shape: Shape of one trial's tensor without padding.
    """

    value: Tensor
    grad: Tensor
    lead: tuple[int, ...]
    shape: tuple[int, ...]

    def real(self, of: Tensor) -> Tensor:
        """Return the part of `of`, shaped as `value`, that is not padding."""
        for axis, size in enumerate(self.shape, start=len(self.lead)):
            of = of.narrow(axis, 0, size)
        return of

    def per_trial(self, numbers: Tensor) -> Tensor:
        """Return one number per trial, ``[*lead]``, in a shape that broadcasts over `value`."""
        return numbers.reshape(*self.lead, *[1] * (self.value.dim() - len(self.lead)))

    def norm(self) -> Tensor:
        """Return the Euclidean norm of each trial's tensor, broadcastable."""
        axes = tuple(range(len(self.lead), self.value.dim()))
        norm: Tensor = torch.linalg.vector_norm(self.value.contiguous(), dim=axes, keepdim=True)
        return norm


class Weights:
    """All weights of a block, their gradients, and the state that an optimizer keeps of them.

    Args:
        lead: The leading trial dimensions.
        shapes: Shape of each weight tensor of one trial.
        held: The same shapes, padded.
        dtype: Of all numbers.
        device: Of all tensors.
        columns: Whether the trials of the last leading dimension are next to each other in
            memory, and the numbers of one trial are not. Reductions over them need a contiguous
            copy: the order of a sum is in its bits.

    Attributes:
        value: The flat tensor of all values.
        grad: The flat tensor of all gradients.
        each: The weights.
        state: Name to the tensors that checkpoints hold beside the values; see `keep`.
    """

    def __init__(
        self,
        lead: tuple[int, ...],
        shapes: Sequence[tuple[int, ...]],
        held: Sequence[tuple[int, ...]],
        *,
        dtype: torch.dtype,
        device: str,
        columns: bool = False,
    ) -> None:
        self.lead = lead
        self._held, self._columns = held, columns
        self._placement: Placement = {"dtype": dtype, "device": device}
        values, grads = self.buffer(), self.buffer()
        self.value, self.grad = values.flat, grads.flat
        self.each = [
            Weight(value, grad, lead, shape)
            for value, grad, shape in zip(values.each, grads.each, shapes, strict=True)
        ]
        self.state: dict[str, Buffer] = {}

    def buffer(self) -> Buffer:
        """Return a new buffer of zeros."""
        sizes = [prod(self.lead) * prod(full) for full in self._held]
        flat = torch.zeros(padded(sum(sizes), ALIGN), **self._placement)
        parts = torch.split(flat[: sum(sizes)], sizes)
        each = [
            _arranged(part, self.lead, full, columns=self._columns)
            for part, full in zip(parts, self._held, strict=True)
        ]
        return Buffer(flat, each)

    def keep(self, name: str) -> Buffer:
        """Return a new buffer of zeros that checkpoints hold under `name`."""
        self.state[name] = self.buffer()
        return self.state[name]

    def _saved(self) -> dict[str, tuple[Weight, Tensor]]:
        """Return the content of checkpoints: name to a weight and its values or state, unpadded."""
        tensors = {"value": [weight.value for weight in self.each]}
        tensors |= {name: buffer.each for name, buffer in self.state.items()}
        return {
            f"{kind}.{i}": (weight, weight.real(each[i]))
            for i, weight in enumerate(self.each)
            for kind, each in tensors.items()
        }

    def names(self) -> list[str]:
        """Return the names of the tensors that checkpoints hold."""
        return list(self._saved())

    def saved(self, rows: Tensor) -> dict[str, Tensor]:
        """Return copies of the values and the state of some rows: name to ``[len(rows), ...]``."""
        at = torch.unravel_index(rows, self.lead)
        return {name: tensor[at].cpu() for name, (_, tensor) in self._saved().items()}

    def load(self, rows: Tensor, saved: Mapping[str, Tensor]) -> None:
        """Set the values and the state of some rows; the opposite of `saved`.

        Args:
            rows: The rows, counted over all leading dimensions.
            saved: Name to ``[len(rows), ...]``. Tensors may be padded, as in payloads of
                version 1, and there may be more of them.
        """
        at = torch.unravel_index(rows, self.lead)
        for name, (weight, tensor) in self._saved().items():
            values = saved[name].to(tensor)
            for axis, size in enumerate(weight.shape, start=1):
                values = values.narrow(axis, 0, size)
            tensor[at] = values


def _arranged(
    flat: Tensor, lead: tuple[int, ...], full: tuple[int, ...], *, columns: bool
) -> Tensor:
    """Return a buffer as ``[*lead, *full]``; see `Weights` for `columns`."""
    if not columns:
        return flat.view(*lead, *full)
    return flat.view(*lead[:-1], *full, lead[-1]).movedim(-1, len(lead) - 1)


class Block(Protocol):
    """Trials of a pack that are trained in the same tensors.

    Attributes:
        positions: For each row the position of its trial in the pack; -1 for an inert row.
        weights: The weights that are trained.
    """

    positions: list[int]
    weights: Weights

    def step(self, taken: int) -> None:
        """Take one optimizer step; `taken` is the number of steps before it."""

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics now: column name to ``[rows]``; not finite means unknown."""
