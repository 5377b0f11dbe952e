"""The stored trials that a grid of the same name hides: counted, and said wherever it matters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.views.views import open_views
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.store.compaction import compact
from sweeper.store.visible import hidden
from tests.commands import sweeper
from tests.sweeps import TOY, ledger, run, statuses, stopped_midway, toy_grid

BEFORE = (
    "This grid hides 8 trials that the store keeps. Add name=toy-2 to the command to make a sweep "
    "of its own."
)
AFTER = (
    "8 stored trials hidden: `sweeper sql toy --all --store {}` queries every trial. A launch of the larger "
    "grid shows them again."
)


@pytest.fixture
def grid_file(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return str(path)


@pytest.fixture
def finished(tmp_path: Path, store: str) -> str:
    """A store with the twelve trials of the toy grid."""
    run(toy_grid(tmp_path), store)
    return store


def sizes(store: str) -> tuple[int, int, int]:
    """Return the trials that the views show, those of ``--all``, and the hidden ones."""
    book = ledger(store)
    counts = []
    for everything in (False, True):
        with open_views(book, everything=everything) as views:
            counts.append(views.sql("select count(*) from trials").fetchall()[0][0])
    return counts[0], counts[1], hidden(book)


def test_a_launch_that_hides_trials_says_so_before_and_after(grid_file: str, finished: str) -> None:
    words = ("launch", grid_file, "task.rate=0.5", "--inline", "--store", finished)
    assert sweeper(*words).stdout.splitlines() == [
        "4 trials: 4 done, 0 new, 0 failed; nothing to do",
        BEFORE,
        "4 trials: 4 done",
        AFTER.format(finished),
    ]
    assert sizes(finished) == (4, 12, 8)
    events = [json.loads(line) for line in sweeper(*words, "--json").stdout.splitlines()]
    assert [(e["event"], e["hidden"]) for e in events] == [("plan", 8), ("end", 8)]
    assert sweeper(*words, "--quiet").stdout == ""


def test_the_whole_grid_shows_them_again(grid_file: str, finished: str) -> None:
    sweeper("launch", grid_file, "task.rate=0.5", "--inline", "--store", finished)
    again = sweeper("launch", grid_file, "--inline", "--store", finished)
    assert again.stdout.splitlines() == [
        "12 trials: 12 done, 0 new, 0 failed; nothing to do",
        "12 trials: 12 done",
    ]
    assert sizes(finished) == (12, 12, 0)


def test_a_plan_says_what_a_launch_would_hide(tmp_path: Path, finished: str) -> None:
    path = tmp_path / "fewer.yaml"  # an edited file, no override
    path.write_text(TOY.replace("[0.1, 0.5, 1.0]", "[0.5]"))
    assert sweeper("plan", str(path), "--store", finished).stdout.splitlines() == [
        "4 trials: 4 done, 0 new, 0 failed; nothing to do",
        BEFORE,
        "2 cells x 2 seeds; axes: task.shift x 2",
        "largest pack: 0.0 MB",
    ]
    event = json.loads(sweeper("plan", str(path), "--store", finished, "--json").stdout)
    assert event["hidden"] == 8
    assert sizes(finished) == (12, 12, 0), "a plan writes nothing"


def test_status_and_ls_say_how_many_of_the_stored_trials_are_shown(
    tmp_path: Path, finished: str
) -> None:
    run(toy_grid(tmp_path, "task.rate=0.5"), finished)
    table = ["sweep   trials  ended  generalized", "toy    4 of 12      4            4"]
    assert sweeper("ls", "--store", finished).stdout.splitlines() == table
    assert sweeper("status", "toy", "--store", finished).stdout.splitlines() == [
        *table,
        "toy: 4 of 12 stored trials, since the latest grid lacks 8 trials. "
        f"`sweeper sql toy --all --store {finished}` queries all.",
    ]
    row = json.loads(sweeper("status", "toy", "--store", finished, "--json").stdout)
    assert {key: row[key] for key in ("trials", "ended", "hidden", "stored")} == {
        "trials": 4,
        "ended": 4,
        "hidden": 8,
        "stored": 12,
    }


def test_the_footer_of_a_figure_says_it(tmp_path: Path, finished: str) -> None:
    def footer() -> str:
        book = ledger(finished)
        with open_views(book) as views:
            return Provenance.of(book, views).footer.split(" · ")[2]

    assert footer() == "12 trials, 2 seeds"
    run(toy_grid(tmp_path, "task.rate=0.5"), finished)
    assert footer() == "4 of 12 stored trials, 2 seeds"


def test_a_trial_that_never_began_is_not_stored(tmp_path: Path, store: str) -> None:
    def first(tasks: Sequence[PackTask]) -> None:
        run_inline(tasks[:1])

    run(toy_grid(tmp_path, "resources.pack=3"), store, launcher=first)
    began = set(statuses(store))
    fewer = toy_grid(tmp_path, "task.rate=0.5", "resources.pack=3")
    unshown = len(began - {trial.id for trial in fewer.trials()})
    assert (len(began), 0 < unshown < 8) == (3, True)
    assert run(fewer, store).hidden == unshown
    assert sizes(store) == (4, 12, unshown)


def test_trials_of_an_interrupted_pack_are_stored(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = toy_grid(tmp_path, "stop.after_generalization=false")
    launcher = stopped_midway(monkeypatch)
    assert run(grid, store, launcher=launcher, workers=1).counts.new == 12
    assert statuses(store) == {}
    assert run(toy_grid(tmp_path, "seeds=[7]"), store).hidden == 12, "of a pack that waits"
    run(toy_grid(tmp_path, "seeds=1"), store)
    assert sizes(store) == (6, 18, 12), "of a pack that ended without them, and of the other grid"
    assert compact(ledger(store), min_parts=1)
    assert sizes(store) == (6, 18, 12)


def test_what_a_refinement_added_is_shown_or_hidden_with_its_grid(
    tmp_path: Path, finished: str
) -> None:
    words = ("--x", "task.rate", "--y", "task.shift", "--budget", "4", "--value", "delay")
    refined = sweeper("refine", "toy", *words, "--inline", "--store", finished)
    assert refined.returncode == 0, refined.stderr
    assert "hid" not in refined.stdout
    shown, planned, unshown = sizes(finished)
    assert (shown, unshown) == (planned, 0)
    assert planned > 12
    assert run(toy_grid(tmp_path, "seeds=3"), finished).hidden == 0, "a larger grid hides nothing"
    fewer = run(toy_grid(tmp_path, "task.rate=0.5"), finished)
    assert fewer.hidden == sizes(finished)[1] - 4


def test_extend_of_a_grid_that_hides_trials_says_it_at_the_end(tmp_path: Path, store: str) -> None:
    never = "criterion={metric: error, train: 1.0e-9, test: 1.0e-9}"
    run(toy_grid(tmp_path, never), store)
    run(toy_grid(tmp_path, never, "task.rate=0.5"), store)
    done = sweeper("extend", "toy", "--steps", "120", "--inline", "--store", store)
    assert done.stdout.splitlines()[-2:] == ["4 trials: 4 done", AFTER.format(store)]
    assert done.stdout.replace(store, "").count("hid") == 1
