from __future__ import annotations

import math
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sweeper import sql
from sweeper.analysis.diagrams.phase import Axis, phase_diagram
from sweeper.analysis.terminal.table import phase_table
from sweeper.analysis.views.views import open_views
from sweeper.errors import UsageError
from tests.stores import Made, Planned, config, curve, end

X, Y = "optimizer.lr", "model.depth"


def make(folder: Path) -> Made:
    """Two depths by three rates, one of them missing; the regularizer tells two facets apart."""
    made = Made.at(folder)
    plan = []
    for name in ("l1", "none"):
        for depth in (1, 2):
            for lr in (0.01, 0.1, 1.0):
                if (name, depth, lr) != ("l1", 2, 1.0):
                    values = config(
                        regularizer__name=name,
                        model__depth=depth,
                        optimizer__lr=lr,
                        regularizer__strength=1e-3 if name == "l1" else None,
                    )
                    cell = f"{name}-{depth}-{lr}"
                    plan.append(Planned(cell, cell, 0, values))
    launch = made.launch(plan, steps=1000)
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    rows, ends = [], []
    for trial in (p.trial_id for p in plan):
        if trial == "none-2-1.0":
            continue
        test = [0.0, 0.0, 0.0 if trial.endswith("0.01") else 1.0]
        rows += curve(trial, [0, 10, 1000], train_acc=[0.0, 1.0, 1.0], test_acc=test)
        ends.append(end(trial, "generalized" if test[-1] else "censored", 1000))
    made.rows(pack, attempt, rows, ends, done=True)
    return made


@pytest.fixture
def views(tmp_path: Path) -> Iterator[sql.Connection]:
    with open_views(make(tmp_path).ledger) as connection:
        yield connection


def test_cells_keep_whether_they_are_censored_missing_or_unfinished(views: sql.Connection) -> None:
    diagram = phase_diagram(views, X, Y, facet="regularizer.name")
    assert (diagram.x.values, diagram.y.values) == ((0.01, 0.1, 1.0), (1, 2))
    assert diagram.facets == ("l1", "none")
    assert len(diagram.cells) == 11
    panel = diagram.panel("l1")
    assert (panel[0, 0].value, panel[0, 0].censored, panel[0, 0].phase) == (
        990,
        True,
        "memorization",
    )
    assert (panel[1, 0].value, panel[1, 0].censored) == (90, False)  # sqrt(10 * 1000) - 10
    assert (2, 1) not in panel
    unfinished = diagram.panel("none")[2, 1]
    assert (unfinished.value, unfinished.phase, unfinished.n_seeds) == (None, None, 1)


@pytest.mark.parametrize(
    ("value", "shown", "kind"),
    [
        ("t1", 10, "steps"),
        ("t2", 100, "steps"),
        ("phase", "comprehension", "phase"),
        ("n_memorized / n_seeds", 1.0, "number"),
        ("regularizer.name", "l1", "category"),
    ],
)
def test_any_column_or_expression_can_be_shown(
    views: sql.Connection, value: str, shown: object, kind: str
) -> None:
    diagram = phase_diagram(views, X, Y, value=value, where="regularizer.name = 'l1'")
    assert (diagram.panel()[1, 0].value, diagram.kind) == (shown, kind)


def landscape(folder: Path) -> Made:
    """Two rates by two depths of three seeds whose test losses are 4, 1, 2 times a factor."""
    made = Made.at(folder)
    plan = []
    for depth in (1, 2):
        for lr in (0.1, 1.0):
            values = config(model__depth=depth, optimizer__lr=lr)
            for seed in range(3):
                name = f"{depth}-{lr}"
                plan.append(Planned(f"{name}-{seed}", name, seed, values))
    launch = made.launch(plan, steps=1000)
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    rows, ends = [], []
    for one in plan:
        factor = {0: 1.0, 1: 10.0, 2: 100.0}[one.seed] * (2.0 if one.cell_id == "2-1.0" else 1.0)
        losses = [4.0 * factor, 1.0 * factor, 2.0 * factor]
        if one.seed == 2:
            losses[2] = math.nan
        rows += curve(one.trial_id, [0, 10, 1000], test_loss=losses)
        ends.append(end(one.trial_id, "censored", 1000))
    made.rows(pack, attempt, rows, ends, done=True)
    return made


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("min(test_loss)", 10.0),
        ("max( test_loss )", 40.0),
        ("last(test_loss)", 20.0),
        ("ln(delay) + 1", None),
    ],
)
def test_what_a_metric_came_to_can_be_shown(
    tmp_path: Path, value: str, shown: float | None
) -> None:
    with open_views(landscape(tmp_path).ledger) as views:
        diagram = phase_diagram(views, X, Y, value=value)
    panel = diagram.panel()
    assert diagram.kind == "number"
    assert [panel[0, 0].value, panel[1, 1].value] == [shown, shown and 2 * shown]
    assert panel[0, 0].n_seeds == 3


