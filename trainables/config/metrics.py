"""The metrics that are logged only on request: each costs about as much as a step, or more.

They are computed in `sweeper.trainables.optim.optional_metrics`.
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
"""Name to its meaning, after its columns where these have other names."""
