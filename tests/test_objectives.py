"""The evaluation of a cell: values where they are known, else bounds and a violation."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.grid.search_section import Objective, Search
from sweeper.search.finalist import Finalist
from sweeper.search.objectives import Evaluator, generalizes
from sweeper.search.study import Evaluation


def row(**known: Any) -> dict[str, Any]:
    """Return the row of a cell all of whose seeds generalize after 40 steps."""
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


def evaluated(cell: dict[str, Any], *objectives: str | Objective) -> Evaluation:
    """Return the evaluation of a cell whose objectives are columns of its row."""
    settings = Search(objective=list(objectives))
    values = {f"objective_{i}": cell.get(o.value) for i, o in enumerate(settings.objectives)}
    evaluator = Evaluator(grid=None, settings=settings, space=None, ledger=None, seeds=range(10))  # type: ignore[arg-type]
    return evaluator.evaluation(cell | values, {"cell_id": "c"})


def test_a_cell_that_generalizes_is_told_with_its_value() -> None:
    assert evaluated(row(), "delay") == Evaluation((40.0,), 0.0, {"cell_id": "c"})
    assert evaluated(row(), "amplification").values == (2.0,)


@pytest.mark.parametrize(
    ("generalized", "seeds", "most"),
    [(6, 10, True), (5, 10, False), (2, 3, True), (None, None, False)],
)
def test_a_cell_generalizes_if_more_than_half_of_its_seeds_do(
    generalized: int | None, seeds: int | None, most: bool
) -> None:
    assert generalizes({"n_generalized": generalized, "n_seeds": seeds}) is most


def test_a_censored_delay_is_told_by_its_bound_and_violates() -> None:
    evaluation = evaluated(row(delay=None, delay_bound=90, violation=0.4, n_generalized=3), "delay")
    assert evaluation.values == (90.0,)
    assert evaluation.violation == 0.4


def test_a_censored_reference_violates_where_the_cell_does_not() -> None:
    evaluation = evaluated(row(amplification=None, amplification_violation=0.2), "amplification")
    assert evaluation.values == (0.0,)
    assert evaluation.violation == 0.2


def test_an_objective_without_a_value_and_a_bound_is_not_told() -> None:
    assert evaluated(row(final_test=None), "final_test").values is None


def test_what_says_nothing_of_delays_may_win_anywhere() -> None:
    cell = row(final_test=0.1, n_generalized=0, delay=None, violation=1.0)
    lowest = Objective(value="final_test", direction="minimize")
    assert evaluated(cell, lowest).violation < 0
    assert evaluated(cell, lowest, "delay").violation > 0


@pytest.mark.parametrize(
    ("value", "generalized", "holds"), [(3.0, 10, True), (None, 10, False), (3.0, 4, False)]
)
def test_a_leader_holds_with_a_value_that_half_of_the_fresh_seeds_reach(
    value: float | None, generalized: int, holds: bool
) -> None:
    fresh = row(n_generalized=generalized)
    leader = Finalist({}, (4.0,), (value,), None, None, fresh, ())
    assert leader.holds is holds
