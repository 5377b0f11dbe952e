"""The status of a sweep: how many trials have ended, how fast, and how trials failed.

It is read from views on a snapshot of the ledger. It is therefore consistent, also while the sweep
runs.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeper.analysis.views.views import open_views
from sweeper.errors import UsageError
from sweeper.sql import query
from sweeper.store.lease import is_fresh, open_sweep, read_lease
from sweeper.store.ledger import Ledger, Record
from sweeper.store.schema import ENDED

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
    """

    name: str
    counts: dict[str, int]
    driver: str | None
    rate: float | None
    eta_s: float | None
    failures: list[tuple[int, str, str]]
    steps: int
    launched_at: float

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

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as values for JSON."""
        return {**asdict(self), "trials": self.trials, "ended": self.ended}


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
    )


def _launch(ledger: Ledger) -> Record:
    launch = ledger.state.launch
    if launch is None:
        raise UsageError(f"{ledger.meta['name']}: nothing was launched yet.")
    return launch


def status_view(sweeps: list[Status]) -> Group:
    """Return a table of the sweeps, and below it their failures, for the terminal."""
    parts: list[Any] = [status_table(sweeps)]
    for sweep in sweeps:
        for n, trial_id, error in sweep.failures:
            more = f" and {n - 1} others" if n > 1 else ""
            parts.append(Text(f"\n{sweep.name}: trial {trial_id}{more} failed", style="bold red"))
            parts.append(Text(error))
        if sweep.failures:
            parts.append(Text(f"fix the cause, then: sweeper retry {sweep.name}"))
    return Group(*parts)


def status_table(sweeps: list[Status]) -> Table:
    """Return a table with one row per sweep: trials by status, rate, time left."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "sweep",
        "trials",
        "ended",
        *ENDED,
        "running",
        "pending",
        "rate",
        "left",
        "driver",
    ):
        table.add_column(heading, justify="left" if heading in ("sweep", "driver") else "right")
    for sweep in sweeps:
        counts = [str(sweep.counts.get(s, 0)) for s in (*ENDED, "running", "pending")]
        rate = f"{sweep.rate:.3g}/s" if sweep.rate else ""
        left = f"{sweep.eta_s:.0f} s" if sweep.eta_s is not None else ""
        table.add_row(
            sweep.name, str(sweep.trials), str(sweep.ended), *counts, rate, left, sweep.driver or ""
        )
    return table
