from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from analysis.phase import phase_diagram
from analysis.plot import draw_curves, draw_phase
from analysis.provenance import Provenance
from analysis.views import open_views
from sweeper.errors import UsageError
from tests.stores import ACCURACY, Made, Planned, config, curve, end
from tests.test_phase import X, Y, make


@pytest.mark.parametrize("value", ["delay", "phase", "t2", "agreement", "regularizer.name"])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_diagram_is_drawn_as_the_same_bytes(
    tmp_path: Path, value: str, suffix: str
) -> None:
    ledger = make(tmp_path).ledger
    with open_views(ledger) as connection:
        provenance = Provenance.of(ledger, connection)
        diagram = phase_diagram(connection, X, Y, facet="regularizer.name", value=value)
        for name in ("a", "b"):
            draw_phase(diagram, tmp_path / f"{name}{suffix}", provenance)
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert b"ledger record 4" in first
    if suffix == ".png":
        assert imread(tmp_path / "a.png").std() > 0.05


def test_a_figure_says_what_it_shows_and_where_it_comes_from(tmp_path: Path) -> None:
    ledger = make(tmp_path).ledger
    with open_views(ledger) as connection:
        provenance = Provenance.of(ledger, connection)
        diagram = phase_diagram(connection, X, Y, facet="regularizer.name")
        draw_phase(diagram, tmp_path / "a.svg", provenance)
    text = (tmp_path / "a.svg").read_text()
    for words in (
        "demo: delay", "t1: train_acc ≥ 0.99, t2: test_acc ≥ 0.99, grokking: delay ≥ 1000",
        "demo · commit 0123456 · 11 trials, 1 seed · ledger record 4",
        "delay t2 - t1 (optimizer steps)", "optimizer.lr", "model.depth",
        "regularizer.name = l1", "censored (a lower bound)", "no result",
    ):  # fmt: skip
        assert f">{words}<" in text, words


@pytest.mark.parametrize(
    ("where", "labels"),
    [
        (None, ["model.depth = 1, regularizer.name = l1, "]),
        ("model.depth = 1 and optimizer.lr = 0.1 and delay > 0", ["regularizer.name = l1"]),
        ("trial_id = 'l1-1-0.1'", ["the trial", "threshold"]),
    ],
)
def test_curves_tell_trials_apart_by_what_differs(
    tmp_path: Path, where: str | None, labels: list[str]
) -> None:
    ledger = make(tmp_path).ledger
    with open_views(ledger) as connection:
        provenance = Provenance.of(ledger, connection)
        draw_curves(connection, tmp_path / "a.svg", where=where, provenance=provenance)
    text = (tmp_path / "a.svg").read_text()
    assert all(f">{label}" in text for label in labels)


def test_many_curves_of_an_error_are_drawn_without_labels(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [Planned(f"t{k}", "c", k) for k in range(20)]
    criterion = {**ACCURACY, "metric": "error", "train": 1e-3, "test": 1e-3}
    launch = made.launch(plan, criteria={"": criterion})
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    for p in plan:
        errors = [1.0, None, 1e-4]
        rows = curve(p.trial_id, [0, 1, 9], train_error=errors, test_error=errors)
        made.rows(pack, attempt, rows, [end(p.trial_id, "generalized", 9)])
    with open_views(made.ledger) as connection:
        provenance = Provenance.of(made.ledger, connection)
        draw_curves(connection, tmp_path / "a.svg", provenance=provenance)
    text = (tmp_path / "a.svg").read_text()
    assert "seed =" not in text
    assert "train_error ≤ 0.001" in text


def test_curves_of_nothing_or_of_different_criteria_are_refused(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    sparse = config(task__name="sparse_recovery")
    criteria = {"modular_arithmetic": ACCURACY, "sparse_recovery": {**ACCURACY, "train": 0.5}}
    made.launch([Planned("a"), Planned("b", config=sparse)], criteria=criteria)
    with open_views(made.ledger) as connection:
        provenance = Provenance.of(made.ledger, connection)
        for where, message in (
            ("seed = 9", "no trial matches 'seed = 9'. Loosen it."),
            ("trial_id = 'a'", "none of these 1 trials has a logged step yet."),
            (None, "the tasks modular_arithmetic, sparse_recovery have 2 criteria."),
        ):
            with pytest.raises(UsageError) as caught:
                draw_curves(connection, tmp_path / "a.png", where=where, provenance=provenance)
            assert str(caught.value).startswith(message)


def test_a_diagram_without_any_delay_has_no_colour_bar(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [
        Planned(
            f"t{k}", f"c{k}", config=config(model__depth=1 + k % 2, optimizer__lr=10.0 ** (k // 2))
        )
        for k in range(4)
    ]
    launch = made.launch(plan)
    pack = made.pack([p.trial_id for p in plan])
    attempt = made.claim(pack, launch)
    for k, p in enumerate(plan):
        rows = curve(p.trial_id, [0, 1000], train_acc=[0.1, 0.2], test_acc=[0.1, 0.1])
        status = "diverged" if k == 0 else "censored"
        made.rows(pack, attempt, rows, [end(p.trial_id, status, 1000)])
    with open_views(made.ledger) as connection:
        provenance = Provenance.of(made.ledger, connection)
        diagram = phase_diagram(connection, X, Y)
        draw_phase(diagram, tmp_path / "a.svg", provenance)
    text = (tmp_path / "a.svg").read_text()
    assert ">confusion<" in text
    assert ">diverged<" in text
    assert "delay t2 - t1 (optimizer steps)" not in text


def test_a_figure_of_another_suffix_is_refused(tmp_path: Path) -> None:
    ledger = make(tmp_path).ledger
    with open_views(ledger) as connection:
        provenance = Provenance.of(ledger, connection)
        diagram = phase_diagram(connection, X, Y, facet="regularizer.name")
        with pytest.raises(UsageError, match=r"a figure is written as \.png or \.svg"):
            draw_phase(diagram, tmp_path / "a.gif", provenance)
