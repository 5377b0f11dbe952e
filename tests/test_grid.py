"""A grid enumerates the cells that its file spells out, each meaning once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.packing import data_key, static_groups, static_key
from sweeper.trainables.config import GrokkingConfig
from tests.strategies import AXES, GRIDS, grid_of, grid_text

Block = dict[str, list[str]]


def spelt_out(blocks: list[Block]) -> list[dict[str, str]]:
    """Return every cell of the blocks one by one, without what doesn't apply."""
    cells = []
    for block in blocks:
        for row in product(*block.values()):
            cell = dict(zip(block, row, strict=True))
            if cell.get("regularizer.name", "none") == "none":
                cell.pop("regularizer.strength", None)
            cells.append(cell)
    return cells


@settings(deadline=None, max_examples=60)
@given(GRIDS)
def test_the_cells_are_those_of_the_file_each_meaning_once(blocks: list[Block]) -> None:
    grid = grid_of(grid_text(blocks))
    cells = spelt_out(blocks)
    alone = {
        next(grid_of(grid_text([{p: [v] for p, v in cell.items()}], seeds="[0]")).trials()).cell_id
        for cell in cells
    }
    assert {t.cell_id for t in grid.trials()} == alone
    assert grid.n_cells == len(alone)
    assert grid.n_written == len(cells)
    assert grid.n_duplicates == len(cells) - len(alone)


@settings(deadline=None, max_examples=60)
@given(GRIDS)
def test_the_table_holds_the_trials_in_the_same_order(blocks: list[Block]) -> None:
    grid = grid_of(grid_text(blocks, seeds="[3, 1]"))
    table, trials = grid.table(), list(grid.trials())
    assert table["trial_id"].to_pylist() == [t.id for t in trials]
    assert table["cell_id"].to_pylist() == [t.cell_id for t in trials]
    assert table["seed"].to_pylist() == [t.seed for t in trials]
    assert len({t.id for t in trials}) == len(trials) == grid.n_trials
    for row, trial in zip(table.to_pylist(), trials, strict=True):
        for path, value in trial.values.items():
            assert row[path] == (list(value) if isinstance(value, tuple) else value)


@settings(deadline=None, max_examples=60)
@given(GRIDS)
def test_static_groups_are_counted_without_a_table(blocks: list[Block]) -> None:
    swept = any("model.depth" in block for block in blocks)
    grid = grid_of(grid_text(blocks, seeds="3", exclude="model.depth = 2" if swept else None))
    table = grid.table()
    counted = {static_key(GrokkingConfig, g.values): g.trials for g in grid.static_counts()}
    assert len(counted) == len(grid.static_counts())
    assert counted == Counter(static_key(GrokkingConfig, t.values) for t in grid.trials())
    assert sorted(counted.values()) == sorted(
        np.bincount(static_groups(GrokkingConfig, table)).tolist() if table.num_rows else []
    )


@settings(deadline=None, max_examples=40)
@given(GRIDS)
def test_static_groups_know_how_many_data_sets_they_have(blocks: list[Block]) -> None:
    grid = grid_of(grid_text(blocks[:1], seeds="3"))
    data: defaultdict[Any, set[Any]] = defaultdict(set)
    for trial in grid.trials():
        key = static_key(GrokkingConfig, trial.values)
        data[key].add(data_key(GrokkingConfig, trial))
    found = {static_key(GrokkingConfig, g.values): g.sets for g in grid.static_counts()}
    assert found == {key: len(sets) for key, sets in data.items()}


@settings(deadline=None, max_examples=40)
@given(GRIDS, st.sampled_from(list(AXES)), st.data())
def test_a_rule_excludes_what_it_names(blocks: list[Block], path: str, data: st.DataObject) -> None:
    blocks = [b for b in blocks if path in b]
    if not blocks:
        return
    value = data.draw(st.sampled_from(AXES[path]))
    literal = f"'{value}'" if path.endswith("name") else value
    grid = grid_of(grid_text(blocks, exclude=f"{path} = {literal}"))
    all_of_it = grid_of(grid_text(blocks))
    meant = value if path.endswith("name") else float(value)
    left = [t.id for t in all_of_it.trials() if t.values.get(path) != meant]
    assert [t.id for t in grid.trials()] == left
    assert grid.n_written == grid.n_cells + grid.n_excluded + grid.n_duplicates