def test_a_metric_that_isnt_there_is_named_with_the_nearest(views: sql.Connection) -> None:
    with pytest.raises(UsageError) as caught:
        phase_diagram(views, X, Y, value="min(test_lost)", where="regularizer.name = 'l1'")
    assert str(caught.value) == "value: no metric 'test_lost'. Did you mean 'test_loss'?"


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ("optimizer.lrr", Y, {}, "x: no axis 'optimizer.lrr'. Did you mean 'optimizer.lr'?"),
        (
            X,
            "task.p",
            {},
            "y: task.p = 23 in all 11 cells. Axes that vary: model.depth, "
            "regularizer.name, regularizer.strength, optimizer.lr.",
        ),
        (X, X, {}, "x, y and facet must differ: optimizer.lr, optimizer.lr."),
        (
            X,
            Y,
            {},
            "2 cells fall on one place, because more than optimizer.lr, model.depth "
            "varies: regularizer.name: l1, none; regularizer.strength: 0.001, null. Add --facet "
            "regularizer.name, or choose one value, e.g. --where \"regularizer.name = 'l1'\".",
        ),
        (X, Y, {"where": "model.depth > 5"}, "no cell matches 'model.depth > 5'. Loosen it."),
        (
            X,
            Y,
            {"where": "(with w as (copy (select 1) to '/tmp/x') select true)"},
            "the store is read-only here: the query contains a statement that writes.",
        ),
    ],
)
def test_a_diagram_that_makes_no_sense_is_refused_with_the_remedy(
    views: sql.Connection, x: str, y: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        phase_diagram(views, x, y, **options)


def test_axes_that_move_together_dont_need_a_facet_each(views: sql.Connection) -> None:
    diagram = phase_diagram(views, X, "regularizer.strength", where="model.depth = 1")
    assert diagram.y.values == (0.001, None)
    assert diagram.y.categorical


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_has_one_row_a_cell(views: sql.Connection, tmp_path: Path, suffix: str) -> None:
    diagram = phase_diagram(views, X, Y, facet="regularizer.name")
    path = tmp_path / f"out{suffix}"
    diagram.export(path)
    table = pyarrow.csv.read_csv(path) if suffix == ".csv" else pq.read_table(path)
    assert table.num_rows == 11
    assert table.column_names == [
        "optimizer.lr",
        "model.depth",
        "regularizer.name",
        "value",
        "low",
        "high",
        "level",
        "censored",
        "phase",
        "agreement",
        "n_seeds",
        "censored_share",
    ]


def test_an_export_to_something_else_is_refused(views: sql.Connection, tmp_path: Path) -> None:
    diagram = phase_diagram(views, X, Y, facet="regularizer.name")
    with pytest.raises(UsageError, match=r"a table is written as \.csv or \.parquet"):
        diagram.export(tmp_path / "out.xlsx")


def test_the_terminal_shows_bounds_and_gaps(views: sql.Connection) -> None:
    console = Console(width=100, record=True, file=StringIO())
    console.print(phase_table(phase_diagram(views, X, Y, where="regularizer.name = 'l1'")))
    lines = [line.split() for line in console.export_text().split("\n")]
    assert ["2", ">", "990", "90", "-"] in lines
    assert ["1", ">", "990", "90", "90"] in lines


@pytest.mark.parametrize(
    ("values", "log", "categorical"),
    [
        ([1, 2, 3], False, False),
        ([1, 2, 4, 8], True, False),
        ([0.0, 0.1, 1.0], False, False),
        ([1e-5, 1e-4, 1e-3], True, False),
        ([1e-4, 3e-4, 1e-3, 1e-2], True, False),
        ([0.1, 1.0], True, False),
        ([1, 2], False, False),
        (["a", "b"], False, True),
        ([True, False], False, True),
        ([0.1, None], False, True),
    ],
)
def test_an_axis_is_logarithmic_where_its_values_are(
    values: list[object], log: bool, categorical: bool
) -> None:
    axis = Axis.of("a", values)
    assert (axis.log, axis.categorical) == (log, categorical)


def test_a_refined_axis_is_logarithmic_where_its_grid_is() -> None:
    values = (0.1, 0.32, 0.56, 1.0)
    assert not Axis("a", values).log
    assert Axis("a", values, lines=(0.1, 1.0)).log
    assert not Axis("a", (0.0, *values), lines=(0.1, 1.0)).log


@pytest.mark.parametrize(
    "value", ["count(*)", "list(delay)", "*", "cells.*", "columns(*)", "unnest([1, 2])"]
)
def test_what_is_drawn_has_one_value_per_cell(tmp_path: Path, value: str) -> None:
    with open_views(make(tmp_path).ledger) as views, pytest.raises(UsageError) as caught:
        phase_diagram(views, X, Y, value=value, where="regularizer.name = 'none'")
    assert str(caught.value) == (
        f"value {value!r}: not one value per cell. Write an expression over the columns of one "
        "cell, without aggregates and *, e.g. delay / t1."
    )
