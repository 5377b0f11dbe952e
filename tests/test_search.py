"""Searches from end to end, over cells whose delays are known."""

from __future__ import annotations

import math
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Runner, inline
from sweeper.engine.worker import run_inline
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid
from sweeper.search.finalist import SearchResult
from sweeper.search.report import reproduce, result_event, result_view
from sweeper.search.search import search as search_grid
from tests.searchable import BEST, CLIFF
from tests.searches import BENT, ask, attempts, grid_of, search, study_of
from tests.sweeps import ledger, rows


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, str, SearchResult]:
    """A search for delays that has come to its end."""
    folder = tmp_path_factory.mktemp("plain")
    grid, store = grid_of(folder), str(folder / "sweeps")
    return grid, store, search(grid, store)


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Grid, str, SearchResult]:
    """A search for amplification that has come to its end."""
    folder = tmp_path_factory.mktemp("bent")
    grid, store = grid_of(folder, {**BENT, "search.n_trials": 12}), str(folder / "sweeps")
    return grid, store, search(grid, store)


def test_every_suggestion_is_the_cell_that_a_launch_would_train(
    plain: tuple[Grid, str, SearchResult],
) -> None:
    grid, store, result = plain
    assert (result.exit_code, result.left, len(result.history.suggestions)) == (0, 0, 20)
    assert result.trials == 20 * 3 + 2 * 2
    study = study_of(grid, store)
    stored = {r["trial_id"] for r in ask(store, "select trial_id from trials")}
    for observation in study.observations()[:3]:
        overrides = study._space.overrides(observation.params)
        launched = load_grid(_file(store), overrides)
        ids = [t.id for t in launched.trials()]
        assert len(ids) == 3
        assert set(ids) <= stored


def _file(store: str) -> Path:
    return Path(store).parent / "hill.yaml"


def test_a_study_is_told_the_values_of_the_views(plain: tuple[Grid, str, SearchResult]) -> None:
    grid, store, _ = plain
    text = "select cell_id, median(coalesce(estimate, delay)) as delay, "
    text += "count(*) filter (censored) as n from trials "
    text += "join delays using (trial_id) where seed < 3 group by all"
    seen = {r["cell_id"]: r for r in ask(store, text)}
    observations = study_of(grid, store).observations()
    assert len(observations) == 20
    for one in observations:
        cell = seen[one.evaluation.about["cell_id"]]
        assert one.evaluation.values is not None
        if float(one.params["task.x"]) > CLIFF:  # type: ignore[arg-type]
            assert cell["n"] == 3
            assert one.evaluation.violation == 1.0
            assert one.evaluation.about["bound"] == one.evaluation.values[0] == cell["delay"]
        else:
            assert (one.evaluation.violation, one.evaluation.about["bound"]) == (0.0, None)
            assert one.evaluation.values[0] == round(cell["delay"])


def test_a_censored_cell_is_never_the_best_though_its_bound_is_the_largest_number(
    plain: tuple[Grid, str, SearchResult],
) -> None:
    _, _, result = plain
    behind = [s for s in result.history.suggestions if not s.feasible]
    assert behind
    assert all(s.objectives == (None,) for s in behind)
    best = result.history.best
    assert best is not None
    assert min(s.bound or 0 for s in behind) > (best.objectives[0] or math.inf)
    assert result.finalists[0].params["task.x"] <= CLIFF  # type: ignore[operator]


def test_finalists_are_evaluated_on_seeds_that_chose_none_of_them(
    plain: tuple[Grid, str, SearchResult],
) -> None:
    _, store, result = plain
    assert result.seeds == (3, 4)
    assert len(result.finalists) == 2
    for finalist in result.finalists:
        assert (finalist.row["n_seeds"], finalist.row["n_generalized"]) == (2, 2)
        cell = finalist.row["cell_id"]
        text = f"select estimate from trials join delays using (trial_id) where cell_id = '{cell}'"
        first, second = (r["estimate"] for r in ask(store, f"{text} and seed > 2"))
        assert finalist.values[0] == round(math.sqrt(first * second))
        assert len(ask(store, text)) == 5
        assert finalist.level == 0.5  # of two seeds
        (ends,) = ask(
            store,
            "select min(t2_lower - t1) as low, max(t2 - coalesce(t1_lower, 0)) as high from delays "
            f"join trials using (trial_id) where cell_id = '{cell}' and seed > 2",
        )
        assert finalist.interval == (ends["low"], ends["high"])
        shown = Console(width=150, file=StringIO(), record=True)
        shown.print(result_view(result))
        interval = f"{finalist.values[0]:.4g} [{ends['low']:.4g}, {ends['high']:.4g}; 50 %]"
        assert interval in shown.export_text()
    assert [f["level"] for f in result_event(result)["finalists"]] == [0.5, 0.5]
    values = [f.values[0] or 0.0 for f in result.finalists]
    assert values == sorted(values, reverse=True)


