"""A claim of the papers, and the conditions under which it counts as measured.

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
    """The outcome of a claim. The first three are findings: every check is met.

    A refuted claim has the statement that holds instead, and one that depends on something has its
    range; both are checked. `IN_PART` is a claim that is undecided, since some checks are met.
    """

    CONFIRMED = "confirmed"
    REFUTED = "refuted as stated"
    DEPENDS = "depends"
    IN_PART = "in part"
    NOT_REPRODUCED = "not reproduced"

    def reaches(self, other: Verdict) -> bool:
        """Return whether this verdict is `other`, or decides more; no finding reaches another."""
        ranks = {Verdict.NOT_REPRODUCED: 0, Verdict.IN_PART: 1}
        return self is other or ranks.get(self, 2) > ranks.get(other, 2)


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
    """The result of measuring a claim.

    Attributes:
        text: The measured values in words, e.g. ``slope -0.998 (-1.000 to -0.997)``.
        checks: The statements that were checked, and whether each is true. The first one is the
            most important. Of a claim that is refuted or depends on something they are the
            statements that hold instead.
        values: Name to a measured number with its interval, for ``--json``.
        note: Additional information for the reader, e.g. why a check fails.
        finding: The verdict where every check is met.
    """

    text: str
    checks: Mapping[str, bool]
    values: Mapping[str, Estimate] = field(default_factory=dict)
    note: str = ""
    finding: Verdict = Verdict.CONFIRMED

    @property
    def verdict(self) -> Verdict:
        """The finding if every check is met, in part if the first one is at least, else not."""
        met = list(self.checks.values())
        if not met or not met[0]:
            return Verdict.NOT_REPRODUCED
        return self.finding if all(met) else Verdict.IN_PART

    @property
    def missed(self) -> list[str]:
        """The checks that are not met."""
        return [text for text, met in self.checks.items() if not met]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of a paper, as it is tested.

    Attributes:
        id: Its unique name, e.g. ``l1-delay``: on the command line, in the page, in ``--json``.
        number: The number of the paper's statement in the list of the papers' claims. Several
            claims may test parts of one statement, so it identifies none of them.
        title: A few words.
        claim: The paper's statement in one sentence, with the claimed value and the tolerance.
        source: Paper, and equation or figure.
        settings: The differences from the paper's settings; empty if there are none.
        grids: The grids that it launches; other claims may read the same grids.
        measure: Returns the measurement of the rows. Raises
            `sweeper.analysis.laws.evidence.UnmeasuredError` where trials did not get to what is
            measured; the claim is then not reproduced.
        picture: The figure that shows it.
        quick: Whether ``verify --quick`` includes it.
        expected: The verdict that the shipped grids give; one that does not reach it is a failure.
        depends_on: The quantity that the claimed values depend on; of `Verdict.DEPENDS` alone.
        instead: The statement that holds in place of a refuted claim, or the range of one that
            depends on something, with the derivation in a line.
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
    expected: Verdict = Verdict.CONFIRMED
    depends_on: str = ""
    instead: str = ""

    def outcome(self, verdict: Verdict) -> str:
        """Return `verdict` in words, e.g. ``depends on the seed``."""
        return f"depends on {self.depends_on}" if verdict is Verdict.DEPENDS else str(verdict)

    def __post_init__(self) -> None:
        """Check the properties that the command line relies on."""
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ValueError(f"id {self.id!r} must be of lower-case words with - between them")
        if not self.grids:
            raise ValueError(f"{self.id}: no grids")
        if bool(self.depends_on) != (self.expected is Verdict.DEPENDS):
            raise ValueError(f"{self.id}: depends_on goes with Verdict.DEPENDS, and with no other")
        if bool(self.instead) != (self.expected in (Verdict.REFUTED, Verdict.DEPENDS)):
            raise ValueError(f"{self.id}: instead goes with REFUTED and DEPENDS, and with no other")
