"""Laws of Omnigrok's toy addition: the plane of the decoder's norm w and the messiness m."""

from __future__ import annotations

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured
from sweeper.analysis.laws.evidence import Evidence, Floats

OMNIGROK = "Liu et al. 2022, Omnigrok (arXiv 2210.01117)"

LANDSCAPE = LawGrid("law_toy_landscape", cut=("seeds=1", "task.m=0,0.05,0.2", "steps=1000"))

FITTED, GENERAL = 0.02, 0.5
"""Contours of the train and the test loss in [L23] Fig. 6 and its code."""

LOSSES = f"""
    select task.N as N, model.init_scale as w, task.m as m, seed, min(train_loss) as train,
      min(train_loss) < {FITTED} as fitted, arg_max(test_loss, step) < {GENERAL} as general
    from trials join metrics using (trial_id) group by all order by all"""


def _shares(evidence: Evidence, which: str) -> tuple[Floats, Floats]:
    """Return the numbers of train pairs and the share of trials that are `which`."""
    rows = evidence.columns(LOSSES)
    sizes = np.unique(rows["N"])
    return sizes, np.array([rows[which][rows["N"] == N].mean() for N in sizes])


def _listed(sizes: Floats, shares: Floats) -> str:
    return ", ".join(f"{share:.0%} with {N} pairs" for N, share in zip(sizes, shares, strict=True))


def measure_region(evidence: Evidence) -> Measured:
    """Compare how much of the plane generalizes with few and many train pairs."""
    sizes, shares = _shares(evidence, "general")
    return Measured(
        f"test loss below {GENERAL} in {_listed(sizes, shares)} of the plane",
        {
            "the region is smallest with the fewest pairs": bool(shares[0] < shares[1:].min()),
            "each larger train set has a larger region": bool((np.diff(shares) > 0).all()),
        },
        {f"N={N}": Estimate(None, float(s)) for N, s in zip(sizes, shares, strict=True)},
    )


def measure_fitted(evidence: Evidence) -> Measured:
    """Compare how much of the plane fits the train pairs with few and many of them."""
    sizes, shares = _shares(evidence, "fitted")
    return Measured(
        f"train loss below {FITTED} in {_listed(sizes, shares)} of the plane",
        {"each larger train set is fitted in less of the plane": bool((np.diff(shares) < 0).all())},
        {f"N={N}": Estimate(None, float(s)) for N, s in zip(sizes, shares, strict=True)},
        "beyond w = 3 the train loss rises again, for every N: few steps don't reach the minimum "
        "on a sphere that large",
    )


def picture_plane(evidence: Evidence) -> Picture:
    """Show both shares over the train pairs, and the train loss over the norm at a small m."""
    rows = evidence.columns(LOSSES)
    lines = []
    for place, (which, label) in enumerate(
        [("fitted", f"train loss < {FITTED}"), ("general", f"test loss < {GENERAL}")]
    ):
        sizes, shares = _shares(evidence, which)
        lines += [
            Series(x=sizes, y=shares, kind="line", colour=place),
            Series(x=sizes, y=shares, label=label, colour=place),
        ]
    m = np.unique(rows["m"])[:2][-1]
    curves = []
    for place, N in enumerate(sizes, start=2):
        mine = (rows["N"] == N) & (rows["m"] == m)
        norms = np.unique(rows["w"])
        loss = [float(np.median(rows["train"][mine & (rows["w"] == w)])) for w in norms]
        curves += [
            Series(x=norms, y=loss, kind="line", colour=place),
            Series(x=norms, y=loss, label=f"{int(N)} pairs", colour=place),
        ]
    return Picture(
        [
            Panel(x="task.N", y="share of the plane", series=lines),
            Panel(
                x="model.init_scale (norm w)",
                y=f"train loss at m = {m:g}, median",
                series=curves,
                log_y=True,
                level=[FITTED],
            ),
        ]
    )


SETTINGS = (
    "cheaper: width 100 instead of 200, 2000 steps of Adam at 3e-3 instead of 10^4 at 1e-3, "
    "6 x 5 points instead of 21 x 21"
)

LAWS = (
    Claim(
        id="toy-region",
        number=32,
        title="toy addition: where it generalizes",
        claim="The region of (norm w, messiness m) with a test loss below 0.5 shrinks with fewer "
        "train pairs.",
        source=f"{OMNIGROK}, Fig. 6 and Table 1",
        settings=SETTINGS,
        grids=(LANDSCAPE,),
        measure=measure_region,
        picture=picture_plane,
    ),
    Claim(
        id="toy-contour",
        number=32,
        title="toy addition: the contour that guides the way",
        claim="With more train pairs the contour of train loss 0.02 recedes to larger norms w and "
        "less messiness: less of the plane is fitted, and the way along it is shorter.",
        source=f"{OMNIGROK}, Fig. 6 and Table 1",
        settings=SETTINGS,
        grids=(LANDSCAPE,),
        measure=measure_fitted,
        picture=picture_plane,
    ),
)
"""The claims of this module."""
