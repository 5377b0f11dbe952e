"""One mistake in a grid file as data: kind, place, value and remedy.

Code reads these attributes. The text is only for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

KeyPath = tuple[str | int, ...]
"""The way to a node of a file: keys and indices from the top."""


class Kind(StrEnum):
    """What is wrong."""

    UNKNOWN = "unknown"
    """A key, path, name or metric that doesn't exist."""
    MISSING = "missing"
    """A required value that nothing gives."""
    INVALID = "invalid"
    """A value of the wrong type, of the wrong shape, or out of range."""
    MISPLACED = "misplaced"
    """A value that belongs to another place in the file."""
    DUPLICATE = "duplicate"
    """A value that is given twice."""
    CONFLICT = "conflict"
    """Two settings that exclude each other."""
    CONSTRAINT = "constraint"
    """Values of several fields that break a constraint of the config."""
    INAPPLICABLE = "inapplicable"
    """A value that no cell uses."""
    LIMIT = "limit"
    """More cells, values or combinations than are allowed."""
    UNAVAILABLE = "unavailable"
    """Code that can't be imported, or that lacks a required attribute."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was given.

    Attributes:
        source: The file's name, or the text of an override.
        line: Line in the file, from 1; 0 where there is none.
        column: Column in the file, from 1; 0 where there is none.
        override: Whether the value was given on the command line.
    """

    source: str
    line: int = 0
    column: int = 0
    override: bool = False

    def __str__(self) -> str:
        """Return "file:line:column"."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


NOWHERE = Place("")
"""The place of a mistake that isn't located yet."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A mistake.

    Attributes:
        kind: What is wrong.
        path: Dotted path of the wrong field or key.
        text: The mistake in words, with the value.
        remedy: The correction in words. It may complete the sentence of `text`.
        value: The refused value; None if a value is missing.
        place: Place of the value.
        node: The node of the file, if its shape was refused.
    """

    kind: Kind
    path: str
    text: str
    remedy: str = ""
    value: object = None
    place: Place = NOWHERE
    node: KeyPath = ()

    @property
    def message(self) -> str:
        """The mistake and its correction, without the place."""
        return f"{self.text} {self.remedy}".strip()

    def at(self, place: Place) -> Diagnostic:
        """Return this mistake with its place."""
        return replace(self, place=place)

    def __str__(self) -> str:
        """Return the line that a person reads: place and message."""
        return f"{self.place}: {self.message}"


def lines(diagnostics: Iterable[Diagnostic]) -> list[str]:
    """Return one line per mistake, in the order of the file, each once.

    Mistakes of overrides, which have no line, come last and keep their order.
    """
    ordered = sorted(diagnostics, key=lambda d: (not d.place.line, d.place.line, d.place.column))
    return list(dict.fromkeys(map(str, ordered)))
