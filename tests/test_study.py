"""Studies: what each sampler suggests, what it learns from, and what a kill can't change."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from sweeper.errors import UsageError
from sweeper.grid.search_section import Sampler
from sweeper.search.study import Evaluation, Study, Suggestion, open_study
from sweeper.space.space import Impossible, Params, Space
from tests.searches import grid_of, observed
from tests.slow import long_but

SAMPLERS = [name for name in get_args(Sampler) if name != "grid"]

GP = pytest.param("gp", marks=pytest.mark.long)
"""It fits its kernels anew for each suggestion."""

QUICK = [GP if name == "gp" else name for name in SAMPLERS]

NUMBERS: dict[str, Any] = {
    "task.x": {"uniform": [0, 1], "step": 0.1},
    "task.y": {"loguniform": [1e-4, 1]},
    "task.k": {"int": [1, 9], "step": 2},
}
NAMES: dict[str, Any] = NUMBERS | {"task.fate": {"categorical": ["well", "diverges"]}}
MIXED: dict[str, Any] = NAMES | {
    "twist.name": {"categorical": ["straight", "bent"]},
    "twist.angle": {"uniform": [0, 1], "when": {"twist.name": "bent"}},
}
"""Every kind of dimension; one is conditional."""

SPACES = {"cmaes": NUMBERS, "gp": NAMES, "qmc": NAMES}
"""What those samplers can take that can't take everything."""

FLAT: dict[str, Any] = {"task.x": {"uniform": [0, 1]}, "task.y": {"loguniform": [1e-4, 1]}}


def opened(
    folder: Path,
    sampler: str,
    space: Mapping[str, Any] | None = None,
    *,
    about: Mapping[str, Any] | None = None,
    fresh: bool = False,
    **settings: Any,
) -> Study:
    """Open the study in `folder`, made if there is none."""
    changes = {f"search.{key}": value for key, value in settings.items()}
    chosen = SPACES.get(sampler, MIXED) if space is None else space
    changes |= {"search.space": chosen, "search.sampler": sampler, "grid": {"product": {}}}
    made = Space.of(grid_of(folder, changes))
    where = about or {"sweep": "a", "definition": {}}
    url = f"sqlite:///{folder / 'study.db'}"
    return open_study(url, "hill", made, made.search, where, fresh=fresh)


def worth(params: Params) -> Evaluation:
    """Return a value that is best at x = 0.3, y = 0.1, and a bound behind x = 0.6."""
    x, y = float(params["task.x"]), float(params["task.y"])  # type: ignore[arg-type]
    if x > 0.6:
        return Evaluation((99.0,), 1.0, {"cell_id": f"{x} {y}", "bound": 99.0})
    value = 10 - (x - 0.3) ** 2 * 20 - (math.log10(y) + 1) ** 2
    return Evaluation((value,), 0.0, {"cell_id": f"{x} {y}"})


def play(study: Study, *batches: int) -> list[Params]:
    """Ask for batches and tell what they are worth; return the suggestions."""
    params: list[Params] = []
    for size in batches:
        suggestions = study.ask(size)
        params += [s.params for s in suggestions]
        for one in suggestions:
            study.tell(one.number, worth(one.params))
    return params


