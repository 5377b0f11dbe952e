"""The papers' laws, small enough for every check; `docs/science.md` has the long figures.

Each runs through a real launch: a grid, a ledger on disk, Parquet, SQL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper import api, sql
from sweeper.analysis.views.views import open_views
from sweeper.store.lease import open_sweep
from sweeper.trainables.families.sparse_recovery import instance_of
from tests.packs import SPARSE, trial


def rows(tmp_path: Path, text: str, query: str) -> list[tuple[Any, ...]]:
    """Launch the grid `text` and return the rows of `query`."""
    grid = tmp_path / "law.yaml"
    grid.write_text("name: law\n" + text)
    store = str(tmp_path / "sweeps")
    assert api.launch(api.load_grid(grid), store, inline=True).exit_code == 0
    return open_views(open_sweep(store, "law")).execute(query).fetchall()


LAW_1 = """
fixed:
  task: {name: sparse_recovery, N: 40}
  regularizer: {name: l1}
  steps: 60_000
grid:
  product:
    optimizer.name: [gd, ista, projected]
    optimizer.lr: [0.05, 0.1, 0.2]
    regularizer.strength: [1.0e-4, 3.0e-4]
seeds: 3
criterion: {metric: error, train: 5.0e-2, test: 5.0e-2}
log: {points_per_decade: 200}
"""


def test_law_1_the_l1_delay_goes_as_one_over_rate_times_strength_for_every_solver(
    tmp_path: Path,
) -> None:
    found = rows(
        tmp_path,
        LAW_1,
        """
        select optimizer.name, seed, optimizer.lr * regularizer.strength, t1, t2
        from trials join delays using (trial_id) order by all
    """,
    )
    assert len(found) == 54
    t2 = {(solver, seed, x): t for solver, seed, x, _, t in found}
    for solver in ("gd", "ista", "projected"):
        for seed in range(3):
            own = [(x, t) for (s, e, x), t in t2.items() if (s, e) == (solver, seed)]
            slope = np.polyfit(np.log([x for x, _ in own]), np.log([t for _, t in own]), 1)[0]
            assert slope == pytest.approx(-1, abs=0.05)
    for (solver, seed, x), t in t2.items():
        assert t == pytest.approx(t2["gd", seed, x], rel=0.03), (solver, seed, x)
    assert {t1 for solver, _, _, t1, _ in found if solver == "projected"} == {1}


LAW_11 = """
fixed:
  task: {name: sparse_recovery, N: 30}
  model: {init_scale: 10}
  regularizer: {name: l2_sq, strength: 1.0e-2}
  steps: 15_000
grid: {product: {optimizer.lr: [0.1]}}
seeds: 3
stop: {after_generalization: false}
"""


def test_law_11_l2_alone_ends_at_the_floor_of_what_the_measurements_dont_see(
    tmp_path: Path,
) -> None:
    found = rows(
        tmp_path,
        LAW_11,
        """
        select seed, arg_max(test_error, step), max(null_floor)
        from trials join metrics using (trial_id) group by all order by all
    """,
    )
    assert len(found) == 3
    for seed, final, floor in found:
        assert final == pytest.approx(floor, rel=0.01)
        one = instance_of(trial({"task.name": "sparse_recovery"}, seed))
        Q = np.linalg.qr(one.X.numpy().T)[0]
        unseen = one.signal.numpy() - Q @ (Q.T @ one.signal.numpy())
        assert floor == pytest.approx(np.linalg.norm(unseen) / np.linalg.norm(one.signal.numpy()))


LAW_12 = """
fixed:
  task: {name: sparse_recovery, N: 30, rng: numpy_legacy}
  steps: 20_000
grid:
  zip:
    - {model.depth: [1, 2], model.init_scale: [1.0e-6, 1.0e-2]}
seeds: [1]
stop: {after_generalization: false}
log: {points_per_decade: 200}
"""


def test_law_12_depth_brings_the_published_instance_closer_to_its_signal(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        LAW_12,
        """
        select model.depth, min(distance) from trials join metrics using (trial_id)
        group by all order by all
    """,
    )
    assert [depth for depth, _ in found] == [1, 2]
    assert [distance for _, distance in found] == pytest.approx([0.1327, 0.0199], abs=3e-4)


LAW_13 = """
fixed:
  task: {name: sparse_recovery, N: 50, rng: numpy_legacy}
  model: {depth: 2, init_scale: 1.0e-3}
  optimizer: {lr: 0.5}
  steps: 20_000
grid: {product: {model.sign_free: [false, true]}}
seeds: [1]
stop: {after_generalization: false}
"""


def test_law_13_a_product_keeps_its_sign_and_so_misses_a_negative_entry(tmp_path: Path) -> None:
    found = dict(
        rows(
            tmp_path,
            LAW_13,
            """
        select model.sign_free, min(distance) from trials join metrics using (trial_id)
        group by all
    """,
        )
    )
    assert found[False] >= 0.01273  # its size in the published instance
    assert found[True] < 0.005


# The law's own instance is ten times ours: u, v = 1 there is 10^-1/2 here, and its rate and
# strength are 0.05 = 0.5 / 10 and 10 times these. Their product, and so the time, is the same.
LAW_14 = """
fixed:
  task: {name: sparse_recovery, N: 40, rng: numpy_legacy}
  model: {depth: 2, sign_free: true, init_scale: 0.31622776601683794}
  optimizer: {lr: 0.5}
  steps: 30_000
