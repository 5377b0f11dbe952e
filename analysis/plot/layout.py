"""A layout that comes out the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox

DIGITS = 6
"""Digits of a place, as a share of the figure, that are kept."""


class SteadyLayout(ConstrainedLayoutEngine):
    """Constrained layout without the last digits of its solver.

    Those depend on where objects lie in memory. In a PNG nobody sees them; an SVG writes them
    down.
    """

    def execute(self, fig: Any) -> Any:
        """Lay out `fig` and round the place of every subfigure and panel."""
        found = super().execute(fig)
        parts = list(fig.subfigs)
        while parts:
            part = parts.pop()
            parts += part.subfigs
            part.bbox_relative.p0 = np.round(part.bbox_relative.p0, DIGITS)
            part.bbox_relative.p1 = np.round(part.bbox_relative.p1, DIGITS)
        for ax in fig.get_axes():
            place = ax.get_position(original=True)
            ax.set_position(Bbox(np.round(place.get_points(), DIGITS)))
            ax.set_in_layout(True)  # `set_position` takes it out
        return found
