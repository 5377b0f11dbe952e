"""A search that is killed with SIGKILL and started again ends as if nobody had killed it."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sweeper.compile.loading import load_grid
from tests import killed
from tests.searches import BENT, ask, attempts, observed, search, study_of, write
from tests.sweeps import ledger, rows

SMALL = {**BENT, "search.n_trials": 12, "search.batch": 4, "seeds": 2, "search.finalists": None}


def whole(folder: Path, changes: dict[str, Any]) -> str:
    """Return a store with a search that nobody killed."""
    store = str(folder / "whole")
    search(load_grid(write(folder, changes), []), store)
    return store


def kill_through(file: Path, store: str, moments: Iterable[int]) -> int:
    """Kill a search at one moment after the other, then let it end; return the kills."""
    kills = 0
    for moment in moments:
        code = killed.run(file, store, moment)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        kills += 1
    assert killed.run(file, store, None) == 0
    return kills


def assert_as_if_nobody_had_killed(file: Path, store: str, undisturbed: str) -> None:
    grid = load_grid(file, [])
    mine, other = study_of(grid, store), study_of(grid, undisturbed)
    assert mine.pending() == []
    assert [t.number for t in mine.observations()] == list(range(len(mine.observations())))
    assert observed(mine) == observed(other)
    assert [t.suggested for t in mine.observations()] == [t.suggested for t in other.observations()]
    assert mine.n_asked == grid.file.search.n_trials  # type: ignore[union-attr]
    assert rows(store, "hill").equals(rows(undisturbed, "hill"))
    assert attempts(store) == attempts(undisturbed)
    assert not any(pack.open for pack in ledger(store, "hill").state.packs.values())
    counted = "select count(*) as n, count(distinct (trial_id, step)) as d from metrics"
    seen = ask(store, counted, everything=True)
    assert seen[0]["n"] == seen[0]["d"] > 0


@pytest.mark.long
def test_a_search_killed_at_chosen_moments_ends_with_the_undisturbed_suggestions_and_rows(
    tmp_path: Path,
) -> None:
    undisturbed = whole(tmp_path, SMALL)
    file, store = tmp_path / "hill.yaml", str(tmp_path / "killed")
    moments = [3, 22, 26, 31, 37, 41, 50]
    assert kill_through(file, store, moments) == len(moments)
    assert_as_if_nobody_had_killed(file, store, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "nsga2", "random", "qmc", "grid"])
def test_a_search_killed_at_many_random_moments_leaves_no_trace(
    sampler: str, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {**SMALL, "search.sampler": sampler, "search.n_trials": 24}
    if sampler == "grid":
        points = {
            "task.x": {"uniform": [0, 1], "step": 0.2},
            "twist.angle": {"categorical": [0.1, 0.3, 0.5, 0.7]},
        }
        changes |= {"search.space": points}
    undisturbed = whole(tmp_path, changes)
    file, dice = tmp_path / "hill.yaml", random.Random(sampler)
    for round_ in range(3):
        store = str(tmp_path / f"killed-{round_}")
        moments = [dice.randrange(1, 150) for _ in range(12)]
        assert kill_through(file, store, moments) >= 3
        assert_as_if_nobody_had_killed(file, store, undisturbed)
