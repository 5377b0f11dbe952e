"""Doctored rows turn the verdict of a law; rows as claimed make it hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sweeper.analysis.laws import (
    Evidence,
    Measured,
    UnmeasuredError,
    Verdict,
    decay,
    matrices,
    measurements,
    modular,
    products,
    sparse,
)

Rows = list[dict[str, Any]]
HOLDS, PART, NOT = Verdict.CONFIRMED, Verdict.IN_PART, Verdict.NOT_REPRODUCED
REFUTED, DEPENDS = Verdict.REFUTED, Verdict.DEPENDS


class Told(Evidence):
    """Evidence that answers queries with the rows it was told."""

    def __init__(self, *told: tuple[str, Rows]) -> None:
        super().__init__({})
        self._told = dict(told)

    def rows(self, query: str, sweep: str | None = None) -> Rows:
        return self._told[query]


def verdict(measured: Measured) -> tuple[Verdict, list[str]]:
    return measured.verdict, measured.missed


def times(seeds: Sequence[int], prefactor: Callable[[int, float], float]) -> Rows:
    """Rows of `sparse.TIMES`; `prefactor` of seed and strength."""
    return [
        {
            "solver": "gd",
            "seed": seed,
            "lr": 0.1,
            "strength": b,
            "x": 0.1 * b,
            "t1": 30,
            "l": 0.1,
            "t2": 0.1 * prefactor(seed, b) / (0.1 * b),
            "prefactor": prefactor(seed, b),
        }
        for seed in seeds
        for b in (2e-5, 4e-5, 1e-4)
    ]


@pytest.mark.parametrize(
    ("prefactor", "wanted"),
    [
        (lambda seed, b: sparse.FLOW[seed], REFUTED),
        (lambda seed, b: 1.5, PART),
        (lambda seed, b: 3.0, PART),
        (lambda seed, b: sparse.FLOW[seed] * (1 + 1000 * b), NOT),
    ],
)
def test_law_2(prefactor: Callable[[int, float], float], wanted: Verdict) -> None:
    found = Told((sparse.TIMES, times([1, 2, 3], prefactor)), (sparse.SHARES, shares()))
    assert sparse.measure_prefactor(found).verdict is wanted


def shares(**inside: float) -> Rows:
    """Rows of `sparse.SHARES` as measured, with the shares of some N replaced."""
    usual = {"N30": 0.64, "N40": 0.37, "N60": 0.0} | inside
    return [{"N": int(N[1:]), "recovered": 60, "inside": share} for N, share in usual.items()]


@pytest.mark.parametrize("inside", [{"N30": 0.9}, {"N40": 0.6}, {"N60": 0.1}])
def test_law_2_is_refuted_by_the_share_of_instances_too(inside: dict[str, float]) -> None:
    rows = times([1, 2, 3], lambda seed, _: sparse.FLOW[seed])
    found = Told((sparse.TIMES, rows), (sparse.SHARES, shares(**inside)))
    assert sparse.measure_prefactor(found).verdict is PART


@pytest.mark.parametrize(
    ("ratio", "t1", "wanted"), [(1.01, 1, HOLDS), (1.04, 1, NOT), (1.0, 2, PART)]
)
def test_law_3(ratio: float, t1: int, wanted: Verdict) -> None:
    rows = [
        {"solver": s, "seed": 1, "x": 1e-5, "t1": t1, "ratio": ratio} for s in ("ista", "projected")
    ]
    assert sparse.measure_solvers(Told((sparse.SOLVERS, rows))).verdict is wanted


def floors(strength: float, rate: float) -> tuple[str, Rows]:
    """Errors that go as powers of strength and rate."""
    return sparse.FLOORS, [
        {
            "lr": lr,
            "strength": b,
            "seed": 1,
            "train": 20 * b**strength,
            "test": b**strength * lr**rate,
        }
        for lr in (0.05, 0.1, 0.2)
        for b in (1e-4, 1e-3)
    ]


@pytest.mark.parametrize(
    ("strength", "rate", "wanted"),
    [(1, 0.4, REFUTED), (1, 1, PART), (1, -0.1, PART), (0.8, 0.4, NOT)],
)
def test_law_5(strength: float, rate: float, wanted: Verdict) -> None:
    assert sparse.measure_error(Told(floors(strength, rate))).verdict is wanted


@pytest.mark.parametrize(
    ("late", "t1", "floor", "wanted"),
    [(30, 60, 1, HOLDS), (36, 60, 1, NOT), (30, 400, 1, PART), (30, 60, 0.5, PART)],
)
def test_law_4(late: int, t1: int, floor: float, wanted: Verdict) -> None:
    rows = times([1], lambda seed, b: 1.5)
    rows[-1]["t1"] = late
    found = Told((sparse.TIMES, rows), ("select t1 from delays", [{"t1": t1}]), floors(floor, 1))
    assert sparse.measure_memorization(found).verdict is wanted


@pytest.mark.parametrize(
    ("t1", "t2", "wanted"),
    [(60, 100_400, HOLDS), (80, 100_400, PART), (60, 110_000, NOT), (60, None, NOT)],
)
def test_the_published_instance(t1: int, t2: int | None, wanted: Verdict) -> None:
    rows = [{"t1": t1, "t2": t2}]
    measured = sparse.measure_published(Told(("select t1, t2 from delays", rows)))
    assert measured.verdict is wanted


@pytest.mark.parametrize(
    ("from_", "wanted"),
    [((30, 40, 50), HOLDS), ((10, 40, 50), PART), ((50, 40, 50), NOT), ((30, 40, 200), PART)],
)
def test_law_6(from_: tuple[int, ...], wanted: Verdict) -> None:
    rows = [
        {"s": s, "N": N, "trials": 5, "recovered": 5, "share": 1.0 if first <= N else 0.8}
        for s, first in zip((5, 10, 15), from_, strict=True)
        for N in range(10, 101, 10)
    ]
    assert measurements.measure_sparsity(Told((measurements.RECOVERED, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("counts", "t2", "wanted"),
    [
        ((5, 4, 0), (100, 200, None), HOLDS),
        ((5, 4, 1), (100, 200, None), PART),
        ((5, 4, 0), (200, 100, None), PART),
        ((4, 5, 0), (100, 200, None), NOT),
    ],
)
def test_law_7(counts: Sequence[int], t2: Sequence[float | None], wanted: Verdict) -> None:
    rows = [
        {"N": 30, "tau": tau, "trials": 5, "recovered": n, "t2": t}
        for tau, n, t in zip((0, 0.5, 1), counts, t2, strict=True)
    ]
    assert measurements.measure_coherence(Told((measurements.COHERENT, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("off", "late", "wanted"), [(1.0, 1.0, HOLDS), (1.02, 1.0, NOT), (1.0, 1.05, PART)]
)
def test_law_11(off: float, late: float, wanted: Verdict) -> None:
    claimed = math.log(60 * math.exp(0.001 * 50) / (math.sqrt(3) * 0.8)) / 0.001
    rows = [
        {
            "seed": 0,
            "x": 0.001,
            "unseen": 0.8,
            "t1": 50,
            "early": 60.0,
            "drop": late * claimed,
            "final": 0.8 * off,
        }
    ]
    assert measurements.measure_floor(Told((measurements.DROPS, rows))).verdict is wanted


def nearest(off: float = 0.0, product: float = 0.0132, free: float = 5e-4) -> tuple[str, Rows]:
    rows = [
        {"N": N, "depth": depth, "sign_free": False, "nearest": max(value, product) + off}
        for (N, depth), value in products.PUBLISHED.items()
    ]
    return products.NEAREST, [*rows, {"N": 30, "depth": 3, "sign_free": True, "nearest": free}]


def test_law_12() -> None:
    assert products.measure_depth(Told(nearest())).verdict is HOLDS
    assert products.measure_depth(Told(nearest(off=4e-4))).verdict is NOT


@pytest.mark.parametrize(
    ("off", "free", "wanted"), [(0.0, 5e-4, HOLDS), (0.0, 5e-3, PART), (-0.001, 5e-4, NOT)]
)
def test_law_13(off: float, free: float, wanted: Verdict) -> None:
    assert products.measure_sign(Told(nearest(off=off, free=free))).verdict is wanted


@pytest.mark.parametrize(
    ("without", "factor", "wanted"), [(None, 1, HOLDS), (500, 1, NOT), (None, 1.2, PART)]
)
def test_law_14(without: int | None, factor: float, wanted: Verdict) -> None:
    rows = [
        {
            "penalty": "l2_sq",
            "strength": b,
            "seed": 1,
            "t1": 50,
            "t2": 1000,
            "slow": factor * slow,
            "final": 0.05,
        }
        for b, slow in products.SLOW.items()
    ]
    rows.append(
        {
            "penalty": "none",
            "strength": 0.0,
            "seed": 1,
            "t1": 50,
            "t2": without,
            "slow": None,
            "final": 0.74,
        }
    )
    assert products.measure_large_init(Told((products.INITS, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("same", "slow", "wanted"), [(0.014, 0.02, DEPENDS), (0.014, 0.014, PART), (0.02, 0.02, NOT)]
)
def test_four_factors(same: float, slow: float, wanted: Verdict) -> None:
    rows = [
        {"depth": d, "init": i, "nearest": n, "at": 10, "train": 0.1}
        for d, i, n in ((3, 0.01, 0.014), (4, 0.0316, same), (4, 0.01, slow))
    ]
    assert products.measure_four(Told((products.FACTORS, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("t2", "recovered", "wanted"),
    [
        ((1e9, 700, 300, 100), (3, 7, 8, 8), HOLDS),
        ((1e9, 700, 300, 100), (5, 7, 8, 8), PART),
        ((1e9, 700, 300, 100), (3, 5, 8, 8), PART),
        ((100, 300, 200, 400), (3, 7, 8, 8), NOT),
    ],
)
def test_law_9(t2: Sequence[float], recovered: Sequence[int], wanted: Verdict) -> None:
    rows = [
        {"tau": tau, "trials": 8, "recovered": n, "t2": t}
        for tau, n, t in zip((0.0, 0.3, 0.6, 1.0), recovered, t2, strict=True)
    ]
    assert matrices.measure_leverage(Told((matrices.BY_TAU, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("rank", "rate", "wanted"), [(2, 0.3, REFUTED), (3, 1.0, PART), (3, 0.05, PART), (6, 0.3, NOT)]
)
def test_law_10(rank: int, rate: float, wanted: Verdict) -> None:
    rows = [
        {
            "seed": 0,
            "x": 1e-3,
            "early": 1.0,
            "late": 1.0 - rate * 0.9,
            "claimed": 0.9,
            "kept_early": 4.0,
            "kept_late": 4.0,
            "rank_early": 8,
            "rank_late": rank,
        }
    ]
    assert matrices.measure_fall(Told((matrices.FALLS, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("t1", "exponent", "wanted"), [(10, 1, HOLDS), (10, 0.8, PART), (900, 1, NOT)]
)
def test_sensing(t1: int, exponent: float, wanted: Verdict) -> None:
    rows = [
        {
            "solver": "svt",
            "seed": 0,
            "x": x,
            "t1": t1,
            "t2": 0.5 / x**exponent,
            "l": 1.0,
            "prefactor": 1.0,
        }
        for x in (1e-4, 1e-3)
    ]
    assert matrices.measure_sensing(Told((matrices.TIMES, rows))).verdict is wanted


def halves(
    half: float = 1.0,
    norm: float = 1.0,
    stays: float = 1.0,
    tenth: float | None = 4.0,
    balance: float = 1.0,
) -> Evidence:
    """Rows of `decay.HALVES`: those of the larger strength are off by these factors."""
    rows: Rows = [
        {
            "seed": 0,
            "decay": b,
            "plateau": 0.7,
            "final": 0.01,
            "half": 0.5 * off,
            "tenth": None if tenth is None else 0.5 * off * tenth,
            "half_norm": 0.3 * off_norm,
            "balance": balance,
        }
        for b, off, off_norm in ((1e-3, 1.0, 1.0), (1e-2, half, norm))
    ]
    free = {
        "seed": 0,
        "decay": 0.0,
        "plateau": 0.7,
        "final": 0.7 * stays,
        "half": None,
        "tenth": None,
        "half_norm": None,
        "balance": 2.0,
    }
    return Told((decay.HALVES, [*rows, free]))


def test_law_17() -> None:
    assert decay.measure_slow(halves()).verdict is HOLDS
    assert decay.measure_slow(halves(half=1.2)).verdict is NOT
    assert decay.measure_slow(halves(norm=1.2)).verdict is PART
    assert decay.measure_slow(halves(stays=0.5)).verdict is PART


def test_law_16_for_matrices() -> None:
    assert decay.measure_balance(halves(balance=1.004)).verdict is HOLDS
    assert decay.measure_balance(halves(balance=1.006)).verdict is NOT


def test_law_19_for_matrices() -> None:
    other = halves(tenth=6.3).rows(decay.HALVES)
    for row in other:
        row["seed"] = 1
    more = [*halves(tenth=3.5).rows(decay.HALVES), *other]
    more += [row | {"seed": 2} for row in halves(tenth=4.0).rows(decay.HALVES)]
    assert decay.measure_sudden(Told((decay.HALVES, more))).verdict is DEPENDS
    assert decay.measure_sudden(halves(tenth=4.0)).verdict is PART
    assert decay.measure_sudden(halves(tenth=1.5)).verdict is NOT
    with pytest.raises(UnmeasuredError, match="no trial gets to a tenth"):
        decay.measure_sudden(halves(tenth=None))


@pytest.mark.parametrize(
    ("generalized", "t2", "wanted"),
    [
        ((0, 5, 5), (None, 900, 400), HOLDS),
        ((1, 5, 5), (None, 900, 400), NOT),
        ((0, 5, 5), (None, 400, 900), PART),
        ((0, 2, 5), (None, None, 400), PART),
    ],
)
def test_law_24(generalized: Sequence[int], t2: Sequence[float | None], wanted: Verdict) -> None:
    rows = [
        {"fraction": f, "trials": 5, "memorized": 5, "generalized": n, "t1": 40.0, "t2": t}
        for f, n, t in zip((0.3, 0.5, 0.7), generalized, t2, strict=True)
    ]
    assert modular.measure_fraction(Told((modular.BY_FRACTION, rows))).verdict is wanted


@pytest.mark.parametrize(
    ("strips", "square", "wanted"),
    [
        ((0.61, 0.47, 0.25, 0.19), 0.99, HOLDS),
        ((0.61, 0.47, 0.25, 0.19), 0.7, NOT),
        ((0.47, 0.61, 0.25, 0.19), 0.99, NOT),
        ((0.61, 0.37, 0.25, 0.19), 0.99, PART),
    ],
)
def test_law_30(strips: Sequence[float], square: float, wanted: Verdict) -> None:
    rows = [
        {"region": "strip", "k": k, "acc": a, "low": a, "high": a}
        for k, a in zip((4, 6, 8, 9), strips, strict=True)
    ]
    rows.append({"region": "square", "k": 5, "acc": square, "low": square, "high": square})
    assert modular.measure_holdout(Told((modular.BEST, rows))).verdict is wanted
