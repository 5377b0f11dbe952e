"""The other sides of the benchmarks do the work that sweeper does, or the run stops."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks import growth, peers
from benchmarks.peers_side import Problem, ensembles
from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.worker import run_inline


def trained(kind: peers.Kind, scratch: Path) -> peers.Array:
    """Return sweeper's rows of the whole grid, trained in this process."""
    file, store = scratch / "grid.yaml", str(scratch / "sweeps")
    file.write_text(kind.file())
    commands.launch(load_grid(file, []), store, Runner(run_inline, 1))
    return peers.sweeper_rows(kind, store, kind.trials)


def small(name: str) -> peers.Kind:
    kind = peers.kinds(100)[name]
    return dataclasses.replace(kind, knobs=kind.knobs[:2], seeds=2, dtype="float64")


@pytest.mark.parametrize("name", ["sparse", "mlp"])
def test_every_way_to_train_logs_the_same_metrics_at_the_same_steps(
    name: str, tmp_path: Path
) -> None:
    kind = small(name)
    ours = trained(kind, tmp_path)
    peers.save(kind, tmp_path / "problem.npz", tmp_path)
    problem = Problem(str(tmp_path / "problem.npz"))
    assert problem.cells == kind.cells
    ways = {
        "torch": [problem.trial(cell) for cell in problem.cells],
        "vmap": ensembles(problem, problem.cells),
    }
    if name == "sparse":
        ways["numpy"] = [problem.numpy_trial(cell) for cell in problem.cells]
    for way, rows in ways.items():
        peers.check(kind, way, np.asarray(rows), ours)
        np.testing.assert_allclose(np.asarray(rows), ours, rtol=1e-6, err_msg=way)


def test_unequal_work_stops_the_comparison(tmp_path: Path) -> None:
    kind = small("sparse")
    ours = trained(kind, tmp_path)
    with pytest.raises(SystemExit, match="no equal work"):
        peers.check(kind, "torch", ours[:, :-1], ours)
    with pytest.raises(SystemExit, match="no equal work"):
        peers.check(kind, "torch", ours[::-1], ours)


def test_another_moment_of_memorization_stops_the_comparison(tmp_path: Path) -> None:
    kind = small("mlp")
    ours = trained(kind, tmp_path)
    sooner, later = ours.copy(), ours.copy()
    sooner[:, :, 2] = np.array(kind.logged) >= 20
    later[:, :, 2] = np.array(kind.logged) >= 50
    with pytest.raises(SystemExit, match="another t1"):
        peers.check(kind, "torch", later, sooner)


def test_an_exponent_is_the_slope_over_all_and_over_the_last_decade() -> None:
    points = [(n, 5.0 + 1e-3 * n**2) for n in (10.0, 100.0, 1000.0, 10_000.0)]
    total, last = growth.exponents(points)
    assert total < last
    assert last == pytest.approx(2, abs=0.01)
