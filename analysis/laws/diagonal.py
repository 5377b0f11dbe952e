"""Laws of diagonal linear networks under weight decay, and of basis pursuit that they solve."""

from __future__ import annotations

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series, series_by
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, Floats, UnmeasuredError, median_of, said, span

BOURSIER = "Boursier et al. 2025 (arXiv 2505.20172)"
NOTSAWO = "Notsawo et al. 2025 (arXiv 2506.05718)"

DIAGONAL = LawGrid(
    "law_diagonal", cut=("seeds=2", "regularizer.strength=0,4e-4,1e-3", "steps=80_000")
)
PURSUIT = LawGrid("law_basis_pursuit", cut=("task.s=10,30,50", "seeds=3"))

SLOW = """
    with m as (
      select trial_id, seed, regularizer.strength as decay, optimizer.lr as lr, step, test_error,
        t1, l1, l1_min, weights_l2
      from trials join metrics using (trial_id) join delays using (trial_id)),
    p as (
      select trial_id, any_value(test_error) filter (step = t1) as plateau from m group by all)
    select seed, decay, any_value(plateau) as plateau,
      arg_max(test_error, step) as final,
      decay * any_value(lr) * min(step) filter (step >= t1 and test_error <= plateau / 2) as half,
      decay * any_value(lr) * min(step) filter (step >= t1 and test_error <= plateau / 10)
        as tenth,
      arg_max(weights_l2 ** 2 / 2 / l1, step) as balance,
      arg_max(l1 / l1_min, step) as excess
    from m join p using (trial_id) group by trial_id, seed, decay order by all"""
"""Of law_diagonal: slow times from which on the error is a half and a tenth of what it was when
the data were memorized, and what the end has."""


def decayed(evidence: Evidence) -> dict[str, Floats]:
    """Return the rows of `SLOW` with a decay, each of which has to have come to its end."""
    rows = evidence.columns(SLOW, nulls=("half", "tenth"))
    rows = {name: column[rows["decay"] > 0] for name, column in rows.items()}
    if np.isnan(rows["half"]).any() or np.isnan(rows["tenth"]).any():
        raise UnmeasuredError("the error of a trial with a decay didn't fall to a tenth")
    return rows


def off_middle(rows: dict[str, Floats], name: str) -> float:
    """Return how far, at most, `name` is from the middle of its range over the decays of a seed.

    As a share of that middle.
    """
    shares = []
    for seed in np.unique(rows["seed"]):
        mine = rows[name][rows["seed"] == seed]
        shares.append(float((mine.max() - mine.min()) / (mine.max() + mine.min())))
    return max(shares)


def measure_collapse(evidence: Evidence) -> Measured:
    """Compare the slow time of the collapse over the decays, seed by seed."""
    rows = decayed(evidence)
    half, tenth = off_middle(rows, "half"), off_middle(rows, "tenth")
    last = rows["decay"] == rows["decay"].min()
    return Measured(
        f"decay * time of a half {span(rows['half'])}, of a tenth {span(rows['tenth'])}; over the "
        f"decays +- {100 * half:.2g} % and +- {100 * tenth:.2g} %",
        {
            "time of a half ~ 1 / decay +- 10 % for every seed": half <= 0.1,
            "time of a tenth ~ 1 / decay +- 10 % for every seed": tenth <= 0.1,
        },
        {"half": median_of(rows["half"][last], 0.57), "tenth": median_of(rows["tenth"][last], 2.0)},
        note="The number itself is the instance's.",
    )


CURVES = """
    select seed, regularizer.strength as decay, step, test_error,
      regularizer.strength * optimizer.lr * step as slow
    from trials join metrics using (trial_id)
    where seed = 0 and step > 0 order by all"""
"""Of law_diagonal: the learning curves of the first seed."""


def picture_collapse(evidence: Evidence) -> Picture:
    """Show the test error over steps and over slow time."""
    rows = evidence.columns(CURVES)
    moving = {name: column[rows["decay"] > 0] for name, column in rows.items()}
    return Picture(
        [
            Panel(
                x="optimizer steps",
                y="test_error",
                log_x=True,
                log_y=True,
                series=series_by(moving, "decay", "step", "test_error", kind="line", label="decay"),
            ),
            Panel(
                x="decay * lr * step",
                y="test_error",
                log_x=True,
                log_y=True,
                series=series_by(moving, "decay", "slow", "test_error", kind="line"),
            ),
        ]
    )


def measure_balance(evidence: Evidence) -> Measured:
    """Compare the norm of the weights with the l1 norm of their product at the end."""
    rows = decayed(evidence)
    off = float(np.max(np.abs(rows["balance"] - 1)))
    return Measured(
        f"(||u||^2 + ||v||^2) / 2 over ||u * v||_1: {span(rows['balance'], 4)}",
        {"equal to 0.5 % at the end": off <= 0.005},
        {"off": Estimate(0.0, off)},
    )