def test_a_rule_tells_apart_names_that_differ_in_case_only() -> None:
    text = grid_text([{"task.N": ["20", "5"], "task.s": ["2", "5"]}])
    assert grid_of(text + 'exclude: "task.N = 20"\n').n_excluded == 2
    both = text.replace("task.s: [2, 5]", "task.n: [20, 40]")
    left = [
        (t.values["task.N"], t.values["task.n"])
        for t in grid_of(
            both + 'exclude: "task.n = 20 and TASK.N = 5"\n'.replace("TASK", "task")
        ).trials()
    ]
    assert sorted(set(left)) == [(5, 40), (20, 20), (20, 40)]


def test_a_combination_that_makes_no_sense_may_be_excluded() -> None:
    text = grid_text([{"task.n": ["10", "20"], "task.s": ["5", "15"]}], seeds="1")
    assert grid_of(text + 'exclude: "task.s > task.n"\n').n_cells == 3


def test_zipped_axes_move_together() -> None:
    text = (
        "name: g\nfixed: {task: {name: sparse_recovery}, steps: 10}\ngrid:\n"
        "  product: {model.depth: [1, 2]}\n"
        "  zip: [{task.N: [20, 40], task.s: [2, 4]}]\n"
    )
    cells = [
        (t.values["model.depth"], t.values["task.N"], t.values["task.s"])
        for t in grid_of(text).trials()
    ]
    assert cells == [(1, 20, 2), (1, 40, 4), (2, 20, 2), (2, 40, 4)]


def test_axes_that_do_not_apply_collapse_and_are_counted() -> None:
    grid = grid_of(
        grid_text([{"regularizer.name": ["l1", "none"], "regularizer.strength": ["0.1", "0.2"]}])
    )
    assert (grid.n_written, grid.n_cells, grid.n_duplicates) == (4, 3, 1)


MILLION = """
name: million
fixed: {task: {name: sparse_recovery}, steps: 1000}
grid:
  product:
    model.depth: [1, 2, 3, 4]
    optimizer.name: [gd, sgd]
    regularizer.strength: {logspace: [1.0e-5, 1.0e-1, 25]}
    selection.tau: {linspace: [0, 0.9, 50]}
    optimizer.lr: {logspace: [1.0e-3, 1, 10]}
  zip:
    - regularizer.name: [l1, l2_sq, l2_fro, none]
      model.init_scale: [1.0e-6, 1.0e-4, 1.0e-3, 1.0e-2]
    - {task.N: [20, 30, 40, 50], task.s: [3, 4, 5, 6]}
exclude: ["model.depth = 1 and selection.tau > 0.8"]
"""


def measured(path: Path, expression: str) -> tuple[list[int], float]:
    """Return the numbers of `expression` of the grid in `path`, and the peak in megabytes."""
    program = f"""
import sys
from pathlib import Path
from tests.strategies import grid_of
grid = grid_of(Path(sys.argv[1]).read_text())
print(*({expression}))
status = Path("/proc/self/status").read_text()  # getrusage would tell of who forked us, too
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    numbers, kilobytes = done.stdout.splitlines()
    return [int(n) for n in numbers.split()], int(kilobytes) / 1024


def test_a_million_cells_are_counted_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "million.yaml"
    path.write_text(MILLION)
    numbers, megabytes = measured(path, "grid.n_written, grid.n_cells, len(grid.static_counts())")
    assert numbers == [1_600_000, 1_179_520, 128]
    assert megabytes < 800


@pytest.mark.long
def test_a_table_of_a_million_trials_stays_below_its_memory(tmp_path: Path) -> None:
    path = tmp_path / "million.yaml"
    path.write_text(MILLION)
    numbers, megabytes = measured(path, "[grid.table().num_rows]")
    assert numbers == [1_179_520]
    assert megabytes < 900
