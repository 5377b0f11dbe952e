"""What is drawn of a fitted law, and the command that draws it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.fit.fit import Fit, fit_law
from sweeper.analysis.fit.law import Law
from sweeper.analysis.plot import draw_fit
from sweeper.analysis.plot.sheet import Sheet
from sweeper.analysis.views.views import open_views
from sweeper.errors import UsageError
from tests.commands import sweeper
from tests.stores import Made
from tests.test_fit import LAW, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("drawn"), optimizers=("adamw", "sgd"), seeds=range(5))


def drawn(made: Made, path: Path, law: str = LAW, **options: str) -> Fit:
    with open_views(made.ledger) as connection:
        fit = fit_law(connection, Law.parse(law), **options)  # type: ignore[arg-type]
        draw_fit(fit, path, Provenance.of(made.ledger, connection))
    return fit


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from now on."""
    found: list[Figure] = []
    save = Sheet.save

    def keep(sheet: Sheet, *arguments: object) -> None:
        found.append(sheet.figure)
        save(sheet, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Sheet, "save", keep)
    return found


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_fit_is_drawn_as_the_same_bytes(made: Made, tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        drawn(made, tmp_path / f"{name}{suffix}", by="optimizer.name")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert b"ledger record 4" in first
    if suffix == ".png":
        assert imread(tmp_path / "a.png").std() > 0.05


def test_a_figure_says_what_was_fitted_and_with_which_slope(made: Made, tmp_path: Path) -> None:
    fit = drawn(made, tmp_path / "a.svg", by="optimizer.name")
    text = (tmp_path / "a.svg").read_text()
    k = fit.groups[1].slope
    for words in (
        f"demo: {LAW}",
        "t1: train_acc ≥ 0.99, t2: test_acc ≥ 0.99, grokking: delay ≥ 1000",
        "t2 (optimizer steps)",
        "1/(optimizer.lr*regularizer.strength)",
        "optimizer.lr",
        "t2 / law",
        "regularizer.strength",
        "one trial",
        "censored (a lower bound)",
        "fitted",
        "95 % band",
        "demo · commit 0123456 · 120 trials, 5 seeds · ledger record 4 · "
        "95 % intervals: jackknife over seeds",
        "as claimed (k = 1)",
        f"optimizer.name = sgd: k = {k.value:.3f} ({k.low:.3f} to {k.high:.3f})",
    ):
        assert f">{words}<" in text, words


def test_points_lines_and_bounds_stand_where_the_fit_says(
    made: Made, tmp_path: Path, figures: list[Figure]
) -> None:
    fit = drawn(made, tmp_path / "a.png", where="optimizer.name = 'adamw'")
    (group,) = fit.groups
    sample = group.sample
    left, *right = figures[0].get_axes()
    discs, triangles, line, claimed = left.get_lines()
    assert np.size(discs.get_xdata()) == 60 - sample.n_censored
    assert triangles.get_marker() == "^"
    assert triangles.get_markerfacecolor() == "none"
    bounds = np.asarray(triangles.get_ydata(), dtype=float)
    assert np.log(bounds) == pytest.approx(sample.low[~sample.reached])
    for drawn_line, slope, prefactor in (
        (line, group.slope.value, group.free_prefactor),
        (claimed, 1, group.prefactor.value),
    ):
        x, y = (np.log(np.asarray(v)) for v in (drawn_line.get_xdata(), drawn_line.get_ydata()))
        assert np.polyfit(x, y, 1) == pytest.approx([slope, math.log(prefactor or 0)])
    assert claimed.get_linestyle() == "--"
    assert [ax.get_xlabel() for ax in right] == ["optimizer.lr", "regularizer.strength"]
    (band,) = left.collections
    corners = np.log(np.asarray(band.get_paths()[0].vertices))
    last = np.array([sample.log_law.max()])
    half = group.half_band(last, 0.95)
    assert half is not None
    assert np.ptp(corners[np.isclose(corners[:, 0], last), 1]) == pytest.approx(2 * half)
    discs, triangles, level = right[1].get_lines()
    assert np.asarray(discs.get_ydata()) == pytest.approx(
        (sample.shown / np.exp(sample.log_law))[sample.reached]
    )
    assert np.unique(level.get_ydata()) == pytest.approx([group.prefactor.value])


def test_a_law_without_a_slope_is_drawn_too(
    made: Made, tmp_path: Path, figures: list[Figure]
) -> None:
    where = "optimizer.lr = 0.1 and regularizer.strength = 1e-3 and seed = 0"
    drawn(made, tmp_path / "a.svg", where=f"{where} and optimizer.name = 'adamw'")
    text = (tmp_path / "a.svg").read_text()
    assert "fitted" not in text
    assert "band" not in text
    assert len(figures[0].get_axes()) == 1


def test_a_figure_of_another_suffix_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a figure is written as \.png or \.svg"):
        drawn(made, tmp_path / "a.csv")


def test_the_command_prints_a_table_or_json_and_draws(made: Made, tmp_path: Path) -> None:
    store = str(Path(str(made.ledger.files.root)).parent)
    picture = tmp_path / "law.png"
    words = ("fit", "demo", "--law", LAW, "--by", "optimizer.name", "--store", store)
    done = sweeper(*words, "-o", str(picture))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].strip() == LAW
    assert lines[-1] == str(picture)
    assert sum("k in t2 = C * law^k" in line for line in lines) == 2
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = sweeper(*words, "--json", "--level", "0.8", "--where", "seed < 4")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["value"], r["level"], r["seeds"]) for r in rows] == [
        ("adamw", 0.8, 4),
        ("sgd", 0.8, 4),
    ]


def test_a_mistake_is_one_red_line_and_exit_code_2(made: Made) -> None:
    store = str(Path(str(made.ledger.files.root)).parent)
    done = sweeper("fit", "demo", "--law", "t2 ~ 1/optimizer.lrr", "--store", store)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: law 't2 ~ 1/optimizer.lrr', column 8: no path 'optimizer.lrr'. "
        "Did you mean 'optimizer.lr'?\n"
    )
