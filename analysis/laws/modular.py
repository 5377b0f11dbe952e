"""Laws of modular addition with a small network: weight decay and held-out regions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured
from sweeper.analysis.laws.evidence import Evidence, middle, near, said, span
from sweeper.analysis.laws.published import GU, POWER

DECAY = LawGrid("law_modular_decay", cut=("optimizer.weight_decay=0.12,0.25,0.5,1", "seeds=3"))
FRACTION = LawGrid("law_modular_fraction", cut=("seeds=3", "steps=2500"))
HOLDOUT = LawGrid("law_holdout", cut=("seeds=2", "steps=2000"))

TIMES = """
    select optimizer.weight_decay as decay, seed, t1, coalesce(t2, delays.last_step) as shown,
      t2 is null as censored
    from trials join delays using (trial_id) order by all"""


def measure_decay(evidence: Evidence) -> Measured:
    """Fit t2 over the weight decay; t1 doesn't depend on it."""
    slope = evidence.fit("t2 ~ 1/optimizer.weight_decay").groups[0].slope
    exponent = slope.negated(-1.0)
    rows = evidence.columns(TIMES)
    value = exponent.value if exponent.value is not None else math.nan
    censored = int(rows["censored"].sum())
    return Measured(
        f"slope {said(exponent)}; t1 {span(rows['t1'])}; {censored} of {len(rows['t1'])} censored",
        {
            "slope in [-1.05, -0.7]": -1.05 <= value <= -0.7,
            "t1 is 30 to 60 at every decay": bool(np.all((rows["t1"] >= 30) & (rows["t1"] <= 60))),
        },
        {"slope": exponent, "t1": Estimate(None, *middle(rows["t1"]))},
    )


def picture_decay(evidence: Evidence) -> Picture:
    """Show t1 and t2 over the weight decay."""
    rows = evidence.columns(TIMES)
    late = rows["censored"].astype(bool)
    x, y = rows["decay"], rows["shown"]
    fit = evidence.fit("t2 ~ 1/optimizer.weight_decay").groups[0]
    ends = np.array([x.min(), x.max()])
    series = [
        Series(x=x[~late], y=y[~late], label="t2"),
        Series(x=x, y=rows["t1"], label="t1", colour=1),
    ]
    if late.any():
        series.append(Series(x=x[late], y=y[late], kind="bounds", label="t2 censored"))
    if fit.slope.value is not None and fit.free_prefactor is not None:
        line = fit.free_prefactor * ends**-fit.slope.value
        series.append(Series(x=ends, y=line, kind="line", label=f"slope {-fit.slope.value:.2f}"))
    if fit.prefactor.value is not None:
        series.append(
            Series(
                x=ends, y=fit.prefactor.value / ends, kind="dashed", label="slope -1", colour=None
            )
        )
    return Picture(
        [
            Panel(
                x="optimizer.weight_decay",
                y="optimizer steps",
                series=series,
                log_x=True,
                log_y=True,
            )
        ]
    )


BY_FRACTION = """
    select selection.fraction as fraction, count(*) as trials, count(t1) as memorized,
      count(t2) as generalized, median(t1) as t1,
      if(2 * count(t2) > count(*), quantile_cont(coalesce(t2, 1e9), 0.5), null) as t2
    from trials join delays using (trial_id) group by all order by all"""


def measure_fraction(evidence: Evidence) -> Measured:
    """See below which share of the table no seed generalizes."""
    rows = evidence.columns(BY_FRACTION, nulls=("t2",))
    small = rows["fraction"] <= 0.3001
    t2 = rows["t2"][~small]
    shown = ", ".join(
        f"{f:g}: {'never' if math.isnan(t) else f'{t:.0f}'}"
        for f, t in zip(rows["fraction"], rows["t2"], strict=True)
    )
    return Measured(
        f"median t2 by fraction {shown}; {rows['generalized'][small].sum():g} of "
        f"{rows['trials'][small].sum():g} seeds generalize at 0.3",
        {
            "none generalizes at fraction 0.3, though all memorize": bool(
                np.all(rows["generalized"][small] == 0)
                and np.all(rows["memorized"] == rows["trials"])
            ),
            "above, t2 falls as the fraction rises": not np.isnan(t2).any()
            and bool(np.all(np.diff(t2) < 0)),
        },
        {
            f"fraction {f:g}": Estimate(None, float(t))
            for f, t in zip(rows["fraction"], rows["t2"], strict=True)
            if not math.isnan(t)
        },
    )


