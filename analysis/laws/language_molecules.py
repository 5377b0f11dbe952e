"""Laws of grokking that a large initial norm induces on film reviews and on molecules."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.analysis.diagrams.picture import Panel, Picture, Series
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, UnmeasuredError, span

OMNIGROK = "Liu et al. 2022, Omnigrok (arXiv 2210.01117)"

REVIEWS = LawGrid("law_reviews")
MOLECULES = LawGrid("law_molecules")

REVIEW_TIMES = """
    select seed, model.init_scale as alpha, t1, t2,
      max(test_acc) filter (step = t1) as early,
      avg(test_acc) filter (step >= d.last_step / 2) as late
    from trials join delays d using (trial_id) join metrics using (trial_id)
    group by all order by all"""

MOLECULE_TIMES = """
    select seed, model.init_scale as alpha, t1, t2, d.last_step as last_step,
      min(test_error) filter (step >= d.last_step / 2) as low
    from trials join delays d using (trial_id) join metrics using (trial_id)
    group by all order by all"""

CURVES = """
    select model.init_scale as alpha, step, {train} as train, {test} as test
    from trials join metrics using (trial_id)
    where seed = (select min(seed) from trials) and step > 0 order by all"""


def measure_reviews(evidence: Evidence) -> Measured:
    """Compare the gain in test accuracy after memorization, for a large and the default norm."""
    rows = evidence.columns(REVIEW_TIMES, nulls=("t1", "t2", "early"))
    large = rows["alpha"] > 1
    if not large.any() or large.all():
        raise UnmeasuredError("a large and the default initial norm are wanted")
    t1, t2, early, late = rows["t1"], rows["t2"], rows["early"], rows["late"]
    gain = late - early
    return Measured(
        f"initial norm 6: t1 {_times(t1[large])}, test accuracy {span(early[large])} then and "
        f"{span(late[large])} in the later half, 0.6 at {_times(t2[large])}; initial norm 1: t1 "
        f"{_times(t1[~large])}, {span(early[~large])} then and {span(late[~large])} later",
        {
            "from initial norm 6 test accuracy gains at least 0.08 after memorization": bool(
                np.all(gain[large] >= 0.08)
            ),
            "and reaches 0.6 at least 2 times as late": bool(np.all(t2[large] >= 2 * t1[large])),
            "from initial norm 1 it gains at most 0.03": bool(np.all(gain[~large] <= 0.03)),
        },
    )


def measure_molecules(evidence: Evidence) -> Measured:
    """Compare how late test molecules are learnt, for a large and the default norm."""
    rows = evidence.columns(MOLECULE_TIMES, nulls=("t1", "t2"))
    large = rows["alpha"] > 1
    if not large.any() or large.all():
        raise UnmeasuredError("a large and the default initial norm are wanted")
    t1, t2, last = rows["t1"], rows["t2"], rows["last_step"]
    reached = ~np.isnan(t2)
    bound = np.where(reached, t2, last)  # a step that wasn't reached lies after the last one
    slower = float(np.min(bound[large])) / float(np.max(bound[~large]))
    return Measured(
        f"initial norm 1: t1 {_times(t1[~large])}, t2 {_times(t2[~large])}; initial norm 3: t1 "
        f"{_times(t1[large])}, t2 {_times(t2[large])} of {int(np.max(last))} steps, test error "
        f"{span(rows['low'][large])} at best in the later half",
        {
            "test molecules at least 10 times as late as at initial norm 1": bool(
                np.all(reached[~large])
            )
            and slower >= 10,
            "initial norm 1 generalizes as it memorizes": bool(
                np.all(t2[~large] <= 2 * t1[~large])
            ),
            "most seeds of initial norm 3 generalize within the horizon": bool(
                np.mean(reached[large]) > 0.5
            ),
        },
    )


def _times(steps: NDArray[Any]) -> str:
    """Return the range of steps, with how many weren't reached."""
    known = steps[~np.isnan(steps)]
    if not len(known):
        return "never"
    missed = len(steps) - len(known)
    return span(known) + (f" (never in {missed} of {len(steps)})" if missed else "")


def _picture(evidence: Evidence, metric: str, *, log_y: bool, level: list[float]) -> Picture:
    """Show the train and test metric of one seed, a panel for each initial norm."""
    rows = evidence.columns(CURVES.format(train=f"train_{metric}", test=f"test_{metric}"))
    panels = []
    for alpha in np.unique(rows["alpha"])[::-1]:
        mine = rows["alpha"] == alpha
        x = rows["step"][mine]
        panels.append(
            Panel(
                x="optimizer steps",
                y=metric,
                log_x=True,
                log_y=log_y,
                level=level,
                title=f"initial norm {alpha:g}",
                series=[
                    Series(x=x, y=rows["train"][mine], kind="dashed", label="train", colour=0),
                    Series(x=x, y=rows["test"][mine], kind="line", label="test", colour=1),
                ],
            )
        )
    return Picture(panels)


def picture_reviews(evidence: Evidence) -> Picture:
    """Show the accuracies of one seed."""
    return _picture(evidence, "acc", log_y=False, level=[0.5])


def picture_molecules(evidence: Evidence) -> Picture:
    """Show the relative errors of one seed."""
    return _picture(evidence, "error", log_y=True, level=[0.1])


LAWS = (
    Claim(
        id="reviews-grokking",
        number=32,
        title="film reviews grok from a large initial norm",
        claim="From initial norm 6 with decay 1 an LSTM knows its reviews long before it "
        "understands others; from initial norm 1 it doesn't grok.",
        source=f"{OMNIGROK}, Fig. 4",
        settings="cheaper: 300 reviews of 40 words, layers of width 16, rate 3e-3",
        grids=(REVIEWS,),
        measure=measure_reviews,
        picture=picture_reviews,
        expected=Verdict.CONFIRMED,
    ),
    Claim(
        id="molecules-grokking",
        number=32,
        title="molecules wait for a large initial norm",
        claim="At initial norm 3 the polarizability of test molecules is learnt at least 10 times "
        "as late as at initial norm 1, where nothing is delayed.",
        source=f"{OMNIGROK}, Fig. 5",
        settings="cheaper: 30,000 steps at most; learnt is a relative error of 0.1 (0.05 in "
        "training)",
        grids=(MOLECULES,),
        measure=measure_molecules,
        picture=picture_molecules,
        expected=Verdict.CONFIRMED,
    ),
)
"""The claims of this module."""