grid:
  - product:
      regularizer.name: [l2_sq]
      regularizer.strength: [1.0e-3, 3.0e-4]
  - product: {regularizer.name: [none]}
seeds: [1]
criterion: {metric: error, train: 5.0e-2, test: 5.0e-2}
"""


def test_law_14_a_large_init_groks_under_a_little_l2_and_never_without(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        LAW_14,
        """
        select regularizer.name, t1, t2, t2 * optimizer.lr * regularizer.strength,
               arg_max(test_error, step)
        from trials join delays using (trial_id) join metrics using (trial_id)
        group by all
    """,
    )
    never, *times = sorted(found, key=lambda row: row[0] == "l2_sq")
    assert never[0] == "none"
    assert never[1] < 200
    assert never[2] is None
    assert never[4] == pytest.approx(0.742, abs=0.002)
    assert sorted(row[3] for row in times) == pytest.approx([3.95, 4.13], rel=0.08)


LAW_23 = """
fixed:
  task: {name: modular_arithmetic}
  steps: 1500
grid: {product: {optimizer.weight_decay: [0.5, 1.0, 2.0]}}
seeds: 5
"""


def test_law_23_generalization_comes_sooner_the_stronger_the_decay(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        LAW_23,
        """
        select optimizer.weight_decay, median(t1), median(t2), count(t2)
        from trials join delays using (trial_id) group by all order by all
    """,
    )
    decays, t1, t2, count = zip(*found, strict=True)
    assert count == (5, 5, 5)
    assert all(30 <= t <= 55 for t in t1)
    assert t2 == pytest.approx([505, 280, 185], rel=0.25)
    assert -1.05 <= np.polyfit(np.log(decays), np.log(t2), 1)[0] <= -0.6


@pytest.mark.long
def test_law_24_below_a_critical_share_of_the_table_nothing_generalizes(tmp_path: Path) -> None:
    text = """
fixed: {task: {name: modular_arithmetic}, optimizer: {weight_decay: 1}, steps: 3000}
grid: {product: {selection.fraction: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}}
seeds: 5
"""
    found = rows(
        tmp_path,
        text,
        """
        select selection.fraction, count(t1), count(t2), median(t2)
        from trials join delays using (trial_id) group by all order by all
    """,
    )
    assert all(n1 == 5 for _, n1, _, _ in found)
    assert found[0][2] == 0
    medians = [t for _, _, _, t in found[1:]]
    assert medians == sorted(medians, reverse=True)
    assert medians[1:] == pytest.approx([400, 290, 240, 190], rel=0.25)


@pytest.mark.long
def test_laws_7_and_30_what_is_selected_decides_what_is_learnt(tmp_path: Path) -> None:
    store = str(tmp_path / "sweeps")
    grid = api.load_grid(Path(__file__).parents[1] / "grids" / "selection.yaml")
    assert api.launch(grid, store, inline=True).exit_code == 0
    views = open_views(open_sweep(store, "selection"))
    table = sql.query(
        views,
        """
        select task.N, selection.tau, count(t2) as reached,
               quantile_disc(coalesce(t2, 1_000_000), 0.5) as median
        from trials join delays using (trial_id)
        where task.name = 'sparse_recovery' group by all order by all
    """,
    )
    reached = list(zip(*table.to_pydict().values(), strict=True))
    for N in (30, 40, 50):
        counts = [count for n, _, count, _ in reached if n == N]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == 10
        assert counts[-1] == 0
        # ten seeds don't tell 0 and 0.2 apart at N = 50
        medians = [median for n, tau, _, median in reached if n == N and tau != 0.2]
        assert medians == sorted(medians)
    best = dict(
        views.execute("""
        with best as (select trial_id, max(test_acc) as acc from metrics group by all)
        select selection.name || selection.k, median(acc)
        from trials join best using (trial_id)
        where task.name = 'modular_arithmetic' group by all
    """).fetchall()
    )
    strips = [best[f"strip{k}"] for k in (4, 6, 8, 9)]
    assert strips == sorted(strips, reverse=True)
    assert strips == pytest.approx([0.61, 0.47, 0.25, 0.19], abs=0.08)
    assert min(best[f"square{k}"] for k in (5, 8, 11, 13)) > 0.9


def test_a_sparse_trial_reports_the_constants_of_its_data(tmp_path: Path) -> None:
    given = "\n".join(f"  {k}: {v}" for k, v in SPARSE.items())
    text = f"fixed:\n{given}\n  steps: 20\ngrid: {{product: {{optimizer.lr: [0.1]}}}}\nseeds: 1\n"
    found = rows(tmp_path, text, "select distinct ls_linf, null_floor from metrics")
    one = instance_of(trial(SPARSE))
    assert found == [(one.ls_linf, one.null_floor)]