def picture_fraction(evidence: Evidence) -> Picture:
    """Show medians over the fraction."""
    rows = evidence.columns(BY_FRACTION, nulls=("t2",))
    x = rows["fraction"]
    never = np.isnan(rows["t2"])
    (last,) = evidence.rows("select max(last_step) as step from delays where t2 is null")
    series = [
        Series(x=x, y=rows["t2"], kind="line"),
        Series(x=x, y=rows["t2"], label="median t2"),
        Series(x=x, y=rows["t1"], label="median t1", colour=1),
    ]
    if never.any():
        series.append(
            Series(
                x=x[never],
                y=np.full(never.sum(), float(last["step"])),
                kind="bounds",
                label="never within the horizon",
            )
        )
    return Picture([Panel(x="selection.fraction", y="optimizer steps", series=series, log_y=True)])


STRIPS = {4: 0.61, 6: 0.47, 8: 0.25, 9: 0.19}
"""Width of the strip to the best test accuracy, as measured elsewhere."""

BEST = """
    with best as (select trial_id, max(test_acc) as acc from metrics group by all)
    select selection.name as region, coalesce(selection.k, 0) as k, median(acc) as acc,
      min(acc) as low, max(acc) as high
    from trials join best using (trial_id) group by all order by all"""


def measure_holdout(evidence: Evidence) -> Measured:
    """Compare the best test accuracy by the region that is held out."""
    rows = evidence.rows(BEST)
    strips = {r["k"]: r["acc"] for r in rows if r["region"] == "strip"}
    squares = {r["k"]: r["acc"] for r in rows if r["region"] == "square"}
    falling = [strips[k] for k in sorted(strips)]
    listed = ", ".join(f"{v:.3f} (k = {k})" for k, v in strips.items())
    return Measured(
        f"strips {listed}; squares {span(squares.values())}",
        {
            "accuracy falls with the width of the strip, far below every square": all(
                a > b for a, b in pairwise(falling)
            )
            and max(falling) < min(squares.values()) - 0.2,
            "strips within 0.08 of .61, .47, .25, .19": near(
                (strips.get(k, math.inf) - v for k, v in STRIPS.items()), 0, 0.08
            ),
        },
        {f"strip {k}": Estimate(STRIPS.get(k), v) for k, v in strips.items()},
    )


def picture_holdout(evidence: Evidence) -> Picture:
    """Show the best test accuracy of every region."""
    rows = evidence.rows(BEST)
    order = {"uniform": 0, "square": 1, "strip": 2}
    rows.sort(key=lambda r: (order[r["region"]], r["k"]))
    names = [r["region"] + (f"\n{r['k']}" if r["k"] else "") for r in rows]
    bars = Series(
        x=list(range(len(rows))),
        y=[r["acc"] for r in rows],
        kind="bars",
        low=[r["low"] for r in rows],
        high=[r["high"] for r in rows],
        label="median of the seeds, with their range",
    )
    claimed = [
        (n, STRIPS[r["k"]])
        for n, r in enumerate(rows)
        if r["region"] == "strip" and r["k"] in STRIPS
    ]
    dots = Series(
        x=[n for n, _ in claimed],
        y=[v for _, v in claimed],
        label="measured elsewhere",
        colour=None,
    )
    return Picture(
        [Panel(x="held-out region and its k", y="best test_acc", names=names, series=[bars, dots])]
    )


LAWS = (
    Claim(
        id="modular-decay",
        number=23,
        title="weight decay and modular addition",
        claim="t2 is about proportional to 1 / weight decay (slope -0.7 to -1.05); t1 doesn't "
        "depend on it.",
        source=f"{POWER}; Liu et al. 2022 (arXiv 2210.01117), Fig. 10",
        settings="p = 23 and a small network in place of p = 97 and a transformer",
        grids=(DECAY,),
        measure=measure_decay,
        picture=picture_decay,
        quick=True,
    ),
    Claim(
        id="modular-fraction",
        number=24,
        title="the critical share of the table",
        claim="Below a critical train fraction (0.3) no seed generalizes; above, t2 falls as the "
        "fraction rises.",
        source=f"{POWER}, Fig. 1",
        settings="p = 23 and a small network in place of p = 97 and a transformer",
        grids=(FRACTION,),
        measure=measure_fraction,
        picture=picture_fraction,
        quick=True,
    ),
    Claim(
        id="holdout",
        number=30,
        title="where the test pairs lie",
        claim="The wider a strip that training never sees, the lower the accuracy (.61, .47, .25, "
        ".19 +- 0.08 for k = 4, 6, 8, 9), far below that of any square.",
        source=f"{GU}, Table 1; the numbers by our own reference at p = 23",
        settings="p = 23 and a small network in place of p = 97 and a transformer",
        grids=(HOLDOUT,),
        measure=measure_holdout,
        picture=picture_holdout,
        quick=True,
    ),
)
"""The claims of this module."""
