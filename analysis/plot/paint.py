"""The colours of a phase diagram and the entries of its legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sweeper.analysis.diagrams.phase import DiagramCell, PhaseDiagram
from sweeper.criterion import Phase

PHASES = {
    Phase.COMPREHENSION: "#4c9f70",
    Phase.GROKKING: "#f2b447",
    Phase.MEMORIZATION: "#4a6fa5",
    Phase.CONFUSION: "#d9cdb8",
    Phase.GENERALIZED_ONLY: "#e29ac0",
    Phase.DIVERGED: "#b5383f",
    Phase.SPLIT: "#8f7fb8",
}
"""Colour of every phase."""

LABELS: dict[str, str] = {Phase.SPLIT: "split (no phase has most seeds)"}
"""What the legend says of a phase that its name doesn't explain."""

MARK = "#a0a0a0"
"""Colour of the marks of missing cells."""

PALE = 0.4
"""Share of white in the colour of a place that takes after the nearest cell."""


LARGEST = 1e100
"""Numbers beyond this one, and what isn't a number, get a sign of their own and no colour of the
scale: a diverged loss of 1e306 would make all others look alike, and its ticks overflow."""

BEYOND = {
    f"above {LARGEST:.0e}".replace("+", ""): "#5c1a1b",
    f"below -{LARGEST:.0e}".replace("+", ""): "#1b2a5c",
    "not a number": "#000000",
}
"""Colour of every such sign."""


class Paint:
    """The colours of one diagram, and which signs its legend has to explain."""

    def __init__(self, diagram: PhaseDiagram) -> None:
        self.diagram = diagram
        self.cmap: Colormap = mpl.colormaps["viridis"]
        self.norm: Normalize | None = None
        self.seen: dict[str, str] = {}
        self.censored = False
        self.missing = False
        self.tint: Any = None
        shown = [c.value for c in diagram.cells if c.value is not None and self._sign(c) is None]
        if not shown:
            pass  # nothing to scale: a colour bar would make up its ends
        elif diagram.kind == "steps":
            self._scale(_log_norm([max(1, v) for v in shown]), shown)
        elif diagram.kind == "number":
            self._scale(_number_norm([float(v) for v in shown]), shown)
        elif diagram.kind == "category":
            names = sorted({str(v) for v in shown})
            tab = mpl.colormaps["tab20"]
            self.names = {name: mpl.colors.to_hex(tab(k % 20)) for k, name in enumerate(names)}

    def _scale(self, norm: Normalize, shown: Sequence[Any]) -> None:
        """Take the colours of the values `shown` from `norm`."""
        self.norm = norm
        least = 1 if self.diagram.kind == "steps" else -np.inf
        distinct = dict.fromkeys(shown)
        values = np.maximum(least, np.array([float(v) for v in distinct]))
        self._scaled = dict(
            zip(distinct, map(tuple, self.cmap(norm(values)).tolist()), strict=True)
        )

    def _flat(self, cell: DiagramCell) -> Phase | None:
        """Return the phase that is shown instead of a value, if any."""
        if self.diagram.kind == "phase" or cell.phase is None:
            return None
        phase = Phase(cell.phase)
        if self.diagram.value == "delay":
            apart = (Phase.CONFUSION, Phase.GENERALIZED_ONLY, Phase.DIVERGED)
            lost = phase is Phase.SPLIT and cell.value is None  # half of the seeds have no delay
            return phase if phase in apart or lost else None
        if self.diagram.kind == "steps":
            return phase if phase is Phase.DIVERGED else None
        return None

    def _sign(self, cell: DiagramCell) -> tuple[str, str] | None:
        """Return name and colour of what is shown instead of a value, if anything is."""
        flat = self._flat(cell)
        if flat is None and self.diagram.kind == "number" and cell.value is not None:
            value = float(cell.value)
            if not abs(value) <= LARGEST:  # nor is NaN
                if cell.phase == Phase.DIVERGED:
                    flat = Phase.DIVERGED
                else:
                    above, below, neither = BEYOND.items()
                    return above if value > 0 else below if value < 0 else neither
        return None if flat is None else (flat.replace("_", " "), PHASES[flat])

    def colour(self, cell: DiagramCell | None) -> Any:
        """Return the colour of `cell`; None where it is missing."""
        if cell is not None and (sign := self._sign(cell)) is not None:
            return self._note(*sign)
        if cell is None or cell.value is None:
            self.missing = True
            return None
        if self.diagram.kind == "phase":
            phase = Phase(cell.value)
            return self._note(phase.replace("_", " "), PHASES[phase])
        if self.norm is None:
            return self._note(str(cell.value), self.names[str(cell.value)])
        self.censored = self.censored or cell.censored
        return self._scaled[cell.value]

    def pale(self, cell: DiagramCell | None) -> Any:
        """Return the colour of a place that takes after `cell`; None where that is missing."""
        colour = self.colour(cell)
        if colour is None:
            return None
        self.tint = tuple(PALE + (1 - PALE) * np.array(mpl.colors.to_rgb(colour)))
        return self.tint

    def hatched(self, cell: DiagramCell) -> bool:
        """Return whether the colour of `cell` is that of a lower bound."""
        return cell.censored and self._flat(cell) is None

    def _note(self, name: str, colour: str) -> str:
        self.seen[name] = colour
        return colour

    def handles(self) -> list[Any]:
        """Return the legend's entries: the marks that were drawn besides the colour scale."""
        order = [phase.replace("_", " ") for phase in Phase]
        names = sorted(self.seen, key=lambda n: (order.index(n) if n in order else -1, n))
        found: list[Any] = [Patch(facecolor=self.seen[n], label=LABELS.get(n, n)) for n in names]
        if self.censored:
            found.append(
                Patch(
                    facecolor=self.cmap(0.85),
                    edgecolor="#4a4a4a",
                    hatch="////",
                    linewidth=0,
                    label="censored (a lower bound)",
                )
            )
        if self.tint is not None:
            label = "paler: the nearest cell that was trained"
            found.append(Patch(facecolor=self.tint, label=label))
        if self.missing:
            found.append(
                Line2D(
                    [],
                    [],
                    linestyle="",
                    marker="x",
                    color=MARK,
                    markersize=6,
                    markeredgewidth=1.1,
                    label="no result",
                )
            )
        return found


def _log_norm(values: Sequence[float]) -> Normalize:
    low, high = min(values), max(values)
    if high < 2 * low:
        middle = (low * high) ** 0.5
        low, high = middle / 2, middle * 2
    return LogNorm(low, high)


def _number_norm(values: Sequence[float]) -> Normalize:
    low, high = min(values), max(values)
    if low > 0 and high >= 100 * low:
        return LogNorm(low, high)
    return Normalize(low, high) if high > low else Normalize(low - 0.5, high + 0.5)