def test_a_finished_search_is_told_again_and_nothing_is_trained(
    plain: tuple[Grid, str, SearchResult],
) -> None:
    grid, store, result = plain
    before = set(ledger(store, "hill").state.packs)
    again = search(grid, store)
    assert again == result
    assert set(ledger(store, "hill").state.packs) == before
    assert set(attempts(store).values()) == {1}


def test_the_command_that_is_given_trains_the_best_cell(
    plain: tuple[Grid, str, SearchResult],
) -> None:
    _, store, result = plain
    command = reproduce(result, _file(store), [], "hill")
    assert command is not None
    words = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[:3] == ["sweeper", "launch", str(_file(store))]
    named = reproduce(result, _file(store), ["name=x"], "hill", store)
    assert named == f"{command} --store {store}", "the earlier name is left out"
    piped = reproduce(result, Path("-"), [], "hill")
    assert piped is not None
    assert piped.startswith("sweeper launch - name=hill-best ")
    assert piped.endswith(" < GRID")
    grid = load_grid(Path(words[2]), words[3:])
    assert grid.name == "hill-best"
    assert {t.cell_id for t in grid.trials()} == {result.finalists[0].row["cell_id"]}
    assert [t.seed for t in grid.trials()] == [3, 4]


def test_the_model_comes_closer_to_the_best_than_chance(tmp_path: Path) -> None:
    best = {}
    for sampler in ("tpe", "random"):
        changes = {"search.sampler": sampler, "search.n_trials": 30, "search.batch": 10, "seeds": 1}
        grid = grid_of(tmp_path, {**changes, "search.finalists": {"top": 1, "seeds": 1}})
        result = search(grid, str(tmp_path / sampler))
        good = sorted(s.objectives[0] for s in result.history.suggestions if s.objectives[0])
        best[sampler] = sum(good[-10:])
        if sampler == "tpe":
            top = result.finalists[0].params
            assert top["task.x"] == pytest.approx(BEST["task.x"], abs=0.15)
    assert best["tpe"] > 1.1 * best["random"]


def test_each_cell_is_compared_with_its_reference_which_is_trained_once(
    bent: tuple[Grid, str, SearchResult],
) -> None:
    _, store, result = bent
    assert set(attempts(store).values()) == {1}
    known = [s for s in result.history.suggestions if s.feasible]
    assert known
    for one in known:
        expected = 1 + 9 * float(one.values["twist.angle"])  # type: ignore[arg-type]
        assert one.objectives[0] == pytest.approx(expected, rel=0.12)  # the log's resolution
    # two fresh seeds hold each delay in half of the cases: nothing is known of both together
    assert (result.finalists[0].interval, result.finalists[0].level) == (None, None)
    references = ask(store, "select distinct task.x as x from trials where twist.angle = 0")
    assert len(references) == 12
    assert result.trials == 12 * 2 * 3 + 2 * 2 * 2


def test_where_no_objective_reads_a_reference_none_is_trained(tmp_path: Path, store: str) -> None:
    few = {**BENT, "search.objective": "delay", "search.n_trials": 4, "search.finalists": None}
    result = search(grid_of(tmp_path, few), store)
    assert ask(store, "select trial_id from trials where twist.angle = 0") == []
    assert result.trials >= 12


