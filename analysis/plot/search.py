"""A search in one figure: its history, the objective by path, the importance of the paths.

Filled markers have a result. An open triangle stands at the least that a censored cell's
objective can be; a cross at the foot of a panel has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

from sweeper.analysis.diagrams.history import History, HistoryPoint, Scalar
from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot.layout import SteadyLayout
from sweeper.analysis.plot.paint import LARGEST
from sweeper.analysis.plot.sheet import FAINT, INK, STYLE, Sheet, check_suffix
from sweeper.analysis.plot.ticks import name_decades, whole_numbers
from sweeper.errors import UsageError

COLUMNS = 4
"""Slices side by side at most, unless the upper panels are wider."""

PANEL = 2.5
"""Width of a slice in inches."""

BAR = 0.9
"""Width that the colour bar takes, in inches."""

UPPER, LOWER = 2.7, 2.15
"""Heights of the upper panels and of the slices, in inches."""

LEAST = 6.6
"""Width of the drawing at least, in inches."""

MOST_BARS = 8
"""Paths whose importance is shown at most."""

CHARACTER = 0.075
"""Width of a character of a tick's label, in inches."""

DOT = "#4a6fa5"
BEST = "#d1711c"
MARK = "#a0a0a0"

MARKERS = {"search": "o", "store": "s"}
"""Marker by source."""

SPREAD = 30
"""Ratio of the largest to the smallest result beyond which they are drawn on a log axis."""


