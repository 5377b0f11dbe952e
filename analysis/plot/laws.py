"""Figures of the papers' laws, from `sweeper.analysis.diagrams.picture`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from sweeper.analysis.diagrams.picture import Panel, Picture, Series
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot.sheet import INK, STYLE, Sheet, check_suffix
from sweeper.analysis.plot.ticks import name_decades

DASHES: Any = (0, (4, 3))

WIDTH = {1: 6.4, 2: 8.6, 3: 11.0}
"""Panels to the width of a figure in inches."""

HEIGHT = 3.6


def draw_picture(picture: Picture, path: Path, provenance: Provenance, what: str) -> None:
    """Draw `picture` to `path`, a PNG or SVG by its suffix, under the title `what`.

    Raises:
        UsageError: Another suffix, or a file that can't be written.
    """
    check_suffix(path)
    n = len(picture.panels)
    with mpl.rc_context(STYLE):
        sheet = Sheet(WIDTH.get(n, 3.7 * n), HEIGHT, provenance, what)
        axes: Any = sheet.body.subplots(1, n, squeeze=False)
        handles: dict[str, Any] = {}
        for ax, panel in zip(axes[0], picture.panels, strict=True):
            _draw_panel(ax, panel)
            for series in panel.series:
                if series.label is not None:
                    handles.setdefault(series.label, _handle(series))
        sheet.save(path, list(handles.values()))


def _draw_panel(ax: Axes, panel: Panel) -> None:
    if panel.log_x:
        ax.set_xscale("log")
    if panel.log_y:
        ax.set_yscale("log")
    bars = [series for series in panel.series if series.kind == "bars"]
    for series in panel.series:
        _draw(ax, series, (bars.index(series), len(bars)) if series in bars else (0, 1))
    for height in panel.level:
        ax.axhline(height, color=INK, linewidth=1, linestyle=":", zorder=1)
    ax.set(xlabel=panel.x, ylabel=panel.y)
    if panel.title:
        ax.set_title(panel.title, fontsize=9, loc="left")
    ax.margins(0.06)
    if panel.names:
        ax.xaxis.set_major_locator(FixedLocator(list(range(len(panel.names)))))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FixedFormatter(list(panel.names)))
        ax.set_xlim(-0.6, len(panel.names) - 0.4)
    elif panel.log_x:
        name_decades(ax.xaxis, *ax.get_xlim())
    if panel.log_y:
        name_decades(ax.yaxis, *ax.get_ylim())
    ax.grid(color="#e8e8e8", linewidth=0.6)
    ax.set_axisbelow(True)
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)


def _colour(series: Series) -> Any:
    return INK if series.colour is None else mpl.colormaps["tab10"](series.colour % 10)


def _draw(ax: Axes, series: Series, place: tuple[int, int]) -> None:
    """Draw `series`; `place` tells a group of bars from the others beside it."""
    x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
    colour, style = _colour(series), _style(series)
    if series.kind == "bars":
        number, of = place
        width = 0.76 / of
        x = x + (number - (of - 1) / 2) * width
        ax.bar(x, y, width=0.92 * width, color=colour, alpha=0.85, zorder=2)
    elif series.kind == "band":
        low, high = (y if v is None else v for v in (series.low, series.high))
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
        return
    elif series.kind == "step":
        ax.step(x, y, where="post", **style)
    else:
        ax.plot(x, y, **style)
    if series.low is not None and series.high is not None:
        low, high = np.asarray(series.low), np.asarray(series.high)
        ends = np.array([np.maximum(0, y - low), np.maximum(0, high - y)])
        ax.errorbar(
            x,
            y,
            yerr=ends,
            fmt="none",
            elinewidth=0.9,
            capsize=2,
            zorder=2.5,
            ecolor=INK if series.kind == "bars" else colour,
        )


def _style(series: Series) -> dict[str, Any]:
    """Return how matplotlib draws the lines or marks of `series`."""
    colour = _colour(series)
    if series.kind == "points":
        size = 5 if len(series.x) <= 100 else 3
        return {
            "color": colour,
            "linestyle": "",
            "marker": "o",
            "markersize": size,
            "alpha": 0.9,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
            "zorder": 3,
        }
    if series.kind == "bounds":
        return {
            "color": colour,
            "linestyle": "",
            "marker": "^",
            "markersize": 6,
            "zorder": 3,
            "markerfacecolor": "none",
            "markeredgewidth": 0.9,
        }
    if series.kind == "dashed":
        return {"color": colour, "linewidth": 1.1, "linestyle": DASHES, "zorder": 2}
    return {"color": colour, "linewidth": 1.4, "alpha": 0.9, "zorder": 2}


def _handle(series: Series) -> Any:
    if series.kind in ("bars", "band"):
        alpha = 0.85 if series.kind == "bars" else 0.18
        return Patch(facecolor=_colour(series), alpha=alpha, label=series.label)
    style = {k: v for k, v in _style(series).items() if k not in ("zorder", "alpha")}
    return Line2D([], [], label=series.label, **style)
