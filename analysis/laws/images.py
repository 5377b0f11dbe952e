"""Law of grokking that a large initial norm induces on images."""

from __future__ import annotations

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured
from sweeper.analysis.laws.evidence import Evidence, UnmeasuredError, median_of, said, span

OMNIGROK = "Liu et al. 2022, Omnigrok (arXiv 2210.01117)"

DIGITS = LawGrid("law_digits", cut=("seeds=1", "optimizer.lr=3e-3", "steps=6000"))
MNIST = LawGrid("law_mnist")

TIMES = """
    select seed, model.init_scale as alpha, optimizer.weight_decay as decay, t1, t2
    from trials join delays using (trial_id) order by all"""

CURVES = """
    select model.init_scale as alpha, optimizer.weight_decay as decay, step, train_acc, test_acc
    from trials join metrics using (trial_id)
    where seed = (select min(seed) from trials) and step > 0 order by all"""


def measure(evidence: Evidence) -> Measured:
    """Compare the generalization times of two decays, and those of a small and a large norm."""
    rows = evidence.columns(TIMES)
    large = rows["alpha"] > 1
    low, high = (float(f(rows["decay"][large])) for f in (np.min, np.max))
    t2 = {decay: rows["t2"][large & (rows["decay"] == decay)] for decay in (low, high)}
    if len(t2[low]) != len(t2[high]):
        raise UnmeasuredError("the decays have different seeds")
    ratio = median_of(t2[low] / t2[high], low and high / low)
    t1, small = rows["t1"][large], rows["t2"][~large]
    slowed = float(np.min(rows["t2"][large] / t1))
    return Measured(
        f"t2 at decay {low:g} over t2 at {high:g}: {said(ratio)}; t2 * decay "
        f"{span((rows['t2'] * rows['decay'])[large])}, t1 {span(t1)}; at alpha = 1 "
        f"t2 {span(small)}",
        {
            "t2 ratio within 3 +- 0.5": abs((ratio.value or np.inf) - 3) <= 0.5,
            "test images are learnt at least 1.5 times as late as train images": slowed >= 1.5,
            "at alpha = 1 within 200 steps": bool(np.all(small <= 200)),
        },
        {"ratio": ratio},
    )


def picture(evidence: Evidence) -> Picture:
    """Show the accuracies of one seed against the step, a panel for each initial norm."""
    rows = evidence.columns(CURVES)
    decays = np.unique(rows["decay"])
    panels = []
    for alpha in np.unique(rows["alpha"])[::-1]:
        series = []
        for place, decay in enumerate(decays):
            mine = (rows["alpha"] == alpha) & (rows["decay"] == decay)
            x, label = rows["step"][mine], f"decay {decay:g}"
            if len(x):
                series += [
                    Series(
                        x=x,
                        y=rows["train_acc"][mine],
                        kind="dashed",
                        label=f"{label}, train",
                        colour=place,
                    ),
                    Series(
                        x=x,
                        y=rows["test_acc"][mine],
                        kind="line",
                        label=f"{label}, test",
                        colour=place,
                    ),
                ]
        panels.append(
            Panel(
                x="optimizer steps",
                y="accuracy",
                series=series,
                log_x=True,
                title=f"initial norm x {alpha:g}",
                level=(0.8,),
            )
        )
    return Picture(panels)


LAWS = (
    Claim(
        id="digits-grokking",
        number=27,
        title="digits grok from a large initial norm",
        claim="From 8 times the default norm t2 is proportional to 1 / decay: a third of the "
        "decay takes 3 +- 0.5 times as long; from the default norm there is no grokking.",
        source=f"{OMNIGROK}, section 3 and Fig. 10b",
        settings="the 8 x 8 digits of scikit-learn instead of MNIST, 200 of them to train on; "
        "test accuracy 0.8",
        grids=(DIGITS,),
        measure=measure,
        picture=picture,
        quick=True,
    ),
    Claim(
        id="mnist-grokking",
        number=27,
        title="MNIST groks from a large initial norm",
        claim="From 8 times the default norm t2 is proportional to 1 / decay: a third of the "
        "decay takes 3 +- 0.5 times as long; from the default norm there is no grokking.",
        source=f"{OMNIGROK}, section 3 and Figs 3d, 10b",
        settings="a subset of 5000 images of MNIST, 1000 of them to train on; test accuracy 0.8",
        grids=(MNIST,),
        measure=measure,
        picture=picture,
    ),
)
"""The claims of this module."""