def test_what_a_grid_trained_seeds_the_study_and_is_shown_beside_it(
    tmp_path: Path, store: str
) -> None:
    few = {"search.n_trials": 4, "search.batch": 4, "search.finalists": {"top": 1, "seeds": 1}}
    few |= {"grid": {"product": {"task.x": [0.1, 0.6, 0.9], "task.y": [0.01]}}}
    grid = grid_of(tmp_path, few)
    commands.launch(grid, store, inline(grid))
    said: list[int] = []
    result = search(grid, store, say=lambda at: said.append(at.known))
    sources = [s.source for s in result.history.ordered]
    assert sources == ["store"] * 3 + ["search"] * 4
    assert said == [3]
    assert [s.feasible for s in result.history.ordered[:3]] == [True, True, False]
    assert set(attempts(store).values()) == {1}
    shown = ask(store, "select task.x as x from cells where n_seeds >= 3")
    assert {0.1, 0.6, 0.9} <= {r["x"] for r in shown}
    assert len(shown) == 7
    assert search(grid, store).history == result.history


def test_a_point_that_is_known_is_not_trained_again(tmp_path: Path, store: str) -> None:
    few = {
        "search.space": {"task.x": {"categorical": [0.2, 0.4]}},
        "search.n_trials": 8,
        "search.batch": 8,
        "search.sampler": "random",
    }
    result = search(grid_of(tmp_path, few), store)
    assert len(result.history.suggestions) == 8
    assert len({s.cell_id for s in result.history.suggestions}) == 2
    assert len(result.finalists) == 2
    assert set(attempts(store).values()) == {1}
    assert result.trials == 2 * 3 + 2 * 2


def test_a_finite_space_that_is_wholly_known_ends_the_search(tmp_path: Path, store: str) -> None:
    few = {
        "search.space": {"task.x": {"categorical": [0.2, 0.4]}},
        "search.n_trials": 80,
        "search.batch": 2,
        "search.sampler": "random",
    }
    result = search(grid_of(tmp_path, few), store)
    assert len(result.history.suggestions) < 80
    assert {s.values["task.x"] for s in result.history.suggestions} == {0.2, 0.4}
    assert (result.left, result.exit_code) == (0, 0)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("delayy / t1", "'delayy / t1': no column 'delayy'. Did you mean 'delay'?"),
        ("upper(phase)", "'upper(phase)' is a string, not a number. Name a numeric column."),
    ],
)
def test_an_objective_that_cannot_be_computed_is_refused_before_anything_is_made(
    objective: str, message: str, tmp_path: Path, store: str
) -> None:
    with pytest.raises(UsageError) as caught:
        search(grid_of(tmp_path, {"search.objective": objective}), store)
    assert str(caught.value) == message
    assert not Path(store).exists()


@pytest.mark.parametrize("fate", ["diverges", "raises"])
def test_cells_that_diverge_or_fail_are_told_as_no_winners(
    fate: str, tmp_path: Path, store: str
) -> None:
    few = {
        "search.space": {"task.fate": {"categorical": ["well", fate]}, "task.k": {"int": [1, 3]}},
        "search.n_trials": 6,
        "search.sampler": "grid",
        "seeds": 2,
    }
    result = search(grid_of(tmp_path, few), store)
    points = {(s.values["task.fate"], s.values["task.k"]): s for s in result.history.suggestions}
    assert len(points) == 6
    assert all(s.feasible == (name == "well") for (name, _), s in points.items())
    assert {f.params["task.fate"] for f in result.finalists} == {"well"}
    assert result.failed == (6 if fate == "raises" else 0)
    assert result.exit_code == (3 if fate == "raises" else 0)
    assert search(grid_of(tmp_path, few), store).exit_code == result.exit_code


def test_excluded_suggestions_are_told_as_such_and_not_trained(tmp_path: Path, store: str) -> None:
    few = {
        "exclude": ["task.x > 0.5"],
        "search.n_trials": 10,
        "search.sampler": "random",
        "grid": {"product": {"task.x": [0.1]}},
        "search.batch": 10,
    }
    grid = grid_of(tmp_path, few)
    result = search(grid, store)
    assert ask(store, "select trial_id from trials where task.x > 0.5") == []
    reasons = [t.evaluation.about.get("impossible") for t in study_of(grid, store).observations()]
    assert set(reasons) == {None, "excluded by 'task.x > 0.5'."}
    assert [s.feasible for s in result.history.ordered] == [r is None for r in reasons]


