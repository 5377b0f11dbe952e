"""The examination of one sweep: every check of its records, its files and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.config.messages import counted
from sweeper.doctor import contents, links, litter, reading
from sweeper.doctor.curves import Curves
from sweeper.doctor.findings import Finding
from sweeper.doctor.litter import Litter
from sweeper.doctor.reading import Reading
from sweeper.errors import StoreError
from sweeper.store.files import Files

ORDER = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Examination:
    """The result of an examination.

    Attributes:
        name: The sweep.
        findings: What is wrong, the worst first.
        records: Number of its records.
        files: Number of files that were proven.
        rows: Number of rows of metrics that count.
        trials: Number of trials with such rows.
        reading: How the records were read.
        litter: Files that are of no use.
    """

    name: str
    findings: Sequence[Finding]
    records: int = 0
    files: int = 0
    rows: int = 0
    trials: int = 0
    reading: Reading | None = None
    litter: Litter | None = None

    @property
    def void(self) -> frozenset[str]:
        """The packs to void."""
        return frozenset().union(*(finding.packs for finding in self.findings))

    @property
    def is_well(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.is_well for finding in self.findings)

    @property
    def line(self) -> str:
        """The result in one line."""
        worst = [f for f in self.findings if f.severity != "note"]
        proven = (
            f"{counted(self.records, 'record')}, {counted(self.files, 'file')}, "
            f"{counted(self.rows, 'row')} of {counted(self.trials, 'trial')}"
        )
        if not worst:
            return f"{self.name}: well: {proven}"
        counts = [(n, s) for s in ORDER[:2] if (n := sum(f.severity == s for f in worst))]
        return f"{self.name}: {', '.join(counted(n, s) for n, s in counts)} in {proven}"

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON, without the findings."""
        return {
            "event": "sweep",
            "name": self.name,
            "well": self.is_well,
            "records": self.records,
            "files": self.files,
            "rows": self.rows,
            "trials": self.trials,
        }


def examine(files: Files, name: str) -> Examination:
    """Examine the sweep in the folder `files`; change nothing.

    Raises:
        StoreError: The storage can't be read.
    """
    try:
        read = reading.read(files)
    except StoreError as error:
        finding = Finding("error", "sweep.json", *_apart(str(error)))
        return Examination(name, [finding])
    ledger = read.ledger
    found = contents.listed(ledger)
    curves = Curves(ledger, found)
    contents.check(ledger, found, curves.take)
    rubbish = litter.sweep(ledger, spare=bool(read.lost or read.replaced))
    findings = [
        *read.findings,
        *links.check(ledger),
        *found.findings,
        *curves.findings(),
        *litter.findings(ledger, rubbish),
    ]
    return Examination(
        name,
        sorted(findings, key=lambda finding: ORDER.index(finding.severity)),
        ledger.records,
        found.files,
        curves.rows,
        curves.trials,
        read,
        rubbish,
    )


def _apart(message: str) -> tuple[str, str]:
    """Return the place that an error names, and the rest of it."""
    place, _, rest = message.partition(": ")
    return place, rest
