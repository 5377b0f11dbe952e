"""What a cell's delay, bound and phase are: one rule, under which they can't contradict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.store.schema import logged_steps
from tests import by_hand
from tests.stores import Made, Planned, curve, end

LOGGED = (0, 10, 100, 1000, 2000, 10000)

GROKS = (10, 2000)
LATER = (10, 10000)
COMPREHENDS = (10, 100)
MEMORIZES = (10, None)
NEVER = (None, None)
GENERALIZES_ONLY = (None, 100)

Steps = tuple[int | None, int | None]


def seed(steps: Steps, status: str = "censored", last: int = 10000) -> tuple[Steps, str, int]:
    return steps, status, last


def cells_of(folder: str | Path, cells: Sequence[Sequence[tuple[Steps, str, int]]]) -> list[Any]:
    """Return the rows of `cells` of a store in which these seeds ended so."""
    made = Made.at(folder)
    plan = [
        (Planned(f"{c}-{n}", f"c{c:02}", n), one)
        for c, seeds in enumerate(cells)
        for n, one in enumerate(seeds)
    ]
    launch = made.launch([p for p, _ in plan], steps=10000)
    pack = made.pack([p.trial_id for p, _ in plan])
    attempt = made.claim(pack, launch)
    rows, ends = [], []
    for planned, ((t1, t2), status, last) in plan:
        if status == "pending":
            continue
        steps = [s for s in LOGGED if s <= last]
        train, test = ([float(t is not None and s >= t) for s in steps] for t in (t1, t2))
        rows += curve(planned.trial_id, steps, train_acc=train, test_acc=test)
        if status != "running":
            ends.append(end(planned.trial_id, status, last))
    made.rows(pack, attempt, rows, ends)
    with open_views(made.ledger) as connection:
        table = sql.query(connection, "select * from cells order by cell_id")
        return list(table.to_pylist())


def before(step: int | None) -> int | None:
    """Return the logged step before one."""
    return max((s for s in LOGGED if s < (step or 0)), default=None)


def by_rule(seeds: Sequence[tuple[Steps, str, int]]) -> by_hand.CellByHand | None:
    """Return the same by hand; None where no seed counts."""
    counted = [
        by_hand.Outcome(
            t1,
            t2,
            last,
            before(t1),
            before(t2),
            diverged=status == "diverged",
            over=status != "running",
        )
        for (t1, t2), status, last in seeds
        if status not in ("pending", "failed")
    ]
    return by_hand.cell(counted) if counted else None


@pytest.mark.parametrize(
    ("seeds", "phase", "agreement", "delay", "bound"),
    [
        # faults of old: a delay without a bound in a cell that memorizes
        ([GROKS, GROKS, MEMORIZES, MEMORIZES], "split", 0.5, None, math.sqrt(1404 * 9990)),
        ([GROKS, *[MEMORIZES] * 4], "memorization", 0.8, None, 9990),
        ([GROKS, *[NEVER] * 4], "confusion", 0.8, None, None),
        ([GROKS, GROKS, GROKS], "grokking", 1, math.sqrt(1000 * 2000) - 10, None),
        ([GROKS, LATER, COMPREHENDS], "grokking", 2 / 3, math.sqrt(1000 * 2000) - 10, None),
        ([COMPREHENDS, COMPREHENDS, MEMORIZES], "comprehension", 2 / 3, math.sqrt(1000) - 10, None),
        ([GROKS, GROKS, GROKS, NEVER, NEVER], "grokking", 0.6, math.sqrt(1000 * 2000) - 10, None),
        ([GROKS, MEMORIZES, NEVER, NEVER], "split", 0.5, None, None),
        ([GENERALIZES_ONLY] * 3, "generalized_only", 1, None, None),
        ([NEVER], "confusion", 1, None, None),
        ([MEMORIZES], "memorization", 1, None, 9990),
    ],
)
def test_delay_bound_and_phase_follow_from_one_rule(
    tmp_path: Path,
    seeds: list[Steps],
    phase: str,
    agreement: float,
    delay: float | None,
    bound: float | None,
) -> None:
    (row,) = cells_of(tmp_path, [[seed(s) for s in seeds]])
    assert (row["phase"], row["agreement"]) == (phase, pytest.approx(agreement))
    assert row["delay"] == (delay and round(delay))
    assert row["delay_bound"] == (bound and pytest.approx(bound, abs=1))


@pytest.mark.parametrize(
    ("seeds", "phase", "agreement"),
    [
        ([seed(GROKS), seed(MEMORIZES, "running", 1000)], None, 0.5),
        ([seed(GROKS), seed(GROKS), seed(MEMORIZES, "running", 1000)], "grokking", 2 / 3),
        ([seed(GROKS), seed(NEVER), seed(MEMORIZES, "running", 1000)], None, 1 / 3),
        ([seed(GROKS), seed(GROKS, "pending")], "grokking", 1),
        ([seed(GROKS), seed(GROKS, "failed")], "grokking", 1),
        ([seed(MEMORIZES, "running", 1000)], None, None),
        ([seed(GROKS, "pending")], None, None),
    ],
)
def test_a_phase_waits_for_seeds_that_may_still_decide_it(
    tmp_path: Path, seeds: list[tuple[Steps, str, int]], phase: str | None, agreement: float | None
) -> None:
    (row,) = cells_of(tmp_path, [seeds])
    assert (row["phase"], row["agreement"]) == (phase, agreement and pytest.approx(agreement))


@pytest.mark.parametrize(
    ("n", "level"), [(1, None), (2, 0.5), (3, 0.75), (5, 0.9375), (6, 0.96875), (9, 0.9609375)]
)
def test_the_interval_says_its_level(tmp_path: Path, n: int, level: float | None) -> None:
    many = [LATER, *[GROKS] * (n - 1)]
    (row,) = cells_of(tmp_path, [[seed(s) for s in many]])
    assert row["delay_level"] == level
    low, high = (None, None) if n == 1 else (1000 - 10, 10000 if n < 9 else 2000)
    assert (row["delay_low"], row["delay_high"]) == (low, high)


def test_the_example_of_the_page_is_what_the_views_say(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "cells.md").read_text()
    table = page.partition("## An example")[2].partition("| seed |")[2].split("\n\n")[0]
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in table.split("\n")[2:]]
    assert len(lines) == 5
    number = [[None if not c.isdigit() else int(c) for c in line] for line in lines]
    steps = logged_steps(10, 10000)
    made = Made.at(tmp_path)
    plan = [Planned(f"t{row[0]}", "c", row[0] or 0) for row in number]
    launch = made.launch(plan, steps=10000)
    pack = made.pack([p.trial_id for p in plan])
    rows = []
    for one, (_, _, t1, _, t2, *_) in zip(plan, number, strict=True):
        train, test = ([float(t is not None and s >= t) for s in steps] for t in (t1, t2))
        rows += curve(one.trial_id, steps, train_acc=train, test_acc=test)
    ends = [end(one.trial_id, "censored", 10000) for one in plan]
    made.rows(pack, made.claim(pack, launch), rows, ends)
    columns = "t1_lower, t1, t2_lower, t2, delay, censored, phase, round(estimate)::int as estimate"
    with open_views(made.ledger) as connection:
        found = sql.query(connection, f"select {columns} from delays order by trial_id").to_pylist()
        (cell,) = sql.query(connection, "select * from cells").to_pylist()
    yes = {True: "yes", False: "no"}
    shown = [
        ["" if v is None else yes[v] if isinstance(v, bool) else str(v) for v in row.values()]
        for row in found
    ]
    assert shown == [line[1:] for line in lines]
    said = page.partition("## An example")[2]
    assert f"phase `{cell['phase']}`, agreement {cell['agreement']}" in said
    assert f"`delay` = {cell['delay']}" in said
    assert f"`t1` = {cell['t1']} and `t2` = {cell['t2']}" in said
    assert f'the interval is "> {cell["delay_low"]}", at a level of {cell["delay_level"]:.1%}' in (
        said.replace("\n  ", " ").replace(" %", "%")
    )
    assert cell["delay_high"] is None


outcomes = st.tuples(
    st.sampled_from([GROKS, LATER, COMPREHENDS, MEMORIZES, NEVER, GENERALIZES_ONLY, (0, 0)]),
    st.sampled_from(["censored"] * 4 + ["generalized", "diverged", "failed", "running", "pending"]),
    st.just(10000),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(outcomes, min_size=1, max_size=7), min_size=6, max_size=20))
def test_no_delay_contradicts_its_phase(cells: list[list[tuple[Steps, str, int]]]) -> None:
    with TemporaryDirectory() as folder:
        rows = cells_of(folder, cells)
    for row, seeds in zip(rows, cells, strict=True):
        expected = by_rule(seeds)
        delay, bound, phase = row["delay"], row["delay_bound"], row["phase"]
        assert delay is None or bound is None
        if expected is None:
            assert (delay, bound, phase, row["agreement"]) == (None, None, None, None)
            continue
        near = [
            None if x is None else pytest.approx(x, abs=1) for x in (expected.delay, expected.bound)
        ]
        assert (delay, bound, phase) == (*near, expected.phase)
        assert row["agreement"] == (expected.agreement and pytest.approx(expected.agreement))
        if phase == "grokking":
            assert delay >= 1000
        elif phase == "comprehension":
            assert delay < 1000
        elif phase == "memorization":
            assert (delay, bound is not None) == (None, True)
        elif phase in ("confusion", "generalized_only", "diverged"):
            assert (delay, bound) == (None, None)
        if delay is not None:
            counted = [s for s in seeds if s[1] not in ("pending", "failed")]
            reached = [s for s in counted if s[0][1] is not None and s[1] != "diverged"]
            assert 2 * len(reached) > len(counted)
            assert row["delay_low"] is None or row["delay_low"] <= delay
            assert row["delay_high"] is None or row["delay_high"] >= delay
