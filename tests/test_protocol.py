"""The ledger's protocol keeps its promises in every order of events, and the search finds faults."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.protocol import Model, explore
from tests.worlds import BrokenError

LIMIT = int(os.environ.get("SWEEPER_STATES", "8000"))
"""The most states per scenario; by hand with SWEEPER_STATES=1000000."""

SAVING = ((1, "saved"), (2, "done"))
THREE = ((1, ""), (2, "saved"), (3, "done"))

SCENARIOS: dict[str, dict[str, Any]] = {
    "crashes, lost answers and takeovers": {
        "plan": SAVING,
        "workers": 3,
        "faults": {"crash": 1, "lost": 1, "takeover": 2},
    },
    "two packs and a reader": {"packs": ("P", "Q"), "faults": {"crash": 1, "lost": 1, "read": 1}},
    "a split and a reader": {
        "plan": SAVING,
        "faults": {"split": 1, "lost": 1, "takeover": 1, "read": 1},
    },
    "a void pack, a worker that goes on, a reader": {
        "faults": {"void": 1, "split": 1, "takeover": 1, "read": 1}
    },
    "compaction and snapshots": {
        "plan": THREE,
        "faults": {"compact": 1, "snapshot": 2, "takeover": 1, "read": 1},
    },
    "records rot": {"plan": SAVING, "faults": {"rot": 1, "crash": 1, "lost": 1, "takeover": 1}},
    "records rot under snapshots": {"faults": {"rot": 1, "snapshot": 1, "takeover": 1, "read": 1}},
}

MUTANTS: dict[str, dict[str, Any]] = {
    "readback": {"faults": {"lost": 1}},
    "superseded": {"plan": SAVING, "faults": {"takeover": 1}},
    "spread": {"faults": {"void": 1, "split": 1, "takeover": 1}},
    "second look": {"faults": {"void": 1, "takeover": 1, "read": 1}},
    "closed": {"plan": THREE, "faults": {"compact": 1, "crash": 1}},
    "compacted": {"faults": {"compact": 1}},
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_promises_hold_whatever_happens_when(name: str) -> None:
    states, whole = explore(Model(**SCENARIOS[name]), LIMIT)
    assert whole or states > LIMIT
    print(f"{name}: {states} states, {'all' if whole else 'cut'}")


@pytest.mark.parametrize("rule", MUTANTS)
def test_without_one_of_its_rules_the_protocol_breaks(rule: str) -> None:
    with pytest.raises(BrokenError):
        explore(Model(**MUTANTS[rule], without=rule), 200_000)
