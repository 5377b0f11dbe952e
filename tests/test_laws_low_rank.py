"""The laws of low-rank matrices, as in `tests.test_laws`: short ones, and the shipped grids."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sweeper import api, sql
from sweeper.analysis.views.views import open_views
from sweeper.store.lease import open_sweep
from sweeper.trainables.families import low_rank
from tests.packs import pack, trial
from tests.test_laws import rows


def shipped(tmp_path: Path, name: str, query: str) -> list[tuple[Any, ...]]:
    """Launch a shipped grid and return the rows of `query`."""
    store = str(tmp_path / "sweeps")
    grid = api.load_grid(Path(__file__).parents[1] / "grids" / f"{name}.yaml")
    assert api.launch(grid, store, inline=True).exit_code == 0
    table = sql.query(open_views(open_sweep(store, name)), query)
    return list(zip(*table.to_pydict().values(), strict=True))


LAW_8 = """
fixed:
  task: {name: matrix_completion, N: 70}
  selection: {name: leverage, tau: 0.5}
  regularizer: {name: nuclear}
  steps: 3000
grid:
  product:
    optimizer.name: [gd, svt, projected]
    optimizer.lr: [0.3, 1.0]
    regularizer.strength: [1.0e-2, 3.0e-2]
seeds: 3
criterion: {metric: error, train: 2.0e-2, test: 2.0e-2}
log: {points_per_decade: 200}
"""

DELAYS = """
    select optimizer.name, seed, optimizer.lr * regularizer.strength, t1, t2, l
    from trials join delays using (trial_id)
      join (select trial_id, max(ls_spectral) as l from metrics group by all) using (trial_id)
"""


def nuclear_delays(found: list[tuple[Any, ...]]) -> None:
    """Check law 8 on the rows of `DELAYS`."""
    own = defaultdict(list)
    for solver, seed, x, _, t2, size in found:
        own[solver, seed].append((x, t2))
        assert 1.0 <= t2 * x / size <= 3.2
    for (solver, seed), points in own.items():
        x, y = np.log(points).T
        slope = np.polyfit(x, y, 1)[0]
        assert slope == pytest.approx(-1, abs=0.05), (solver, seed)
    t2s = {(solver, seed, x): t2 for solver, seed, x, _, t2, _ in found}
    for (_, seed, x), t2 in t2s.items():
        assert t2 == pytest.approx(t2s["svt", seed, x], rel=0.03, abs=8)


def test_law_8_the_nuclear_delay_goes_as_one_over_rate_times_strength(tmp_path: Path) -> None:
    found = rows(tmp_path, LAW_8, DELAYS)
    assert len(found) == 36
    nuclear_delays(found)
    assert {t1 for solver, _, _, t1, _, _ in found if solver == "projected"} == {1}


LAW_9 = """
fixed:
  task: {name: matrix_completion, N: 70}
  regularizer: {name: nuclear, strength: 1.0e-2}
  optimizer: {name: svt, lr: 1.0}
  steps: 3000
grid: {product: {selection.tau: [0, 0.3, 0.6, 1]}}
seeds: 8
criterion: {metric: error, train: 2.0e-2, test: 2.0e-2}
"""


def test_law_9_entries_of_high_leverage_let_more_seeds_recover_and_sooner(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        LAW_9,
        """
        select selection.tau, count(t2), quantile_disc(coalesce(t2, 9999), 0.5)
        from trials join delays using (trial_id) group by all order by all
    """,
    )
    counts, medians = [n for _, n, _ in found], [t for _, _, t in found]
    assert counts[0] <= 4
    assert min(counts[1:]) >= 6
    assert medians == sorted(medians, reverse=True)
    assert medians[-1] < medians[1] / 2


LAW_17 = """
fixed:
  task: {name: matrix_completion, N: 80}
  model: {name: factorised}
  optimizer: {lr: 0.02}
  steps: 20_000
grid:
  - product:
      regularizer.name: [l2_sq]
      regularizer.strength: [3.0e-3, 1.0e-2]
  - product: {regularizer.name: [none]}
seeds: 4
stop: {after_generalization: false}
criterion: {metric: error, train: 5.0e-2, test: 5.0e-2}
log: {points_per_decade: 200}
"""

DEPTH = """
fixed:
  task: {name: matrix_completion, N: 70}
  optimizer: {lr: 0.02}
  steps: 8000
grid:
  - product: {model.depth: [2, 3, 4], model.init_scale: [0.03]}
  - product: {model.name: [matrix]}