@pytest.mark.parametrize(
    ("objective", "text"),
    [
        ("log_delay", "log10(delay)"),
        ({"value": "t2", "direction": "minimize"}, "t2"),
        ("n_generalized", "n_generalized"),
        ("censored_share", "censored_share"),
        ("delay_bound", "delay_bound"),
        ("delay / t1", "delay / t1"),
    ],
)
def test_an_objective_is_a_measure_or_sql(
    objective: Any, text: str, tmp_path: Path, store: str
) -> None:
    few = {
        "search.objective": objective,
        "search.n_trials": 5,
        "search.sampler": "grid",
        "search.space": {"task.x": {"categorical": [0.1, 0.3, 0.9]}},
        "search.finalists": None,
    }
    grid = grid_of(tmp_path, few)
    search(grid, store)
    seen = ask(store, f"select cell_id, {text} as v from cells where n_seeds = 3", everything=True)
    values = {r["cell_id"]: r["v"] for r in seen}
    for one in study_of(grid, store).observations():
        value = values.get(one.evaluation.about["cell_id"])
        if one.evaluation.violation <= 0 and value is not None:
            assert one.evaluation.values is not None
            assert one.evaluation.values[0] == pytest.approx(value)


def test_two_objectives_end_in_a_front(tmp_path: Path, store: str) -> None:
    few = {
        "search.objective": ["delay", {"value": "t2", "direction": "minimize"}],
        "search.sampler": "nsga2",
        "search.n_trials": 10,
        "search.finalists": {"top": 10, "seeds": 1},
    }
    result = search(grid_of(tmp_path, few), store)
    front = result.history.pareto()
    assert 1 <= len(front) <= len(result.finalists)
    assert all(len(f.values) == 2 for f in result.finalists)
    assert result.exit_code == 0


def test_a_search_that_was_asked_to_stop_goes_on_where_it_was(
    plain: tuple[Grid, str, SearchResult], tmp_path: Path, store: str
) -> None:
    grid, whole, finished = plain

    def between(at: Any) -> None:
        commands.stop(store, "hill")

    first = search(grid, store, say=between)
    assert (first.exit_code, first.left, first.finalists) == (4, 15, ())

    def within(task: Any) -> None:
        commands.stop(store, "hill")
        run_inline(task)

    second = search_grid(grid, store, Runner(within, 1))
    assert (second.exit_code, second.left) == (4, 15)
    third = search(grid, store)
    assert third.exit_code == 0
    assert third.history == finished.history
    assert third.finalists == finished.finalists
    assert rows(store, "hill").equals(rows(whole, "hill"))


@pytest.mark.long
@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_survivors_of_a_pruner_have_the_rows_that_they_would_have_had(
    pruner: str, plain: tuple[Grid, str, SearchResult], tmp_path: Path, store: str
) -> None:
    few = {
        "search.pruner": pruner,
        "search.unsafe_for_grokking": True,
        "search.n_trials": 20,
        "search.sampler": "random",
    }
    grid = grid_of(tmp_path, few)
    result = search(grid, store)
    assert result.exit_code == 0
    observations = study_of(grid, store).observations()
    gone = [t.evaluation.about["cell_id"] for t in observations if t.evaluation.values is None]
    assert 1 <= len(gone) < 20
    unpruned = str(tmp_path / "unpruned")
    search(grid_of(tmp_path, {"search.sampler": "random"}), unpruned)
    kept = {t.evaluation.about["cell_id"] for t in observations} - set(gone)
    text = "select m.* from metrics as m join trials as t using (trial_id) where t.seed < 3 "
    listed = ", ".join(f"'{cell}'" for cell in sorted(kept))
    text += f"and cell_id in ({listed}) order by trial_id, step"
    mine = ask(store, text, everything=True)
    assert mine
    assert mine == ask(unpruned, text, everything=True)


def test_a_file_without_a_search_is_refused_and_nothing_is_made(tmp_path: Path, store: str) -> None:
    grid = grid_of(tmp_path, {"search": None})
    with pytest.raises(UsageError) as caught:
        search(grid, store)
    assert str(caught.value) == (
        "hill: the grid file has no section search. "
        "Add one, e.g. search: {space: {selection.tau: {uniform: [0, 1]}}}."
    )
    assert not Path(store).exists()
