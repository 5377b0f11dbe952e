"""A claim of the papers, and what it means to have measured it.

Each module beside this one has a tuple `LAWS` of claims. A claim names the grids that test it,
reads their rows through the ordinary views (`sweeper.analysis.laws.evidence`), and says what came
out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sweeper.analysis.diagrams.picture import Picture
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.evidence import Evidence

GRIDS = Path(__file__).parent / "grids"
"""Where the grid files of the laws are."""


class Verdict(StrEnum):
    """What became of a claim, the better ones first."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    NOT_REPRODUCED = "not reproduced"

    def reaches(self, other: Verdict) -> bool:
        """Return whether this verdict is at least as good as `other`."""
        order = list(Verdict)
        return order.index(self) <= order.index(other)


@dataclass(frozen=True, slots=True)
class LawGrid:
    """A grid file of `GRIDS`, which one or more laws read.

    Attributes:
        name: Stem of the file and name of the sweep.
        cut: Overrides that make it small enough for ``verify --quick``, e.g. ``seeds=2``.
    """

    name: str
    cut: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The grid file."""
        return GRIDS / f"{self.name}.yaml"


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out of a claim.

    Attributes:
        text: The measured values in words, e.g. ``slope -0.998 (-1.000 to -0.997)``.
        checks: What was asked for, in words, and whether it is so. The first one is the claim
            itself, the others go with it.
        values: Name to a measured number with its interval, for ``--json``.
        note: What a reader has to know beside the number, e.g. why a check fails.
    """

    text: str
    checks: Mapping[str, bool]
    values: Mapping[str, Estimate] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Holds if every check is met, in part if the first one is at least, else not."""
        met = list(self.checks.values())
        if not met or not met[0]:
            return Verdict.NOT_REPRODUCED
        return Verdict.HOLDS if all(met) else Verdict.IN_PART

    @property
    def missed(self) -> list[str]:
        """The checks that aren't met."""
        return [words for words, met in self.checks.items() if not met]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of a paper, as it is tested.

    Attributes:
        id: Its name on the command line, e.g. ``l1-delay``.
        number: Its number in our list of the papers' claims; claims may share one.
        title: A few words.
        claim: One sentence with the claimed value and the tolerance of the check.
        source: Paper, and equation or figure.
        settings: In what the settings differ from the paper's; empty if in nothing.
        grids: What is launched for it; other claims may read the same grids.
        measure: From the rows to what came out. What can't be measured, because trials didn't
            get there, is an `sweeper.analysis.laws.evidence.UnmeasuredError` and so not reproduced.
        picture: The figure that shows it.
        quick: Whether ``verify --quick`` includes it.
        expected: The verdict that we got; a worse one is a failure.
    """

    id: str
    number: int
    title: str
    claim: str
    source: str
    settings: str = ""
    grids: tuple[LawGrid, ...]
    measure: Callable[[Evidence], Measured]
    picture: Callable[[Evidence], Picture]
    quick: bool = False
    expected: Verdict = Verdict.HOLDS

    def __post_init__(self) -> None:
        """Check what the command line relies on."""
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ValueError(f"id {self.id!r} must be of lower-case words with - between them")
        if not self.grids:
            raise ValueError(f"{self.id}: no grids")
