"""Ticks of axes of numbers, named in plain figures: 1e-4, 0.001, 30."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator


def whole_numbers() -> MaxNLocator:
    """Return a locator of few, round, whole numbers."""
    return MaxNLocator(nbins=6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def name_decades(axis: Any, low: float, high: float) -> None:
    """Name the powers of ten on a log `axis`, and values between where those are few.

    Args:
        axis: An x or y axis of matplotlib.
        low: Where it begins.
        high: Where it ends.
    """
    decades = np.log10(high / low)
    if decades < 0.8:
        axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    elif decades < 2.5:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.6 else (1.0, 3.0)))
    else:
        axis.set_major_locator(LogLocator(numticks=6))
    if decades < 2.5:
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """Return 0.0001 as 1e-4, and a number of few digits unchanged."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    head, _, exponent = f"{value:.1e}".partition("e")
    return f"{head.removesuffix('.0')}e{int(exponent)}"
