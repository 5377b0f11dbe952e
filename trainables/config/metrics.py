"""The metrics that are logged only on request, since they cost about as much as a step or more.

What they mean is computed in `sweeper.trainables.optim.optional_metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping

ON_REQUEST: Mapping[str, str] = {
    "gradient_ratio": "norm of the penalties' (sub)gradient over that of the loss's gradient.",
    "layer_norms": "norm_1, norm_2, ...: Euclidean norm of each factor or weight tensor.",
    "singular_values": (
        "sigma_1, sigma_2, ...: singular values of the recovered matrix, descending; none where "
        "a vector is recovered."
    ),
}
"""Name to its columns, where it isn't one of that name, and their meaning."""
