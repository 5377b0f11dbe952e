from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from sweeper.analysis.diagrams.history import Direction, History, HistoryPoint, Scalar
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.plot.search import draw_search
from sweeper.analysis.plot.sheet import Sheet
from sweeper.analysis.plot.ticks import plain
from sweeper.errors import UsageError

ABOUT = Provenance("demo", "t1: train_acc ≥ 0.99", "0123456789", False, 30, 3, 7)
UP: tuple[tuple[str, Direction], ...] = (("amplification", "maximize"),)
BOTH: tuple[tuple[str, Direction], ...] = (*UP, ("final_test", "minimize"))
IMPORTANCE = {"selection.tau": 0.7, "regularizer.name": 0.2, "regularizer.strength": 0.1}


def values(k: int) -> dict[str, Scalar]:
    """A point of a space whose strength applies to l1 only."""
    found: dict[str, Scalar] = {"selection.tau": k / 20, "regularizer.name": ("l1", "none")[k % 2]}
    return found | ({"regularizer.strength": 10.0 ** -(1 + k % 5)} if k % 2 == 0 else {})


def suggestions(n: int = 20, objectives: int = 1) -> tuple[HistoryPoint, ...]:
    """Every fifth is censored, every seventh has nothing, the first three are the store's."""
    found = []
    for k in range(n):
        known = k % 5 != 4 and k % 7 != 6
        results = (1.0 + k, 10.0 + (k * 7) % 11)[:objectives]
        found.append(
            HistoryPoint(
                k,
                values(k),
                results if known else (None,) * objectives,
                known,
                bound=0.5 + k if k % 5 == 4 else None,
                source="store" if k < 3 else "search",
            )
        )
    return tuple(found)


SINGLE = History(UP, suggestions(1))
ONE_PATH = History(UP, tuple(HistoryPoint(k, {"a": k}, (float(k),), True) for k in range(5)))
WHOLE = History(UP, suggestions(), IMPORTANCE, frozenset({"regularizer.strength"}))
PARETO = History(BOTH, suggestions(objectives=2), IMPORTANCE)
CENSORED = History(
    UP, tuple(HistoryPoint(k, values(k), (None,), False, bound=1.0 + k) for k in range(6))
)
NOTHING = History(UP, tuple(HistoryPoint(k, values(k), (None,), False) for k in range(6)))
WITHOUT_PATHS = History(UP, (HistoryPoint(0, {}, (1.0,), True),))
ALL = [SINGLE, ONE_PATH, WHOLE, PARETO, CENSORED, NOTHING, WITHOUT_PATHS]


