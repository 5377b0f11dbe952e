"""A small sweep made by hand, and the doctor's opinion of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.schema import logged_steps
from tests.commands import sweeper
from tests.stores import Made, Planned, curve, end

LOGGED = logged_steps(50, 10)
TRIALS = ("t", "u")


def rows(*trials: str, steps: Sequence[int] = LOGGED) -> list[Record]:
    return [row for trial in trials for row in curve(trial, steps, train_loss=[0.5] * len(steps))]


def ends(*trials: str, at: int = 10) -> list[Record]:
    return [end(trial, "censored", at) for trial in trials]


class Sweep:
    """A sweep with one launch of t and u, and one pack of both that has ended.

    Attributes:
        pack: The pack.
    """

    def __init__(self, store: Path, *, trials: Sequence[str] = TRIALS) -> None:
        self.store = store
        self.made = Made.at(store)
        self.launch = self.made.launch([Planned(trial) for trial in trials], steps=10)
        self.pack = self.made.pack(TRIALS)
        self.begun = self.made.claim(self.pack, self.launch)

    def done(self, **changes: Any) -> Sweep:
        """End the pack."""
        given: dict[str, Any] = {
            "rows": rows(*TRIALS),
            "ends": ends(*TRIALS),
            "done": True,
        } | changes
        self.made.rows(self.pack, self.begun, **given)
        return self

    @property
    def ledger(self) -> Ledger:
        return self.made.ledger

    def path(self, name: str) -> Path:
        return self.store / "demo" / name

    def doctor(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """Return the exit code and the findings that aren't notes on the last line's sweep."""
        asked = sweeper("doctor", "demo", "--store", str(self.store), "--json", *options)
        assert asked.stderr == ""
        return asked.returncode, [json.loads(line) for line in asked.stdout.splitlines()]

    def named(self, severity: str = "error") -> str:
        """Return the message of the only finding that isn't a note; check the exit code."""
        code, events = self.doctor()
        found = [e for e in events if e["event"] == "finding" and e["severity"] != "note"]
        assert [e["severity"] for e in found] == [severity], found
        assert code == (2 if severity == "error" else 0)
        assert events[-1]["well"] == (severity != "error")
        return f"{found[0]['place']}: {found[0]['message']}"

    def is_mended(self) -> bool:
        """Repair; return whether nothing but notes is left, and the pack is void."""
        code, events = self.doctor("--repair")
        left = [e for e in events if e["event"] == "finding" and e["severity"] != "note"]
        return code == 0 and not left and Ledger.open(self.ledger.files).state.packs[self.pack].void
