"""Where a figure's numbers come from: printed below it and embedded in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeper import sql
from sweeper.config.messages import counted
from sweeper.store.ledger import Ledger
from sweeper.store.visible import hidden


@dataclass(frozen=True, slots=True)
class Provenance:
    """What has to be known to make a figure again.

    Attributes:
        sweep: Name of the sweep.
        criterion: How t1 and t2 are read, in words.
        git_commit: Of the last launch; None outside of a repository.
        dirty: Whether there were uncommitted changes.
        trials: Trials in the views.
        seeds: Distinct seeds among them.
        record: Last record of the ledger that the views show.
        method: How the figure's intervals were made; empty without any.
        hidden: Stored trials that the views don't show.
    """

    sweep: str
    criterion: str
    git_commit: str | None
    dirty: bool
    trials: int
    seeds: int
    record: int
    method: str = ""
    hidden: int = 0

    @classmethod
    def of(cls, ledger: Ledger, connection: sql.Connection) -> Provenance:
        """Return the provenance of views that `connection` opened on `ledger`."""
        about: dict[str, Any] = (ledger.state.launch or {}).get("provenance", {})
        counts = "select count(*), count(distinct seed) from trials"
        ((trials, seeds),) = connection.sql(counts).fetchall()
        return cls(
            sweep=ledger.name,
            criterion=criterion_words(connection),
            git_commit=about.get("git_commit"),
            dirty=bool(about.get("dirty")),
            trials=trials,
            seeds=seeds,
            record=ledger.records,
            hidden=hidden(ledger),
        )

    @property
    def size(self) -> str:
        """The trials in the views, e.g. "60 trials" or "12 of 60 stored trials"."""
        return shown_trials(self.trials, self.hidden)

    @property
    def footer(self) -> str:
        """One line: sweep, code, size, ledger record, method."""
        code = f"commit {self.git_commit[:7]}" if self.git_commit else "no commit"
        return " · ".join(
            [
                self.sweep,
                f"{code} (dirty)" if self.dirty else code,
                f"{self.size}, {counted(self.seeds, 'seed')}",
                f"ledger record {self.record}",
                *([self.method] if self.method else []),
            ]
        )


def shown_trials(shown: int, hidden: int) -> str:
    """Return the number of trials in the views, and how many the store keeps if some are hidden."""
    return f"{shown} of {shown + hidden} stored trials" if hidden else counted(shown, "trial")


def criterion_words(connection: sql.Connection) -> str:
    """Return how `delays` reads t1 and t2, e.g. ``train_acc >= 0.99, test_acc >= 0.99``."""
    rows = sql.query(connection, "select * from criteria order by task").to_pylist()
    words: dict[str, list[str]] = {}
    for row in rows:
        train, test = (_step_words(row, side) for side in ("train", "test"))
        text = f"t1: {train}, t2: {test}, grokking: delay ≥ {row['gap']}"
        words.setdefault(text, []).append(row["task"])
    if len(words) == 1:
        return next(iter(words))
    return "\n".join(f"{', '.join(tasks)}: {text}" for text, tasks in words.items())


def _step_words(row: dict[str, Any], side: str) -> str:
    """Return how the step of one side is read, by a row of `criteria`."""
    column, sign = f"{side}_{row['metric']}", "≥" if row["rising"] else "≤"
    words = {
        "threshold": lambda: f"{column} {sign} {row[side]:g}",
        "relative": lambda: f"{column} {sign} {row[side]:g} times its best",
        "argmin": lambda: f"{column} at its best",
        "stable_final": lambda: f"{column} stays near its final value",
    }[row["rule"]]()
    return words if row["hold"] == 1 else f"{words} for {row['hold']} logged steps"
