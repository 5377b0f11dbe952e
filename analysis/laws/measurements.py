"""Laws of the measurements in sparse recovery: their number, and the part that they miss."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series, series_by
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured
from sweeper.analysis.laws.evidence import Evidence, middle, near, span
from sweeper.analysis.laws.published import NOTSAWO

SPARSITY = LawGrid("law_sparsity", cut=("seeds=3",))
COHERENCE = LawGrid("law_coherence")
L2_FLOOR = LawGrid("law_l2_floor", cut=("optimizer.lr=0.1",))

NEEDED = {5: 30, 10: 40, 15: 50}
"""Nonzeros to the measurements from which on all seeds recovered, as measured elsewhere."""

RECOVERED = """
    select task.s as s, task.N as N, count(*) as trials, count(t2) as recovered,
      count(t2) / count(*) as share
    from trials join delays using (trial_id) group by all order by all"""


def measure_sparsity(evidence: Evidence) -> Measured:
    """Find the number of measurements from which on every seed recovers, by sparsity."""
    rows = evidence.columns(RECOVERED)
    needed = {}
    for s in np.unique(rows["s"]):
        mine = rows["s"] == s
        failed = rows["N"][mine][rows["share"][mine] < 1]
        above = rows["N"][mine][rows["N"][mine] > (failed.max() if len(failed) else 0)]
        needed[int(s)] = float(above.min()) if len(above) else math.inf
    numbers = list(needed.values())
    listed = ", ".join(f"{n:g} for s = {s}" for s, n in needed.items())
    return Measured(
        f"all seeds recover from N = {listed} on",
        {
            "N_min rises with s": all(a < b for a, b in pairwise(numbers)),
            "N_min within 10 of 30, 40, 50": all(
                abs(needed.get(s, math.inf) - n) <= 10 for s, n in NEEDED.items()
            ),
        },
        {f"s = {s}": Estimate(NEEDED.get(s), n) for s, n in needed.items() if n < math.inf},
    )


def picture_sparsity(evidence: Evidence) -> Picture:
    """Show the share of seeds that recover over the number of measurements."""
    rows = evidence.columns(RECOVERED)
    lines = series_by(rows, "s", "N", "share", kind="line", label="s =")
    return Picture(
        [
            Panel(
                x="task.N (measurements)",
                y="share of seeds that recover",
                series=[*lines, *series_by(rows, "s", "N", "share")],
            )
        ]
    )


COHERENT = """
    select task.N as N, selection.tau as tau, count(*) as trials, count(t2) as recovered,
      if(2 * count(t2) > count(*), quantile_cont(coalesce(t2, 1e9), 0.5), null) as t2
    from trials join delays using (trial_id) group by all order by all"""
"""Of law_coherence: how many seeds recover, and the median t2 where most do."""


def measure_coherence(evidence: Evidence) -> Measured:
    """See whether fewer seeds recover, and later, the more measurements are coherent."""
    rows = evidence.columns(COHERENT, nulls=("t2",))
    falls, rises, last = True, True, 0
    for N in np.unique(rows["N"]):
        mine = rows["N"] == N
        counts, t2 = rows["recovered"][mine], rows["t2"][mine]
        t2 = t2[~np.isnan(t2)]
        falls &= bool(np.all(np.diff(counts) <= 0) and 2 * counts[0] > rows["trials"][mine][0])
        rises &= bool(np.all(np.diff(t2) >= 0))
        last += int(counts[-1])
    most = rows["N"] == rows["N"].max()
    shown = ", ".join("never" if math.isnan(t) else f"{t:.0f}" for t in rows["t2"][most])
    return Measured(
        f"N = {rows['N'].max():g}: {', '.join(f'{n:g}' for n in rows['recovered'][most])} seeds "
        f"recover, median t2 {shown}, from tau 0 to 1",
        {
            "most seeds recover at tau = 0, and their number never rises with it": falls,
            "none recovers at tau = 1": last == 0,
            "the median t2 never falls with tau": rises,
        },
        {"recovered at tau = 1": Estimate(0.0, float(last))},
    )


def picture_coherence(evidence: Evidence) -> Picture:
    """Show counts and medians over tau."""
    rows = evidence.columns(COHERENT, nulls=("t2",))
    lines = series_by(rows, "N", "tau", "recovered", kind="line", label="N =")
    late = series_by(rows, "N", "tau", "t2", kind="line")
    return Picture(
        [
            Panel(
                x="selection.tau",
                y="seeds that recover",
                series=[*lines, *series_by(rows, "N", "tau", "recovered")],
            ),
            Panel(
                x="selection.tau",
                y="median t2 (optimizer steps)",
                log_y=True,
                title="where most seeds recover",
                series=[*late, *series_by(rows, "N", "tau", "t2")],
            ),
        ]
    )


DROPS = """
    with m as (
      select trial_id, seed, optimizer.lr * regularizer.strength as x, step, test_error,
        null_floor, t1
      from trials join metrics using (trial_id) join delays using (trial_id))
    select seed, x, any_value(null_floor) as unseen, any_value(t1) as t1,
      any_value(test_error) filter (step = t1) as early,
      min(step) filter (step > t1 and test_error <= 2 * null_floor) as drop,
      arg_max(test_error, step) as final
    from m group by trial_id, seed, x order by all"""
"""Of law_l2_floor: the error at t1 and at the end, and the step at which it is twice the floor."""


def measure_floor(evidence: Evidence) -> Measured:
    """Compare the final test error, and when it drops, with the part of a* that isn't measured."""
    rows = evidence.columns(DROPS)
    off = rows["final"] / rows["unseen"] - 1
    worst = float(np.max(np.abs(off)))
    # The unseen part of a decays as exp(-x t) from what it was at t1, where it is all of the
    # error, and stands at right angles to that of a* on average: together they are 2 floors when
    # it is sqrt(3) of them.
    start = rows["early"] * np.exp(rows["x"] * rows["t1"])
    claimed = np.log(start / (math.sqrt(3) * rows["unseen"])) / rows["x"]
    ratio = rows["drop"] / claimed
    return Measured(
        f"final error {span(rows['final'])}, within {100 * worst:.1g} % of the floor; "
        f"drop time over the claimed one {span(ratio)}",
        {
            "final error within 1 % of the floor": worst <= 0.01,
            "drop time within 3 %": near(ratio, 1, 0.03),
        },
        {"off": Estimate(0.0, worst), "drop": Estimate(1.0, *middle(ratio))},
    )


