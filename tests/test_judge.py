"""What a study is told of a cell: values where they are known, else bounds and a violation."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.grid.search_section import Objective, Search
from sweeper.search.finalist import Finalist
from sweeper.search.objectives import Judge, lacking
from sweeper.search.study import Verdict


def row(**known: Any) -> dict[str, Any]:
    """Return what the views say of a cell all of whose seeds generalize after 40 steps."""
    usual = {
        "n_seeds": 10,
        "n_generalized": 10,
        "violation": 0.0,
        "amplification_violation": 0.0,
        "delay": 40,
        "delay_bound": None,
        "amplification": 2.0,
        "amplification_lower": None,
    }
    return {**usual, **known}


def verdict(cell: dict[str, Any], *objectives: str | Objective) -> Verdict:
    """Return the verdict on a cell whose objectives are columns of its row."""
    settings = Search(objective=list(objectives))
    values = {f"objective_{i}": cell.get(o.value) for i, o in enumerate(settings.objectives)}
    judge = Judge(grid=None, settings=settings, space=None, ledger=None, seeds=range(10))  # type: ignore[arg-type]
    return judge.verdict(cell | values, {"cell_id": "c"})


def test_a_cell_that_generalizes_is_told_with_its_value() -> None:
    assert verdict(row(), "delay") == Verdict((40.0,), 0.0, {"cell_id": "c"})
    assert verdict(row(), "amplification").values == (2.0,)


@pytest.mark.parametrize(("generalized", "may_win"), [(10, True), (5, True), (4, False)])
def test_half_of_the_seeds_must_generalize_even_if_the_others_never_memorize(
    generalized: int, may_win: bool
) -> None:
    told = verdict(row(n_generalized=generalized), "delay")
    assert told.values == (40.0,)
    assert (told.violation <= 0) is may_win


def test_failed_and_missing_seeds_lack_too() -> None:
    assert lacking({"n_generalized": 3, "n_seeds": 10}) == pytest.approx(0.2)
    assert lacking({"n_generalized": None, "n_seeds": None}) == 0.5


def test_a_censored_delay_is_told_by_its_bound_and_violates() -> None:
    told = verdict(row(delay=None, delay_bound=90, violation=0.4, n_generalized=3), "delay")
    assert told.values == (90.0,)
    assert told.violation == 0.4


def test_a_censored_reference_violates_where_the_cell_does_not() -> None:
    told = verdict(row(amplification=None, amplification_violation=0.2), "amplification")
    assert told.values == (0.0,)
    assert told.violation == 0.2


def test_an_objective_without_a_value_and_a_bound_is_not_told() -> None:
    assert verdict(row(final_test=None), "final_test").values is None


def test_what_says_nothing_of_delays_may_win_anywhere() -> None:
    cell = row(final_test=0.1, n_generalized=0, delay=None, violation=1.0)
    lowest = Objective(value="final_test", direction="minimize")
    assert verdict(cell, lowest).violation < 0
    assert verdict(cell, lowest, "delay").violation > 0


@pytest.mark.parametrize(
    ("value", "generalized", "holds"), [(3.0, 10, True), (None, 10, False), (3.0, 4, False)]
)
def test_a_leader_holds_with_a_value_that_half_of_the_fresh_seeds_reach(
    value: float | None, generalized: int, holds: bool
) -> None:
    fresh = row(n_generalized=generalized)
    leader = Finalist({}, (4.0,), (value,), None, fresh, ())
    assert leader.holds is holds
