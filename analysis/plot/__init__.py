"""Figures of a sweep: phase diagrams and learning curves. The one door to matplotlib.

A figure has a title and its provenance, and the same data give the same bytes.
"""

from sweeper.analysis.plot.curves import curves_image, draw_curves
from sweeper.analysis.plot.fit import draw_fit
from sweeper.analysis.plot.laws import draw_picture
from sweeper.analysis.plot.phases import draw_phase, phase_image
from sweeper.analysis.plot.search import draw_search
from sweeper.analysis.plot.sheet import check_suffix, write_image

__all__ = [
    "check_suffix",
    "curves_image",
    "draw_curves",
    "draw_fit",
    "draw_phase",
    "draw_picture",
    "draw_search",
    "phase_image",
    "write_image",
]
