from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from sweeper.analysis.diagrams.phase import Axis, DiagramCell, PhaseDiagram, phase_diagram
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot import draw_curves, draw_phase
from sweeper.analysis.plot.phases import nearest
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.engine.driver import drive, inline
from sweeper.errors import UsageError
from sweeper.report import figures
from tests.refinements import plane, refine
from tests.slow import long_but
from tests.stores import ACCURACY, Made, Planned, config, curve, end
from tests.test_phase import X, Y, make


@pytest.mark.parametrize(
    "value", long_but(("delay", "phase"), ("delay", "phase", "t2", "agreement", "regularizer.name"))
)
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
        "demo: delay",
        "t1: train_acc ≥ 0.99, t2: test_acc ≥ 0.99, grokking: delay ≥ 1000",
        "demo · commit 0123456 · 11 trials, 1 seed · ledger record 4",
        "delay t2 - t1 (optimizer steps)",
        "optimizer.lr",
        "model.depth",
        "regularizer.name = l1",
        "censored (a lower bound)",
        "no result",
    ):
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
            ("trial_id = 'a'", "the trial has no logged step yet."),
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


PALER = ">paler: the nearest cell that was trained<"


def drawn(store: str, path: Path, **options: str) -> str:
    figures.phase(store, "plane", x="task.x", y="task.y", output=path, **options)
    return path.read_text() if path.suffix == ".svg" else ""


@pytest.mark.parametrize("value", ["phase", "delay"])
def test_a_refined_diagram_has_no_crosses_but_paler_places(
    value: str, tmp_path: Path, store: str
) -> None:
    plane(tmp_path, store)
    before = drawn(store, tmp_path / "a.svg", value=value)
    assert PALER not in before
    assert ">no result<" not in before
    refined = refine(store, levels=2)
    text = drawn(store, tmp_path / "a.svg", value=value)
    assert PALER in text
    assert ">no result<" not in text
    assert (">censored (a lower bound)<" in text) == (value == "delay")
    assert drawn(store, tmp_path / "b.svg", value=value) == text
    drawn(store, tmp_path / "a.parquet", value=value)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 25 + refined.cells


def test_a_failed_cell_of_a_refined_diagram_is_no_result(tmp_path: Path, store: str) -> None:
    plane(tmp_path, store, "task.trap=0.375")
    refine(store, levels=1)
    assert ">no result<" in drawn(store, tmp_path / "a.svg", value="phase")


def test_gaps_that_no_refinement_left_keep_their_crosses(tmp_path: Path, store: str) -> None:
    grid = plane(tmp_path, store)
    other = load_grid(tmp_path / "plane.yaml", ["task.x=0.3333", "task.y=0.777"])
    with drive(grid, store, inline(grid)) as driver:
        driver.train(grid, other.table(), adds="search")
    text = drawn(store, tmp_path / "a.svg", value="phase")
    assert ">no result<" in text
    assert PALER not in text


def mesh(*missing: tuple[int, int]) -> PhaseDiagram:
    """Three lines by two, and a refined column between the last two; some places are missing."""
    x, y = Axis("x", (1, 10, 40, 100), lines=(1, 10, 100)), Axis("y", (0, 5), lines=(0, 5))
    cells = tuple(
        DiagramCell(a, b, None, f"{a} {b}", None, None, None, False, None, None, 1, None)
        for i, a in enumerate(x.values)
        for j, b in enumerate(y.values)
        if (i, j) not in missing
    )
    return PhaseDiagram(x, y, None, "v", "category", cells, refined=True)


def test_near_is_what_is_near_on_the_mesh() -> None:
    found = nearest(mesh((2, 1)), None)
    assert {place: cell and cell.value for place, cell in found.items()} == {(2, 1): "100 5"}


def test_what_is_nearer_to_a_hole_of_the_grid_than_to_any_cell_stays_empty() -> None:
    assert nearest(mesh((2, 1), (3, 1)), None) == {(2, 1): None}
    assert nearest(mesh(), None) == {}


def test_a_hole_of_the_grid_is_drawn_as_such(tmp_path: Path) -> None:
    ledger = make(tmp_path).ledger
    with open_views(ledger) as connection:
        draw_phase(mesh((2, 1), (3, 1)), tmp_path / "a.svg", Provenance.of(ledger, connection))
    text = (tmp_path / "a.svg").read_text()
    assert ">no result<" in text
    assert PALER not in text


def test_a_large_diagram_is_one_mesh_with_its_bounds_hatched_and_holes_marked(
    tmp_path: Path,
) -> None:
    cells = tuple(
        DiagramCell(x, y, None, 100 * x, None, None, None, x > 20, "grokking", 1.0, 1, 0.0)
        for x in range(1, 41)
        for y in (1, 2)
        if (x, y) != (3, 1)
    )
    axes = Axis.of("a", range(1, 41)), Axis.of("b", (1, 2))
    provenance = Provenance("s", "c", None, False, 1, 1, 1)
    for censored in (True, False):
        shown = tuple(c for c in cells if censored or not c.censored)
        axis = Axis.of("a", [c.x for c in shown]) if censored else axes[0]
        draw_phase(
            PhaseDiagram(axis, axes[1], None, "t2", "steps", shown), tmp_path / "a.svg", provenance
        )
        text = (tmp_path / "a.svg").read_text()
        assert "QuadMesh" in text
        assert (">censored (a lower bound)<" in text) == censored
        assert ("<pattern" in text) == censored
        assert ">no result<" in text
