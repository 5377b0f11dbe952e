"""A figure as an object: a notebook shows it, and `save` writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot import check_suffix, write_image

TABLES = (".csv", ".parquet")

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Figure(Generic[T]):
    """A figure. A notebook shows it as the last value of a cell.

    Attributes:
        data: What it shows: `sweeper.analysis.diagrams.phase.PhaseDiagram`, whose method `table`
            returns one row per cell, or `sweeper.analysis.diagrams.curves.Curves`.
        provenance: Sweep, criterion, commit, number of trials and ledger record that it was drawn
            from; the figure's footer and its files have them, too.
    """

    data: T
    provenance: Provenance
    draw: Callable[[str], bytes]
    export: Callable[[Path], None] | None = None

    def save(self, path: str | Path) -> Path:
        """Write the figure to `path` and return it.

        Args:
            path: File: .png or .svg by its suffix; of a phase diagram also .csv or .parquet, which
                hold its numbers.

        Raises:
            UsageError: Another suffix, or the file can't be written.
        """
        path = Path(path)
        if self.export is not None and path.suffix in TABLES:
            self.export(path)
        else:
            check_suffix(path)
            write_image(path, self.draw(path.suffix))
        return path

    def _repr_png_(self) -> bytes:
        return self.draw(".png")

    def _repr_svg_(self) -> str:
        return self.draw(".svg").decode()

    def __repr__(self) -> str:
        return f"<figure of {self.provenance.footer}>"
