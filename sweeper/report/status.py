"""The status of a sweep: how many trials have ended, how fast, and how trials failed.

It is read from views on a snapshot of the ledger. It is therefore consistent, also while the sweep
runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeper.analysis.diagrams.provenance import shown_trials
from sweeper.analysis.views.views import open_views
from sweeper.config.messages import STORE, counted, duration, store_option
from sweeper.errors import StoreError, SweeperError, UsageError, redact
from sweeper.sql import query
from sweeper.store.lease import is_fresh, open_sweep, read_lease
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.schema import ENDED
from sweeper.store.visible import hidden

MAX_FAILURES = 5
"""The most tracebacks that `status` shows, all different."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a sweep.

    Attributes:
        name: Name of the sweep.
        counts: Trial status to number of trials, for the latest grid.
        driver: The process that runs a launch, as "process 7 on host"; None if there is none.
        rate: Trials that ended per second since the latest launch began; None before the first
            one has ended, and without a driver.
        eta_s: Seconds until the remaining trials have ended at this rate; None without a rate.
        failures: (number of trials, id of one of them, traceback) for each different traceback.
        steps: The horizon in optimizer steps.
        launched_at: Unix time at which the latest launch began.
        hidden: Number of stored trials that the latest grid lacks, so that views don't show them.
    """

    name: str
    counts: dict[str, int]
    driver: str | None
    rate: float | None
    eta_s: float | None
    failures: list[tuple[int, str, str]]
    steps: int
    launched_at: float
    hidden: int = 0

    @property
    def trials(self) -> int:
        """Number of all trials."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """Number of trials that have ended, in whatever way."""
        return sum(self.counts.get(status, 0) for status in ENDED)

    @property
    def settled(self) -> bool:
        """Whether nothing will change: all trials have ended, or no driver is running."""
        return self.driver is None or self.ended == self.trials

    @property
    def damaged(self) -> bool:
        """False: it could be read."""
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as values for JSON."""
        return {
            **asdict(self),
            "trials": self.trials,
            "ended": self.ended,
            "stored": self.trials + self.hidden,
        }


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sweep that has no status.

    Attributes:
        name: Name of its folder.
        reason: Why, on one line.
        damaged: Whether something is wrong with it; else nothing was launched yet.
    """

    name: str
    reason: str
    damaged: bool

    @property
    def settled(self) -> bool:
        """True: there is nothing to wait for."""
        return True

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as values for JSON."""
        return {"name": self.name, "error": self.reason, "damaged": self.damaged}


def statuses(where: str, names: Iterable[str]) -> list[Status | Unreadable]:
    """Return the status of each of the sweeps `names`, also where some can't be read."""
    return [_status_or_reason(where, name) for name in names]


def _status_or_reason(where: str, name: str) -> Status | Unreadable:
    try:
        return status(where, name)
    except SweeperError as error:
        first, *others = str(error).splitlines()
        more = f" (and {counted(len(others), 'more line')})" if others else ""
        return Unreadable(
            name, first.removeprefix(f"{name}: ") + more, damaged=isinstance(error, StoreError)
        )


def status(where: str, name: str) -> Status:
    """Return the status of the sweep `name` in the store `where`."""
    ledger = open_sweep(where, name)
    launch = _launch(ledger)
    with open_views(ledger) as views:
        rows = query(views, "select status, count(*) as n from trials group by status").to_pylist()
        failed = query(
            views,
            "select count(*) as n, min(trial_id) as trial_id, error from trials "
            f"where status = 'failed' group by error order by n desc, error limit {MAX_FAILURES}",
        ).to_pylist()
        ended = query(
            views,
            f"select count(*) as n from trials where status in {ENDED} "
            f"and epoch(started_at) + wall_s >= {launch['at']}",
        ).to_pylist()[0]["n"]
    counts = {row["status"]: row["n"] for row in rows}
    lease = read_lease(ledger.files)
    alive = is_fresh(lease)
    rate = ended / max(1e-9, time.time() - launch["at"]) if alive and ended else None
    left = sum(n for s, n in counts.items() if s not in ENDED)
    return Status(
        name=name,
        counts=counts,
        driver=f"process {lease['pid']} on {lease['host']}" if alive and lease else None,
        rate=rate,
        eta_s=left / rate if rate else None,
        failures=[(row["n"], row["trial_id"], row["error"] or "") for row in failed],
        steps=launch["steps"],
        launched_at=launch["at"],
        hidden=hidden(ledger),
    )


