"""A sweep from Python: what the commands know, as tables, figures and trials."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sweeper as package
from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.errors import ConfigError, StoreError, UsageError
from sweeper.report.status import status
from sweeper.report.sweep import Sweep
from sweeper.store.lease import open_sweep
from tests.commands import PHASE, sweeper
from tests.stores import Made, Planned, config, curve, end
from tests.sweeps import run, toy_grid
from tests.test_architecture import HEAVY, loaded


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep of 12 toys, all of which have ended; no test may change it."""
    folder = tmp_path_factory.mktemp("toy")
    run(toy_grid(folder), str(folder / "sweeps"))
    return package.open(folder / "sweeps" / "toy")


def write(made: Made, ids: str, *, acc: Mapping[str, Sequence[float]], done: bool = True) -> None:
    """Train `ids` by hand: t1 and t2 follow from the accuracies at the steps 0, 10, 1000."""
    pack = made.pack([*ids])
    launch = made.ledger.state.launch
    assert launch is not None
    attempt = made.claim(pack, launch["launch_id"])
    steps = [0, 10, 1000]
    every = [r for i in ids for r in curve(i, steps, train_acc=[0, 1, 1], test_acc=acc[i])]
    ends = [end(i, "generalized" if acc[i][-1] else "censored", 1000) for i in ids]
    made.rows(pack, attempt, every, ends, done=done)


