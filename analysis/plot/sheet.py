"""The sheet that every figure is drawn on: a title above, its provenance below and inside."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure, SubFigure

from sweeper.analysis.diagrams.export import writing
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.errors import UsageError

SUFFIXES = (".png", ".svg")

INK = "#303030"
FAINT = "#767676"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.7,
    "svg.hashsalt": "sweeper",
    "svg.fonttype": "none",
    "axes.unicode_minus": False,
}


def check_suffix(path: Path) -> None:
    """Check that `path` names a figure.

    Raises:
        UsageError: By its suffix it doesn't.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: a figure is written as {' or '.join(SUFFIXES)}.")


def write_image(path: Path, image: bytes) -> None:
    """Write the content of a figure's file.

    Raises:
        UsageError: It can't be written.
    """
    with writing(path) as file:
        file.write(image)


class Sheet:
    """A figure with a title above and its provenance below.

    Attributes:
        body: Where to draw.
    """

    def __init__(self, width: float, height: float, provenance: Provenance, what: str) -> None:
        """Make a sheet whose body has that size in inches."""
        self.provenance = provenance
        self.title = f"{provenance.sweep}: {what}"
        head = 0.42 + 0.15 * (provenance.criterion.count("\n") + 1)
        foot = 0.22
        self.figure = Figure(figsize=(width, head + height + foot), layout="constrained")
        bands: Any = self.figure.subfigures(3, 1, height_ratios=[head, height, foot])
        top, bottom = bands[0], bands[2]
        self.body: SubFigure = bands[1]
        left = 0.1 / width
        top.text(left, 1 - 0.1 / head, self.title, va="top", fontsize=12, fontweight="bold")
        top.text(left, 1 - 0.36 / head, provenance.criterion, va="top", fontsize=8, color=FAINT)
        bottom.text(left, 0.3, provenance.footer, va="bottom", fontsize=6.5, color=FAINT)

    def save(self, path: Path, handles: list[Any]) -> None:
        """Add the legend and write the file with its provenance inside.

        Raises:
            UsageError: It can't be written.
        """
        write_image(path, self.image(path.suffix, handles))

    def image(self, suffix: str, handles: list[Any]) -> bytes:
        """Add the legend and return the content of a file with that suffix."""
        if handles:
            self._legend(handles)
        footer, criterion = self.provenance.footer, self.provenance.criterion
        about: dict[str, str | None] = {
            "Title": self.title,
            "Source": footer,
            "Description": f"{criterion}\n{footer}",
        }
        drawn = BytesIO()
        if suffix == ".svg":
            about |= {"Creator": "sweeper", "Date": None}
            self.figure.savefig(drawn, format="svg", metadata=about)
            return _with_clips_numbered(drawn.getvalue())
        about |= {"Software": None}
        self.figure.savefig(drawn, format="png", dpi=160, metadata=about)
        return drawn.getvalue()

    def _legend(self, handles: list[Any]) -> None:
        sizes = [len(handle.get_label()) + 6 for handle in handles]
        room = int(self.figure.get_figwidth() * 15)  # characters
        columns = len(handles) if sum(sizes) <= room else max(1, room // max(sizes))
        self.body.legend(
            handles=handles,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=8,
            handlelength=1.4,
        )


def _with_clips_numbered(svg: bytes) -> bytes:
    """Return `svg` with its clips named by numbers.

    Matplotlib names a clip by a hash of its place, of which the last digits differ from one
    drawing to the next.
    """
    for number, name in enumerate(re.findall(rb'<clipPath id="([^"]+)"', svg)):
        svg = svg.replace(name, b"clip%d" % number)
    return svg
