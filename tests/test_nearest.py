"""The name that is probably meant: ends of dotted names and what varies in the sweep come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.config.fields import known_paths
from sweeper.errors import did_you_mean, nearest
from sweeper.trainables.config import GrokkingConfig
from tests.commands import sweeper
from tests.sweeps import ledger, run, toy_grid

PATHS = known_paths(GrokkingConfig)


@pytest.mark.parametrize(
    ("name", "likely", "meant"),
    [
        ("strength", (), "regularizer.strength"),  # not task.length
        ("strenght", (), "regularizer.strength"),
        ("tau", (), "selection.tau"),
        ("lr", (), "optimizer.lr"),
        ("N", (), "task.N"),
        ("n", (), "task.n"),
        ("depth", ("model.depth",), "model.depth"),  # not task.depth, which comes first
        ("dept", ("model.depth",), "model.depth"),
        ("optimizer.nam", ("optimizer.lr",), "optimizer.name"),
        ("l1.strength", (), "regularizer.terms.l1.strength"),
        ("optimiser.lr", (), "optimizer.lr"),
        ("regularizer.strenght", (), "regularizer.strength"),
        ("strength", ("task.length",), "regularizer.strength"),  # an end beats a misspelling
        ("zzz", (), None),
    ],
)
def test_the_nearest_name(name: str, likely: tuple[str, ...], meant: str | None) -> None:
    assert nearest(name, PATHS, likely) == meant


def test_without_a_near_name_the_likely_ones_are_listed() -> None:
    assert did_you_mean("zzz", PATHS, ["a.b", "c"]) == "Known: a.b, c."
    assert did_you_mean("zzz", ["a.b", "c"]) == "Known: a.b, c."
    assert did_you_mean("zzz", []) == "There is none."


VARY = "Axes that vary: task.rate, task.shift.\n"


@pytest.fixture
def finished(tmp_path: Path, store: str) -> str:
    """A store with a finished toy sweep."""
    run(toy_grid(tmp_path), store)
    return store


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("phase", "--x", "rate", "--y", "task.shift"),
            "x: no axis 'rate'. Did you mean 'task.rate'?",
        ),
        (
            ("phase", "--x", "task.rate", "--y", "seed"),
            f"y: no axis 'seed'. Each cell stands for all of its seeds. {VARY}",
        ),
        (
            ("phase", "--x", "task.rate", "--y", "task.shift", "--facet", "zzz"),
            f"facet: no axis 'zzz'. {VARY}",
        ),
        (
            ("phase", "--x", "task.rate", "--y", "task.size"),
            f"y: task.size = 1 in all 6 cells. {VARY}",
        ),
        (
            ("phase", "--x", "task.rate", "--y", "task.shift", "--where", "rate > 0.2"),
            'Binder Error: Referenced column "rate" not found in FROM clause. '
            "Did you mean task.rate?",
        ),
        (
            ("curves", "--where", "task.rat = 1"),
            'Binder Error: Could not find key "rat" in struct. Did you mean task.rate?',
        ),
        (
            ("curves", "--where", "tusk.rate = 1"),
            'Binder Error: Referenced table "tusk" not found. Did you mean task.rate?',
        ),
        (
            ("sql", "select shift from trials"),
            'Binder Error: Referenced column "shift" not found in FROM clause. '
            "Did you mean task.shift?",
        ),
        (
            ("fit", "--law", "t2 ~ 1/rate"),
            "law 't2 ~ 1/rate', column 8: no path 'rate'. Did you mean 'task.rate'?",
        ),
        (("fit", "--law", "t2 ~ 1/zzz"), f"law 't2 ~ 1/zzz', column 8: no path 'zzz'. {VARY}"),
        (
            ("fit", "--law", "t2 ~ 1/task.rate", "--by", "shift"),
            "by: no path 'shift'. Did you mean 'task.shift'?",
        ),
        (("fit", "--law", "t2 ~ 1/task.rate", "--by", "zzz"), f"by: no path 'zzz'. {VARY}"),
        (
            ("refine", "--x", "rate", "--y", "task.shift", "--budget", "3"),
            "x: no axis 'rate'. Did you mean 'task.rate'?",
        ),
        (
            ("refine", "--x", "task.rate", "--y", "seed", "--budget", "3"),
            f"y: no axis 'seed'. Each cell stands for all of its seeds. {VARY}",
        ),
        (
            ("refine", "--x", "task.rate", "--y", "task.size", "--budget", "3"),
            f"y: task.size has fewer than two values in the grid. {VARY}",
        ),
        (
            ("extend", "--steps", "200", "--where", "shift = 0"),
            "--where 'shift = 0': Binder Error: Referenced column \"shift\" not found in FROM "
            "clause. Did you mean task.shift? Write a condition over the columns of trials and "
            'delays, e.g. "selection.tau > 0.2".',
        ),
    ],
)
def test_an_unknown_name_names_what_was_meant_or_what_varies(
    finished: str, words: tuple[str, ...], message: str
) -> None:
    done = sweeper(words[0], "toy", *words[1:], "--store", finished)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {message.rstrip()}\n"


def test_a_view_without_such_a_column_gets_no_name_of_another(finished: str) -> None:
    done = sweeper("sql", "toy", "select rate from delays", "--store", finished)
    assert "Did you mean" not in done.stderr
    assert "Candidate bindings" in done.stderr


def test_names_that_vary(finished: str) -> None:
    with open_views(ledger(finished)) as views:
        known = sql.paths(views, "cells")
        config = {name: text for name, text in known.items() if name.startswith("task.")}
        assert sql.varying(views, config) == ["task.rate", "task.shift"]
        assert sql.varying(views, {}) == []
