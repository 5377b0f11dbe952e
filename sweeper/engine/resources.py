"""How many packs the resources of a machine have room for."""

from __future__ import annotations

import os

_ROUNDING = 1e-9
"""What a quotient may lack to the next whole number: 0.3 is stored as a little less than 3/10."""


def local_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def slots(available: float, per_pack: float) -> int:
    """Return how many packs that take `per_pack` of a resource fit into `available`."""
    return int(available / per_pack + _ROUNDING)
