"""A finding of the doctor: one line that says what is wrong, where, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.errors import redact

Severity = Literal["error", "warning", "note"]

MOST_NAMED = 3
"""The most trials or files that one finding names."""

REPAIR = "Run `sweeper doctor NAME --repair`, then launch again."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that isn't as it should be.

    Attributes:
        severity: error: results are wrong, lost or can't be continued. warning: unsafe, slow, or
            lost and trained again by the next launch. note: harmless.
        check: The check that found it, e.g. ``root log``.
        place: A path, a pack, or a part of the machine.
        message: What is wrong; a sentence.
        remedy: What to do; empty if nothing has to be done.
        packs: The packs that ``--repair`` voids because of it.
    """

    severity: Severity
    check: str
    place: str
    message: str
    remedy: str = ""
    packs: frozenset[str] = frozenset()

    @property
    def is_well(self) -> bool:
        """Whether it is less than an error."""
        return self.severity != "error"

    @property
    def line(self) -> str:
        """The finding in one line."""
        text = f"{self.severity}: {self.place}: {self.message} {self.remedy}".strip()
        return redact(" ".join(text.split()))

    def as_dict(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return {
            "event": "finding",
            "severity": self.severity,
            "check": self.check,
            "place": redact(self.place),
            "message": redact(self.message),
            "remedy": self.remedy,
            "packs": sorted(self.packs),
        }


def some(names: Iterable[object]) -> str:
    """Return the first few of `names`, and how many more there are."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more