@pytest.mark.parametrize("form", ["path", "uri", "slash", "name and store", "name", "here", "dot"])
def test_a_sweep_is_opened_by_its_folder_or_by_its_name(
    form: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made.at(store).launch([Planned("a")])
    monkeypatch.chdir(Path(store).parent)
    if form == "name and store":
        opened = package.open("demo", store=Path(store))
    elif form == "dot":
        monkeypatch.chdir(Path(store, "demo"))
        opened = package.open(".")
    elif form == "here":
        monkeypatch.chdir(store)
        opened = package.open("demo")
    else:
        given: dict[str, Any] = {
            "path": Path(store, "demo"),
            "uri": f"file://{store}/demo",
            "slash": "sweeps/demo/",
            "name": "demo",
        }
        opened = package.open(given[form])
    assert opened.name == "demo"
    assert opened.trials["trial_id"].to_pylist() == ["a"]
    assert repr(opened) == f"sweeper.open('demo', store={opened.store!r})"


def test_a_name_alone_is_a_sweep_of_the_store_that_the_environment_names(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made.at(store)
    monkeypatch.setenv("SWEEPER_STORE", store)
    assert package.open("demo").store == store


def test_what_is_no_sweep_is_named_with_those_that_are(store: str) -> None:
    Made.at(store)
    with pytest.raises(StoreError) as caught:
        package.open(f"{store}/dmeo")
    assert str(caught.value) == f"no sweep 'dmeo' in {store}. There: demo."
    with pytest.raises(StoreError) as caught:
        package.open(store)
    assert str(caught.value) == (
        f"{store}: a store, not a sweep. Open one of its sweeps, e.g. sweeper.open('{store}/demo')."
    )


def test_opening_a_sweep_loads_neither_torch_nor_ray_nor_matplotlib(store: str) -> None:
    Made.at(store).launch([Planned("a")])
    code = f"""
import sweeper
s = sweeper.open("demo", store={store!r})
s.trials, s.cells, s.delays, s.metrics, s.status, s.trial("a").metrics
"""
    assert not {*HEAVY, "matplotlib", "optuna"} & loaded(code)
    few = {"typing", "importlib", "sweeper", "sys"}
    heavy = {"pyarrow", "duckdb", "numpy", "pydantic", "sweeper.api"}
    assert few <= loaded("import sweeper, sys, typing")
    assert not heavy & loaded("import sweeper")


@pytest.mark.parametrize("view", ["trials", "cells", "delays", "metrics"])
def test_each_view_is_a_table(view: str, toy: Sweep) -> None:
    with open_views(open_sweep(toy.store, "toy")) as views:
        expected = sql.query(views, f"select * from {view}")
    table: pa.Table = getattr(toy, view)
    assert table.schema == expected.schema
    first = table.column_names[0]
    assert sorted(table[first].to_pylist()) == sorted(expected[first].to_pylist())
    assert toy.sql(f"select count(*) as n from {view}")["n"].to_pylist() == [table.num_rows]


def test_sql_only_reads_and_ends_after_its_timeout(toy: Sweep) -> None:
    with pytest.raises(sql.QueryError):
        toy.sql("create table x as select 1")
    with pytest.raises(sql.QueryError):
        toy.sql(
            "select sum(a.range * b.range) from range(10000000) a, range(1000000) b", timeout_s=0.2
        )


def test_status_is_that_of_the_command(toy: Sweep) -> None:
    assert toy.status == status(toy.store, "toy")
    assert (toy.status.trials, toy.status.ended, toy.status.driver) == (12, 12, None)


def test_a_sweep_that_runs_shows_what_is_there_by_now(store: str) -> None:
    made = Made.at(store)
    made.launch([Planned("a"), Planned("b")])
    sweep = package.open("demo", store=store)
    assert sweep.metrics.num_rows == 0
    write(made, "a", acc={"a": [0, 0, 1]})
    assert sweep.metrics.num_rows == 3
    assert sweep.trial("a").t2 == 1000
    sweep.delete()
    with pytest.raises(StoreError):
        sweep.trials  # noqa: B018
    Made.at(store).launch([Planned("z")])  # another sweep of that name
    assert sweep.trials["trial_id"].to_pylist() == ["z"]


def test_a_sweep_is_renamed(store: str) -> None:
    Made.at(store).launch([Planned("a")])
    sweep = package.open("demo", store=store)
    sweep.rename("new")
    assert sweep.name == "new"
    assert sweep.trials.num_rows == 1
    assert os.listdir(store) == ["new"]  # noqa: PTH208


def drawn(path: Path) -> bytes:
    """Return what two drawings of the same numbers have in common.

    Matplotlib's solver of layouts may differ in the last digit of a place.
    """
    content = path.read_bytes()
    if path.suffix == ".svg":
        return re.sub(rb"[\d.]+", b"", content)
    return content.partition(b"IDAT")[0]


@pytest.mark.parametrize("suffix", ["png", "svg", "csv", "parquet"])
def test_a_phase_diagram_is_that_of_the_command(suffix: str, toy: Sweep, tmp_path: Path) -> None:
    options = ("--value", "t2", "--where", "task.rate > 0.2")
    ours, theirs = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    done = sweeper(*PHASE, *options, "-o", str(theirs), "--store", toy.store)
    assert done.returncode == 0, done.stderr
    figure = toy.phase("task.rate", "task.shift", value="t2", where="task.rate > 0.2")
    assert figure.save(str(ours)) == ours
    if suffix == "parquet":
        assert pq.read_table(ours).equals(pq.read_table(theirs))
    else:
        assert drawn(ours) == drawn(theirs)


def test_a_notebook_shows_a_figure_with_its_provenance(toy: Sweep, tmp_path: Path) -> None:
    figure = toy.phase(x="task.rate", y="task.shift")
    assert figure._repr_png_()[:4] == b"\x89PNG"
    assert "ledger record" in figure._repr_svg_()
    assert figure.provenance.trials == 12
    assert repr(figure) == f"<figure of {figure.provenance.footer}>"
    assert figure.data.table().num_rows == 6
    with pytest.raises(UsageError, match=r"x\.pdf: a figure is written as \.png or \.svg"):
        figure.save(tmp_path / "x.pdf")


def test_facets_and_wrong_axes_are_those_of_the_command(toy: Sweep) -> None:
    with pytest.raises(UsageError, match=r"x: no axis 'task\.rte'\. Did you mean 'task\.rate'\?"):
        toy.phase("task.rte", "task.shift")
    with pytest.raises(UsageError, match="x, y and facet must differ"):
        toy.phase("task.rate", "task.shift", facet="task.rate")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curves_are_those_of_the_command(suffix: str, toy: Sweep, tmp_path: Path) -> None:
    ours, theirs = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    words = ("curves", "toy", "--where", "seed = 0", "-o", str(theirs), "--store", toy.store)
    assert sweeper(*words).returncode == 0
    figure = toy.curves("seed = 0")
    figure.save(ours)
    assert drawn(ours) == drawn(theirs)
    assert len(figure.data.trials) == 6
    with pytest.raises(UsageError):
        figure.save(tmp_path / "curves.csv")


def taus(store: str) -> Sweep:
    """Cells: a and c memorize at 10; b, at tau 0.5, and c, censored, generalize later or never."""
    made = Made.at(store)
    cells = {
        "a": config(selection__name="coherent", selection__tau=0.0),
        "b": config(selection__name="coherent", selection__tau=0.5),
        "c": config(selection__name="coherent", selection__tau=0.9),
        "d": config(selection__name="coherent", selection__tau=0.0, optimizer__lr=1.0),
        "e": config(selection__name="coherent", selection__tau=0.5, optimizer__lr=1.0),
        "f": config(selection__name="coherent", selection__tau=0.5, optimizer__lr=2.0),
    }
    made.launch([Planned(i, i.upper(), 0, values) for i, values in cells.items()])
    late = {"a": [0, 1, 1], "b": [0, 0, 1], "c": [0, 0, 0], "d": [0, 0, 0], "e": [0, 0, 1]}
    write(made, "abcdef", acc={**late, "f": [0, 0, 1]})
    return package.open("demo", store=store)


def test_the_best_cells_have_the_largest_known_delay(store: str) -> None:
    best = taus(store).best()
    assert set(best["cell_id"].to_pylist()[:3]) == {"B", "E", "F"}
    assert best["cell_id"].to_pylist()[3:] == ["A"]  # C and D are censored: they can't win
    delays = best["delay"].to_pylist()
    assert delays == sorted(delays, reverse=True)
    assert best.column_names[:2] == ["cell_id", "task"]


def test_the_best_cells_by_amplification_have_a_known_reference(store: str) -> None:
    sweep = taus(store)
    best = sweep.best(1, "amplification", reference={"selection.tau": 0})
    assert best["cell_id"].to_pylist() == ["B"]  # E's reference is censored, F has none
    assert best.column_names[:3] == ["cell_id", "amplification", "task"]
    assert best["amplification"].to_pylist()[0] > 10
    every = sweep.best(9, "amplification")  # tau = 0 is the neutral value of coherent
    assert every["cell_id"].to_pylist() == ["B", "A"]
    with pytest.raises(UsageError) as caught:
        sweep.best(by="amplification", reference={"selection.tau": 0.3})
    assert str(caught.value) == (
        "demo: no cell has a reference cell in the sweep (selection.tau = 0.3). Name the values of "
        "the reference, e.g. reference={'selection.tau': 0}."
    )


def test_the_best_cells_by_an_expression(store: str) -> None:
    sweep = taus(store)
    best = sweep.best(2, "-optimizer.lr")
    assert set(best["cell_id"].to_pylist()) <= {"A", "B", "C"}
    assert best["-optimizer.lr"].to_pylist() == [-0.01, -0.01]
    with pytest.raises(sql.QueryError, match="no column 'delya'"):
        sweep.best(by="delya / 2")
    with pytest.raises(UsageError, match=r"^n = 0 must be at least 1\.$"):
        sweep.best(0)


def test_the_best_cells_of_a_search_are_those_of_its_objective(tmp_path: Path, store: str) -> None:
    text = "search: {objective: {value: t2, direction: minimize}, space: {task.rate: {uniform: [0.1, 1]}}}\n"
    grid = toy_grid(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(path.read_text() + text)
    run(load_grid(path), store)
    best = package.open("toy", store=store).best(6)
    assert best["t2"].to_pylist() == sorted(best["t2"].to_pylist())
    known = package.open("toy", store=store).sql("select t2 from cells where t2 is not null")
    assert 0 < len(best) == len(known) < grid.n_cells
    largest = package.open("toy", store=store).best(1, "delay")
    assert largest["delay"].to_pylist() == [max(best["delay"].to_pylist())]


def test_launch_takes_a_path_a_dict_or_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = toy_grid(tmp_path, "seeds=1")
    content = {
        "name": "toy",
        "trainable": "tests.toy",
        "fixed": {"steps": np.int64(100)},
        "grid": {"product": {"task.rate": np.array([0.1, 0.5, 1.0]), "task.shift": range(2)}},
        "seeds": (0,),
    }
    assert package.launch(content, inline=True).counts.done == 6
    assert package.launch(grid, inline=True).counts.trials == 6
    assert package.launch("toy.yaml", "sweeps", inline=True).counts.trials == 12
    assert package.launch(tmp_path / "toy.yaml", inline=True).counts.done == 12
    opened = package.open("sweeps/toy")
    assert opened.trials.num_rows == 12
    launches = opened.ledger.state.launches
    assert [record["seeds"] for record in launches.values()] == [
        [0],
        [0],
        [0, 1],
        [0, 1],
    ] or launches
    done = sweeper("extend", "toy", "--steps", "200", "--inline", "--quiet")
    assert done.returncode == 0, done


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nme": "x"}, "grid: unknown key 'nme'. Did you mean 'name'?"),
        (
            {"fixed": {"task.rte": 1, "steps": 5}},
            "grid: task has no field 'rte'. Did you mean 'rate'?",
        ),
        ({"seeds": float("nan")}, "grid: seeds = nan isn't finite. Write a finite number."),
        (
            {"seeds": [{1}]},
            "grid: seeds[0] is of the type set. A grid has mappings, lists, numbers, text, true, false and null.",
        ),
        ({"fixed": {3: 1}}, "grid: fixed: the key 3 must be text."),
    ],
)
def test_mistakes_in_a_dict_are_named_without_lines(change: dict[str, Any], message: str) -> None:
    grid = {"name": "toy", "trainable": "tests.toy", "fixed": {"steps": 5}}
    with pytest.raises(ConfigError) as caught:
        package.launch({**grid, **change}, inline=True)
    assert caught.value.problems == [message]
