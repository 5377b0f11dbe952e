"""Phase diagrams: cells in data coordinates, bounds hatched, missing cells marked.

A refined diagram has few cells between the lines of its grid: a place without one is painted as
the nearest cell, only paler. Near is what is near on the mesh: distances count in lines of the
grid, on a log axis in logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection, PolyCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sweeper.analysis.diagrams.phase import Axis, DiagramCell, PhaseDiagram
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot.paint import MARK, Paint
from sweeper.analysis.plot.sheet import STYLE, Sheet, check_suffix, write_image
from sweeper.analysis.plot.ticks import name_decades

LABELS = {
    "delay": "delay t2 - t1 (optimizer steps)",
    "t1": "memorization step t1 (optimizer steps)",
    "t2": "generalization step t2 (optimizer steps)",
}

MISSING = "#ececec"
TIE = 1e-4
"""What breaks ties between equally near cells: less than any mesh is fine."""

Place = tuple[int, int]
"""Indices into the values of both axes."""

Rows = Sequence[Sequence[tuple[Any, bool]]]
"""For each place of a panel, from the lower left: its colour, and whether it is hatched."""

FEW_CELLS = 30
"""Cells along an axis up to which each of them has a border."""

COLUMNS = 4
"""Facets side by side at most."""

MOST_TICKS = 9
"""Values that an axis of numbers names at most."""

FEW_LINES = 4
"""Lines of a refined grid that are too few to name an axis by."""

CHARACTER = 0.075
"""Width of a character of a tick's label, in inches."""


def draw_phase(diagram: PhaseDiagram, path: Path, provenance: Provenance) -> None:
    """Draw `diagram` to `path`, a PNG or SVG by its suffix.

    Raises:
        UsageError: Another suffix, or a file that can't be written.
    """
    check_suffix(path)
    write_image(path, phase_image(diagram, provenance, path.suffix))


