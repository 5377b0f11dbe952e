"""A launch that is killed with SIGKILL and launched again ends as if nobody had killed it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import chaos, invariants
from benchmarks.launched import Process
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.worker import run_inline

GRID = """
name: chaos
fixed: {steps: 40_000}
grid:
  - product:
      task.name: [sparse_recovery]
      model.depth: [2]
      model.init_scale: [1.0e-2]
      regularizer.name: [l1]
      regularizer.strength: {logspace: [1.0e-4, 1.0e-2, 2]}
  - product:
      task.name: [modular_arithmetic]
      task.p: [7]
      model.d: [16]
      model.width: [32]
      optimizer.weight_decay: [0.01, 1]
seeds: 2
checkpoint: {every_s: 0.3}
resources: {pack: 4}
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "chaos.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture
def reference(tmp_path: Path, grid: Path) -> str:
    where = str(tmp_path / "reference")
    commands.launch(load_grid(grid, []), where, Runner(run_inline, 1))
    return where


def assert_as_if_nobody_had_killed(store: str, reference: str, reader: invariants.Reader) -> None:
    assert invariants.faults(store, 50, 40_000) == []
    assert invariants.differences(store, reference) == []
    assert invariants.late_commits(store) == 0
    assert reader.problems == []
    assert reader.reads


@pytest.mark.long
def test_a_launch_killed_with_all_its_workers_ends_with_the_undisturbed_rows(
    tmp_path: Path, grid: Path, reference: str
) -> None:
    store = str(tmp_path / "killed")
    reader = invariants.Reader(store, 50, 40_000)
    first = Process.start(grid, store)
    second = None
    try:
        assert chaos.wait_for_claim(first, store, 0)
        reader.start()
        assert chaos.wait_for_checkpoint(first, store)
        assert chaos.strike(first, "both", store, 0)
        assert first.family() == []
        second = Process.start(grid, store)
        assert second.process.wait(timeout=120) == 0
    finally:
        reader.stop()
        for launched in (first, second):
            if launched is not None:
                launched.kill_all()
    assert max(c["resumed_at"] for c in invariants.claims(store, 1)) > 0
    assert_as_if_nobody_had_killed(store, reference, reader)


@pytest.mark.long
def test_three_kills_at_random_moments_leave_no_trace(
    tmp_path: Path, grid: Path, reference: str
) -> None:
    store = str(tmp_path / "killed")
    reader = invariants.Reader(store, 50, 40_000)
    campaign = chaos.Campaign(grid, store, random.Random(0), window=2)
    reader.start()
    try:
        campaign.run(3)
    finally:
        reader.stop()
    assert campaign.leftovers() == []
    assert_as_if_nobody_had_killed(store, reference, reader)
