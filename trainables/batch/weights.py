"""Blocks: trials trained side by side, and the weights they are made of.

A block's tensors have leading trial dimensions and never mix trials: what a trial computes
doesn't depend on its neighbours. Rows that only pad a block are inert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

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


@dataclass(slots=True)
class Weight:
    """One weight tensor of all trials of a block.

    Attributes:
        value: ``[*lead, ...]``: leading trial dimensions, then the tensor of one trial.
        grad: As `value`.
        m: As `value`: Adam's first moment.
        v: As `value`: Adam's second moment.
        update: As `value`: scratch.
        lead: The leading trial dimensions.
        shape: Shape of one trial's tensor without padding.
    """

    value: Tensor
    grad: Tensor
    m: Tensor
    v: Tensor
    update: Tensor
    lead: tuple[int, ...]
    shape: tuple[int, ...]

    def real(self, of: Tensor) -> Tensor:
        """Return the part of `of`, shaped as `value`, that isn't padding."""
        for axis, size in enumerate(self.shape, start=len(self.lead)):
            of = of.narrow(axis, 0, size)
        return of

    def per_trial(self, numbers: Tensor) -> Tensor:
        """Return one number a trial, ``[*lead]``, in a shape that broadcasts over `value`."""
        return numbers.reshape(*self.lead, *[1] * (self.value.dim() - len(self.lead)))

    def norm(self) -> Tensor:
        """Return the Euclidean norm of each trial's tensor, broadcastable."""
        axes = tuple(range(len(self.lead), self.value.dim()))
        norm: Tensor = torch.linalg.vector_norm(self.value.contiguous(), dim=axes, keepdim=True)
        return norm


class Weights:
    """All weights of a block.

    Each buffer is one flat tensor: what doesn't depend on the trial is one pass over memory.

    Args:
        lead: The leading trial dimensions.
        shapes: Shape of each weight tensor of one trial.
        held: The same shapes, padded.
        moments: Whether Adam's moments are needed.
        columns: The trials of the last leading dimension are next to each other in memory, and
            the numbers of one trial aren't. Reductions over them want a contiguous copy: the
            order of a sum is in its bits.
    """

    def __init__(
        self,
        lead: tuple[int, ...],
        shapes: Sequence[tuple[int, ...]],
        held: Sequence[tuple[int, ...]],
        *,
        dtype: torch.dtype,
        device: str,
        moments: bool,
        columns: bool = False,
    ) -> None:
        sizes = [prod(lead) * prod(full) for full in held]
        total = sum(sizes) + (-sum(sizes)) % ALIGN
        self.value, self.grad = (torch.zeros(total, dtype=dtype, device=device) for _ in range(2))
        n = total if moments else 0
        self.m, self.v, self.update = (torch.zeros(n, dtype=dtype, device=device) for _ in range(3))
        self.lead = lead
        self.each: list[Weight] = []
        start = 0
        for shape, full, size in zip(shapes, held, sizes, strict=True):
            value, grad, m, v, update = (
                _arranged(b[start : start + size], lead, full, columns=columns) if b.numel() else b
                for b in (self.value, self.grad, self.m, self.v, self.update)
            )
            self.each.append(Weight(value, grad, m, v, update, lead, shape))
            start += size

    def _states(self) -> dict[str, tuple[Weight, Tensor]]:
        """Return name to a weight and its values or moments without padding."""
        kinds = ("value", "m", "v") if self.m.numel() else ("value",)
        return {
            f"{kind}.{i}": (w, w.real(getattr(w, kind)))
            for i, w in enumerate(self.each)
            for kind in kinds
        }

    def state(self, rows: Tensor) -> dict[str, Tensor]:
        """Return copies of the values (and moments) of some rows: name to ``[len(rows), ...]``."""
        at = torch.unravel_index(rows, self.lead)
        return {name: tensor[at].cpu() for name, (_, tensor) in self._states().items()}

    def load(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        """Set the values (and moments) of some rows; the opposite of `state`.

        What was saved may be padded: it was in payloads of version 1.
        """
        at = torch.unravel_index(rows, self.lead)
        for name, (weight, tensor) in self._states().items():
            saved = state[name].to(tensor)
            for axis, size in enumerate(weight.shape, start=1):
                saved = saved.narrow(axis, 0, size)
            tensor[at] = saved


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
        weights: What is trained.
    """

    positions: list[int]
    weights: Weights

    def step(self, taken: int) -> None:
        """Take one optimizer step; `taken` is the number of steps before it."""

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics now: column name to ``[rows]``; what isn't finite is unknown."""
