"""Laws of sparse recovery under l1 and l2: one vector, no factors."""

from __future__ import annotations

import numpy as np

from analysis.fit import Estimate
from analysis.laws.claim import Claim, LawGrid, Measured
from analysis.laws.evidence import Evidence, said, span
from analysis.picture import Panel, Picture, Series

NOTSAWO = "Notsawo et al. 2025 (arXiv 2506.05718)"

L1 = LawGrid("law_l1", cut=("optimizer.lr=0.1",))
L2_FLOOR = LawGrid("law_l2_floor", cut=("optimizer.lr=0.1",))

L1_LAW = "t2 ~ 1/(optimizer.lr*regularizer.strength)"

L1_TIMES = """
    select optimizer.name as solver, seed, optimizer.lr as lr, regularizer.strength as strength,
      optimizer.lr * regularizer.strength as x, t1, t2, l
    from trials join delays using (trial_id)
      join (select trial_id, max(ls_linf) as l from metrics group by all) using (trial_id)
    order by all"""


def measure_delay(found: Evidence) -> Measured:
    """Fit the delay of gradient descent against rate times strength, all seeds and one by one."""
    gd = "optimizer.name = 'gd'"
    slope = found.fit(L1_LAW, where=gd).groups[0].slope
    each = [g.slope.value or np.nan for g in found.fit(L1_LAW, where=gd, by="seed").groups]
    # the law as it is fitted is of 1 / (lr * strength); the claim is about lr * strength
    turned = Estimate(
        -1.0, *(None if v is None else -v for v in (slope.value, slope.high, slope.low))
    )
    return Measured(
        f"slope {said(turned)}; seeds one by one {span([-k for k in each])}",
        {"slope within -1 +- 0.05 for each seed": bool(np.all(np.abs(np.array(each) - 1) <= 0.05))},
        {"slope": turned},
    )


def picture_delay(found: Evidence) -> Picture:
    """Show t2 against lr * strength with the fitted line of each seed."""
    rows = found.columns(L1_TIMES)
    gd = rows["solver"] == "gd"
    series = []
    for place, seed in enumerate(np.unique(rows["seed"])):
        mine = gd & (rows["seed"] == seed)
        x, y = rows["x"][mine], rows["t2"][mine]
        prefactor = float(np.exp(np.mean(np.log(x * y))))
        ends = np.array([x.min(), x.max()])
        series += [
            Series(x=x, y=y, label=f"seed {seed}", colour=place),
            Series(x=ends, y=prefactor / ends, kind="line", colour=place),
        ]
    return Picture(
        [Panel(x="optimizer.lr * regularizer.strength", y="t2 (optimizer steps)", series=series,
               log_x=True, log_y=True)]
    )  # fmt: skip


def measure_floor(found: Evidence) -> Measured:
    """Compare the final test error with what the measurements don't see of a*."""
    rows = found.columns("""
        select optimizer.lr as lr, seed, max(null_floor) as unseen,
          arg_max(test_error, step) as final
        from trials join metrics using (trial_id) group by all order by all""")
    off = rows["final"] / rows["unseen"] - 1
    worst = float(np.max(np.abs(off)))
    return Measured(
        f"final error {span(rows['final'])}, at most {worst:.1e} of it away from the floor",
        {"final error within 1 % of the floor": worst <= 0.01},
        {"off": Estimate(0.0, worst)},
    )


def picture_floor(found: Evidence) -> Picture:
    """Show the test error of each seed and the floor that it ends at."""
    rows = found.columns("""
        select seed, step, test_error, null_floor from trials join metrics using (trial_id)
        where optimizer.lr = 0.1 and step > 0 order by all""")
    series = []
    for place, seed in enumerate(np.unique(rows["seed"])):
        mine = rows["seed"] == seed
        x = rows["step"][mine]
        series += [
            Series(x=x, y=rows["test_error"][mine], kind="line", label=f"seed {seed}",
                   colour=place),
            Series(x=[x.min(), x.max()], y=[rows["null_floor"][mine][0]] * 2, kind="dashed",
                   colour=place),
        ]  # fmt: skip
    series.append(Series(x=[], y=[], kind="dashed", label="floor: unseen share of a*",
                         colour=None))  # fmt: skip
    return Picture(
        [Panel(x="optimizer steps", y="test_error", series=series, log_x=True, log_y=True)]
    )


LAWS = (
    Claim(
        id="l1-delay", number=1, title="the delay under l1",
        claim="t2 is proportional to 1 / (lr * strength): slope -1 +- 0.05 in log-log.",
        source=f"{NOTSAWO}, Thm 3.1 and Fig. 4",
        settings="cheaper: strengths 2e-5 to 2e-4, thresholds 1e-2 where the paper has 1e-4",
        grids=(L1,), measure=measure_delay, picture=picture_delay, quick=True,
    ),
    Claim(
        id="l2-floor", number=11, title="l2 alone: grokking without understanding",
        claim="The final relative error is ||(I - P) a*|| / ||a*||, P onto the measurements "
        "(within 1 %).",
        source=f"{NOTSAWO}, Thm 3.6 and Fig. 7",
        settings="cheaper: strength 1e-2 where the paper has 1e-5, 2e4 steps instead of 1e8",
        grids=(L2_FLOOR,), measure=measure_floor, picture=picture_floor, quick=True,
    ),
)  # fmt: skip
"""The claims of this module."""
