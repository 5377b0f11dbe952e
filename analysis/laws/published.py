"""The papers, as laws quote them, and the published code's instance of sparse recovery."""

from __future__ import annotations

import numpy as np

from sweeper.analysis.laws.evidence import Floats

NOTSAWO = "Notsawo et al. 2025 (arXiv 2506.05718)"
BOURSIER = "Boursier et al. 2025 (arXiv 2505.20172)"
POWER = "Power et al. 2022 (arXiv 2201.02177)"
GU = "Gu et al. 2025 (arXiv 2504.03162)"


def published_signal(seed: int, n: int, s: int) -> Floats:
    """Return a* as the published code draws it from a seed, ``[n]``: `rng: numpy_legacy`."""
    random = np.random.RandomState(seed)
    a = np.zeros(n)
    places = random.choice(n, s, replace=False)
    a[places] = random.randn(s) / np.sqrt(n)
    return a