def draw_search(history: History, path: Path, provenance: Provenance) -> None:
    """Draw `history` to `path`, a PNG or SVG by its suffix.

    Above: every objective against the suggestion's number with the best so far, the Pareto front
    of two objectives, and the importance of the paths. Below: every objective against every path.

    Args:
        history: The search.
        path: What to write.
        provenance: What to print below.

    Raises:
        UsageError: Another suffix, nothing was suggested yet, or a file that can't be written.
    """
    check_suffix(path)
    if not history.suggestions:
        raise UsageError("the search has no suggestion yet. Draw it once it has one.")
    with mpl.rc_context({**STYLE, "text.parse_math": False}):  # an objective may hold dollars
        heads = _heads(history)
        width = max(LEAST, sum(heads.values()) * PANEL)
        most = max(COLUMNS, int((width - BAR) / PANEL))
        lines = -(-len(history.paths) // most)
        columns = -(-len(history.paths) // lines) if lines else 1
        rows = lines * len(history.objectives)
        width = max(width, columns * PANEL + BAR)
        names = ", ".join(f"{_brief(name, 40)} ({how}d)" for name, how in history.objectives)
        sheet = Sheet(width, UPPER + rows * LOWER, provenance, f"search, {names}")
        sheet.figure.set_layout_engine(SteadyLayout())
        paint = _Paint(history)
        if not rows:
            _draw_heads(sheet.body, heads, paint)
        else:
            parts: Any = sheet.body.subfigures(2, 1, height_ratios=[UPPER, rows * LOWER])
            _draw_heads(parts[0], heads, paint)
            _draw_slices(parts[1], columns, (width - BAR) / columns, paint)
        sheet.save(path, paint.handles())


def _heads(history: History) -> dict[str, float]:
    """Return the upper panels with their widths relative to a slice's."""
    heads = {f"history{k}": 1.7 for k in range(len(history.objectives))}
    if len(history.objectives) == 2:
        heads["pareto"] = 1.4
    if history.importance:
        heads["importance"] = 1.1
    return heads


def _draw_heads(figure: SubFigure, heads: dict[str, float], paint: _Paint) -> None:
    axes: Any = figure.subplots(1, len(heads), width_ratios=list(heads.values()), squeeze=False)
    for name, ax in zip(heads, axes[0], strict=True):
        _dress(ax)
        if name == "pareto":
            _draw_pareto(ax, paint)
        elif name == "importance":
            _draw_importance(ax, paint.history.importance or {})
        else:
            _draw_history(ax, int(name.removeprefix("history")), paint)


@dataclass(frozen=True)
class _Scale:
    """How the values of one objective are drawn.

    Attributes:
        name: Of the objective.
        log: Whether on a log axis.
        low: Lower end of the axis.
        high: Upper end, likewise.
        empty: Whether there is nothing to draw.
    """

    name: str
    log: bool
    low: float
    high: float
    empty: bool

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> _Scale:
        """Return the scale of an objective with some `values`."""
        values = [v for v in values if abs(v) <= LARGEST]
        if not values:
            return cls(name, log=False, low=0.0, high=1.0, empty=True)
        low, high = min(values), max(values)
        log = low > 0 and high >= SPREAD * low
        if log:
            room = (high / low) ** 0.1
            return cls(name, log=True, low=low / room**1.4, high=high * room, empty=False)
        gap = 0.1 * (high - low) or 0.1 * abs(high) or 1.0
        return cls(name, log=False, low=low - 1.4 * gap, high=high + gap, empty=False)

    def apply(self, ax: Axes, which: str = "y") -> None:
        """Scale one side of `ax` and name it."""
        ax.set(**{f"{which}scale": "log" if self.log else "linear"})
        ax.set(**{f"{which}lim": (self.low, self.high), f"{which}label": _brief(self.name, 28)})
        if self.empty:
            ax.set(**{f"{which}ticks": []})
        elif self.log:
            name_decades({"x": ax.xaxis, "y": ax.yaxis}[which], self.low, self.high)


class _Paint:
    """What the panels share: colours, scales, and which signs the legend has to explain."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.cmap: Colormap = mpl.colormaps["viridis"]
        first, last = history.ordered[0].number, history.ordered[-1].number
        self.norm = Normalize(first, last if last > first else first + 1)
        self.best = history.best if len(history.objectives) == 1 else None
        self.front = history.pareto() if len(history.objectives) > 1 else ()
        self.scales = [
            _Scale.of(
                name, [h for h in (self.height(s, k) for s in history.ordered) if h is not None]
            )
            for k, (name, _) in enumerate(history.objectives)
        ]
        self.size = 4.6 if len(history.ordered) <= 200 else 3.4
        self.seen: set[str] = set()

    def height(self, suggestion: HistoryPoint, objective: int) -> float | None:
        """Return where `suggestion` stands: at its objective, or at the bound of the first."""
        value = suggestion.objectives[objective]
        return suggestion.bound if value is None and objective == 0 else value

    def mark(
        self, ax: Axes, suggestion: HistoryPoint, x: float, objective: int, colour: Any
    ) -> None:
        """Draw `suggestion` above `x`."""
        y = self.height(suggestion, objective)
        if y is None:
            self.seen.add("nothing")
            ax.plot(
                [x],
                [0.035],
                marker="x",
                markersize=4,
                markeredgewidth=1,
                color=MARK,
                transform=ax.get_xaxis_transform(),
                zorder=2,
            )
            return
        bound = suggestion.objectives[objective] is None
        open_ = bound or not suggestion.feasible
        self.seen.add("bound" if bound else "infeasible" if open_ else suggestion.source)
        ax.plot(
            [x],
            [y],
            marker="^" if bound else MARKERS[suggestion.source],
            markersize=self.size,
            color=colour,
            linestyle="",
            zorder=3,
            alpha=0.95,
            markerfacecolor="none" if open_ else colour,
            markeredgecolor=colour if open_ else "white",
            markeredgewidth=1 if open_ else 0.5,
        )
        if suggestion is self.best:
            ax.plot(
                [x],
                [y],
                marker="o",
                markersize=9.5,
                markerfacecolor="none",
                markeredgecolor=BEST,
                markeredgewidth=1.5,
                zorder=4,
            )

    def shade(self, suggestion: HistoryPoint) -> Any:
        """Return the colour of the suggestion's number."""
        return self.cmap(self.norm(suggestion.number))

    def handles(self) -> list[Any]:
        """Return the legend's entries: the signs that were drawn."""
        ring = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.5}
        known: dict[str, tuple[str, dict[str, Any]]] = {
            "search": ("suggested", {"marker": "o", "markersize": 5}),
            "store": ("from the store", {"marker": "s", "markersize": 5}),
            "infeasible": (
                "not feasible",
                {"marker": "o", "markersize": 5, "markerfacecolor": "none"},
            ),
            "bound": (
                "censored (a lower bound)",
                {"marker": "^", "markersize": 5, "markerfacecolor": "none"},
            ),
            "nothing": ("no result", {"marker": "x", "color": MARK}),
        }
        found = [
            Line2D([], [], **{"linestyle": "", "color": DOT, "label": label, **style})
            for sign, (label, style) in known.items()
            if sign in self.seen
        ]
        if self.best is not None or "line" in self.seen:
            found.append(Line2D([], [], color=BEST, linewidth=1.4, label="best so far"))
        if self.best is not None:
            (value,) = self.best.objectives
            label = f"best when searched: suggestion {self.best.number}, {value:.3g}"
            found.append(Line2D([], [], linestyle="", color=BEST, label=label, **ring))  # type: ignore[arg-type]
        if "front" in self.seen:
            found.append(Line2D([], [], color=INK, linewidth=1, label="Pareto front"))
        return found


def _draw_history(ax: Axes, objective: int, paint: _Paint) -> None:
    paint.scales[objective].apply(ax)
    ordered = paint.history.ordered
    numbers = [s.number for s in ordered]
    for s in ordered:
        paint.mark(ax, s, s.number, objective, DOT)
    best = [np.nan if b is None else b for b in paint.history.best_so_far(objective)]
    if not np.all(np.isnan(best)):
        paint.seen.add("line")
        ax.step(
            [*numbers, numbers[-1] + 0.5],
            [*best, best[-1]],
            where="post",
            color=BEST,
            linewidth=1.4,
            zorder=1,
        )
    room = max(0.6, 0.03 * (numbers[-1] - numbers[0]))
    ax.set_xlim(numbers[0] - room, numbers[-1] + room)
    ax.xaxis.set_major_locator(whole_numbers())
    ax.set_xlabel("suggestion")


def _draw_pareto(ax: Axes, paint: _Paint) -> None:
    for scale, which in zip(paint.scales, "xy", strict=True):
        scale.apply(ax, which)
    on_front = {s.number for s in paint.front}
    for s in paint.history.ordered:
        x, y = s.objectives
        if x is None or y is None:
            continue
        faint = s.number not in on_front
        ax.plot(
            [x],
            [y],
            marker=MARKERS[s.source],
            markersize=paint.size,
            linestyle="",
            markerfacecolor=DOT if s.feasible else "none",
            markeredgecolor="white" if s.feasible else DOT,
            markeredgewidth=0.5 if s.feasible else 1,
            alpha=0.3 if faint else 0.95,
            zorder=2 if faint else 3,
        )
    if paint.front:
        paint.seen.add("front")
        xs, ys = zip(*(s.objectives for s in paint.front), strict=True)
        ax.plot(xs, ys, color=INK, linewidth=1, zorder=2)


def _draw_importance(ax: Axes, importance: Any) -> None:
    """Draw one bar per path, the largest on top; its name is above it, since names are longer."""
    ranked = sorted(importance.items(), key=lambda item: item[1])[-MOST_BARS:]
    places = range(len(ranked))
    shares = [share for _, share in ranked]
    most = max([*shares, 1e-12])
    ax.barh(places, shares, height=0.34, color=DOT, align="edge")
    for place, (path, share) in zip(places, ranked, strict=True):
        ax.text(0, place + 0.4, f"{path}  {share:.2f}", fontsize=7.5, va="bottom")
    ax.set(xlim=(0, 1.05 * most), ylim=(-0.2, max(len(ranked), 3)), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    ax.set_xlabel("importance")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))