def written(history: History, folder: Path) -> str:
    draw_search(history, folder / "a.svg", ABOUT)
    return (folder / "a.svg").read_text()


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects the figures that are drawn from here on."""
    drawn: list[Figure] = []

    def keep(sheet: Sheet, path: Path, handles: list[Any]) -> None:
        drawn.append(sheet.figure)

    monkeypatch.setattr(Sheet, "save", keep)
    return drawn


def panels(history: History, figures: list[Figure]) -> dict[str, Axes]:
    """The panels by what stands below and beside them, in this order."""
    draw_search(history, Path("a.svg"), ABOUT)
    shown = [ax for ax in figures[-1].get_axes() if ax.get_visible() and ax.get_xlabel()]
    return {f"{ax.get_xlabel()}|{ax.get_ylabel()}": ax for ax in shown}


def points(ax: Axes, marker: str) -> list[tuple[float, float]]:
    return sorted(
        (float(np.asarray(line.get_xdata())[0]), float(np.asarray(line.get_ydata())[0]))
        for line in ax.get_lines()
        if line.get_marker() == marker and line.get_markersize() < 9
    )


@pytest.mark.long
@pytest.mark.parametrize("history", ALL)
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_search_is_drawn_as_the_same_bytes(
    tmp_path: Path, history: History, suffix: str
) -> None:
    for name in "ab":
        draw_search(history, tmp_path / f"{name}{suffix}", ABOUT)
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert b"ledger record 7" in first
    if suffix == ".png":
        assert imread(tmp_path / "a.png").std() > 0.02


def test_a_figure_says_what_was_searched_and_what_was_found(tmp_path: Path) -> None:
    text = written(WHOLE, tmp_path)
    for words in (
        "demo: search, amplification (maximized)",
        "t1: train_acc ≥ 0.99",
        "suggestion",
        "suggested",
        "from the store",
        "censored (a lower bound)",
        "no result",
        "best so far",
        "best when searched: suggestion 18, 19",
        "selection.tau",
        "regularizer.name",
        "selection.tau  0.70",
        "applies to 10 of 20",
        "l1",
        "none",
    ):
        assert f">{words}<" in text, words
    assert "Pareto" not in text


def test_results_bounds_and_gaps_have_their_own_signs(figures: list[Figure]) -> None:
    ax = panels(WHOLE, figures)["suggestion|amplification"]
    assert points(ax, "s") == [(k, 1 + k) for k in range(3)]
    assert points(ax, "^") == [(k, 0.5 + k) for k in (4, 9, 14, 19)]
    assert [x for x, _ in points(ax, "x")] == [6, 13]
    assert [x for x, _ in points(ax, "o")] == [3, 5, 7, 8, 10, 11, 12, 15, 16, 17, 18]
    faces = {str(line.get_markerfacecolor()) for line in ax.get_lines() if line.get_marker() == "^"}
    assert faces == {"none"}


def test_the_line_follows_the_best_so_far(figures: list[Figure]) -> None:
    ax = panels(WHOLE, figures)["suggestion|amplification"]
    (line,) = (line for line in ax.get_lines() if len(np.asarray(line.get_xdata())) > 1)
    assert list(np.asarray(line.get_ydata()))[:-1] == list(WHOLE.best_so_far())


def test_every_path_has_a_slice_on_its_own_scale(figures: list[Figure]) -> None:
    shown = panels(WHOLE, figures)
    assert list(shown) == [
        "suggestion|amplification",
        "importance|",
        "selection.tau|amplification",
        "regularizer.name|",
        "regularizer.strength|",
    ]
    assert shown["selection.tau|amplification"].get_xscale() == "linear"
    assert shown["regularizer.strength|"].get_xscale() == "log"
    names = shown["regularizer.name|"]
    assert [label.get_text() for label in names.get_xticklabels()] == ["l1", "none"]
    for x, y in points(names, "o"):
        assert abs(x - (y - 1) % 2) < 0.3  # y = 1 + number: odd ones are none
    strengths = points(shown["regularizer.strength|"], "o")
    assert len(strengths) == sum(s.feasible and s.number > 2 for s in WHOLE.suggestions[::2])


def test_a_path_is_on_a_log_axis_only_where_the_search_says_so(figures: list[Figure]) -> None:
    shown = panels(History(UP, suggestions()), figures)
    assert shown["regularizer.strength|"].get_xscale() == "linear"


def test_two_objectives_show_their_front_and_faint_the_others(figures: list[Figure]) -> None:
    shown = panels(PARETO, figures)
    ax = shown["amplification|final_test"]
    (front,) = (line for line in ax.get_lines() if len(np.asarray(line.get_xdata())) > 1)
    drawn = list(zip(np.asarray(front.get_xdata()), np.asarray(front.get_ydata()), strict=True))
    assert drawn == [s.objectives for s in PARETO.pareto()]
    assert 1 < len(drawn) < sum(s.feasible for s in PARETO.suggestions)
    for line in ax.get_lines():
        if line is not front:
            at = (np.asarray(line.get_xdata())[0], np.asarray(line.get_ydata())[0])
            assert ((line.get_alpha() or 1) > 0.5) == (at in drawn)
    assert {"suggestion|amplification", "suggestion|final_test"} <= set(shown)
    assert {"selection.tau|amplification", "selection.tau|final_test"} <= set(shown)


def test_a_search_without_a_winner_has_none(tmp_path: Path) -> None:
    for history, sign in ((CENSORED, "censored (a lower bound)"), (NOTHING, "no result")):
        text = written(history, tmp_path)
        assert f">{sign}<" in text
        for word in ("best", "suggested", "importance"):
            assert f">{word}" not in text


def test_the_importance_has_the_largest_on_top(figures: list[Figure]) -> None:
    many = {f"model.p{k}": 1 / (2 + k) for k in range(11)}
    ax = panels(History(UP, suggestions(), many), figures)["importance|"]
    names = [text.get_text() for text in sorted(ax.texts, key=lambda t: -t.get_position()[1])]
    assert names[:2] == ["model.p0  0.50", "model.p1  0.33"]
    assert len(names) == len(ax.patches) == 8


def test_a_long_objective_is_cut_and_its_dollars_stay(tmp_path: Path) -> None:
    name = "delay * $x$ + (select avg(l1) from metrics where trial_id = 'a')"
    text = written(History(((name, "minimize"),), suggestions(3)), tmp_path)
    assert ">delay * $x$ + (select avg(l…<" in text
    assert "(minimized)<" in text


def test_a_search_that_has_nothing_yet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no suggestion yet"):
        draw_search(History(UP, ()), tmp_path / "a.png", ABOUT)
    with pytest.raises(UsageError, match=r"a figure is written as \.png or \.svg"):
        draw_search(WHOLE, tmp_path / "a.gif", ABOUT)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1e-5, "1e-5"),
        (3e-4, "3e-4"),
        (1.7e-4, "1.7e-4"),
        (0.001, "0.001"),
        (30, "30"),
        (1e4, "10000"),
        (2e6, "2e6"),
    ],
)
def test_ticks_are_named_in_plain_figures(value: float, label: str) -> None:
    assert plain(value) == label
