"""A phase diagram in the terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from sweeper.analysis.diagrams.phase import DiagramCell, PhaseDiagram

STYLES = {
    "comprehension": "green",
    "grokking": "yellow",
    "memorization": "blue",
    "confusion": "dim",
    "generalized_only": "magenta",
    "diverged": "red",
    "split": "cyan",
}

LEGEND = "> n: censored, more than n · -: nothing yet"


def phase_table(diagram: PhaseDiagram) -> Table:
    """Return `diagram` as a table: x to the right, y upwards, facets below each other."""
    caption = f"{LEGEND}\n{diagram.intervals}" if diagram.intervals else LEGEND
    table = Table(title=escape(f"{diagram.value} over {diagram.x.name}"), caption=caption, box=None)
    if diagram.facet:
        table.add_column(diagram.facet.name)
    table.add_column(diagram.y.name, justify="right", style="bold")
    for value in diagram.x.values:
        table.add_column(escape(diagram.x.label(value)), justify="right")
    for facet in diagram.facets:
        panel = diagram.panel(facet)
        head = [escape(diagram.facet.label(facet))] if diagram.facet else []
        for iy in reversed(range(len(diagram.y.values))):
            cells = [_text(panel.get((ix, iy))) for ix in range(len(diagram.x.values))]
            table.add_row(*head, escape(diagram.y.label(diagram.y.values[iy])), *cells)
            head = [""] * len(head)
        table.add_section()
    return table


def _text(cell: DiagramCell | None) -> str:
    if cell is None or (cell.value is None and cell.phase is None):
        return "[dim]-[/]"
    style = STYLES.get(cell.phase or "", "default")
    text = _number(cell.value) if cell.value is not None else str(cell.phase)
    if text == "split" and cell.agreement is not None:
        text = f"split {cell.agreement:.0%}"
    return f"[{style}]{'> ' if cell.censored else ''}{escape(text)}[/]"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
