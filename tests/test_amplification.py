from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import floor
from pathlib import Path
from statistics import median as middle
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper import sql
from sweeper.analysis.diagrams.amplification import evaluate
from sweeper.analysis.views.views import open_views, read_sql
from sweeper.errors import UsageError
from tests import by_hand
from tests.stores import Made, Planned, curve, end
from tests.sweeps import ledger, run, toy_grid
from tests.test_views import TYPES

LOGGED = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Seed:
    """What becomes of a seed: it memorizes and generalizes at these logged steps, if at all."""

    t1: int | None
    t2: int | None
    last: int = 1000
    status: str = "censored"

    @property
    def outcome(self) -> by_hand.Outcome:
        """What the rules by hand take it for."""
        first, second = (
            max([s for s in LOGGED if s < (t or 0)], default=None) for t in (self.t1, self.t2)
        )
        diverged = self.status == "diverged"
        return by_hand.Outcome(self.t1, self.t2, self.last, first, second, diverged)


def well(t1: int, t2: int) -> Seed:
    return Seed(t1, t2, t2, "generalized")


Cells = Mapping[str, Sequence[Seed]]


def make(
    folder: str | Path, cells: Cells, numbers: Mapping[str, Sequence[int]] | None = None
) -> Made:
    """Make a store of `cells`; their seeds count from 0 unless `numbers` says otherwise."""
    made = Made.at(folder)
    plan = [
        (Planned(f"{cell}-{n}", cell, n), seed)
        for cell, seeds in cells.items()
        for n, seed in zip((numbers or {}).get(cell, range(len(seeds))), seeds, strict=True)
    ]
    launch = made.launch([p for p, _ in plan])
    pack = made.pack([p.trial_id for p, _ in plan])
    attempt = made.claim(pack, launch)
    rows, ends = [], []
    for planned, seed in plan:
        steps = [s for s in LOGGED if s <= seed.last]
        train, test = (
            [0.25 if t is None or s < t else 1.0 for s in steps] for t in (seed.t1, seed.t2)
        )
        rows += curve(planned.trial_id, steps, train_acc=train, test_acc=test, l1=steps)
        ends.append(end(planned.trial_id, seed.status, seed.last))
    made.rows(pack, attempt, rows, ends, done=True)
    return made


def row(folder: str | Path, cell: Sequence[Seed], reference: Sequence[Seed]) -> dict[str, Any]:
    """The row of `cell` beside `reference`."""
    made = make(folder, {"cell": cell, "ref": reference})
    with open_views(made.ledger) as connection:
        (found,) = evaluate(connection, {"cell": "ref"}).to_pylist()
    return dict(found)


