"""Every grid that ships parses, plans what its comment says, and trains when cut down.

Grids that aren't in `CUT`, among them the papers' figures (`grids/papers`), are cut down to some
trials of each choice of names, for a few steps. Those of full size (`grids/papers/full`) only parse
and plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from sweeper import api
from sweeper.config.trial import Trial
from sweeper.engine.planner import plan_launch
from sweeper.packing import Pack, Run, pack_id, static_key
from sweeper.store.lease import open_sweep
from sweeper.trainables.config import GrokkingConfig
from tests.packs import run

ROOT = Path(__file__).parents[1]
GRIDS = sorted((ROOT / "grids").glob("*.yaml"))
PAPERS = sorted((ROOT / "grids" / "papers").glob("*.yaml"))
FULL = sorted((ROOT / "grids" / "papers" / "full").glob("*.yaml"))

STEPS = 3
"""Steps of a figure's cut."""

CUT = {
    "amplify_modular": [
        "seeds=1",
        "selection.k=5",
        "selection.fraction=0.5",
        "optimizer.weight_decay=1.2",
        "steps=200",
    ],
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
    "modular_decay": ["seeds=1", "optimizer.weight_decay=2", "selection.fraction=0.6", "steps=300"],
    "product_depth": ["task.N=30", "steps=300"],
    "rules": ["seeds=1", "optimizer.name=ista", "steps=300"],
    "selection": ["seeds=1", "steps=60"],
    "smoke": ["seeds=1", "steps=300"],
}


def test_the_mission_has_its_grids() -> None:
    wanted = {"smoke", "depth", "l1_delay", "modular_decay", "selection"}
    assert wanted <= CUT.keys() <= {path.stem for path in GRIDS}


@pytest.mark.parametrize("path", GRIDS + PAPERS + FULL, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_grid_opens_with_its_question_its_size_and_its_cost(path: Path) -> None:
    head = " ".join(
        line.lstrip("# ") for line in path.read_text().split("\n") if line.startswith("#")
    )
    assert re.match(r"Question: .*\?", head)
    assert re.search(r"Cost: .*\d", head)
    found = re.search(r"(\d+) cells x (\d+) seeds? = (\d+) trials in (\d+) packs", head)
    assert found is not None, head
    grid = api.load_grid(path)
    plan = plan_launch(grid, None, workers=2)
    trials, seeds = plan.counts.trials, len(grid.seeds)
    assert [int(n) for n in found.groups()] == [trials // seeds, seeds, trials, plan.n_packs]
    assert grid.name == path.stem + ("_full" if path in FULL else "")


@pytest.mark.parametrize("path", [p for p in GRIDS if p.stem in CUT], ids=lambda p: p.stem)
def test_a_cut_down_grid_trains_to_its_end(path: Path, store: str) -> None:
    grid = api.load_grid(path, CUT[path.stem])
    outcome = api.launch(grid, store, inline=True)
    assert outcome.exit_code == 0
    assert outcome.counts.trials == outcome.counts.done > 0
    packs = open_sweep(store, grid.name).state.packs.values()
    assert all(pack.done and not pack.failed for pack in packs)


@pytest.mark.parametrize(
    "path", [*(p for p in GRIDS if p.stem not in CUT), *PAPERS], ids=lambda p: p.stem
)
def test_some_trials_of_a_grid_train_and_log_what_its_criterion_reads(path: Path) -> None:
    grid = api.load_grid(path)
    chosen = some(grid.trials())
    assert chosen
    steps = min(STEPS, grid.steps)
    for trials in chosen:
        here = Run(
            steps=steps, criteria=grid.criteria, points_per_decade=5, after_generalization=False
        )
        pack = Pack(pack_id([t.id for t in trials]), trials, GrokkingConfig, here)
        memory = run(pack)
        assert set(memory.ends) == {t.id for t in trials}
        metric = pack.criterion.metric
        for side in ("train", "test"):  # of a trial that measures zeros alone, train is unknown
            last = [memory.column(t.id, f"{side}_{metric}")[-1] for t in trials]
            assert np.isfinite(last).any(), (side, metric)


def some(trials: Iterable[Trial]) -> list[tuple[Trial, ...]]:
    """Return packs of the first and the last trial of each choice of names."""
    ends: dict[tuple[object, ...], list[Trial]] = {}
    for t in trials:
        names = tuple(v for p, v in sorted(t.values.items()) if p.endswith(".name"))
        ends[names] = [ends.get(names, [t])[0], t]
    packs: dict[object, dict[str, Trial]] = {}
    for pair in ends.values():
        for t in pair:
            packs.setdefault(static_key(GrokkingConfig, t.values), {})[t.id] = t
    return [tuple(found.values()) for found in packs.values()]


def test_every_figure_of_a_paper_is_told_of_and_a_full_one_has_a_scaled_one() -> None:
    told = (ROOT / "docs" / "figures.md").read_text()
    untold = [path.name for path in PAPERS if f"grids/papers/{path.name}" not in told]
    assert not untold, f"add to docs/figures.md: {untold}"
    assert {path.name for path in FULL} <= {path.name for path in PAPERS}
