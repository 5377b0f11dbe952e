"""The examples of one trial, from which a network learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Inputs that are rows of a table of bytes, which many trials share.

    They are scale * table[index] + shift, and are made of the table when they are needed.

    Attributes:
        table: ``[M, inputs]``, uint8.
        index: Rows of the table, ``[N]``.
        scale: Factor of the table's numbers.
        shift: Added to all numbers of an example, ``[N]`` in float64; None: nothing is.
    """

    table: Tensor
    index: Tensor
    scale: float
    shift: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape of the inputs, ``[N, inputs]``."""
        return torch.Size((len(self.index), self.table.shape[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Some examples of one trial.

    Attributes:
        inputs: The inputs of the network, tensors of ``[N, ...]``, numbers in float64; or rows of a
            shared table.
        targets: ``[N]`` numbers of classes, or ``[N, outputs]`` in float64.
    """

    inputs: tuple[Tensor | Rows, ...]
    targets: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The examples that a trial is trained on, and those that it is tested on."""

    train: Examples
    test: Examples


class Gathered:
    """The `Rows` of B trials as one tensor ``[B, N, inputs]`` .

    The tensor is not kept in memory: indexing it makes the part that is asked for.

    Args:
        rows: One per trial, all of one table and one scale.
        dtype: The dtype of the result.
        device: The device of the result.
    """

    def __init__(self, rows: Sequence[Rows], dtype: torch.dtype, device: str) -> None:
        self._table = _on(rows[0].table, device)
        self._index = torch.stack([r.index for r in rows]).to(device)
        self._scale, self._dtype = rows[0].scale, dtype
        shifts = [r.shift for r in rows if r.shift is not None]
        self._shift = torch.stack(shifts).to(device, dtype) if shifts else None

    def __getitem__(self, key: Any) -> Tensor:
        """Return the part of the tensor that `key` picks by trials and examples."""
        index = self._index[key]
        x = self._table.index_select(0, index.flatten()).view(*index.shape, -1)
        x = x.to(self._dtype).mul_(self._scale)
        return x if self._shift is None else x.add_(self._shift[key][..., None])


_TABLES: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}


def _on(table: Tensor, device: str) -> Tensor:
    """Return `table` on `device`; each process moves it once."""
    key = id(table), device
    if key not in _TABLES:
        _TABLES[key] = table, table.to(device)  # the table is kept: its id stays its own
    return _TABLES[key][1]
