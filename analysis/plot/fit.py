"""A fitted power law: times over the law, and over each path with all others divided out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.fit.aft import Floats
from sweeper.analysis.fit.fit import Fit, Group
from sweeper.analysis.plot.layout import SteadyLayout
from sweeper.analysis.plot.sheet import FAINT, INK, STYLE, Sheet, check_suffix
from sweeper.analysis.plot.ticks import name_decades

MOST_PATHS = 6
"""Paths whose collapse is drawn, the first of the law that vary."""

MANY = 300
"""Trials above which points are small."""

POINTS = 50
"""Places at which the band around a line is computed."""

DASHES: Any = (0, (4, 3))


def draw_fit(fit: Fit, path: Path, provenance: Provenance) -> None:
    """Draw `fit` to `path`, a PNG or SVG by its suffix.

    To the left the time of every trial against the right side of the law, with the fitted line
    and the claimed one; to the right the time over the law against each path that varies, where
    a law that holds leaves level clouds.

    Raises:
        UsageError: Another suffix, or a file that can't be written.
    """
    check_suffix(path)
    paths = _varying(fit)
    with mpl.rc_context(STYLE):
        columns = 1 if len(paths) <= 3 else 2
        rows = max(1, -(-len(paths) // columns))
        about = replace(provenance, method=fit.method)
        sheet = Sheet(6.4 + 3.0 * columns, 4.6, about, fit.law.text)
        sheet.figure.set_layout_engine(SteadyLayout())
        ratios = [6.4, *[3.0] * columns]
        places = sheet.body.add_gridspec(rows, 1 + columns, width_ratios=ratios)
        left = sheet.body.add_subplot(places[:, 0])
        colours = _colours(fit)
        for place, colour in enumerate(colours):
            _draw_times(left, fit, place, colour)
        _dress(left, fit.law.right, f"{fit.law.time} (optimizer steps)")
        first = None
        for place, k in enumerate(paths):
            row, column = divmod(place, columns)
            ax = sheet.body.add_subplot(places[row, 1 + column], sharey=first)
            first = first or ax
            _draw_collapse(ax, fit, k, colours)
            if column == 0:
                ax.set_ylabel(f"{fit.law.time} / law")
        sheet.save(path, _handles(fit, colours))


def _varying(fit: Fit) -> list[int]:
    """Return which paths of the law have more than one value, the first `MOST_PATHS`."""
    logs = np.concatenate([group.sample.log_paths for group in fit.groups])
    return [k for k in range(logs.shape[1]) if np.ptp(logs[:, k]) > 0][:MOST_PATHS]


def _colours(fit: Fit) -> list[Any]:
    n = len(fit.groups)
    cmap = mpl.colormaps["tab10" if n <= 10 else "turbo"]
    return [cmap(k) if n <= 10 else cmap(0.03 + 0.94 * k / (n - 1)) for k in range(n)]


def _points(ax: Axes, group: Group, x: Floats, y: Floats, colour: Any) -> None:
    """Draw trials: reached ones as discs, bounds as open triangles that point up."""
    reached = group.sample.reached
    size = 4.5 if len(x) <= MANY else 2.5
    ax.plot(
        x[reached],
        y[reached],
        linestyle="",
        marker="o",
        markersize=size,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.4,
        alpha=0.85,
        zorder=3,
    )
    ax.plot(
        x[~reached],
        y[~reached],
        linestyle="",
        marker="^",
        markersize=size + 1,
        zorder=3,
        markerfacecolor="none",
        markeredgecolor=colour,
        markeredgewidth=0.9,
    )


def _dark(fit: Fit, colour: Any) -> Any:
    """Return the colour of a group's dashed line, which may lie on its solid one."""
    return tuple(0.55 * c for c in mpl.colors.to_rgb(colour)) if fit.by else INK


def _aside(fit: Fit, place: int) -> float:
    """Return where the group at `place` stands beside the others, from -1 to 1."""
    n = len(fit.groups)
    return 0.0 if n == 1 else 2 * place / (n - 1) - 1


