"""The laws of teachers and students: rows as claimed make them hold, doctored ones don't."""

from __future__ import annotations

import pytest

from sweeper.analysis.laws import UnmeasuredError, Verdict, relu_flow, teacher_student
from tests.test_law_verdicts import DEPENDS, HOLDS, NOT, PART, Rows, Told


@pytest.mark.parametrize(
    ("best", "cost", "train", "wanted"),
    [
        (1, 2e3, 1e-7, HOLDS),
        (4, 2e3, 1e-7, NOT),
        (0.25, 2e3, 1e-7, NOT),
        (1, 500, 1e-7, PART),
        (1, 2e3, 1e-3, PART),
    ],
)
def test_law_20(best: float, cost: float, train: float, wanted: Verdict) -> None:
    rows: Rows = [
        {
            "scale": a,
            "seed": seed,
            "train": train if a >= 1 else 1e-3,
            "test": 1e-9 if a == best else 1e-4 * (cost if a == 4 else 1),
        }
        for seed in (0, 1)
        for a in (0.25, 1.0, 4.0)
    ]
    if best == 1:  # its loss is the reference of the cost
        for row in rows:
            row["test"] = 1e-5 * {0.25: 10, 1.0: 1, 4.0: cost}[row["scale"]]
    measured = teacher_student.measure_lu(Told((teacher_student.LANDSCAPE, rows)))
    assert measured.verdict is wanted


@pytest.mark.parametrize(
    ("slow", "exponent", "explained", "wanted"),
    [(0.55, 1, 1, DEPENDS), (0.43, 1, 1, PART), (0.55, 0.8, 1, NOT), (0.55, 1, 0.97, PART)],
)
def test_law_21(slow: float, exponent: float, explained: float, wanted: Verdict) -> None:
    rows: Rows = [
        {
            "seed": seed,
            "decay": d,
            "t1": 200,
            "t2": one / 1e-3 * d**-exponent,
            "slow": one,
            "explained": explained,
            "ratio": 0.6,
        }
        for seed, one in enumerate((0.42, slow))
        for d in (0.03, 0.1, 0.3)
    ]
    measured = teacher_student.measure_times(Told((teacher_student.TIMES, rows)))
    assert measured.verdict is wanted


def test_law_21_needs_every_trial_to_generalize() -> None:
    rows: Rows = [
        {"seed": 0, "decay": 0.1, "t1": 200, "t2": t2, "slow": 0.5, "explained": 1.0, "ratio": 0.6}
        for t2 in (5000, None)
    ]
    with pytest.raises(UnmeasuredError):
        teacher_student.measure_times(Told((teacher_student.TIMES, rows)))


@pytest.mark.parametrize(
    ("late", "lag", "later", "wanted"),
    [(90, 2, 100, DEPENDS), (130, 2, 100, PART), (90, 3, 100, PART), (90, 2, 99, PART)],
)
def test_law_22(late: int, lag: int, later: int, wanted: Verdict) -> None:
    rows: Rows = [
        {
            "bound": bound,
            "scale": a,
            "decay": d,
            "seed": 0,
            "t1": late if d == 3 else 50,
            "t2": None if a == 2 or d == 3 else 50 + (lag if bound == 1e-2 else later),
        }
        for bound in (1e-3, 1e-2)
        for a in (0.5, 2.0)
        for d in (0.03, 0.3, 3.0)
    ]
    measured = teacher_student.measure_memory(Told((teacher_student.MEMORIZED, rows)))
    assert measured.verdict is wanted
    rows[4]["t1"] = 70  # at alpha 2 and decay 0.3
    doctored = teacher_student.measure_memory(Told((teacher_student.MEMORIZED, rows)))
    assert doctored.verdict is NOT


def halves(exponent: float, sobolev: float) -> tuple[str, Rows]:
    """Rows of `HALVES` for one exponent, and a Sobolev time."""
    rows: Rows = [
        {
            "penalty": "l1",
            "strength": b,
            "seed": 0,
            "plateau": 5.0,
            "half": 200 * (b / 1e-2) ** exponent,
        }
        for b in (1e-2, 1e-3, 1e-4)
    ]
    fast = {"penalty": "sobolev", "strength": 1e-2, "seed": 0, "plateau": 5.0, "half": sobolev}
    never = {"penalty": "l1", "strength": 1e-9, "seed": 0, "plateau": 5.0, "half": None}
    return teacher_student.HALVES, [*rows, fast, never]


@pytest.mark.parametrize(
    ("exponent", "wanted"), [(-0.5, HOLDS), (-0.9, PART), (-1.0, NOT), (0.1, NOT)]
)
def test_law_28(exponent: float, wanted: Verdict) -> None:
    measured = teacher_student.measure_adam(Told(halves(exponent, 200)))
    assert measured.verdict is wanted
    assert measured.values["exponent"].value == pytest.approx(exponent)


def test_law_28_without_two_strengths_isnt_measured() -> None:
    query, rows = halves(-0.5, 200)
    with pytest.raises(UnmeasuredError):
        teacher_student.measure_adam(Told((query, rows[:1])))
    with pytest.raises(UnmeasuredError):
        teacher_student.measure_adam(Told((query, rows[-1:])))


@pytest.mark.parametrize(("sobolev", "wanted"), [(220, HOLDS), (600, NOT)])
def test_law_31(sobolev: float, wanted: Verdict) -> None:
    measured = teacher_student.measure_sobolev(Told(halves(-0.5, sobolev)))
    assert measured.verdict is wanted
    assert measured.values["share"].value == pytest.approx(sobolev / 2000)


@pytest.mark.parametrize(
    ("off", "fall", "wanted"), [(1.2, 10, HOLDS), (1.8, 10, NOT), (1.2, 1.01, PART)]
)
def test_law_18(off: float, fall: float, wanted: Verdict) -> None:
    rows: Rows = [
        {
            "seed": 0,
            "decay": d,
            "step": round(t / d * 1e3),
            "slow": t,
            "train": 1e-4,
            "test": (off if d == 0.01 else 1) * fall ** (-t / 0.8),
        }
        for d in (0.01, 0.02)
        for t in (0.1, 0.4, 0.8, 1.2, 2.0)
    ]
    measured = relu_flow.measure_flow(Told((relu_flow.FLOWS, rows)))
    assert measured.verdict is wanted
    assert measured.values["factor"].value == pytest.approx(off)
    with pytest.raises(UnmeasuredError):
        relu_flow.measure_flow(Told((relu_flow.FLOWS, rows[:3])))
