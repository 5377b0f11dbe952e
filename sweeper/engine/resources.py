"""The number of packs that fit into the resources of a machine."""

from __future__ import annotations

import os

_ROUNDING = 1e-9
"""The rounding error that a quotient may have: 0.3 is stored as a little less than 3/10."""


def local_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def slots(available: float, per_pack: float) -> int:
    """Return the number of packs that fit into `available`, each of which takes `per_pack`."""
    return int(available / per_pack + _ROUNDING)