seeds: 4
stop: {after_generalization: false}
criterion: {metric: error, train: 1.0e-2, test: 5.0e-2}
"""


def test_depth_stands_in_for_the_nuclear_norm_from_a_small_init(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        DEPTH,
        """
        with best as (select trial_id, min(test_error) as e, arg_max(sigma_next, step) as s
          from metrics group by all)
        select coalesce(model.depth, 1), count(t1), median(e), median(s)
        from trials join delays using (trial_id) join best using (trial_id)
        group by all order by all
    """,
    )
    assert [(depth, memorized) for depth, memorized, _, _ in found] == [(d, 4) for d in range(1, 5)]
    errors, tails = [e for _, _, e, _ in found], [s for *_, s in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.4
    assert errors[3] < 0.03
    assert tails == sorted(tails, reverse=True)


HALVES = """
    with m as (
      select trial_id, seed, regularizer.strength as decay, step, test_error, t1, nuclear,
        regularizer.strength * optimizer.lr * step as slow, weights_l2 ** 2 as squares
      from trials join metrics using (trial_id) join delays using (trial_id)),
    plateau as (
      select trial_id, arg_min(test_error, step) as error, arg_min(squares, step) as size
      from m where step >= t1 group by all)
    select seed, decay, any_value(error), arg_max(test_error, step),
      min(slow) filter (step >= t1 and test_error <= error / 2),
      min(slow) filter (step >= t1 and squares - 2 * 14 <= (size - 2 * 14) / 2),
      arg_max(squares / 2 / nuclear, step)
    from m join plateau using (trial_id) group by all order by all
"""
"""||U||^2 + ||V||^2 ends near 2 ||A*||_*, of the order of 2 * 14 for ||A*||_F = 10 and rank 2."""


def slow_times(found: list[tuple[Any, ...]], ratio: float) -> None:
    """Check law 17 on the rows of `HALVES`: `ratio` is how well the times of a seed agree."""
    own = defaultdict(list)
    for seed, decay, _, _, half, half_norm, _ in found:
        if decay:
            own[seed].append(half)
            assert 0.35 <= half <= 1.1
            assert half_norm == pytest.approx(0.35, rel=0.15)
    for halves in own.values():
        assert max(halves) / min(halves) <= 1 + ratio


def test_law_17_factors_under_a_decay_complete_the_matrix_in_slow_time(tmp_path: Path) -> None:
    found = rows(tmp_path, LAW_17, HALVES)
    slow_times(found, 0.1)
    for _, decay, plateau, last, _, _, balance in found:
        assert plateau > 0.5
        if decay is None:  # no decay: it stays where the data left it
            assert last == pytest.approx(plateau, rel=0.1)
        elif decay == 1e-2:
            assert last < plateau / 5
            assert balance == pytest.approx(1, abs=0.01)


@pytest.mark.long
def test_law_8_over_the_shipped_grid(tmp_path: Path) -> None:
    found = shipped(tmp_path, "nuclear_delay", DELAYS)
    assert len(found) == 135
    nuclear_delays(found)


@pytest.mark.long
def test_law_9_over_the_shipped_grid(tmp_path: Path) -> None:
    found = shipped(
        tmp_path,
        "leverage",
        """
        select task.N, selection.tau, count(t2), quantile_disc(coalesce(t2, 99999), 0.5)
        from trials join delays using (trial_id) group by all order by all
    """,
    )
    for N in (60, 70, 80):
        taus, counts, medians = zip(*(row[1:] for row in found if row[0] == N), strict=True)
        assert stats.spearmanr(taus, medians).statistic < -0.8
        assert min(counts[3:]) >= 6
        assert counts[0] < max(counts)


@pytest.mark.long
def test_law_17_over_the_shipped_grid(tmp_path: Path) -> None:
    found = shipped(tmp_path, "completion_decay", HALVES)
    assert len(found) == 24
    slow_times(found, 0.1)
    assert all(balance == pytest.approx(1, abs=0.01) for *_, balance in found)


@pytest.mark.parametrize("seed", range(5))
def test_law_10_with_the_gradient_of_the_data_predicts_the_fall(seed: int) -> None:
    """-d sigma_i/dt = lr * strength * u_i^T P_null(U V^T) v_i, beyond the rank after t1."""
    given = {
        "task.name": "matrix_completion",
        "task.N": 70,
        "selection.name": "leverage",
        "selection.tau": 0.5,
        "regularizer.name": "nuclear",
        "regularizer.strength": 1e-2,
        "optimizer.lr": 0.1,
    }
    one = trial(given, seed)
    (block,) = low_rank.blocks(pack([one]), range(1))
    measured = low_rank.instance_of(one).measured
    assert measured is not None
    matrix = block.weights.each[0]
    predicted, fallen = [], []
    for step in range(350):
        A = matrix.real(matrix.value)[0].clone()
        block.step(step)
        if step >= 150:
            U, s, Vh = torch.linalg.svd(A)
            unseen = (1 - measured) * (U @ Vh)
            predicted.append((U.mT @ unseen @ Vh.mT).diagonal())
            after = torch.linalg.svdvals(matrix.real(matrix.value)[0])
            fallen.append((s - after) / (0.1 * 1e-2))
    rates = torch.stack(fallen).mean(dim=0)[2:5].tolist()
    assert rates == pytest.approx(torch.stack(predicted).mean(dim=0)[2:5].tolist(), abs=0.005)
    assert all(0.3 < rate < 0.7 for rate in rates)  # the claim says 1