def phase_image(diagram: PhaseDiagram, provenance: Provenance, suffix: str) -> bytes:
    """Return `diagram` as the content of a file with the `suffix` .png or .svg."""
    with mpl.rc_context(STYLE):
        n = len(diagram.facets)
        columns = min(n, COLUMNS)
        rows = -(-n // columns)
        width, height = _panel_size(diagram, columns)
        if diagram.intervals:
            lines = f"{provenance.criterion}\n{diagram.intervals}"
            provenance = replace(provenance, criterion=lines)
        sheet = Sheet(columns * width + 1.9, rows * height + 1.0, provenance, diagram.value)
        figure = sheet.body
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        paint = Paint(diagram)
        for ax, facet in zip(grid.flat, diagram.facets, strict=False):
            _draw_panel(ax, diagram, facet, paint)
            _dress(ax, "x", diagram.x, width)
            _dress(ax, "y", diagram.y, np.inf)
        for ax in grid.flat[n:]:
            ax.set_visible(False)
        for ax in grid.flat[max(0, n - columns) : n]:  # the lowest panel of each column
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(_axis_label(diagram.x))
        for ax in grid[:, 0]:
            ax.set_ylabel(_axis_label(diagram.y))
        if paint.norm is not None:
            _colour_bar(figure, [ax for ax in grid.flat if ax.get_visible()], diagram, paint)
        return sheet.image(suffix, paint.handles())


def _panel_size(diagram: PhaseDiagram, columns: int) -> tuple[float, float]:
    """Return width and height of one panel in inches."""
    room = 5.6 if columns == 1 else 3.6 if columns == 2 else 2.8
    wide, high = (min(room, max(2.2, 0.55 * len(a.values))) for a in (diagram.x, diagram.y))
    return max(wide, 0.75 * room), max(min(high, 0.85 * room), 0.6 * room)


def _draw_panel(ax: Axes, diagram: PhaseDiagram, facet: Any, paint: Paint) -> None:
    panel = diagram.panel(facet)
    near = nearest(diagram, facet) if diagram.refined else {}
    x_edges, x_middles = _edges(diagram.x)
    y_edges, y_middles = _edges(diagram.y)
    rows, holes = [], []
    for iy in range(len(diagram.y.values)):
        looks = []
        for ix in range(len(diagram.x.values)):
            cell = panel.get((ix, iy))
            filled = (ix, iy) in near
            colour = paint.pale(near[ix, iy]) if filled else paint.colour(cell)
            if colour is None and not filled:
                holes.append((x_middles[ix], y_middles[iy]))
            bound = colour is not None and cell is not None and paint.hatched(cell)
            looks.append((MISSING if colour is None else colour, bound))
        rows.append(looks)
    large = max(len(diagram.x.values), len(diagram.y.values)) > FEW_CELLS
    if large and not near:
        _draw_mesh(ax, rows, x_edges, y_edges)
    else:
        _draw_patches(ax, rows, x_edges, y_edges, merged=bool(near))
    if holes:
        size = 36 if len(rows) * len(rows[0]) <= 150 else 10
        xs, ys = zip(*holes, strict=True)
        ax.scatter(xs, ys, marker="x", s=size, linewidths=1.1, color=MARK)
    if diagram.facet:
        ax.set_title(f"{diagram.facet.name} = {diagram.facet.label(facet)}", fontsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _draw_patches(
    ax: Axes, rows: Rows, x_edges: NDArray[Any], y_edges: NDArray[Any], *, merged: bool
) -> None:
    """Draw every cell with a border; `merged`: what looks the same side by side as one, without."""
    patches, colours = [], []
    hatched: dict[str, list[Rectangle]] = {}
    for iy, looks in enumerate(rows):
        for _, run in groupby(range(len(looks)), looks.__getitem__ if merged else None):
            first, *_, last = [*run] * 2
            colour, bound = looks[first]
            low, high = x_edges[first], x_edges[last + 1]
            patch = Rectangle((low, y_edges[iy]), high - low, y_edges[iy + 1] - y_edges[iy])
            patches.append(patch)
            colours.append(colour)
            if bound:
                hatched.setdefault(_contrast(colour), []).append(patch)
    line = 0 if merged else 0.8
    edge = "white" if line else "face"
    ax.add_collection(
        PatchCollection(patches, facecolors=colours, edgecolors=edge, linewidths=line or 0.1)
    )
    for ink, group in hatched.items():
        ax.add_collection(
            PatchCollection(group, facecolors="none", edgecolors=ink, hatch="////", linewidths=0)
        )


def _draw_mesh(ax: Axes, rows: Rows, x_edges: NDArray[Any], y_edges: NDArray[Any]) -> None:
    """Draw very many cells, as one mesh; bounds side by side share their hatching."""
    rgba = {colour: mpl.colors.to_rgba(colour) for row in rows for colour, _ in row}
    colours = np.array([[rgba[colour] for colour, _ in row] for row in rows])
    bound = np.array([[hatched for _, hatched in row] for row in rows])
    corners = np.stack(np.meshgrid(x_edges, y_edges), axis=-1)
    ax.add_collection(QuadMesh(corners, facecolors=colours.reshape(-1, 4)))
    ink_of = {colour: _contrast(colour) for colour in rgba}
    ink = np.array([[ink_of[colour] for colour, _ in row] for row in rows])
    for name in np.unique(ink[bound]):
        shown = np.pad(bound & (ink == name), ((0, 0), (1, 1)))
        change = np.diff(shown.astype(np.int8), axis=1)
        (iy, first), (_, last) = np.nonzero(change == 1), np.nonzero(change == -1)
        left, right, low, high = x_edges[first], x_edges[last], y_edges[iy], y_edges[iy + 1]
        corners = np.stack([left, low, right, low, right, high, left, high], axis=-1)
        runs: Any = corners.reshape(-1, 4, 2)
        ax.add_collection(
            PolyCollection(
                runs, facecolors="none", edgecolors=str(name), hatch="////", linewidths=0
            )
        )


def nearest(diagram: PhaseDiagram, facet: Any) -> dict[Place, DiagramCell | None]:
    """Return, for each place without a cell, the nearest cell with a result.

    None where a hole of the grid itself is nearer: a place on two of its lines without a cell.
    Such holes are left out.
    """
    panel = diagram.panel(facet)
    nx, ny = len(diagram.x.values), len(diagram.y.values)
    empty = [place for place in np.ndindex(nx, ny) if place not in panel]
    own_x, own_y = (_own(axis) for axis in (diagram.x, diagram.y))
    holes = {(i, j) for i, j in empty if own_x[i] and own_y[j]}
    known = [place for place, cell in panel.items() if cell.value is not None or cell.phase]
    places = sorted(holes.union(known))
    if not known:
        return {}
    x, y = _on_lines(diagram.x), _on_lines(diagram.y)
    tree = cKDTree([(x[i], y[j]) for i, j in places])
    wanted = [place for place in empty if place not in holes]
    # A tie, and there are many, goes to the lower left everywhere.
    points = np.array([(x[i] - TIE, y[j] - 2 * TIE) for i, j in wanted]).reshape(-1, 2)
    found = tree.query(points)[1]
    return {place: panel.get(places[k]) for place, k in zip(wanted, found, strict=True)}


def _own(axis: Axis) -> list[bool]:
    """Return for each value whether the grid itself has it."""
    lines = {*(axis.lines or axis.values)}
    return [value in lines for value in axis.values]


def _on_lines(axis: Axis) -> NDArray[np.float64]:
    """Return where the values stand, counted in lines of the grid."""
    if not axis.lines:
        return np.arange(len(axis.values), dtype=np.float64)
    lines, values = (np.array(v, dtype=np.float64) for v in (axis.lines, axis.values))
    if axis.log:
        lines, values = np.log(lines), np.log(values)
    line = np.clip(np.searchsorted(lines, values, side="right") - 1, 0, len(lines) - 2)
    found: NDArray[np.float64] = line + (values - lines[line]) / (lines[line + 1] - lines[line])
    return found.round(6)


def _contrast(colour: Any) -> str:
    """Return an ink that is visible on `colour`: dark or white."""
    red, green, blue = mpl.colors.to_rgb(colour)
    return "#4a4a4a" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def _edges(axis: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the borders of the cells along `axis`, half-way between its values, and these."""
    middles = _on_lines(axis) if axis.even else np.array(axis.values, dtype=np.float64)
    log = axis.log and not axis.even
    scaled = np.log(middles) if log else middles
    inner = (scaled[1:] + scaled[:-1]) / 2
    first, last = scaled[0] - (inner[0] - scaled[0]), scaled[-1] + (scaled[-1] - inner[-1])
    edges = np.concatenate([[first], inner, [last]])
    return (np.exp(edges) if log else edges), middles


def _axis_label(axis: Axis) -> str:
    """Return the name of `axis`, and that numbers on it aren't to scale, if so."""
    return f"{axis.name} (not to scale)" if axis.even and not axis.categorical else axis.name


def _dress(ax: Axes, which: str, axis: Axis, room: float) -> None:
    """Scale one side of a panel that is `room` inches long, and name the values on it."""
    edges, middles = _edges(axis)
    scale = "log" if axis.log and not axis.even else "linear"
    ax.set(**{f"{which}scale": scale, f"{which}lim": (edges[0], edges[-1])})
    handle: Any = {"x": ax.xaxis, "y": ax.yaxis}[which]
    if axis.lines and axis.log and not axis.even:
        name_decades(handle, edges[0], edges[-1])
        return
    if 0 < len(axis.lines) < FEW_LINES and not axis.even:
        whole = all(isinstance(value, int) for value in axis.values)
        handle.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=whole))
        return
    named = [place for place, own in enumerate(_own(axis)) if own]
    every = 1 if axis.even else -(-len(named) // MOST_TICKS)
    if axis.log and not axis.even and every > 1:
        return
    labels = [_tick_labels(axis)[place] for place in named[::every]]
    handle.set_major_locator(FixedLocator([middles[place] for place in named[::every]]))
    handle.set_major_formatter(FixedFormatter(labels))
    handle.set_minor_locator(NullLocator())
    if (sum(map(len, labels)) + len(labels)) * CHARACTER > room:
        for label in handle.get_ticklabels():
            label.set(rotation=35, horizontalalignment="right", rotation_mode="anchor")


def _tick_labels(axis: Axis) -> list[str]:
    """Return the values with three digits, or with all of them where that confuses two."""
    full = [axis.label(value) for value in axis.values]
    if not axis.categorical:
        short = [f"{value:{'g' if axis.even else '.3g'}}" for value in axis.values]
        if (axis.log or axis.even) and any(
            "e" in label for label in short
        ):  # then all of them, to compare
            short = [_power(value) for value in axis.values]
        full = short if len(set(short)) == len(short) else full
    return [_plain_exponent(label) for label in full]


def _power(value: float) -> str:
    """Return `value` in powers of ten with three digits: 0.000316 as 3.16e-04."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{exponent}"


def _plain_exponent(label: str) -> str:
    """Return 1e-05 as 1e-5, and everything else as it is."""
    head, sign, exponent = label.partition("e")
    if not sign or not exponent.lstrip("+-").isdigit():
        return label
    return f"{head}e{int(exponent)}"


def _colour_bar(figure: SubFigure, axes: list[Axes], diagram: PhaseDiagram, paint: Paint) -> None:
    bar = figure.colorbar(
        ScalarMappable(paint.norm, paint.cmap), ax=axes, shrink=0.9, pad=0.02, aspect=28
    )
    bar.outline.set_visible(False)
    bar.set_label(LABELS.get(diagram.value, diagram.value))
    norm = paint.norm
    if isinstance(norm, LogNorm) and norm.vmin and norm.vmax and norm.vmax < 30 * norm.vmin:
        bar.locator = LogLocator(subs=(1.0, 2.0, 5.0))
        bar.formatter = StrMethodFormatter("{x:g}")
        bar.minorlocator = NullLocator()
        bar.update_ticks()