def _draw_slices(figure: SubFigure, columns: int, room: float, paint: _Paint) -> None:
    history = paint.history
    per_objective = -(-len(history.paths) // columns)
    rows = per_objective * len(history.objectives)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_visible(False)
    for objective in range(len(history.objectives)):
        for place, path in enumerate(history.paths):
            row, column = divmod(place, columns)
            ax = grid[objective * per_objective + row, column]
            ax.set_visible(True)
            _dress(ax)
            paint.scales[objective].apply(ax)
            if column:
                ax.set_ylabel("")
                ax.tick_params(labelleft=False)
            _draw_slice(ax, path, objective, room, paint)
    if len(history.ordered) > 1 and not all(scale.empty for scale in paint.scales):
        bar = figure.colorbar(
            ScalarMappable(paint.norm, paint.cmap),
            ax=list(grid.flat),
            shrink=0.9 if rows < 3 else 0.5,
            pad=0.02,
            aspect=28,
        )
        bar.outline.set_visible(False)
        bar.set_label("suggestion")
        bar.locator = whole_numbers()
        bar.update_ticks()


def _draw_slice(ax: Axes, path: str, objective: int, room: float, paint: _Paint) -> None:
    """Draw one objective over one path; `room` is the panel's width in inches."""
    shown = [s for s in paint.history.ordered if path in s.values]
    axis = Axis.of(path, [s.values[path] for s in shown])
    for s in shown:
        paint.mark(ax, s, _place(axis, s.values[path], s.number), objective, paint.shade(s))
    ax.set_xlabel(path)
    if axis.categorical:
        _name_values(ax, axis, room)
    else:
        _scale_values(ax, axis, log=path in paint.history.log)
    if len(shown) < len(paint.history.ordered):
        said = f"applies to {len(shown)} of {len(paint.history.ordered)}"
        ax.set_title(said, fontsize=7.5, color=FAINT, loc="right", pad=3)


def _place(axis: Axis, value: Scalar, number: int) -> float:
    """Return where `value` stands; names spread a little, by the golden ratio of the number."""
    if not axis.categorical:
        return float(value)  # type: ignore[arg-type]
    return axis.index(value) + 0.5 * ((number * 0.6180339887 + 0.5) % 1 - 0.5)


def _name_values(ax: Axes, axis: Axis, room: float) -> None:
    labels = [axis.label(value) for value in axis.values]
    ax.xaxis.set_major_locator(FixedLocator(list(range(len(labels)))))
    ax.xaxis.set_major_formatter(FixedFormatter(labels))
    ax.set_xlim(-0.6, len(labels) - 0.4)
    if (sum(map(len, labels)) + 2 * len(labels)) * CHARACTER > 0.8 * room:
        for label in ax.get_xticklabels():
            label.set(rotation=30, horizontalalignment="right", rotation_mode="anchor")


def _scale_values(ax: Axes, axis: Axis, *, log: bool) -> None:
    low, high = float(axis.values[0]), float(axis.values[-1])
    if log and low > 0:
        room = max((high / low) ** 0.06, 1.2)
        ax.set_xscale("log")
        ax.set_xlim(low / room, high * room)
        name_decades(ax.xaxis, low / room, high * room)
        return
    gap = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    ax.set_xlim(low - gap, high + gap)
    whole = all(isinstance(value, int) for value in axis.values)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole, min_n_ticks=1))


def _brief(text: str, most: int) -> str:
    """Return `text`, cut where it is longer than `most`: an objective may be a whole query."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _dress(ax: Axes) -> None:
    ax.grid(color="#e8e8e8", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
