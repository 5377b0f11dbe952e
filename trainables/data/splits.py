"""Splits of examples into those to train on and those to test on."""

from __future__ import annotations

import torch
from torch import Tensor


def parted(train: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the indices `train` out of `size` examples, and all others, both ascending."""
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[train] = True
    return chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]
