"""Minibatches: every epoch of a trial is a permutation of its examples, keyed by its seed.

The order depends on the seed, the number of examples and the epoch alone, so that a trial sees
the same batches alone, in a pack, and after it was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.config.fields import Values
from sweeper.trainables.data.streams import stream


class Batches:
    """The batches of B trials with N examples each.

    Args:
        values: Of a trial: ``optimizer.batch`` examples per step, all where there are fewer. The
            examples that do not fill a batch are left out of an epoch, or, without
            ``optimizer.drop_last``, form its last, smaller batch.
        seeds: The seeds of the trials.
        N: Number of examples per trial.
        device: The device of the examples.
    """

    def __init__(self, values: Values, seeds: Sequence[int], N: int, device: Any) -> None:
        batch: Any = values.get("optimizer.batch")
        self._N, self._size = N, min(batch or N, N)
        whole, left = divmod(N, self._size)
        self._count = whole + bool(left and not values.get("optimizer.drop_last", True))
        self._seeds, self._device = seeds, device
        self._epoch = -1

    def of(self, taken: int) -> Tensor:
        """Return the examples of the step after `taken` steps, ``[B, batch]``."""
        epoch, index = divmod(taken, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            orders = [
                torch.randperm(self._N, generator=stream(seed, "batches", self._N, epoch))
                for seed in self._seeds
            ]
            self._order = torch.stack(orders).to(self._device)
        return self._order[:, index * self._size : (index + 1) * self._size]
