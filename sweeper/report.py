"""The mistakes found in a grid file so far, and what they make unknowable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sweeper.config import Config
from sweeper.document import Document, Path_
from sweeper.gridfile import GridFile, Refusal


@dataclass(slots=True)
class Report:
    """Collects (place, message) pairs while a file is compiled.

    Attributes:
        document: Where the file's values stand.
        file: The file without what was refused.
        config: The config of its trainable.
        problems: The mistakes.
        hidden: Paths and parts that the file sets to something unusable: their absence is no
            mistake of its own.
        blind: Something was refused that could have set any path.
        refused: Nodes of the file that were refused.
        slab_places: For each slab the place of each path; "" is that of its block.
    """

    document: Document
    file: GridFile
    config: type[Config]
    problems: list[tuple[str, str]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    blind: bool = False
    refused: set[Path_] = field(default_factory=set)
    slab_places: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        document: Document,
        file: GridFile,
        config: type[Config],
        refusals: Sequence[Refusal],
    ) -> Report:
        """Return the report that begins with `refusals`."""
        report = cls(document, file, config, [(r.place, r.message) for r in refusals])
        report.refused = {r.path for r in refusals}
        for path in report.refused:
            axis = _axis(path)
            if axis is not None:
                report.hide(axis)
            elif path[:1] in (("grid",), ("fixed",)):
                report.blind = True
                report.hidden |= set(config.parts)
        return report

    def add(self, place: str, message: str) -> None:
        """Add a mistake, once."""
        if (place, message) not in self.problems:
            self.problems.append((place, message))

    def hide(self, path: str) -> None:
        """Note that `path`, or a whole part, has a value that couldn't be read."""
        self.hidden.add(path)

    def base(self, index: int) -> Path_:
        """Return the path of block `index`."""
        return ("grid", index) if isinstance(self.file.grid, list) else ("grid",)

    def near(self, path: str, where: str) -> str:
        """Return the place that is nearest to a missing `path`: its part, or else `where`."""
        part = path.split(".")[0]
        if ("fixed", part) in self.document.keys:
            return self.document.place("fixed", part)
        for key, place in self.document.keys.items():  # a field or an axis of the same part
            if str(key[-1]).startswith(f"{part}."):
                return place
        return self.document.place("fixed", key=True) if "fixed" in self.document.value else where

    def is_override(self, place: str) -> bool:
        """Return whether `place` is an override rather than a place in the file."""
        return place.startswith("override ")

    def overridden(self, path: str) -> bool:
        """Return whether the command line sets `path`."""
        return any(
            self.is_override(place) and path in (key[-1], ".".join(map(str, key[1:])))
            for key, place in self.document.places.items()
            if key
        )


def _axis(path: Path_) -> str | None:
    """Return the axis that the node at `path` belongs to."""
    if path[:1] != ("grid",):
        return None
    for depth, key in enumerate(path):
        if key == "product" and len(path) > depth + 1:
            return str(path[depth + 1])
        if key == "zip" and len(path) > depth + 2:
            return str(path[depth + 2])
    return None