def bounds(found: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    names = ("amplification", "amplification_lower", "amplification_upper")
    return found[names[0]], found[names[1]], found[names[2]]


SLOW = math.sqrt(500 * 1000) - math.sqrt(5 * 10)
"""The delay of well(10, 1000)."""

QUICK = math.sqrt(50 * 100) - math.sqrt(5 * 10)
"""The delay of well(10, 100)."""


def test_the_amplification_is_the_ratio_of_the_median_delays(tmp_path: Path) -> None:
    found = row(
        tmp_path,
        [well(10, 1000), well(10, 500), well(10, 200)],
        [well(10, 50), well(10, 100), well(20, 100)],
    )
    mine = math.sqrt(200 * 500) - math.sqrt(5 * 10)  # between the middles of both intervals
    other = math.sqrt(50 * 100) - math.sqrt(10 * 20)
    assert (found["delay"], found["reference_delay"]) == (round(mine), round(other)) == (309, 57)
    assert bounds(found) == (pytest.approx(mine / other), None, None)
    assert found["log_amplification"] == pytest.approx(math.log10(mine / other))
    assert found["log_delay"] == pytest.approx(math.log10(mine))
    assert (found["violation"], found["amplification_violation"]) == (0, 0)


def test_a_delay_below_the_log_resolution_counts_as_the_resolution(tmp_path: Path) -> None:
    found = row(tmp_path, [well(10, 1000)], [well(200, 200)])
    assert (found["reference_delay"], found["reference_counted"]) == (0, 100)
    assert found["amplification"] == pytest.approx(SLOW / 100)


def test_a_delay_at_step_0_counts_as_a_step(tmp_path: Path) -> None:
    found = row(tmp_path, [well(10, 1000)], [well(0, 0)])
    assert (found["reference_counted"], found["amplification"]) == (1, pytest.approx(SLOW))


def test_a_censored_cell_has_a_lower_bound_and_no_amplification(tmp_path: Path) -> None:
    found = row(tmp_path, [Seed(10, None)], [well(10, 100)])
    assert (found["delay"], found["delay_bound"], found["censored_share"]) == (None, 990, 1)
    assert bounds(found) == (None, pytest.approx(990 / QUICK), None)
    assert (found["violation"], found["amplification_violation"]) == (1, 1)


def test_a_censored_reference_gives_an_upper_bound_and_no_winner(tmp_path: Path) -> None:
    found = row(tmp_path, [well(10, 100)], [Seed(10, None), well(10, 20), Seed(20, None)])
    assert (found["reference_delay"], found["reference_bound"]) == (None, 980)
    assert bounds(found) == (None, None, pytest.approx(QUICK / 980))
    assert (found["violation"], found["amplification_violation"]) == (0, pytest.approx(1 / 2))


def test_a_bound_of_0_steps_counts_as_a_step(tmp_path: Path) -> None:
    found = row(tmp_path, [well(10, 100)], [Seed(1000, None)])
    assert (found["reference_bound"], found["amplification_upper"]) == (0, pytest.approx(QUICK))


LATE = [well(200, 200), Seed(10, None, 50), Seed(10, None, 50)]
"""Censored; but were its one known delay, 0, put at the resolution of 100, it would be last."""


def test_the_resolution_makes_no_censored_cell_a_known_one(tmp_path: Path) -> None:
    found = row(tmp_path, LATE, [well(10, 20)])
    assert (found["delay"], found["delay_bound"], found["counted"]) == (None, 40, None)
    assert bounds(found) == (None, 4, None)


def test_two_censored_cells_say_nothing_about_each_other(tmp_path: Path) -> None:
    found = row(tmp_path, [Seed(10, None)], [Seed(20, None)])
    assert bounds(found) == (None, None, None)


def test_a_reference_that_never_memorizes_leaves_everything_open(tmp_path: Path) -> None:
    found = row(tmp_path, [well(10, 100)], [Seed(None, None), Seed(None, 100)])
    assert bounds(found) == (None, None, None)
    assert (found["violation"], found["amplification_violation"]) == (0, 1)


def test_diverged_and_failed_seeds_are_counted_apart(tmp_path: Path) -> None:
    lost = [Seed(10, None, 50, "diverged"), Seed(None, None, 20, "failed")]
    found = row(tmp_path, [*[well(10, 100)] * 3, *lost], [well(10, 20)])
    names = ("n_seeds", "n_memorized", "n_generalized", "n_diverged", "n_failed", "delay")
    assert [found[name] for name in names] == [5, 4, 3, 1, 1, 64]
    assert found["amplification"] == pytest.approx(QUICK / 10)


def test_diverged_and_failed_seeds_count_against_a_winner(tmp_path: Path) -> None:
    cell = [well(10, 100), well(10, 100), Seed(10, None, 50, "diverged")]
    found = row(tmp_path, [*cell, Seed(None, None, 20, "failed")], [well(10, 20)])
    assert (found["phase"], found["delay"]) == ("comprehension", 64)  # of those that can tell
    assert (found["counted"], found["amplification"]) == (None, None)  # 2 of 4 seeds only
    assert found["violation"] == pytest.approx(1 / 5)


def test_the_final_metrics_are_medians_over_the_seeds(tmp_path: Path) -> None:
    cell = [well(10, 100), Seed(10, None, 500), Seed(10, None, 1000)]
    found = row(tmp_path, cell, [well(10, 20)])
    assert (found["final_train"], found["final_test"]) == (1.0, 0.25)


def test_seeds_may_be_missing_and_cells_unknown(tmp_path: Path) -> None:
    made = make(tmp_path, {"a": [well(10, 100), well(10, 500)], "b": [well(10, 20)]})
    with open_views(made.ledger) as connection:
        table = evaluate(connection, {"new": "b", "a": "b", "b": "new"}, ["1", "n_seeds"])
    new, a, b = table.to_pylist()
    assert [r["cell_id"] for r in (new, a, b)] == ["new", "a", "b"]
    both = math.sqrt(QUICK * (math.sqrt(200 * 500) - math.sqrt(5 * 10)))
    assert (a["n_seeds"], a["objective_1"]) == (2, 2)
    assert a["amplification"] == pytest.approx(both / 10)
    known = {name: value for name, value in new.items() if value is not None}
    assert known == {
        "cell_id": "new",
        "reference_id": "b",
        "violation": 1,
        "amplification_violation": 1,
        "reference_delay": round(math.sqrt(10 * 20) - math.sqrt(5 * 10)),
        "reference_counted": 10,
    }
    assert (b["amplification"], b["amplification_upper"]) == (None, None)
    assert (b["violation"], b["amplification_violation"]) == (0, 1)


steps = st.sampled_from([None, *LOGGED])


def ended(t1: int | None, t2: int | None, last: int, status: str) -> Seed:
    """A seed that reaches only what comes before its end."""
    first, second = (None if t is None or t > last else t for t in (t1, t2))
    return Seed(first, second, last, status)


def test_a_median_of_delays_below_the_resolution_alone_makes_no_winner(tmp_path: Path) -> None:
    cell = [Seed(0, None, 1), Seed(0, 1, 1, "generalized"), Seed(1, None, 1)]
    found = row(tmp_path, cell, [well(0, 0)])
    assert (found["delay"], found["counted"], found["amplification"]) == (None, None, None)
    assert found["violation"] == found["amplification_violation"] == pytest.approx(1 / 2)


statuses = st.sampled_from(["generalized", "censored", "censored", "diverged", "failed"])
some_seeds = st.lists(
    st.builds(ended, steps, steps, st.sampled_from(LOGGED[1:]), statuses), min_size=1, max_size=6
)


@settings(max_examples=40)
@given(some_seeds, some_seeds)
def test_any_row_is_that_of_a_plain_computation(cell: list[Seed], reference: list[Seed]) -> None:
    with TemporaryDirectory() as folder:
        found = row(folder, cell, reference)
    mine, other = plain(cell), plain(reference)
    near = partial(pytest.approx, abs=1, nan_ok=False)  # steps are whole
    assert (found["delay"], found["delay_bound"]) == (near(mine[0]), near(mine[1]))
    assert found["counted"] == pytest.approx(mine[2])
    assert (found["reference_delay"], found["reference_bound"]) == (near(other[0]), near(other[1]))
    ratio = lower = upper = None
    if mine[2] and other[2]:
        ratio = mine[2] / other[2]
    elif other[2] and mine[1] is not None:
        lower = max(floor(mine[1]), 1) / other[2]
    elif mine[2] and other[1] is not None:
        upper = mine[2] / max(floor(other[1]), 1)
    assert bounds(found) == pytest.approx((ratio, lower, upper))
    assert found["violation"] == pytest.approx(mine[3])
    assert found["amplification_violation"] == pytest.approx(max(mine[3], other[3]))
    assert (found["violation"] <= 0) == (found["counted"] is not None)
    assert found["violation"] <= 1
    assert (found["amplification_violation"] <= 0) == (found["amplification"] is not None)


def plain(seeds: Sequence[Seed]) -> tuple[Any, Any, Any, float]:
    """Median delay, its bound, median counted delay and violation of a cell."""
    outcomes = [seed.outcome for seed in seeds if seed.status != "failed"]
    known = sum(o.delay is not None and o.phase != "generalized_only" for o in outcomes)
    lacks = 1 - 2 * known / (len(seeds) + 1)
    if not outcomes:
        return None, None, None, lacks
    found = by_hand.cell(outcomes)
    if found.delay is None or 2 * known <= len(seeds):
        return found.delay, found.bound, None, lacks
    return found.delay, found.bound, found.counted, 0.0


def test_a_toy_sweep_is_evaluated_as_its_arithmetic_says(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "log.points_per_decade=10"), store)
    with open_views(ledger(store)) as connection:
        query = "select cell_id, task.rate as rate from cells where task.shift = 0 order by rate"
        cells = {r["rate"]: r["cell_id"] for r in sql.query(connection, query).to_pylist()}
        references = dict.fromkeys(cells.values(), cells[1.0])
        slow, half, same = evaluate(connection, references, ["task.rate"]).to_pylist()
    # errors reach 0.1 after 9 / rate steps and 29 / rate: logged at 9 and 32, 18 and 63
    steps = [(16, 20), (50, 63), (8, 10), (25, 32)]
    middles = [math.sqrt(a * b) for a, b in steps]
    names = ("t1", "t2")
    assert [cell[t] for cell in (half, same) for t in names] == [round(m) for m in middles]
    delay, reference = middles[1] - middles[0], middles[3] - middles[2]
    assert bounds(half) == (pytest.approx(delay / reference), None, None)
    assert bounds(slow) == (None, pytest.approx(1 / reference), None)  # t1 = 100, where it ended
    assert same["amplification"] == 1
    assert [r["objective_0"] for r in (slow, half, same)] == [0.1, 0.5, 1.0]
    assert (half["final_train"], half["final_test"]) == (1 / 32.5, 3 / 32.5)


