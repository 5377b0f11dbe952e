"""One trial from Python and from the shell: results, output, the command that trains it again."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pytest

import sweeper as package
from sweeper.compile.loading import load_grid
from sweeper.compile.mapping import grid_of
from sweeper.errors import UsageError
from sweeper.report.logs import outputs
from sweeper.report.sweep import Sweep
from tests.commands import sweeper
from tests.labs import Lab
from tests.stores import Made, Planned
from tests.sweeps import rows, run, toy_grid

GRIDS = sorted((Path(__file__).parents[1] / "grids").glob("*.yaml"))
FEW = ("depth", "smoke", "groups", "rules")
"""The grids of which the fast tests take a trial."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep of 12 toys, all of which have ended; no test may change it."""
    folder = tmp_path_factory.mktemp("toy")
    run(toy_grid(folder), str(folder / "sweeps"))
    return package.open(folder / "sweeps" / "toy")


def test_a_trial_is_found_by_the_first_digits_of_its_id(toy: Sweep) -> None:
    table = toy.sql("select * from trials join delays using (trial_id) order by trial_id")
    for row in table.to_pylist():
        one = toy.trial(row["trial_id"][:10])
        assert (one.id, one.seed, one.status) == (row["trial_id"], row["seed"], row["status"])
        assert (one.t1, one.t2, one.delay) == (row["t1"], row["t2"], row["delay"])
        assert one.config["task"]["rate"] == row["task"]["rate"]
        stored = toy.metrics.filter(pa.compute.field("trial_id") == one.id).sort_by("step")
        assert (
            one.metrics.equals(stored.combine_chunks())
            or one.metrics.to_pylist() == stored.to_pylist()
        )
    with pytest.raises(UsageError) as caught:
        toy.trial("xyz")
    assert str(caught.value) == (
        "toy: no trial's id begins with 'xyz'. List the ids with "
        '`sweeper sql toy "select trial_id from trials"`.'
    )
    ids = table["trial_id"].to_pylist()
    with pytest.raises(UsageError) as caught:
        toy.trial("")
    assert str(caught.value) == (
        f"toy: the ids of several trials begin with '': {', '.join(ids[:5])}, .... Add more digits."
    )


def test_a_whole_id_is_enough_where_others_begin_with_it(store: str) -> None:
    Made.at(store).launch([Planned("ab"), Planned("abc"), Planned("a_")])
    sweep = package.open("demo", store=store)
    assert sweep.trial("ab").id == "ab"
    assert sweep.trial("a_").id == "a_"
    with pytest.raises(UsageError):
        sweep.trial("a")


