"""The mistakes found in a grid file so far, and the paths that they leave unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.config.diagnostic import Diagnostic, KeyPath, Kind, Place
from sweeper.config.fields import Config, Scalar, known_paths
from sweeper.grid.document import Document
from sweeper.grid.gridfile import GridFile
from sweeper.grid.search_section import Search
from sweeper.grid.shape import axis_of


@dataclass(frozen=True, slots=True)
class Origin:
    """The places of the values of a subgrid in the file.

    Attributes:
        block: The place of its block.
        constants: Path to place of each value that the file gives; of an axis, its first value.
        axes: Path to the raw values of an axis and their places.
    """

    block: Place
    constants: Mapping[str, Place]
    axes: Mapping[str, Sequence[tuple[Any, Place]]]

    def place(self, path: str, value: Scalar) -> Place | None:
        """Return the place where `path` has `value`; None where the file doesn't give it."""
        places = (place for raw, place in self.axes.get(path, ()) if raw == value)
        return next(places, None) or self.constants.get(path)


@dataclass(slots=True)
class Diagnostics:
    """Collects the mistakes in a file while it is compiled.

    Attributes:
        document: The places of the file's values.
        file: The file without the nodes whose shape was refused.
        config: The config of its trainable.
        every: The mistakes, each once.
        refused: The nodes whose shape was refused.
        unreadable: Paths and parts that the file sets to an unusable value. Nothing that follows
            from their absence is reported.
        incomplete: Whether a refused node could have set any path.
        known: Every path that the file may set.
        unread: Paths of `search.space` whose distribution was refused.
        searched: Paths of `search.space`, with or without a usable distribution.
        blocks: The node of each block.
    """

    document: Document
    file: GridFile
    config: type[Config]
    every: list[Diagnostic] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    incomplete: bool = False
    known: frozenset[str] = field(init=False)
    unread: frozenset[str] = field(init=False)
    searched: frozenset[str] = field(init=False)
    blocks: list[KeyPath] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the consequences of the refused nodes, and the tables that all checks use."""
        self.known = frozenset(known_paths(self.config))
        self.refused |= {diagnostic.node for diagnostic in self.every}
        for node in self.refused:
            axis = axis_of(node)
            if axis is not None:
                self.unreadable.add(str(axis[-1]))
            elif node[:1] in (("grid",), ("fixed",)):
                self.incomplete = True
                self.unreadable |= set(self.config.parts)
        space = self.file.search.space if self.file.search is not None else {}
        distributions = (n for n in self.refused if n[:2] == ("search", "space") and len(n) > 2)
        self.unread = frozenset(str(node[2]) for node in distributions)
        self.searched = self.unread | space.keys()
        listed = isinstance(self.file.grid, list)
        self.blocks = [("grid", i) if listed else ("grid",) for i in range(len(self.file.blocks))]

    def add(self, diagnostic: Diagnostic) -> None:
        """Add a mistake, unless the same text is there already at the same place."""
        _add_once(self.every, diagnostic)

    def report(
        self,
        kind: Kind,
        place: Place,
        path: str,
        text: str,
        remedy: str = "",
        *,
        value: object = None,
    ) -> None:
        """Add the mistake that these attributes make up."""
        self.add(Diagnostic(kind, path, text, remedy, value, place))

    def has(self, kind: Kind, path: str) -> bool:
        """Return whether there is a mistake of `kind` about `path`."""
        return any(d.kind is kind and d.path == path for d in self.every)

    def axis(self, path: str) -> Place:
        """Return the place of the axis `path` of the grid."""
        keys = self.document.keys.items()
        places = (place for key, place in keys if key[:1] == ("grid",) and key[-1:] == (path,))
        return next(places, self.document.place("grid"))

    def nearest(self, path: str, otherwise: Place) -> Place:
        """Return the place nearest to a missing `path`: that of its part, else `otherwise`."""
        part = path.split(".")[0]
        if ("fixed", part) in self.document.keys:
            return self.document.place("fixed", part)
        for key, place in self.document.keys.items():  # a field or an axis of the same part
            if str(key[-1]).startswith(f"{part}."):
                return place
        in_file = "fixed" in self.document.value
        return self.document.place("fixed", key=True) if in_file else otherwise

    def overridden(self, path: str) -> bool:
        """Return whether the command line sets `path`."""
        return any(
            place.override and path in (key[-1], ".".join(map(str, key[1:])))
            for key, place in self.document.places.items()
            if key
        )


@dataclass(slots=True)
class SearchDiagnostics:
    """Collects the mistakes in the section `search`, apart from those of the grid.

    Attributes:
        grid: The mistakes in the rest of the file.
        search: The section.
        fixed: Values under `fixed` by dotted path.
        places: The place of each of them.
        every: The mistakes in the section, each once.
        overridden: Paths that the command line fixes, which takes them out of the space.
    """

    grid: Diagnostics
    search: Search
    fixed: Mapping[str, Any]
    places: Mapping[str, Place]
    every: list[Diagnostic] = field(default_factory=list)
    overridden: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the paths that the command line fixes."""
        self.overridden = frozenset(p for p, place in self.places.items() if place.override)

    @property
    def clean(self) -> bool:
        """Whether the file has no mistake so far."""
        return not (self.every or self.grid.every)

    def add(self, diagnostic: Diagnostic) -> None:
        """Add a mistake, unless the same text is there already at the same place."""
        _add_once(self.every, diagnostic)

    def report(
        self,
        kind: Kind,
        text: str,
        remedy: str,
        *node: str | int,
        key: bool = False,
        value: object = None,
    ) -> None:
        """Add a mistake of the `node` within the section, placed at its value or its key."""
        path = ".".join(map(str, ("search", *node)))
        place = self.grid.document.place("search", *node, key=key)
        self.add(Diagnostic(kind, path, text, remedy, value, place))


def _add_once(every: list[Diagnostic], diagnostic: Diagnostic) -> None:
    same = (diagnostic.place, diagnostic.message)
    if same not in ((d.place, d.message) for d in every):
        every.append(diagnostic)