def _launch(ledger: Ledger) -> Record:
    launch = ledger.state.launch
    if launch is None:
        raise UsageError(f"{ledger.name}: nothing was launched yet.")
    return launch


def status_view(sweeps: Sequence[Status | Unreadable], store: str = STORE) -> Group:
    """Return a table of the sweeps for the terminal, with longer notes below it.

    These are the driver of each sweep with its rate, the number of hidden trials, the failures, and
    why a sweep can't be read. Commands that it names are for sweeps in `store`.
    """
    parts: list[Any] = [status_table(sweeps)]
    readable = [sweep for sweep in sweeps if isinstance(sweep, Status)]
    parts += [Text(line) for sweep in readable for line in _notes(sweep, store)]
    for sweep in readable:
        for n, trial_id, error in sweep.failures:
            more = f" and {counted(n - 1, 'other')}" if n > 1 else ""
            parts.append(Text(f"\n{sweep.name}: trial {trial_id}{more} failed", style="bold red"))
            parts.append(Text(error))
        if sweep.failures:
            parts.append(
                Text(f"fix the cause, then: sweeper retry {sweep.name}{store_option(store)}")
            )
    return Group(*parts, *reasons(sweeps))


def reasons(sweeps: Sequence[Status | Unreadable]) -> list[Text]:
    """Return one line for each sweep that can't be read: why."""
    return [
        Text(f"{one.name}: {redact(one.reason)}", style="bold red" if one.damaged else "")
        for one in sweeps
        if isinstance(one, Unreadable)
    ]


def _notes(sweep: Status, store: str) -> Iterator[str]:
    """Yield the lines about one sweep below the table."""
    if sweep.driver is not None:
        text = f"{sweep.name}: {sweep.driver} trains"
        if sweep.rate:
            text += f", {sweep.rate:.3g} trials per second"
        if sweep.eta_s is not None:
            text += f", {duration(sweep.eta_s)} left"
        yield text
    if sweep.hidden:
        shown = shown_trials(sweep.trials, sweep.hidden)
        yield (
            f"{sweep.name}: {shown}, since the latest grid lacks "
            f"{counted(sweep.hidden, 'trial')}. `sweeper sql {sweep.name} --all"
            f"{store_option(store)}` queries all."
        )


HEADINGS = {"censored": "horizon"}
"""Status to its heading, where they differ: trials of this status ended at the horizon, and some
of them may have generalized before."""

WIDTH = 80
"""Columns of a terminal that the table fits into, unless names are very long."""


def status_table(sweeps: Sequence[Status | Unreadable]) -> Table:
    """Return a table with one row per sweep: its trials by status; dashes if it can't be read.

    A status that no trial has takes no column.
    """
    readable = [sweep for sweep in sweeps if isinstance(sweep, Status)]
    statuses = [s for s in (*ENDED, "running", "pending") if any(x.counts.get(s) for x in readable)]
    headings = ["sweep", "trials", "ended", *(HEADINGS.get(s, s) for s in statuses)]
    rows = [[sweep.name, *_counts(sweep, statuses)] for sweep in sweeps]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for heading in headings:
        name = heading == "sweep"
        table.add_column(
            heading, justify="left" if name else "right", no_wrap=not name, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _counts(sweep: Status | Unreadable, statuses: Sequence[str]) -> list[str]:
    """Return the cells of a sweep's row, without its name."""
    if isinstance(sweep, Unreadable):
        return ["-"] * (2 + len(statuses))
    stored = f" of {sweep.trials + sweep.hidden}" if sweep.hidden else ""
    counts = [str(sweep.counts.get(status, 0)) for status in statuses]
    return [f"{sweep.trials}{stored}", str(sweep.ended), *counts]
