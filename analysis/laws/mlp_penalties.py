"""Laws of the MLP with multiplied embeddings under coupled penalties and Adam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, middle, said, span
from sweeper.analysis.laws.published import NOTSAWO

PENALTIES = LawGrid("law_mlp_penalties", cut=("seeds=1",))
L1 = LawGrid("law_mlp_l1", cut=("seeds=1", "steps=5000"))

LAW = "t2 ~ 1/regularizer.strength"

TIMES = """
    select regularizer.name as penalty, regularizer.strength as strength,
      quantile_cont(coalesce(t2, 1e9), 0.5) as t2
    from trials join delays using (trial_id) group by all order by all"""
"""Medians over the seeds; 1e9 where half of them never generalized."""

OF = (("l2_sq", "law_mlp_penalties"), ("nuclear", "law_mlp_penalties"), ("l1", "law_mlp_l1"))
"""Penalty and the sweep with its trials."""


def measure_exponents(evidence: Evidence) -> Measured:
    """Fit t2 over the strength of each penalty."""
    parts, values, inside, falling = [], {}, {}, {}
    for penalty, sweep in OF:
        slope = evidence.fit(LAW, sweep, where=f"regularizer.name = '{penalty}'").groups[0].slope
        exponent = slope.negated(None)
        rows = [r for r in evidence.rows(TIMES, sweep) if r["penalty"] == penalty]
        values[penalty] = exponent
        inside[penalty] = exponent.value is not None and -1 < exponent.value < 0
        falling[penalty] = all(a["t2"] > b["t2"] for a, b in pairwise(rows))
        parts.append(f"{penalty} {said(exponent, 2)}")
    return Measured(
        f"exponents: {', '.join(parts)}",
        {
            "l2_sq and nuclear: exponent between -1 and 0": inside["l2_sq"] and inside["nuclear"],
            "l1: exponent between -1 and 0": inside["l1"],
            "t2 falls with each larger strength, for each penalty": all(falling.values()),
        },
        values,
        "that of l1 rests on two strengths: less generalizes too late to be seen here, more never",
    )


def picture_exponents(evidence: Evidence) -> Picture:
    """Show t2 over the strength."""
    series = []
    for place, (penalty, sweep) in enumerate(OF):
        rows = [r for r in evidence.rows(TIMES, sweep) if r["penalty"] == penalty and r["t2"] < 1e9]
        x, y = [r["strength"] for r in rows], [r["t2"] for r in rows]
        series += [
            Series(x=x, y=y, kind="line", colour=place),
            Series(x=x, y=y, label=penalty, colour=place),
        ]
    return Picture(
        [
            Panel(
                x="regularizer.strength",
                y="t2 (optimizer steps), median",
                series=series,
                log_x=True,
                log_y=True,
            )
        ]
    )


AFTER = """
    select regularizer.strength as strength, seed, max(l2) filter (step = t2) as l2_then,
      arg_max(l2, step) as l2_end, max(l1) filter (step = t2) as l1_then,
      arg_max(l1, step) as l1_end
    from trials join delays using (trial_id) join metrics using (trial_id)
    where t2 is not null group by all order by all"""


def measure_norms(evidence: Evidence) -> Measured:
    """Compare the norms at the end with those at generalization."""
    rows = evidence.columns(AFTER)
    l2, l1 = rows["l2_end"] / rows["l2_then"], rows["l1_end"] / rows["l1_then"]
    count = len(l2)
    return Measured(
        f"from t2 to the end l2 changes by {span(l2)} times (median {np.median(l2):.3g}), l1 by "
        f"{span(l1)} times; {int((l2 > 1).sum())} of {count} rise",
        {
            "the l1 norm falls after t2, in every trial": bool((l1 < 1).all()),
            "the median l2 norm rises": float(np.median(l2)) > 1,
            "the l2 norm falls in some trials": bool((l2 < 1).any()),
        },
        {"l2": Estimate(None, *middle(l2)), "l1": Estimate(None, *middle(l1))},
        finding=Verdict.DEPENDS,
    )


def picture_norms(evidence: Evidence) -> Picture:
    """Show the l2 norm of the first seed at each strength, and where it generalizes."""
    rows = evidence.columns("""
        select regularizer.strength as strength, step, l2, step = t2 as here
        from trials join delays using (trial_id) join metrics using (trial_id)
        where seed = (select min(seed) from trials) and step > 0 and t2 is not null
        order by strength, step""")
    series = []
    for place, strength in enumerate(np.unique(rows["strength"])):
        mine = rows["strength"] == strength
        here = mine & rows["here"].astype(bool)
        series += [
            Series(
                x=rows["step"][mine],
                y=rows["l2"][mine],
                kind="line",
                colour=place,
                label=f"strength {strength:g}",
            ),
            Series(x=rows["step"][here], y=rows["l2"][here], colour=place),
        ]
    return Picture(
        [
            Panel(
                x="optimizer steps",
                y="l2 norm of all weights; a dot at t2",
                series=series,
                log_x=True,
            )
        ]
    )


SETTINGS = (
    "cheaper: modulo 23 with 70 % of the pairs where the paper has 97 with 40 %, full batch, "
    "strengths that generalize there; generalized is 90 %"
)

LAWS = (
    Claim(
        id="mlp-penalty-exponents",
        number=28,
        title="penalties under Adam: no 1 / strength",
        claim="Under Adam with a coupled penalty t2 falls with the strength, by an exponent from "
        "-1 to 0 (the paper's figure: about -0.19 for l1, -0.29 for l2, -0.19 for nuclear).",
        source=f"{NOTSAWO}, Figs 1, 2, 30",
        settings=SETTINGS,
        grids=(PENALTIES, L1),
        measure=measure_exponents,
        picture=picture_exponents,
    ),
    Claim(
        id="l1-norms",
        number=29,
        title="l1: the l2 norm rises after generalization",
        claim="Under an l1 penalty the l2 norm of the weights rises after generalization, while "
        "their l1 norm falls.",
        source=f"{NOTSAWO}, Fig. 1",
        settings=SETTINGS,
        grids=(L1,),
        measure=measure_norms,
        picture=picture_norms,
        expected=Verdict.DEPENDS,
        depends_on="the seed",
        instead="The l1 norm falls, since the penalty is still at work. The l2 norm rises or falls "
        "with the seed in so small a table: by up to 15 % and 6 % here, 0.96 to 1.11 times in "
        "another computation, in which 3 of 6 seeds rise.",
    ),
)
"""The claims of this module."""
