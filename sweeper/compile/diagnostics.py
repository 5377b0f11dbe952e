"""The mistakes found in a grid file so far, and what they make unknowable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.config.fields import Config, Scalar
from sweeper.grid.document import Document, Path_
from sweeper.grid.gridfile import GridFile, Refusal, axis_of


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values of a slab stand in the file.

    Attributes:
        block: The place of its block.
        constants: Path to place of what the file gives, on an axis the first value's.
        axes: Path to the raw values of an axis and their places.
    """

    block: str
    constants: Mapping[str, str]
    axes: Mapping[str, Sequence[tuple[Any, str]]]

    def place(self, path: str, value: Scalar) -> str | None:
        """Return where `path` has `value`; None where the file doesn't give it."""
        found = (place for raw, place in self.axes.get(path, ()) if raw == value)
        return next(found, None) or self.constants.get(path)


@dataclass(slots=True)
class Report:
    """Collects (place, message) pairs while a file is compiled.

    Attributes:
        document: Where the file's values stand.
        file: The file without what was refused.
        config: The config of its trainable.
        problems: The mistakes.
        told: How often one was added, again or not: a slab with a mistake is known by it.
        hidden: Paths and parts that the file sets to something unusable: their absence is no
            mistake of its own.
        blind: Something was refused that could have set any path.
        refused: Nodes of the file that were refused.
        origins: For each slab where its values stand.
    """

    document: Document
    file: GridFile
    config: type[Config]
    problems: list[tuple[str, str]] = field(default_factory=list)
    told: int = 0
    hidden: set[str] = field(default_factory=set)
    blind: bool = False
    refused: set[Path_] = field(default_factory=set)
    origins: list[Origin] = field(default_factory=list)

    @classmethod
    def of(
        cls, document: Document, file: GridFile, config: type[Config], refusals: Sequence[Refusal]
    ) -> Report:
        """Return the report that begins with `refusals`."""
        report = cls(document, file, config, [(r.place, r.message) for r in refusals])
        report.refused = {r.path for r in refusals}
        for path in report.refused:
            axis = axis_of(path)
            if axis is not None:
                report.hide(str(axis[-1]))
            elif path[:1] in (("grid",), ("fixed",)):
                report.blind = True
                report.hidden |= set(config.parts)
        return report

    def add(self, place: str, message: str) -> None:
        """Add a mistake, once."""
        self.told += 1
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
