"""Random streams keyed by their purpose, never by trial.

A draw depends on the seed, the purpose and the fields that shape it, nothing else: trials that
differ in a strength, a rate or an init scale share data and base draws. Everything is drawn on
the CPU in float64, then cast and moved, so that a draw does not depend on dtype, device or
pack-mates.
"""

from __future__ import annotations

from hashlib import blake2b

import torch

from sweeper.config.trial import Trial


def stream(seed: int, purpose: str, *shape: object) -> torch.Generator:
    """Return the generator for one draw.

    Args:
        seed: The trial's seed, or its data seed.
        purpose: The name of the draw, e.g. ``"split"``.
        shape: The fields that shape the draw.
    """
    text = repr((seed, purpose, *shape)).encode()
    key = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
    return torch.Generator().manual_seed(key & (2**63 - 1))


def data_seed(trial: Trial) -> int:
    """Return the seed of the data of `trial`: `task.data_seed`, or else the trial's seed."""
    seed = trial.values["task.data_seed"]
    if seed is None:
        return trial.seed
    assert isinstance(seed, int)
    return seed
