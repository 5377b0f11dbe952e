"""Learning curves of some trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sweeper import sql
from sweeper.analysis.diagrams.curves import Curves, learning_curves
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot.sheet import FAINT, INK, STYLE, Sheet, check_suffix, write_image


def draw_curves(
    connection: sql.Connection, path: Path, *, where: str | None = None, provenance: Provenance
) -> None:
    """Draw learning curves to `path`, a PNG or SVG by its suffix: train above, test below.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        path: What to write.
        where: SQL condition over the columns of `trials` and `delays`; all trials without.
        provenance: What to print below.

    Raises:
        UsageError: Another suffix, no trial to show, trials with different criteria, or a file
            that can't be written.
    """
    check_suffix(path)
    curves = learning_curves(connection, where=where)
    write_image(path, curves_image(curves, provenance, path.suffix))


def curves_image(curves: Curves, provenance: Provenance, suffix: str) -> bytes:
    """Return `curves` as the content of a file with the `suffix` .png or .svg."""
    with mpl.rc_context(STYLE):
        sheet = Sheet(7.6, 5.6, provenance, "learning curves")
        upper, lower = sheet.body.subplots(2, 1, sharex=True)
        n = len(curves.trials)
        cmap = mpl.colormaps["tab10" if n <= 10 else "turbo"]
        colours = [cmap(k) if n <= 10 else cmap(0.03 + 0.94 * k / (n - 1)) for k in range(n)]
        alpha = 0.95 if n <= 12 else max(0.3, 8 / n)
        for ax, side in ((upper, "train"), (lower, "test")):
            for trial, colour in zip(curves.trials, colours, strict=True):
                values = trial.train if side == "train" else trial.test
                ax.plot(trial.steps, values, color=colour, linewidth=1.2, alpha=alpha)
                reached = trial.t1 if side == "train" else trial.t2
                if reached is not None:
                    k = int(np.searchsorted(trial.steps, reached))
                    ax.plot(
                        [reached],
                        [values[k]],
                        marker="o" if side == "train" else "D",
                        markersize=4.5,
                        color=colour,
                        markeredgecolor="white",
                        markeredgewidth=0.6,
                        zorder=4,
                    )
            _dress_curves(ax, curves, side)
        lower.set_xlabel("optimizer steps")
        handles: list[Any] = []
        if n <= Curves.LABELLED:
            handles = [
                Line2D([], [], color=colour, linewidth=2, label=trial.label)
                for trial, colour in zip(curves.trials, colours, strict=True)
            ]
        handles += [
            Line2D([], [], color=FAINT, linestyle="", marker="o", markersize=4.5, label="t1"),
            Line2D([], [], color=FAINT, linestyle="", marker="D", markersize=4.5, label="t2"),
        ]
        if not curves.criterion.whole:
            dotted = Line2D([], [], color=INK, linestyle=":", linewidth=1, label="threshold")
            handles.append(dotted)
        return sheet.image(suffix, handles)


def _dress_curves(ax: Axes, curves: Curves, side: str) -> None:
    threshold = curves.criterion.train if side == "train" else curves.criterion.test
    if threshold is not None and not curves.criterion.whole:
        ax.axhline(threshold, color=INK, linestyle=":", linewidth=1)
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)
    ax.set_xlim(0, None)
    ax.set_ylabel(f"{side}_{curves.criterion.metric}")
    if not curves.criterion.rising and curves.positive(side):
        ax.set_yscale("log")
    ax.grid(color="#e8e8e8", linewidth=0.6)
    ax.set_axisbelow(True)
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)