def picture_balance(evidence: Evidence) -> Picture:
    """Show both norms of the first seed under the largest decay."""
    rows = evidence.columns("""
        select step, weights_l2 ** 2 / 2 as squares, l1, l1_min
        from trials join metrics using (trial_id)
        where seed = 0 and step > 0 and regularizer.strength = 1e-3 order by all""")
    named = {"squares": "(||u||^2 + ||v||^2) / 2", "l1": "||u * v||_1", "l1_min": "basis pursuit"}
    series = [
        Series(
            x=rows["step"],
            y=rows[name],
            label=label,
            colour=None if name == "l1_min" else i,
            kind="dashed" if name == "l1_min" else "line",
        )
        for i, (name, label) in enumerate(named.items())
    ]
    return Picture(
        [
            Panel(
                x="optimizer steps",
                y="norm",
                series=series,
                log_x=True,
                log_y=True,
                title="decay 1e-3, seed 0",
            )
        ]
    )


def measure_pursuit(evidence: Evidence) -> Measured:
    """Compare the l1 norm of the limit point with the least one that fits the data."""
    rows = decayed(evidence)
    excess = rows["excess"] - 1
    smallest = np.abs(excess[rows["decay"] == rows["decay"].min()])
    largest = np.abs(excess[rows["decay"] == rows["decay"].max()])
    left = smallest / largest
    return Measured(
        f"||u * v||_1 over that of basis pursuit: {span(rows['excess'], 4)}; under the smallest "
        f"decay {span(1 + excess[rows['decay'] == rows['decay'].min()], 4)}",
        {
            "within 1 % under the smallest decay": float(smallest.max()) <= 0.01,
            "the smallest decay is off by less than half of what the largest one is": bool(
                np.all(left < 0.5)
            ),
        },
        {"off": median_of(smallest, 0.0), "left": median_of(left)},
        note="The decay's own bias is of first order: it shrinks the l1 norm a little.",
    )


def picture_pursuit(evidence: Evidence) -> Picture:
    """Show the l1 norm over the least one, seed by seed, by decay."""
    rows = decayed(evidence)
    series = series_by(rows, "seed", "decay", "excess", kind="line", label="seed")
    dots = series_by(rows, "seed", "decay", "excess")
    return Picture(
        [
            Panel(
                x="regularizer.strength",
                y="final l1 / l1_min",
                series=[*series, *dots],
                log_x=True,
                level=[1.0],
            )
        ]
    )


def measure_limits(evidence: Evidence) -> Measured:
    """Compare where the flow ends without a decay and with a vanishing one."""
    rows = evidence.columns(SLOW, nulls=("half", "tenth"))
    none = rows["decay"] == 0
    smallest = rows["decay"] == rows["decay"][~none].min()
    kept = rows["final"][none] / rows["plateau"][none]
    ratio = rows["final"][none] / rows["final"][smallest]
    return Measured(
        f"final error {span(rows['final'][none])} without a decay, "
        f"{span(rows['final'][smallest])} under {rows['decay'][smallest][0]:g}",
        {
            "without a decay more than 10 times the error under the smallest one": bool(
                np.all(ratio > 10)
            ),
            "without a decay the error stays where the data left it (+- 10 %)": bool(
                np.all(np.abs(kept - 1) <= 0.1)
            ),
        },
        {"ratio": median_of(ratio), "kept": median_of(kept, 1.0)},
        note="Definition of grokking in the paper: the limits decay -> 0 and time -> infinity "
        "don't commute.",
    )


def picture_limits(evidence: Evidence) -> Picture:
    """Show the test error of the first seed, without a decay and with each."""
    series = series_by(
        evidence.columns(CURVES), "decay", "step", "test_error", kind="line", label="decay"
    )
    return Picture(
        [Panel(x="optimizer steps", y="test_error", series=series, log_x=True, log_y=True)]
    )


def measure_width(evidence: Evidence) -> Measured:
    """See how long the fall from a half to a tenth takes, in units of the half's time."""
    rows = decayed(evidence)
    rows["ratio"] = rows["tenth"] / rows["half"]
    off = off_middle(rows, "ratio")
    middle = median_of(rows["ratio"], None)
    return Measured(
        f"time of a tenth over that of a half: median {said(middle)}, {span(rows['ratio'])}; over "
        f"the decays +- {100 * off:.2g} %",
        {
            "not sudden: above 2 for every trial": bool(np.all(rows["ratio"] > 2)),
            "independent of the decay +- 10 %": off <= 0.1,
            "in [3.4, 5.6]": bool(np.all((rows["ratio"] >= 3.4) & (rows["ratio"] <= 5.6))),
        },
        {"ratio": middle},
        note="Only logarithmic time makes it look abrupt.",
        finding=Verdict.DEPENDS,
    )


def picture_width(evidence: Evidence) -> Picture:
    """Show the fall in linear slow time."""
    rows = evidence.columns(CURVES)
    mine = (rows["decay"] > 0) & (rows["slow"] <= 6)
    rows = {name: column[mine] for name, column in rows.items()}
    series = series_by(rows, "decay", "slow", "test_error", kind="line", label="decay")
    return Picture([Panel(x="decay * lr * step", y="test_error", series=series)])