def test_a_trial_that_the_latest_grid_lacks_is_there(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path), store)
    before = package.open("toy", store=store)
    ids = before.sql("select trial_id from trials where task.rate = 0.1 order by all")
    run(toy_grid(tmp_path, "task.rate=0.5"), store)
    one = package.open("toy", store=store).trial(ids["trial_id"][0].as_py())
    assert one.config["task"]["rate"] == 0.1
    assert one.metrics.num_rows > 10


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem in FEW else pytest.mark.long, id=p.stem) for p in GRIDS],
)
def test_a_trials_grid_has_the_trial_itself_and_nothing_else(path: Path, store: str) -> None:
    grid = load_grid(path)
    table = pa.Table.from_batches([next(grid.batches())])
    if not grid.subgrids:
        return
    made = Made.at(store)
    step = max(1, table.num_rows // 7)
    chosen = table.take(pa.array(range(0, table.num_rows, step)))
    names = chosen.column_names[3:]
    plans = [
        Planned(row["trial_id"], row["cell_id"], row["seed"], {n: row[n] for n in names})
        for row in chosen.to_pylist()
    ]
    criteria = {task: c.model_dump() for task, c in grid.criteria.items()}
    stop = grid.file.stop.after_generalization
    made.launch(plans, criteria=criteria, steps=grid.steps, after_generalization=stop)
    sweep = package.open("demo", store=store)
    for plan in plans:
        one = sweep.trial(plan.trial_id)
        again = grid_of(one.grid)
        (trial,) = again.trials()
        assert (trial.id, trial.seed, again.steps) == (plan.trial_id, plan.seed, grid.steps)
        task = str(trial.values.get("task.name", ""))
        assert again.criteria[task] == grid.criteria[task]
        assert len(one.command) < 1200


def test_the_command_trains_the_trial_again_with_the_same_rows(store: str) -> None:
    grid = {
        "name": "two",
        "fixed": {
            "task": {"name": "sparse_recovery", "n": 12, "s": 2, "N": 9},
            "regularizer": {"name": "l1", "strength": 1e-3},
            "steps": 50,
        },
        "grid": {"product": {"optimizer.lr": [0.1, 0.05]}},
        "seeds": [3, 5],
        "criterion": {"metric": "error", "train": 1e-9, "test": 1e-9},
        "stop": {"diverged": False},
        "log": {"points_per_decade": 20},
    }
    package.launch(grid, store, inline=True)
    sweep = package.open("two", store=store)
    one = sweep.trial(
        sweep.sql("select trial_id from trials where seed = 5")["trial_id"][0].as_py()
    )
    first, second = one.command.split(" | ")
    assert second == f"sweeper launch - --store {shlex.quote(store)}"
    show, form, text = shlex.split(first)
    assert (show, form) == ("printf", "%s")
    done = sweeper(*shlex.split(second)[1:], "--inline", stdin=text)
    assert done.returncode == 0, done
    again = rows(store, f"two-{one.id[:8]}")
    mine = pa.compute.field("trial_id") == one.id
    assert again.equals(rows(store, "two").filter(mine))
    assert again.num_rows > 20
    assert one.grid["log"] == {"points_per_decade": 20}
    assert one.grid["stop"] == {"diverged": False}


def test_a_command_trusts_the_modules_that_the_grid_names(toy: Sweep) -> None:
    one = toy.trial(toy.trials["trial_id"][0].as_py())
    assert one.grid["trainable"] == "tests.toy"
    assert " | sweeper launch - --trust --store " in one.command


def test_a_trial_whose_trainable_is_gone_can_be_read(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(toy_grid(tmp_path), store)
    sweep = package.open("toy", store=store)

    def gone(name: str, code: Any) -> Any:
        raise UsageError(f"trainable {name!r} can't be imported")

    id_ = sweep.trials["trial_id"][0].as_py()
    whole = sweep.trial(id_)
    with monkeypatch.context() as patch:
        patch.setattr("sweeper.trainable.load", gone)
        one = sweep.trial(id_)
        content = one.grid
    assert one.config == whole.config
    assert content["fixed"].items() >= whole.grid["fixed"].items()
    (trial,) = grid_of(content).trials()
    assert trial.id == id_


def test_show_prints_the_whole_trial(toy: Sweep) -> None:
    id_ = toy.sql("select trial_id from trials where task.rate = 0.5 order by all")["trial_id"][
        0
    ].as_py()
    one = toy.trial(id_)
    done = sweeper("show", "toy", id_[:8], "--store", toy.store)
    assert done.returncode == 0, done.stderr
    assert done.stdout == sweeper("show", id_, "--store", toy.store).stdout
    head, times, host, *_ = done.stdout.splitlines()
    assert head == f"trial {id_} of toy, seed {one.seed}: {one.status} after {one.steps} steps"
    assert times == f"t1 {one.t1}, t2 {one.t2}, delay {one.delay} ({one.phase})"
    assert host.startswith("trained in ")
    assert "\n  task.rate: 0.5\n" in done.stdout
    assert re.search(r"\n *step .*train_error +test_error", done.stdout)
    assert (
        f"\nweights: sweeper.open('toy', store='{toy.store}').trial(\"{id_[:8]}\").weights()\n"
        in done.stdout
    )
    assert done.stdout.endswith(f"\ntrain it again: {one.command}\n")
    event = json.loads(sweeper("show", "toy", id_, "--store", toy.store, "--json").stdout)
    assert (event["id"], event["config"], event["command"]) == (id_, dict(one.config), one.command)
    assert event["grid"] == one.grid


def test_show_finds_a_trial_in_any_sweep_and_says_where_there_are_several(store: str) -> None:
    Made.at(store, "x").launch([Planned("aa"), Planned("bb")])
    Made.at(store, "y").launch([Planned("ab")])
    done = sweeper("show", "b", "--store", store)
    assert done.stdout.startswith("trial bb of x, seed 0: pending, 0 steps so far\n")
    several = sweeper("show", "a", "--store", store)
    assert (several.returncode, several.stderr) == (
        2,
        "error: a: several trials' ids begin so: x aa, y ab. Name the sweep and the trial.\n",
    )
    none = sweeper("show", "q", "--store", store)
    assert none.stderr == f"error: q: no trial's id begins so in any sweep of {store}.\n"
    whole = sweeper("show", "x", "--store", store)
    assert (whole.returncode, whole.stderr) == (
        2,
        "error: x: a sweep. Add the id of one of its trials, listed by "
        f'`sweeper sql x "select trial_id from trials" --store {store}`.\n',
    )


def test_logs_print_the_traceback_and_the_output_of_the_last_attempt(
    tmp_path: Path, store: str
) -> None:
    run(
        toy_grid(tmp_path, "task.fate=well,raises", "task.rate=0.5", "task.shift=0", "seeds=1"),
        store,
    )
    sweep = package.open("toy", store=store)
    bad, well = (
        sweep.trial(
            sweep.sql(f"select trial_id from trials where task.fate = '{f}'")["trial_id"][0].as_py()
        )
        for f in ("raises", "well")
    )
    assert bad.error is not None
    assert bad.pack_id is not None
    done = sweeper("logs", "toy", bad.id[:9], "--store", store)
    assert (done.returncode, done.stdout) == (0, bad.error.rstrip() + "\n")
    assert bad.error.rstrip() in sweeper("show", "toy", bad.id, "--store", store).stdout
    quiet = sweeper("logs", "toy", well.id, "--store", store)
    assert quiet.stdout == f"trial {well.id}: {well.status}, without an error; no output is kept\n"
    files = sweep.ledger.files
    for name in ("2-aa", "10-bb", "1-cc"):
        files.write(f"output/{bad.pack_id}-{name}.txt", f"attempt {name} é\n".encode())
    files.write(f"output/{bad.pack_id}9-99-dd.txt", b"of another pack")
    files.write(f"output/{bad.pack_id}-3-ee.log", b"of another kind")
    expected = [f"output/{bad.pack_id}-{name}.txt" for name in ("1-cc", "2-aa", "10-bb")]
    assert outputs(files, bad.pack_id) == expected
    done = sweeper("logs", "toy", bad.id, "--store", store)
    assert done.stdout == f"attempt 10-bb é\n{bad.error.rstrip()}\n"
    assert bad.output == "attempt 10-bb é\n"


@pytest.mark.parametrize("kind", ["script", "function"])
def test_a_trial_of_a_users_code_has_its_output_and_its_command(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    lab = Lab(tmp_path)
    (lab.script if kind == "script" else lab.function)(middle="print('step', step)")
    assert lab.launch().exit_code == 0
    sweep = package.open("lab")
    one = sweep.trial(
        sweep.sql("select trial_id from trials where lr = 0.5 and seed = 1")[0][0].as_py()
    )
    assert one.config == {"lr": 0.5, "depth": 1}
    printed = "".join(f"step {step}\n" for step in range(10))
    assert one.output == printed
    assert sweeper("logs", "lab", one.id[:6]).stdout == printed
    lab.raw("open('marker', 'w')  # sweeper")
    assert sweep.trial(one.id).config == one.config
    assert not Path("marker").exists()  # reading runs no script
    lab.script(middle="print('step', step)")
    text, _, command = one.command.partition(" | ")
    done = sweeper(*shlex.split(command)[1:], "--inline", stdin=shlex.split(text)[2])
    assert done.returncode == 0, done
    assert rows("sweeps", f"lab-{one.id[:8]}").equals(
        rows("sweeps", "lab").filter(pa.compute.field("trial_id") == one.id)
    )
    sys.modules.pop("lab_train", None)
