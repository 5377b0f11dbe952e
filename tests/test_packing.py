"""Packs partition the trials, whatever the grid looked like."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.grid.grid import Grid
from sweeper.packing import (
    Pack,
    Run,
    auto_size,
    data_key,
    groups,
    pack_id,
    pack_order,
    static_groups,
    static_key,
)
from sweeper.trainables.config import GrokkingConfig
from tests.strategies import GRIDS, TRAINABLE, grid_of, grid_text, values_of

Blocks = list[dict[str, list[str]]]
RUN = Run(steps=10, criteria={"sparse_recovery": Criterion(metric="error", train=0.1, test=0.1)})


def packs_of(grid: Grid, size: int) -> list[list[str]]:
    """Return the ids of the trials of each pack, as a launch makes them."""
    table = grid.table()
    group = static_groups(GrokkingConfig, table)
    found = []
    for g in range(int(group.max(initial=-1)) + 1):
        rows = table.filter(group == g)
        ids = rows["trial_id"].take(pack_order(GrokkingConfig, rows)).to_pylist()
        found += [ids[start : start + size] for start in range(0, len(ids), size)]
    return found


@settings(deadline=None, max_examples=40)
@given(GRIDS, st.integers(1, 9))
def test_packs_partition_the_trials(blocks: Blocks, size: int) -> None:
    grid = grid_of(grid_text(blocks))
    trials = {trial.id: trial for trial in grid.trials()}
    packs = packs_of(grid, size)
    assert sorted(i for pack in packs for i in pack) == sorted(trials)
    assert all(1 <= len(pack) <= size for pack in packs)
    for pack in packs:
        assert len({static_key(GrokkingConfig, trials[i].values) for i in pack}) == 1
        Pack(pack_id(pack), tuple(trials[i] for i in pack), GrokkingConfig, RUN)


@settings(deadline=None, max_examples=40)
@given(GRIDS)
def test_trials_that_share_data_stand_side_by_side(blocks: Blocks) -> None:
    grid = grid_of(grid_text(blocks, seeds="3"))
    trials = {trial.id: trial for trial in grid.trials()}
    for pack in packs_of(grid, 10**6):
        keys = [data_key(GrokkingConfig, trials[i]) for i in pack]
        assert len([key for key, _ in groupby(keys)]) == len(set(keys))


@settings(deadline=None, max_examples=40)
@given(GRIDS, st.integers(1, 9), st.data())
def test_packs_do_not_depend_on_how_the_grid_is_written(
    blocks: Blocks, size: int, data: st.DataObject
) -> None:
    rewritten = [
        {
            path: data.draw(st.permutations(block[path]))
            for path in data.draw(st.permutations(list(block)))
        }
        for block in data.draw(st.permutations(blocks))
    ]
    one = packs_of(grid_of(grid_text(blocks, seeds="[0, 1]")), size)
    other = packs_of(grid_of(grid_text(rewritten, seeds="[1, 0]")), size)
    assert {tuple(pack) for pack in one} == {tuple(pack) for pack in other}


def test_a_pack_of_different_static_fields_is_refused() -> None:
    trials = [
        Trial.of(
            GrokkingConfig,
            values_of({"task.name": "sparse_recovery", "model.depth": depth}),
            0,
            trainable=TRAINABLE,
        )
        for depth in (1, 2)
    ]
    with pytest.raises(ValueError, match="one and the same static key"):
        Pack("x", tuple(trials), GrokkingConfig, RUN)


def test_a_pack_gives_its_columns_in_order() -> None:
    text = grid_text([{"optimizer.lr": ["0.1", "0.2"]}], seeds="1")
    trials = tuple(grid_of(text).trials())
    pack = Pack("x", trials, GrokkingConfig, RUN)
    assert pack.column("optimizer.lr") == [0.1, 0.2]
    assert pack.trial_ids == [t.id for t in trials]
    assert pack.criterion.metric == "error"


def test_the_order_and_the_salt_make_another_pack() -> None:
    ids = {pack_id(["a", "b"]), pack_id(["b", "a"]), pack_id(["a", "b"], salt="x"), pack_id(["a"])}
    assert len(ids) == 4
    assert pack_id(["a", "b"]) == pack_id(("a", "b"))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_rows_are_grouped_by_equality_in_order_of_appearance(
    rows: list[tuple[int, int, int]],
) -> None:
    columns = [np.array([row[i] for row in rows], dtype=np.int64) for i in range(3)]
    seen = list(dict.fromkeys(rows))
    assert groups(columns, len(rows)).tolist() == [seen.index(row) for row in rows]


SIZES = st.integers(1, 10**5)


@given(SIZES, st.integers(1, 64), st.integers(0, 10**6), st.integers(0, 10**9), SIZES)
def test_an_automatic_size_is_useful_fits_and_feeds_every_worker(
    n: int, workers: int, per_trial: int, budget: int, most: int
) -> None:
    size = auto_size(n, workers=workers, per_trial=per_trial, budget=budget, most=most)
    assert size >= 1
    assert size * per_trial <= max(budget, per_trial)
    assert size < most + 8
    assert size < -(-n // workers) + 8
    assert size == auto_size(n, workers=workers, per_trial=per_trial, budget=budget, most=most)


@given(SIZES, st.integers(1, 64), SIZES, st.integers(0, 10**6))
def test_more_memory_never_makes_smaller_packs(n: int, workers: int, most: int, more: int) -> None:
    sizes = [
        auto_size(n, workers=workers, per_trial=100, budget=budget, most=most)
        for budget in (10**6, 10**6 + more)
    ]
    assert sizes[0] <= sizes[1]


@given(SIZES)
def test_big_packs_are_multiples_of_eight(n: int) -> None:
    size = auto_size(n, workers=2, per_trial=1, budget=10**12, most=4096)
    assume(size >= 8)
    assert size % 8 == 0