def test_a_diverged_toy_has_no_delay(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "task.fate=well,diverges,raises"), store)
    with open_views(ledger(store)) as connection:
        query = (
            "select task.fate as fate, cell_id from cells where task.rate = 1 and task.shift = 0"
        )
        cells = {r["fate"]: r["cell_id"] for r in sql.query(connection, query).to_pylist()}
        references = {cells[f]: cells["well"] for f in ("diverges", "raises")}
        diverged, failed = evaluate(connection, references).to_pylist()
    assert (diverged["n_diverged"], diverged["n_failed"], diverged["phase"]) == (2, 0, "diverged")
    assert (failed["n_diverged"], failed["n_failed"]) == (0, 2)
    for found in (diverged, failed):
        assert bounds(found) == (None, None, None)
        assert found["violation"] == 1


@pytest.fixture
def two(tmp_path: Path) -> Made:
    return make(tmp_path, {"a": [*[well(10, 100)] * 2, Seed(10, None)], "b": [well(10, 20)]})


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("amplification * 2", pytest.approx(2 * QUICK / 10)),
        ("cells.delay - t1", 57),
        ("n_seeds > 1", 1),
        ("model.depth", 1),
        ("delay / 0", None),
        ("'NaN'::double", None),
        ("null", None),
        ("delay -- in steps", 64),
        ("case when phase = 'grokking' then 3.5 else 2.5 end", 2.5),
        (
            "(select max(l1) from metrics join trials using (trial_id) "
            "where trials.cell_id = cells.cell_id)",
            1000,
        ),
    ],
)
def test_an_objective_is_any_number_over_the_columns(
    two: Made, expression: str, value: float | None
) -> None:
    with open_views(two.ledger) as connection:
        table = evaluate(connection, {"a": "b"}, ["delay", expression])
    assert table["objective_1"].to_pylist() == [value]
    assert str(table.schema.field("objective_1").type) == "double"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "amplificaton * 2",
            "'amplificaton * 2': no column 'amplificaton'. Did you mean 'amplification'?",
        ),
        ("cells.dellay", "'cells.dellay': no column 'dellay'. Did you mean 'delay'?"),
        (
            "log(optimizer.lrr)",
            "'log(optimizer.lrr)': no column 'optimizer.lrr'. Did you mean 'optimizer.lr'?",
        ),
        ("optimiser.lr", "'optimiser.lr': no column 'optimiser.lr'. Did you mean 'optimizer.lr'?"),
        ("phase", "'phase' is a string, not a number. Name a numeric column."),
        ("delay +", "'delay +': Parser Error: syntax error at or near \")\""),
        ("1) as x, (2", "'1) as x, (2': Parser Error: syntax error at or near \"as\""),
        (
            "phase::double",
            "'phase::double': Conversion Error: Could not convert string 'comprehension' to DOUBLE",
        ),
        (
            "(with w as (copy (select 1) to '/tmp/x') select 1)",
            "\"(with w as (copy (select 1) to '/tmp/x') select 1)\": the store is read-only here: "
            "the query contains a statement that writes.",
        ),
    ],
)
def test_a_bad_objective_is_named_with_the_remedy(two: Made, expression: str, message: str) -> None:
    with (
        open_views(two.ledger) as connection,
        pytest.raises(UsageError, match=f"^{re.escape(message)}"),
    ):
        evaluate(connection, {"a": "b"}, ["delay", expression, "t1"])