def _draw_times(ax: Axes, fit: Fit, place: int, colour: Any) -> None:
    group = fit.groups[place]
    logs = group.sample.log_law
    aside = 0.004 * float(np.ptp(logs)) * _aside(fit, place)
    _points(ax, group, np.exp(logs + aside), group.sample.shown.astype(np.float64), colour)
    log_u = np.linspace(logs.min(), logs.max(), POINTS)
    u = np.exp(log_u)
    if group.slope.value is not None and group.free_prefactor is not None:
        ax.plot(
            u,
            np.exp(math.log(group.free_prefactor) + group.slope.value * log_u),
            color=colour,
            linewidth=1.8,
            alpha=0.8,
            zorder=2,
        )
        half = group.half_band(log_u, fit.level)
        if half is not None:
            line = math.log(group.free_prefactor) + group.slope.value * log_u
            low, high = np.exp(line - half), np.exp(line + half)
            ax.fill_between(u, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
    if group.prefactor.value is not None:
        ax.plot(
            u,
            group.prefactor.value * u,
            color=_dark(fit, colour),
            linewidth=1.0,
            linestyle=DASHES,
            zorder=2.5,
        )


def _draw_collapse(ax: Axes, fit: Fit, k: int, colours: list[Any]) -> None:
    for place, (group, colour) in enumerate(zip(fit.groups, colours, strict=True)):
        sample = group.sample
        aside = 0.1 * _gap(fit, k) * _aside(fit, place)
        x = np.exp(sample.log_paths[:, k] + aside)
        _points(ax, group, x, sample.shown / np.exp(sample.log_law), colour)
        if group.prefactor.value is not None:
            ax.axhline(
                group.prefactor.value,
                color=_dark(fit, colour),
                linewidth=1.0,
                linestyle=DASHES,
                zorder=2,
            )
    _dress(ax, fit.law.powers[k].path, "")


def _gap(fit: Fit, k: int) -> float:
    """Return the least distance of two values of a path, in their logarithms."""
    logs = np.unique(np.concatenate([group.sample.log_paths[:, k] for group in fit.groups]))
    return float(np.min(np.diff(logs)))


def _dress(ax: Axes, x: str, y: str) -> None:
    ax.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    ax.margins(0.06)
    for axis, ends in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        name_decades(axis, *ends)
    ax.grid(color="#e8e8e8", linewidth=0.6)
    ax.set_axisbelow(True)
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)


def _handles(fit: Fit, colours: list[Any]) -> list[Any]:
    found: list[Any] = []
    if fit.by:
        axis = Axis.of(fit.by, [group.value for group in fit.groups])
        for group, colour in zip(fit.groups, colours, strict=True):
            label = f"{fit.by} = {axis.label(group.value)}{_slope(group)}"
            found.append(Line2D([], [], color=colour, linewidth=2, label=label))
    colour = FAINT if fit.by else colours[0]
    found.append(
        Line2D([], [], color=colour, linestyle="", marker="o", markersize=4.5, label="one trial")
    )
    if any(group.sample.n_censored for group in fit.groups):
        found.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="^",
                markerfacecolor="none",
                markersize=5.5,
                markeredgecolor=colour,
                label="censored (a lower bound)",
            )
        )
    if any(group.slope.value is not None for group in fit.groups):
        slope = "" if fit.by else _slope(fit.groups[0])
        found.append(Line2D([], [], color=colour, linewidth=1.8, label=f"fitted{slope}"))
    if any(group.covariance is not None for group in fit.groups):
        found.append(Patch(facecolor=colour, alpha=0.15, label=f"{100 * fit.level:g} % band"))
    found.append(
        Line2D(
            [],
            [],
            color=FAINT if fit.by else INK,
            linewidth=1.0,
            linestyle=DASHES,
            label="as claimed (k = 1)",
        )
    )
    return found


def _slope(group: Group) -> str:
    k = group.slope
    if k.value is None:
        return ""
    about = [text for text in (k.between("{:.3f}".format), k.note) if text]
    listed = f" ({', '.join(about)})" if about else ""
    return f": k = {k.value:.3f}{listed}"