@pytest.mark.parametrize("sampler", long_but(("tpe", "random"), QUICK))
def test_every_sampler_suggests_cells_and_a_study_that_is_opened_again_suggests_the_same(
    sampler: str, tmp_path: Path
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    study = opened(whole, sampler)
    suggestions = play(study, 12, 4, 3)
    assert len({json.dumps(p, sort_keys=True) for p in suggestions}) > 12
    assert not any(isinstance(study._space.point(p), Impossible) for p in suggestions)
    again = [play(opened(parted, sampler), size) for size in (12, 4, 3)]
    assert [p for batch in again for p in batch] == suggestions
    other = tmp_path / "other"
    other.mkdir()
    assert play(opened(other, sampler, sampler_seed=1), 4) != suggestions[:4]


@pytest.mark.parametrize("sampler", long_but(("tpe", "grid"), [*QUICK, "grid"]))
def test_a_batch_whose_asking_was_cut_short_is_asked_to_its_end(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    steps = {"uniform": [0.1, 0.9], "step": 0.2}
    space = {"task.x": {"uniform": [0, 1], "step": 0.1}, "task.y": steps}
    expected = play(opened(whole, sampler, space), 12, 4, 3)
    study = opened(killed, sampler, space)
    play(study, 12)
    add, calls = study._study.add_trial, iter(range(100))

    def dying(trial: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        add(trial)

    monkeypatch.setattr(study._study, "add_trial", dying)
    with pytest.raises(KeyboardInterrupt):
        study.ask(4)
    study = opened(killed, sampler, space)
    assert study.n_asked == 14
    pending = study.pending()
    assert [s.params for s in pending] == expected[12:16]
    assert [s.number for s in pending] == [12, 13, 14, 15]
    for one in pending:
        study.tell(one.number, worth(one.params))
    assert study.pending() == []
    assert play(study, 3) == expected[16:]


CONTINUE = """
import json, sys
from pathlib import Path
from tests.test_study import opened, play
print(json.dumps([play(opened(Path(folder), folder.split("/")[-1]), 4) for folder in sys.argv[1:]]))
"""


@pytest.mark.long
def test_another_process_suggests_what_this_one_would_have_suggested(tmp_path: Path) -> None:
    expected, folders = [], []
    for sampler in SAMPLERS:
        for kind in ("here", "there"):
            (tmp_path / kind / sampler).mkdir(parents=True)
            study = opened(tmp_path / kind / sampler, sampler)
            play(study, 12)
            if kind == "here":
                expected.append(play(study, 4))
        folders.append(str(tmp_path / "there" / sampler))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CONTINUE, *folders],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("sampler", QUICK)
def test_every_dimension_is_drawn_as_the_file_says(sampler: str, tmp_path: Path) -> None:
    suggestions = play(opened(tmp_path, sampler), 30)
    assert {p["task.x"] for p in suggestions} <= {i / 10 for i in range(11)} | {
        0.1 * 3,
        0.1 * 6,
        0.1 * 7,
    }
    assert {p["task.k"] for p in suggestions} <= {1, 3, 5, 7, 9}
    assert {type(p["task.k"]) for p in suggestions} == {int}
    assert len({p["task.k"] for p in suggestions}) > 2
    if sampler != "cmaes":
        assert {p["task.fate"] for p in suggestions} == {"well", "diverges"}
    logs = [math.log10(float(p["task.y"])) for p in suggestions]  # type: ignore[arg-type]
    assert all(-4 <= x <= 0 for x in logs)
    assert 5 <= sum(x < -2 for x in logs) <= 25
    if sampler not in SPACES:
        assert {p["twist.name"] for p in suggestions} == {"straight", "bent"}
    assert all(("twist.angle" in p) == (p.get("twist.name") == "bent") for p in suggestions)


@pytest.mark.parametrize("sampler", ["tpe", GP, "nsga2", "cmaes"])
def test_a_bound_doesnt_lure_a_sampler_that_learns(sampler: str, tmp_path: Path) -> None:
    study = opened(tmp_path, sampler, FLAT, n_trials=40)
    suggestions = play(study, *[8] * (8 if sampler == "nsga2" else 5))
    xs = [float(p["task.x"]) for p in suggestions[-16:]]  # type: ignore[arg-type]
    assert sum(x > 0.6 for x in xs) <= 5  # at random it would be 6.4, lured it would be nearly all


def test_what_violates_the_constraint_is_kept_with_its_bound(tmp_path: Path) -> None:
    study = opened(tmp_path, "tpe", FLAT)
    one, two, three = study.ask(3)
    study.tell(one.number, Evaluation((99.0,), 0.5, {"cell_id": "a", "bound": 99.0}))
    study.tell(two.number, Evaluation(None, 1.0, {"impossible": "no"}))
    study.tell(three.number, Evaluation((1.0,), -1.0, {"cell_id": "c", "bound": None}))
    assert observed(study) == [
        (one.params, (99.0,), 0.5),
        (two.params, None, 1.0),
        (three.params, (1.0,), -1.0),
    ]
    assert study.observations()[0].evaluation.about["bound"] == 99.0
    assert study.observations()[1].evaluation.about["impossible"] == "no"


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    study = opened(tmp_path, "random", FLAT)
    one, two = study.ask(2)
    study.tell(one.number, Evaluation((1.0,), 0.0, {"cell_id": "a"}))
    study.tell(two.number, Evaluation(None, 1.0, {}))
    before = observed(study)
    study.tell(one.number, Evaluation((2.0,), 1.0, {"cell_id": "b"}))
    study.tell(two.number, Evaluation((2.0,), 0.0, {"cell_id": "b"}))
    assert observed(study) == before
    assert study.pending() == []


def test_what_was_trained_before_is_learnt_and_is_no_suggestion(tmp_path: Path) -> None:
    study = opened(tmp_path, "tpe", FLAT, n_trials=40)
    xs = [i / 11 for i in range(12)]
    study.learn([({"task.x": x, "task.y": 0.1}, worth({"task.x": x, "task.y": 0.1})) for x in xs])
    assert study.n_asked == 0
    assert [t.suggested for t in study.observations()] == [False] * 12
    assert [t.evaluation.violation for t in study.observations()] == [0.0] * 7 + [1.0] * 5
    unlearnt = tmp_path / "unlearnt"
    unlearnt.mkdir()
    assert play(study, 4) != play(opened(unlearnt, "tpe", FLAT, n_trials=40), 4)
    assert [t.suggested for t in study.observations()] == [False] * 12 + [True] * 4


FINITE: dict[str, Any] = {
    "task.x": {"uniform": [0, 0.3], "step": 0.1},
    "task.k": {"int": [1, 2]},
    "twist.name": {"categorical": ["straight", "bent"]},
    "twist.angle": {"categorical": [0.25, 0.5], "when": {"twist.name": "bent"}},
}


def test_a_grid_suggests_each_point_once_and_none_that_is_known(tmp_path: Path) -> None:
    study = opened(tmp_path, "grid", FINITE)
    known: Params = {"task.x": 0.3, "task.k": 2, "twist.name": "bent", "twist.angle": 0.25}
    study.learn([(known, Evaluation((1.0,), 0.0, {"cell_id": "a"}))])
    suggestions: list[Suggestion] = []
    for _ in range(5):
        batch = study.ask(5)
        assert opened(tmp_path, "grid", FINITE).pending() == batch
        for one in batch:
            study.tell(one.number, Evaluation((1.0,), 0.0, {"cell_id": str(one.number)}))
        suggestions += batch
    points = {json.dumps(s.params, sort_keys=True) for s in suggestions}
    assert len(points) == len(suggestions) == 4 * 2 * 3 - 1
    assert json.dumps(known, sort_keys=True) not in points
    assert {s.params["task.x"] for s in suggestions} == {0.0, 0.1, 0.2, 0.3}
    assert study.ask(5) == study.pending() == []


def test_importance_is_the_share_of_what_makes_points_good_and_bounds_are_not_good(
    tmp_path: Path,
) -> None:
    study = opened(tmp_path, "random", FLAT)
    assert study.importance() == {}
    for one in study.ask(60):
        x, y = float(one.params["task.x"]), float(one.params["task.y"])  # type: ignore[arg-type]
        lure = Evaluation((1e6,), 1.0, {})
        study.tell(one.number, lure if y > 0.1 else Evaluation((x,), 0.0, {}))
    shares = study.importance()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["task.x"] > 0.6


def test_importance_of_several_objectives_is_that_of_the_first(tmp_path: Path) -> None:
    objectives = ["delay", {"value": "t2", "direction": "minimize"}]
    study = opened(tmp_path, "nsga2", FLAT, objective=objectives)
    for one in study.ask(60):
        x, y = float(one.params["task.x"]), float(one.params["task.y"])  # type: ignore[arg-type]
        study.tell(one.number, Evaluation((x, y), 0.0, {}))
    assert study.importance()["task.x"] > 0.6


def test_two_objectives_are_told_and_what_has_no_values_too(tmp_path: Path) -> None:
    objectives = ["delay", {"value": "t2", "direction": "minimize"}]
    for sampler in ("nsga2", "tpe", "random"):
        folder = tmp_path / sampler
        folder.mkdir()
        study = opened(folder, sampler, FLAT, objective=objectives)
        one, two = study.ask(2)
        study.tell(one.number, Evaluation((1.0, 2.0), 0.0, {}))
        study.tell(two.number, Evaluation(None, 1.0, {}))
        assert observed(study) == [(one.params, (1.0, 2.0), 0.0), (two.params, None, 1.0)]
        assert [d.name for d in study._study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize(("pruner", "given_up"), [("none", 0), ("median", 1), ("asha", 1)])
def test_a_pruner_gives_up_what_lags_behind(pruner: str, given_up: int, tmp_path: Path) -> None:
    study = opened(tmp_path, "random", FLAT, pruner=pruner, unsafe_for_grokking=True)
    for one in study.ask(6):
        study.report(one.number, 0.0, 10)
        study.tell(one.number, Evaluation((1.0,), 0.0, {}))
    good, bad = study.ask(2)
    assert not study.report(good.number, 1.0, 10)
    assert study.report(bad.number, -1.0, 10) == bool(given_up)


ABOUT = {"sweep": "a", "definition": {"objective": ["delay"], "seeds": [0, 1], "steps": 100}}


def test_a_study_of_another_sweep_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, "random", about=ABOUT).ask(1)
    for fresh in (False, True):
        with pytest.raises(UsageError) as caught:
            opened(tmp_path, "random", about={**ABOUT, "sweep": "b"}, fresh=fresh)
        assert str(caught.value) == (
            f"sqlite:///{tmp_path / 'study.db'}: the study 'hill' there belongs to another sweep. "
            "Give this one another name (name=...), or use another storage."
        )
    assert opened(tmp_path, "random", about=ABOUT).n_asked == 1


def test_another_definition_is_refused_by_what_has_changed_unless_a_fresh_study_is_asked_for(
    tmp_path: Path,
) -> None:
    play(opened(tmp_path, "random", about=ABOUT), 2)
    changed = {"sweep": "a", "definition": {"objective": ["t2"], "seeds": [0, 1], "steps": 200}}
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, "random", about=changed)
    assert str(caught.value) == (
        "the search 'hill' was begun with other settings: objective, steps changed. Give the sweep "
        "another name (name=...), or use --fresh to begin a new study that learns from the trials "
        "in the store."
    )
    assert opened(tmp_path, "random", about=ABOUT, fresh=True).n_asked == 2
    assert opened(tmp_path, "random", about=changed, fresh=True).n_asked == 0
    assert opened(tmp_path, "random", about=changed).n_asked == 0


def test_a_study_whose_making_was_cut_short_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("optuna.study.Study.set_user_attr", _killed)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, "random")
    assert len(play(opened(tmp_path, "random"), 2)) == 2


def _killed(*_: Sequence[object]) -> None:
    raise KeyboardInterrupt
