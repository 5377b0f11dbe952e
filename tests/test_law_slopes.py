"""Laws that fit a slope: a store whose trials have a doctored slope turns the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.analysis.laws import LAWS, Claim, Evidence, Verdict, matrices, modular, sparse
from sweeper.analysis.laws.evidence import (
    UnmeasuredError,
    median_of,
    middle,
    near,
    said,
    slope,
    span,
)
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.engine import driver
from sweeper.verify import verify
from tests.stores import Made, Planned, curve, end

Rows = list[dict[str, Any]]
HOLDS, NOT = Verdict.CONFIRMED, Verdict.NOT_REPRODUCED


STEPS = [0, *sorted({round(10 ** (k / 60)) for k in range(60 * 5)})]


def fitted(
    folder: Path,
    values: Callable[[float], dict[str, Any]],
    t2: Callable[[float], float],
    criterion: str,
    **constants: float,
) -> Evidence:
    """A store of trials that memorize at 35 and generalize at `t2` of a number."""
    made = Made.at(folder)
    plan, rows, over = [], [], []
    for x in (0.125, 0.25, 0.5, 1.0):
        for seed in range(3):
            name = f"{x}-{seed}"
            plan.append(Planned(name, str(x), seed, values(x)))
            late = t2(x) * (1 + 0.01 * seed)
            train = [1.0 if s >= 35 else 0.0 for s in STEPS]
            test = [1.0 if s >= late else 0.0 for s in STEPS]
            if criterion == "error":
                train, test = ([1 - v for v in side] for side in (train, test))
            more = {key: [v] * len(STEPS) for key, v in constants.items()}
            sides = {f"train_{criterion}": train, f"test_{criterion}": test}
            rows += curve(name, STEPS, **sides, **more)
            over.append(end(name, "generalized", STEPS[-1]))
    record = {"metric": criterion, "train": 0.5, "test": 0.5, "rule": "threshold", "gap": 1000}
    launch = made.launch(plan, steps=STEPS[-1], criteria={"modular_arithmetic": record})
    pack = made.pack([p.trial_id for p in plan])
    made.rows(pack, made.claim(pack, launch), rows, over, done=True)
    return Evidence({"sweep": open_views(made.ledger)})


def config(**changes: Any) -> dict[str, Any]:
    return {"task.name": "modular_arithmetic"} | {
        name.replace("__", "."): value for name, value in changes.items()
    }


@pytest.mark.parametrize(("power", "wanted"), [(1.0, HOLDS), (0.5, NOT)])
def test_law_23(tmp_path: Path, power: float, wanted: Verdict) -> None:
    found = fitted(
        tmp_path, lambda x: config(optimizer__weight_decay=x), lambda x: 300 / x**power, "acc"
    )
    assert modular.measure_decay(found).verdict is wanted


@pytest.mark.parametrize(("power", "wanted"), [(1.0, HOLDS), (0.9, NOT)])
def test_law_1(tmp_path: Path, power: float, wanted: Verdict) -> None:
    def values(x: float) -> dict[str, Any]:
        return config(optimizer__name="gd", optimizer__lr=0.1, regularizer__strength=x)

    found = fitted(tmp_path, values, lambda x: 300 / x**power, "error", ls_linf=1.0)
    assert sparse.measure_delay(found).verdict is wanted


@pytest.mark.parametrize(("power", "wanted"), [(1.0, HOLDS), (0.9, NOT)])
def test_law_8(
    tmp_path: Path, power: float, wanted: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(x: float) -> dict[str, Any]:
        return config(optimizer__name="svt", optimizer__lr=0.1, regularizer__strength=x)

    found = fitted(tmp_path, values, lambda x: 300 / x**power, "error", ls_spectral=1.0)
    ratios: Rows = [{"solver": "gd", "x": 1e-3, "ratio": 1.01}]
    told = found.rows
    monkeypatch.setattr(
        found, "rows", lambda q, sweep=None: ratios if q == matrices.SOLVERS else told(q, sweep)
    )
    assert matrices.measure_delay(found).verdict is wanted


ONE_STEP = ("basis-pursuit-needs",)
"""Laws of a solver that ends in one step: two steps are enough, one seed isn't."""


@pytest.mark.long
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.id)
def test_a_law_whose_trials_got_nowhere_isnt_reproduced(law: Claim, store: str) -> None:
    grids = [load_grid(grid.path, ["steps=2", "seeds=1"]) for grid in law.grids]
    assert verify.train(grids, store, driver.inline(grids[0]))
    (one,) = verify.measure([law], store)
    if law.id in ONE_STEP:
        assert one.measured.verdict is not Verdict.CONFIRMED
    else:
        assert one.measured.verdict is Verdict.NOT_REPRODUCED


def test_evidence_tells_what_is_missing(tmp_path: Path) -> None:
    found = fitted(tmp_path, lambda x: config(optimizer__weight_decay=x), lambda x: 1e9, "acc")
    with pytest.raises(UnmeasuredError, match="t2 is missing in 12 of 12 rows"):
        found.columns("select t1, t2 from delays")
    assert np.isnan(found.columns("select t1, t2 from delays", nulls=("t2",))["t2"]).all()
    with pytest.raises(UnmeasuredError, match="no trial of the grid"):
        found.rows("select * from delays where t1 = 7")


def test_numbers_are_said_with_their_intervals() -> None:
    estimate = median_of([1.0, 2.0, 3.0, 4.0, 5.0], claimed=3.0)
    assert estimate.value == 3.0
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 3.0 < estimate.high
    assert said(estimate).startswith("3 (")
    assert span([0.61, 1.73]) == "0.61 to 1.73"
    assert span([1.0001, 1.0]) == "1"
    assert middle([3, 1, 2]) == (2.0, 1.0, 3.0)
    assert near([0.96, 1.04], 1, 0.05)
    assert not near([0.96, 1.06], 1, 0.05)
    assert slope(np.array([1.0, 10.0]), np.array([5.0, 500.0])) == pytest.approx(2)
    with pytest.raises(UnmeasuredError, match="1 of 2 values are missing"):
        median_of([1.0, math.nan])
