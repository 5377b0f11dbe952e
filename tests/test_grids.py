"""Every grid that ships parses, plans what its comment says, and trains when cut down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeper import api
from sweeper.agenda import agenda
from sweeper.store import open_sweep

GRIDS = sorted((Path(__file__).parents[1] / "grids").glob("*.yaml"))

CUT = {
    "amplify_modular": ["seeds=1", "selection.k=5", "selection.fraction=0.5",
                        "optimizer.weight_decay=1.2", "steps=200"],
    "amplify_sparse": ["seeds=1", "selection.tau=0,0.4", "task.N=40", "steps=200"],
    "boundary_coherence": ["seeds=1", "selection.tau=0,0.4", "task.N=20,30", "steps=200"],
    "boundary_depth": ["seeds=1", "optimizer.lr=0.1", "steps=200"],
    "boundary_init": ["seeds=1", "model.init_scale=0.1", "steps=200"],
    "boundary_measurements": ["seeds=1", "task.N=20,30", "steps=200"],
    "boundary_rate": ["seeds=1", "optimizer.lr=0.1", "steps=200"],
    "depth": ["seeds=1", "regularizer.strength=1e-3,1e-2", "selection.tau=0.2", "steps=200"],
    "completion_decay": ["seeds=1", "steps=300"],
    "leverage": ["seeds=1", "task.N=70", "steps=300"],
    "nuclear_delay": ["seeds=1", "optimizer.lr=1", "steps=300"],
    "matrix_depth": ["seeds=1", "steps=100"],
    "sensing": ["seeds=1", "steps=100"],
    "l1_delay": ["seeds=1", "optimizer.lr=0.1", "steps=300"],
    "l2_floor": ["seeds=1", "steps=300"],
    "modular_decay": ["seeds=1", "optimizer.weight_decay=2", "selection.fraction=0.6",
                      "steps=300"],
    "product_depth": ["task.N=30", "steps=300"],
    "selection": ["seeds=1", "steps=60"],
    "smoke": ["seeds=1", "steps=300"],
}  # fmt: skip


def test_the_mission_has_its_grids() -> None:
    wanted = {"smoke", "depth", "l1_delay", "modular_decay", "selection"}
    assert wanted <= {path.stem for path in GRIDS} == CUT.keys()


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_a_grid_opens_with_its_question_its_size_and_its_cost(path: Path) -> None:
    head = " ".join(
        line.lstrip("# ") for line in path.read_text().split("\n") if line.startswith("#")
    )
    assert re.match(r"Question: .*\?", head)
    assert re.search(r"Cost: .*\d", head)
    found = re.search(r"(\d+) cells x (\d+) seeds? = (\d+) trials in (\d+) packs", head)
    assert found is not None, head
    grid = api.load_grid(path)
    plan = agenda(grid, None, workers=2)
    trials, seeds = plan.counts.trials, len(grid.seeds)
    assert [int(n) for n in found.groups()] == [trials // seeds, seeds, trials, plan.n_packs]
    assert grid.name == path.stem


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_a_cut_down_grid_trains_to_its_end(path: Path, store: str) -> None:
    grid = api.load_grid(path, CUT[path.stem])
    outcome = api.launch(grid, store, inline=True)
    assert outcome.exit_code == 0
    assert outcome.counts.trials == outcome.counts.done > 0
    packs = open_sweep(store, grid.name).state.packs.values()
    assert all(pack.done and not pack.failed for pack in packs)