NEEDED = """
    with c as (
      select selection.tau as tau, task.s as s, task.N as N, count(t2) = count(*) as every
      from trials join delays using (trial_id) group by all)
    select tau, s, coalesce(max(N) filter (not every), 0) as failed, max(N) as most
    from c group by all order by all"""
"""Of law_basis_pursuit: the largest N at which a seed isn't recovered."""


def needed(evidence: Evidence) -> dict[str, Floats]:
    """Return the smallest N from which on every seed is recovered, by tau and s."""
    rows = evidence.columns(NEEDED)
    rows["needed"] = rows["failed"] + 10.0
    rows["needed"][rows["failed"] == rows["most"]] = np.nan
    return rows


def measure_needed(evidence: Evidence) -> Measured:
    """See how the number of measurements rises with the sparsity and with the coherence."""
    rows = needed(evidence)
    if np.isnan(rows["needed"]).any():
        raise UnmeasuredError("some signals aren't recovered from n measurements")
    table = {tau: rows["needed"][rows["tau"] == tau] for tau in np.unique(rows["tau"])}
    curves = list(table.values())
    listed = "; ".join(f"tau {tau:g}: {span(v)}" for tau, v in table.items())
    return Measured(
        f"N_min {listed}",
        {
            "rises with s (never falls)": all(np.all(np.diff(v) >= 0) for v in curves),
            "rises with tau (never falls)": bool(np.all(np.diff(np.stack(curves), axis=0) >= 0)),
            "n at tau = 1": bool(np.all(curves[-1] == 100)),
            "rises somewhere with each": bool(
                curves[0][-1] > curves[0][0] and np.any(curves[-1] > curves[0])
            ),
        },
        {f"tau {tau:g}, s 10": Estimate(None, float(v[0])) for tau, v in table.items()},
    )


def picture_needed(evidence: Evidence) -> Picture:
    """Show N_min over s, one line for each tau."""
    rows = needed(evidence)
    series = series_by(rows, "tau", "s", "needed", kind="line", label="tau")
    dots = series_by(rows, "tau", "s", "needed")
    return Picture([Panel(x="task.s", y="measurements needed", series=[*series, *dots])])


SETTINGS = "signal entries are N(0, 1/n), so an initial variance of 0.1 is 1 in units of the signal"

LAWS = (
    Claim(
        id="diagonal-slow-time",
        number=15,
        title="the collapse of a diagonal network in slow time",
        claim="u * v under weight decay finds a* at a time of 1 / decay: decay * time of half (a "
        "tenth) of the plateau's error is constant to 10 % (run before: 0.57 and 2.0).",
        source=f"{BOURSIER}, Prop. 2 and Fig. 4",
        settings=SETTINGS,
        grids=(DIAGONAL,),
        measure=measure_collapse,
        picture=picture_collapse,
        quick=True,
    ),
    Claim(
        id="diagonal-limits",
        number=15,
        title="limits that don't commute",
        claim="Without a decay the error stays at its plateau for ever; under a vanishing one it "
        "ends more than 10 times below.",
        source=f"{BOURSIER}, Props. 1 to 4",
        settings=SETTINGS,
        grids=(DIAGONAL,),
        measure=measure_limits,
        picture=picture_limits,
        quick=True,
    ),
    Claim(
        id="diagonal-balance",
        number=16,
        title="balanced factors at the end",
        claim="(||u||^2 + ||v||^2) / 2 = ||u * v||_1 at the end (+- 0.5 %).",
        source=f"{BOURSIER}, section on diagonal networks",
        settings=SETTINGS,
        grids=(DIAGONAL,),
        measure=measure_balance,
        picture=picture_balance,
        quick=True,
    ),
    Claim(
        id="diagonal-basis-pursuit",
        number=16,
        title="the limit point solves basis pursuit",
        claim="||u * v||_1 ends at the least l1 norm that fits the data (+- 1 % under the smallest "
        "decay).",
        source=f"{BOURSIER}, App. D.2",
        settings=SETTINGS,
        grids=(DIAGONAL,),
        measure=measure_pursuit,
        picture=picture_pursuit,
        quick=False,
    ),
    Claim(
        id="diagonal-not-sudden",
        number=19,
        title="not sudden in linear time",
        claim="The error takes 3.4 to 5.6 times as long to a tenth as to a half, whatever the "
        "decay (+- 10 %).",
        source=f"{BOURSIER}, section on time scales",
        settings=SETTINGS,
        grids=(DIAGONAL,),
        measure=measure_width,
        picture=picture_width,
        quick=True,
        expected=Verdict.DEPENDS,
        depends_on="the instance",
        instead="The error is not sudden in linear time, and the ratio is the same under every "
        "decay. Its range is the instance's: 3.4 to 4 here, 2.6 to 6.3 on others.",
    ),
    Claim(
        id="basis-pursuit-needs",
        number=7,
        title="what basis pursuit needs",
        claim="The smallest N with full recovery rises with s and with tau, to n at tau = 1.",
        source=f"{NOTSAWO}, Figs. 19b and 20",
        settings="three tau of Fig. 20; cvxpy there, HiGHS here",
        grids=(PURSUIT,),
        measure=measure_needed,
        picture=picture_needed,
        quick=True,
    ),
)
"""The claims of this module."""