def test_objectives_are_checked_before_there_is_any_cell(tmp_path: Path) -> None:
    with open_views(Made.at(tmp_path).ledger) as connection:
        assert evaluate(connection, {}, ["delay"]).num_rows == 0
        with pytest.raises(UsageError, match="Did you mean 'delay'"):
            evaluate(connection, {}, ["dellay"])
        with pytest.raises(UsageError, match="is a string"):
            evaluate(connection, {}, ["phase"])


def test_the_header_of_the_query_tells_its_columns(two: Made) -> None:
    with open_views(two.ledger) as connection:
        schema = evaluate(connection, {"a": "b"}).schema
    header = read_sql("amplification").partition("\n\nwith")[0].split("-- columns  ")[1]
    told = re.findall(r"^(?:--          )?(\w+) +(\w+)", header, flags=re.M)
    assert schema.names == [name for name, _ in told]
    for name, kind in told:
        assert TYPES[kind](schema.field(name).type), (name, kind)


def test_finals_leave_out_what_isnt_finite(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [Planned(f"t{k}", "c", k) for k in range(4)]
    launch = made.launch(plan)
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    values = [0.5, 0.75, 0.875, None]
    for p, value in zip(plan, values, strict=True):
        made.rows(pack, attempt, curve(p.trial_id, [0, 9], train_acc=[0, value]))
    with open_views(made.ledger) as connection:
        (found,) = evaluate(connection, {"c": "c"}).to_pylist()
    assert found["final_train"] == middle([v for v in values if v is not None])
    assert found["final_test"] is None


def interval(found: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return tuple(found[f"amplification_{name}"] for name in ("low", "high", "level"))


def test_the_interval_is_that_of_both_delays(tmp_path: Path) -> None:
    cell = [well(10, 1000), well(10, 500), well(10, 200)]
    found = row(tmp_path, cell, [well(10, 50), well(10, 100), well(20, 100)])
    # delays in (100 - 10, 1000 - 5] and (20 - 10, 100 - 5], each at a level of 75 %
    assert interval(found) == (pytest.approx(90 / 95), pytest.approx(995 / 10), 0.5)


@pytest.mark.parametrize("n", [6, 10])
def test_the_level_of_an_interval_is_at_least_that_of_both_sides_together(
    tmp_path: Path, n: int
) -> None:
    level = {6: 0.96875, 10: 0.978515625}[n]
    found = row(tmp_path, [well(10, 1000)] * n, [well(10, 100)] * n)
    assert interval(found) == (490 / 95, 995 / 40, pytest.approx(2 * level - 1))


@pytest.mark.parametrize(
    ("cell", "reference", "expected"),
    [
        ([well(10, 1000)], [well(10, 100)] * 3, (None, None, None)),
        ([well(10, 1000)] * 2, [well(10, 100)] * 2, (None, None, None)),
        ([*[well(10, 1000)] * 2, Seed(10, None)], [well(10, 100)] * 3, (490 / 95, None, 0.5)),
        ([well(10, 1000)] * 3, [*[well(10, 100)] * 2, Seed(10, None)], (None, 995 / 40, 0.5)),
        ([well(10, 1000)] * 3, [well(0, 0)] * 3, (490, 995, 0.5)),
        ([Seed(None, None)] * 3, [well(10, 100)] * 3, (None, None, None)),
    ],
)
def test_an_end_is_open_where_a_delay_is_not_known(
    tmp_path: Path, cell: list[Seed], reference: list[Seed], expected: tuple[Any, Any, Any]
) -> None:
    assert interval(row(tmp_path, cell, reference)) == expected


def test_a_cell_beside_itself_has_no_interval(tmp_path: Path) -> None:
    made = make(tmp_path, {"ref": [well(10, 1000), well(10, 500), well(10, 200)]})
    with open_views(made.ledger) as connection:
        (found,) = evaluate(connection, {"ref": "ref"}).to_pylist()
    assert (found["amplification"], interval(found)) == (1, (None, None, None))