def picture_floor(evidence: Evidence) -> Picture:
    """Show the test error of each seed and the floor that it ends at."""
    rows = evidence.columns("""
        select seed, step, test_error, null_floor from trials join metrics using (trial_id)
        where optimizer.lr = 0.1 and step > 0 order by all""")
    ends = evidence.columns("""
        with f as (
          select seed, max(step) as last, max(null_floor) as floor_
          from trials join metrics using (trial_id) where optimizer.lr = 0.1 group by all)
        select seed, unnest([1, last]) as step, floor_ from f order by all""")
    series = [
        *series_by(rows, "seed", "step", "test_error", kind="line", label="seed"),
        *series_by(ends, "seed", "step", "floor_", kind="dashed"),
        Series(x=[], y=[], kind="dashed", label="what X doesn't see of a*", colour=None),
    ]
    return Picture(
        [Panel(x="optimizer steps", y="test_error", series=series, log_x=True, log_y=True)]
    )


LAWS = (
    Claim(
        id="l1-sparsity",
        number=6,
        title="measurements needed by sparsity",
        claim="The number of measurements from which on all seeds recover rises with the "
        "number of nonzeros: 30, 40, 50 (+- 10) for s = 5, 10, 15.",
        source=f"{NOTSAWO}, Figs. 27 and 28",
        settings="cheaper: strength 1e-3 and 2e4 steps, entries of one size",
        grids=(SPARSITY,),
        measure=measure_sparsity,
        picture=picture_sparsity,
        quick=True,
    ),
    Claim(
        id="coherence",
        number=7,
        title="coherent measurements",
        claim="The larger tau, the fewer seeds recover and the later; none does at tau = 1.",
        source=f"{NOTSAWO}, Figs. 21 and 22",
        settings="cheaper: strength 1e-3 and 5000 steps; the paper has 1e-5 and 1e7",
        grids=(COHERENCE,),
        measure=measure_coherence,
        picture=picture_coherence,
        quick=True,
    ),
    Claim(
        id="l2-floor",
        number=11,
        title="l2 alone: grokking without understanding",
        claim="The final error is ||(I - P) a*|| / ||a*||, P onto the measurements (+- 1 %), and "
        "it drops at ln(||w0|| / (sqrt(3) floor ||a*||)) / (lr * strength) (+- 3 %).",
        source=f"{NOTSAWO}, Thm 3.6 and Fig. 7",
        settings="cheaper: strength 1e-2 and 2e4 steps; the paper has 1e-5 and 1e8",
        grids=(L2_FLOOR,),
        measure=measure_floor,
        picture=picture_floor,
        quick=True,
    ),
)
"""The claims of this module."""
