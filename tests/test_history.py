from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.analysis.diagrams.history import Direction, History, HistoryPoint

UP: tuple[tuple[str, Direction], ...] = (("amplification", "maximize"),)
DOWN: tuple[tuple[str, Direction], ...] = (("delay", "minimize"),)
BOTH = UP + DOWN


def suggestion(number: int, *values: float | None, feasible: bool | None = None) -> HistoryPoint:
    """Return a suggestion, feasible if all its objectives are known."""
    known = None not in values
    return HistoryPoint(number, {"a": number}, values, known if feasible is None else feasible)


def test_the_best_so_far_follows_the_direction_and_the_numbers() -> None:
    found = (suggestion(2, 1.0), suggestion(0, 3.0), suggestion(1, 4.0), suggestion(3, 5.0))
    assert History(UP, found).best_so_far() == (3, 4, 4, 5)
    assert History(DOWN, found).best_so_far() == (3, 3, 1, 1)


def test_an_infeasible_suggestion_never_wins() -> None:
    found = (suggestion(0, None), suggestion(1, 9.0, feasible=False), suggestion(2, 1.0))
    history = History(UP, found)
    assert history.best_so_far() == (None, None, 1)
    assert history.best is found[2]
    assert history.pareto() == (found[2],)
    assert History(UP, found[:2]).best is None
    assert History(UP, found[:2]).pareto() == ()


def test_of_equals_the_first_is_best_and_all_are_on_the_front() -> None:
    found = tuple(suggestion(n, 2.0) for n in (3, 1, 2))
    history = History(UP, found)
    assert history.best is found[1]
    assert [s.number for s in history.pareto()] == [1, 2, 3]


def test_a_second_objective_has_its_own_best_so_far() -> None:
    history = History(BOTH, (suggestion(0, 1.0, 5.0), suggestion(1, 2.0, 7.0)))
    assert history.best_so_far(1) == (5, 5)


values = st.integers(0, 5).map(float)
pairs = st.lists(st.tuples(values, st.none() | values), max_size=12)


@given(pairs)
def test_the_front_is_what_no_other_dominates(
    given_pairs: list[tuple[float, float | None]],
) -> None:
    found = [suggestion(n, *pair) for n, pair in enumerate(given_pairs)]
    known = [
        (s.number, a, b)
        for s in found
        for a, b in [s.objectives]
        if a is not None and b is not None
    ]
    expected = {
        n
        for n, a, b in known
        if not any(x >= a and y <= b and (x, y) != (a, b) for _, x, y in known)
    }
    front = History(BOTH, tuple(found)).pareto()
    assert {s.number for s in front} == expected
    firsts = [s.objectives[0] or 0.0 for s in front]
    assert firsts == sorted(firsts, reverse=True)


def test_paths_stand_by_importance_and_then_as_they_occur() -> None:
    found = (
        HistoryPoint(0, {"b": 1, "a": 2}, (1.0,), True),
        HistoryPoint(1, {"c": "x"}, (1.0,), True),
    )
    assert History(UP, found).paths == ("b", "a", "c")
    assert History(UP, found, importance={"c": 0.7, "a": 0.2}).paths == ("c", "a", "b")


def test_a_table_has_a_row_a_suggestion_and_a_column_a_path() -> None:
    found = (
        HistoryPoint(1, {"lr": 1, "name": "l1"}, (2.5,), True, source="store", cell_id="c"),
        HistoryPoint(0, {"lr": 0.5, "mixed": True}, (None,), False, bound=3.0),
        HistoryPoint(2, {"mixed": "off"}, (1.0,), True),
    )
    table = History(UP, found).table()
    assert table.to_pylist() == [
        {
            "number": 0,
            "source": "search",
            "cell_id": None,
            "feasible": False,
            "bound": 3.0,
            "amplification": None,
            "lr": 0.5,
            "mixed": "True",
            "name": None,
        },
        {
            "number": 1,
            "source": "store",
            "cell_id": "c",
            "feasible": True,
            "bound": None,
            "amplification": 2.5,
            "lr": 1.0,
            "mixed": None,
            "name": "l1",
        },
        {
            "number": 2,
            "source": "search",
            "cell_id": None,
            "feasible": True,
            "bound": None,
            "amplification": 1.0,
            "lr": None,
            "mixed": "off",
            "name": None,
        },
    ]


def test_nothing_is_feasible_without_a_result() -> None:
    with pytest.raises(ValueError, match="suggestion 4 is feasible without a result"):
        suggestion(4, 1.0, None, feasible=True)


def test_every_suggestion_has_the_objectives_of_the_search() -> None:
    with pytest.raises(ValueError, match="suggestion 0 has 1 objectives"):
        History(BOTH, (suggestion(0, 1.0),))
