"""The law of a two-layer ReLU network under a small decay: its test loss in slow time."""

from __future__ import annotations

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, series_by
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured
from sweeper.analysis.laws.evidence import Evidence, UnmeasuredError, median_of, span
from sweeper.analysis.laws.published import BOURSIER

FLOW = LawGrid("law_relu_flow", cut=("seeds=2",))

SLOW_TIMES = (0.4, 0.8, 1.2)
"""Values of decay * time at which the test losses of the flow are compared."""

FLOWS = """
    select seed, regularizer.strength as decay, step, test_loss as test, train_loss as train,
      regularizer.strength * optimizer.lr * step as slow
    from trials join metrics using (trial_id) where step > 0 order by all"""
"""Of law_relu_flow: the learning curves in slow time."""


def measure_flow(evidence: Evidence) -> Measured:
    """Compare the test losses of different decays at equal slow times."""
    rows = evidence.columns(FLOWS)
    for seed, decay in {*zip(rows["seed"], rows["decay"], strict=True)}:
        if rows["slow"][(rows["seed"] == seed) & (rows["decay"] == decay)].max() < SLOW_TIMES[-1]:
            raise UnmeasuredError(f"the flow under {decay:g} wasn't followed to {SLOW_TIMES[-1]:g}")
    worst: list[float] = []
    middle: list[list[float]] = []
    for seed in np.unique(rows["seed"]):
        curves = []
        for decay in np.unique(rows["decay"]):
            mine = (rows["seed"] == seed) & (rows["decay"] == decay)
            curves.append(np.interp(SLOW_TIMES, rows["slow"][mine], np.log(rows["test"][mine])))
        logs = np.array(curves)
        worst += [float(k) for k in np.exp(logs.max(axis=0) - logs.min(axis=0))]
        middle.append([float(k) for k in np.exp(logs.mean(axis=0))])
    times = ", ".join(f"{t:g}" for t in SLOW_TIMES)
    fall = [m[0] / m[-1] for m in middle]
    return Measured(
        f"at decay * time {times} the test losses of a seed differ by factors of {span(worst)}; "
        f"from the first to the last time they fall {span(fall)} times",
        {
            "test losses at equal decay * time within a factor of 1.5": max(worst) <= 1.5,
            "they fall by more than that factor for every seed": min(fall) > 1.5,
        },
        {"factor": median_of(worst, 1.0)},
        note="The paper doesn't tell its teacher; ours is random, and so are the losses.",
    )


def picture_flow(evidence: Evidence) -> Picture:
    """Show the test losses of the first seed over time and slow time."""
    rows = evidence.columns(FLOWS)
    one = {name: column[rows["seed"] == 0] for name, column in rows.items()}
    return Picture(
        [
            Panel(
                x="optimizer steps",
                y="test_loss",
                log_x=True,
                log_y=True,
                series=series_by(one, "decay", "step", "test", kind="line", label="decay"),
            ),
            Panel(
                x="decay * lr * step",
                y="test_loss",
                log_x=True,
                log_y=True,
                series=series_by(one, "decay", "slow", "test", kind="line"),
            ),
        ]
    )


LAWS = (
    Claim(
        id="relu-slow-time",
        number=18,
        title="a ReLU network's test loss in slow time",
        claim="The test loss of a two-layer ReLU network under a small decay is a function of "
        "decay * time, within a factor of 1.5.",
        source=f"{BOURSIER}, Prop. 2 and Fig. 3",
        settings="cheaper: decays 2e-2 and 1e-2 where the paper has 1e-3; its function isn't "
        "published",
        grids=(FLOW,),
        measure=measure_flow,
        picture=picture_flow,
    ),
)
"""The claims of this module."""
