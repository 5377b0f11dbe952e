"""Delays and cells follow the criterion: SQL and the one definition find the same."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper import sql
from sweeper.analysis.diagrams.provenance import Provenance, criterion_words
from sweeper.analysis.plot import draw_curves
from sweeper.analysis.views.views import open_views
from sweeper.criterion import HELD, Bracket, Criterion, delay, phase
from sweeper.sql import QueryError
from sweeper.store.schema import logged_steps
from tests.by_hand import middle
from tests.stores import Made, Planned, config, curve, end
from tests.test_views import one_trial, rows

STATUS = ("pending", "generalized", "censored", "diverged", "failed")
values = st.sampled_from([None, 0.0, 0.5, float(np.nextafter(0.5, 0)), 0.75, 1.0])
"""Ties, thresholds and their neighbours."""

near = st.sampled_from([None, 0.96, 1.0, 1.04, 1.06]) | st.floats(0.94, 1.06)
"""Around a final value and the ends of its tolerance."""

logs = st.lists(st.tuples(values, values), max_size=6)
settling = st.lists(st.tuples(near, near), min_size=4, max_size=8)


@pytest.mark.parametrize(
    ("metric", "rule", "train", "tests"),
    [
        ("acc", "threshold", 0.5, [0.5, 0.75]),
        ("error", "threshold", 0.5, [0.5, 0.75]),
        ("acc", "relative", 1.0, [1.0, 0.9, 0.5]),
        ("error", "relative", 1.0, [1.0, 1.1, 2.0]),
        ("acc", "argmin", None, [None]),
        ("error", "argmin", None, [None]),
        ("error", "stable_final", None, [None]),
        ("never", "threshold", 0.5, [0.5]),
    ],
)
@pytest.mark.parametrize("hold", [1, 2, 3])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_delays_are_those_of_the_one_definition(
    metric: str,
    rule: str,
    train: float | None,
    tests: list[float | None],
    hold: int,
    data: st.DataObject,
) -> None:
    if hold > 1 and rule not in HELD:
        return
    floors = st.just(None) if rule == "threshold" else st.sampled_from([None, 0.8, 1.0])
    one = st.tuples(st.sampled_from(STATUS), settling if rule == "stable_final" else logs)
    trials = data.draw(st.lists(one, min_size=8, max_size=25))
    criterion = Criterion.model_validate(
        {
            "metric": metric,
            "rule": rule,
            "train": train,
            "test": data.draw(st.sampled_from(tests)),
            "gap": data.draw(st.sampled_from([1, 10, 90, 100_000])),
            "hold": hold,
            "floor": data.draw(floors),
        }
    )
    with TemporaryDirectory() as folder:
        made = Made.at(folder)
        ids = [f"t{k:02}" for k in range(len(trials))]
        launch = made.launch([Planned(i) for i in ids], criteria={"": criterion.model_dump()})
        pack = made.pack(ids)
        attempt = made.claim(pack, launch)
        found, ends = [], []
        for i, (status, log) in zip(ids, trials, strict=True):
            logged = {
                f"{side}_{metric}": [row[k] for row in log]
                for k, side in enumerate(("train", "test"))
                if metric != "never"
            }
            found += curve(i, [10**k - 1 for k in range(len(log))], **logged)
            if status != "pending":
                ends.append(end(i, status, 10 ** len(log) // 10 - 1))
        made.rows(pack, attempt, found, ends)
        expected = [_delay(i, s, log, criterion) for i, (s, log) in zip(ids, trials, strict=True)]
        with open_views(made.ledger) as connection:
            assert rows(connection, "select * from delays order by trial_id") == expected
            if metric != "never":
                given = criterion.model_dump(exclude_none=True)
                call = ", ".join(f"{name} := {value!r}" for name, value in given.items())
                query = f"select * from delays_at({call}) order by trial_id"
                assert rows(connection, query) == expected


def _delay(
    trial_id: str, status: str, log: list[tuple[float | None, float | None]], criterion: Criterion
) -> tuple[Any, ...]:
    steps = np.array([10**k - 1 for k in range(len(log))], dtype=np.int64)
    never = criterion.metric == "never"
    table = np.array(
        [[np.nan if v is None or never else v for v in row] for row in log], dtype=np.float64
    ).reshape(-1, 2)
    ended = status in ("generalized", "censored", "diverged")
    train = criterion.train_bracket(steps, table[:, 0])
    test = criterion.test_bracket(steps, table[:, 1])
    last = int(steps[-1]) if steps.size else None
    if criterion.whole and not ended:
        train, test, last = Bracket(None, None), Bracket(None, None), None
    t1, t2 = train.step, test.step
    diverged = status == "diverged"
    known = None if diverged or last is None else delay(t1, test)
    over = ended or None not in (t1, t2)
    became = phase(t1, t2, diverged=diverged, gap=criterion.gap).value if over else None
    return (
        trial_id,
        t1,
        t2,
        known and known[0],
        bool(known and known[1]),
        last,
        became,
        *(None if one.step is None else one.after for one in (train, test)),
        *(one.after if one.step is None else None for one in (train, test)),
        _estimate(train, test, became, criterion.gap),
    )


def _estimate(train: Bracket, test: Bracket, became: str | None, gap: int) -> Any:
    if became not in ("grokking", "comprehension"):
        return None
    t1, t2 = (middle(one.step or 0, one.after) for one in (train, test))
    least, most = (gap, math.inf) if became == "grokking" else (0, gap - 1)
    return pytest.approx(min(max(t2 - t1, least), most))


@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_lower_ends_are_the_logged_steps_before_whatever_steps_a_trial_logs(
    data: st.DataObject,
) -> None:
    usual = logged_steps(50, 40)
    steps = st.lists(st.integers(0, 41), min_size=1, max_size=12, unique=True).map(sorted)
    own = data.draw(
        st.lists(
            st.integers(1, len(usual)).map(lambda n: usual[:n]) | steps, min_size=4, max_size=12
        )
    )
    with TemporaryDirectory() as folder:
        made = Made.at(folder)
        ids = [f"t{k:02}" for k in range(len(own))]
        launch = made.launch([Planned(i) for i in ids])
        pack = made.pack(ids)
        found, expected = [], []
        for i, logged in zip(ids, own, strict=True):
            t1, t2 = (data.draw(st.sampled_from(logged)) for _ in range(2))
            found += curve(
                i,
                logged,
                train_acc=[float(s >= t1) for s in logged],
                test_acc=[float(s >= t2) for s in logged],
            )
            before = [max((s for s in logged if s < t), default=None) for t in (t1, t2)]
            expected.append((i, t1, t2, *before))
        made.rows(pack, made.claim(pack, launch), found)
        with open_views(made.ledger) as connection:
            query = "select trial_id, t1, t2, t1_lower, t2_lower from delays order by trial_id"
            assert rows(connection, query) == expected


def test_lower_ends_of_usual_steps_need_no_second_look_at_the_metrics(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    ids, steps = [f"t{k:03}" for k in range(60)], logged_steps(50, 10_000)
    launch = made.launch([Planned(i) for i in ids])
    pack = made.pack(ids)
    reached = [float(s >= 100) for s in steps]
    found = [row for i in ids for row in curve(i, steps, train_acc=reached, test_acc=reached)]
    attempt = made.claim(pack, launch)
    made.rows(pack, attempt, found)
    with open_views(made.ledger) as connection:
        assert rows(connection, "select distinct t1_lower from delays") == [(95,)]
        once = _scanned(connection, "select * from delays")
        assert len(found) <= once < len(found) + 5000
    made.rows(pack, attempt, curve("t000", [10_001], train_acc=[1.0]))
    with open_views(made.ledger) as connection:
        assert _scanned(connection, "select * from delays") > len(found) + len(steps)


def _scanned(connection: sql.Connection, query: str) -> int:
    """Return how many rows of Parquet files a query reads."""
    ((_, text),) = rows(connection, f"explain (analyze, format json) {query}")
    scans = [n for n in sql.nodes(json.loads(text)) if "Filename(s)" in n.get("extra_info", {})]
    assert scans
    return sum(scan["intermediate_rows"] for scan in scans)


def test_every_task_is_read_by_its_own_criterion(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    criteria = {
        "modular_arithmetic": {"metric": "acc", "train": 0.9, "test": 0.9},
        "sparse_recovery": {"metric": "error", "train": 0.1, "test": 0.1},
    }
    plan = [
        Planned("a"),
        Planned("b", config=config(task__name="sparse_recovery")),
        Planned("c", config=config(task__name="unheard_of")),
    ]
    launch = made.launch(plan, criteria=criteria)
    pack = made.pack(["a", "b", "c"])
    attempt = made.claim(pack, launch)
    for trial in "abc":
        made.rows(pack, attempt, curve(trial, [0, 1], train_acc=[0, 1], train_error=[0, 1]))
    query = "select trial_id, t1 from delays order by 1"
    with open_views(made.ledger) as connection:
        assert rows(connection, query) == [("a", 1), ("b", 0), ("c", None)]
    other = {"modular_arithmetic": Criterion(metric="acc", train=0.0, test=0.9)}
    with open_views(made.ledger, criteria=other) as connection:
        assert rows(connection, query) == [("a", 0), ("b", 0), ("c", None)]


def test_an_unknown_metric_is_named_with_those_there_are(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    with open_views(made.ledger) as connection, pytest.raises(QueryError, match="acc, error, loss"):
        sql.query(connection, "select * from delays_at('accuracy', 0.9, 0.9)")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "'acc', 0.9, 0.9, rule := 'first'",
            "unknown rule. Known: threshold, relative, stable_final, argmin.",
        ),
        ("'acc'", "rule threshold takes thresholds: train := ..., test := ..."),
        (
            "'acc', 0.9, rule := 'relative'",
            "rule relative takes thresholds: train := ..., test := ...",
        ),
        (
            "'acc', 0.9, rule := 'argmin'",
            "rule argmin takes no thresholds. Leave train and test out.",
        ),
        ("'acc', rule := 'argmin', hold := 2", "rule argmin takes no hold. Leave it out."),
        ("'acc', 0.9, 0.9, hold := 0", "hold is at least 1"),
        ("'acc', 0.9, 0.9, floor := 0.5", "rule threshold takes no floor. Leave it out."),
        ("'acc', rule := 'argmin', floor := 2", "floor is above 0 and at most 1"),
        (
            "'acc', 0.9, 0.9, rule := null",
            "unknown rule. Known: threshold, relative, stable_final, argmin.",
        ),
        ("'loss', 'nan'::double, 0.9", "thresholds are finite numbers"),
        ("'loss', 0.9, 'inf'::double", "thresholds are finite numbers"),
        ("'acc', 0.9, 0.9, gap := null", "gap is a whole number of steps, at least 1"),
        ("'acc', 0.9, 0.9, gap := 0", "gap is a whole number of steps, at least 1"),
        ("'acc', 0.9, 0.9, hold := 2.5", "hold is a whole number"),
        ("'acc', 0.9, 1.1, rule := 'relative'", "rule relative takes factors of at most 1 for acc"),
        (
            "'loss', 0.9, 1.5, rule := 'relative'",
            "rule relative takes factors of at least 1 for loss",
        ),
    ],
)
@pytest.mark.parametrize("wanted", ["*", "t2", "count(*)"])
def test_a_rule_that_is_asked_for_wrongly_says_what_it_takes(
    tmp_path: Path, call: str, message: str, wanted: str
) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    with open_views(made.ledger) as connection, pytest.raises(QueryError) as caught:
        sql.query(connection, f"select {wanted} from delays_at({call})")
    assert message in str(caught.value)


def test_cells_follow_the_rule_and_a_trial_that_was_cut_short_is_censored(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [Planned("a", seed=0), Planned("b", seed=1), Planned("c", seed=2)]
    argmin = {"metric": "error", "train": None, "test": None, "rule": "argmin", "gap": 50}
    launch = made.launch(plan, criteria={"modular_arithmetic": argmin})
    pack = made.pack(["a", "b", "c"])
    attempt = made.claim(pack, launch)
    steps, train = [0, 10, 100, 1000], [1, 0.1, 0.1, 0.1]
    made.rows(
        pack,
        attempt,
        [
            *curve("a", steps, train_error=train, test_error=[1, 1, 0.1, 0.2]),
            *curve("b", steps, train_error=train, test_error=[1, 0.9, 0.5, 0.1]),  # still falling
            *curve("c", steps, train_error=train, test_error=[1, 0.1, 0.2, 0.2]),
        ],
        [end("a", "censored", 1000), end("b", "censored", 1000)],
    )
    with open_views(made.ledger) as connection:
        query = "select trial_id, t1, t2, delay, censored, phase, t1_lower, t2_lower from delays"
        assert rows(connection, f"{query} order by 1") == [
            ("a", 10, 100, 90, False, "grokking", 0, 10),
            ("b", 10, None, 990, True, "memorization", 0, None),
            ("c", None, None, None, False, None, None, None),  # hasn't ended
        ]
        columns = "n_memorized, n_generalized, delay, delay_bound, phase, censored_share, t1"
        # sqrt(50 * 990): grokking is a delay of at least 50
        assert rows(connection, f"select {columns} from cells") == [
            (2, 1, None, 222, "split", 0.5, 10)
        ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train": 0.1, "test": 0.2}, "t1: train_error ≤ 0.1, t2: test_error ≤ 0.2"),
        (
            {"rule": "relative", "train": 1.5, "test": 2.0},
            "t1: train_error ≤ 1.5 times its best, t2: test_error ≤ 2 times its best",
        ),
        ({"rule": "argmin"}, "t1: train_error at its best, t2: test_error at its best"),
        (
            {"rule": "stable_final"},
            "t1: train_error stays near its final value, t2: test_error stays near its final value",
        ),
    ],
)
def test_a_criterion_is_told_in_words(tmp_path: Path, given: dict[str, object], words: str) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    criterion = Criterion.model_validate({"metric": "error", **given})
    with open_views(made.ledger, criteria={"modular_arithmetic": criterion}) as connection:
        assert criterion_words(connection) == f"{words}, grokking: delay ≥ 1000"


@pytest.mark.parametrize(
    ("given", "drawn"), [({"rule": "argmin"}, False), ({"train": 0.9, "test": 0.9}, True)]
)
def test_curves_show_a_threshold_only_where_there_is_one(
    tmp_path: Path, given: dict[str, object], drawn: bool
) -> None:
    made = Made.at(tmp_path)
    one_trial(made)
    criterion = Criterion.model_validate({"metric": "acc", **given})
    with open_views(made.ledger, criteria={"modular_arithmetic": criterion}) as connection:
        provenance = Provenance.of(made.ledger, connection)
        draw_curves(connection, tmp_path / "a.svg", provenance=provenance)
    assert (">threshold<" in (tmp_path / "a.svg").read_text()) == drawn


def test_rows_without_a_finite_metric_bound_nothing(tmp_path: Path) -> None:
    """The logged steps are the store's own, so that only the missing values tell them apart."""
    made = Made.at(tmp_path)
    launch = made.launch([Planned(name, seed=n) for n, name in enumerate("abc")])
    pack = made.pack(["a", "b", "c"])
    steps = logged_steps(50, 14)
    late = [None if s in (7, 10) else float(s == 14) for s in steps]
    lost = [None if s >= 7 else 0.0 for s in steps]
    made.rows(
        pack,
        made.claim(pack, launch),
        [
            *curve("a", steps, train_acc=[1.0] * len(steps), test_acc=late),
            *curve("b", steps, train_acc=[1.0] * len(steps), test_acc=lost),
            *curve("c", steps, train_acc=lost, test_acc=[None] * len(steps)),
        ],
        [end(name, "censored", 14) for name in "abc"],
    )
    assert 5 in steps
    before, last = (
        max(s for s in steps if s < 14 and s not in (7, 10)),
        max(s for s in steps if s < 7),
    )
    columns = "trial_id, t2, t2_lower, t2_after, t1_after, delay, censored"
    with open_views(made.ledger) as connection:
        assert rows(connection, f"select {columns} from delays order by 1") == [
            ("a", 14, before, None, None, 14, False),
            ("b", None, None, last, None, last, True),
            ("c", None, None, None, last, None, False),
        ]
