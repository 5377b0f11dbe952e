"""Laws of regression on teachers: by the norm of the weights, under decay and under penalties."""

from __future__ import annotations

import numpy as np

from sweeper.analysis.diagrams.picture import Panel, Picture, Series, series_by
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, Floats, UnmeasuredError, median_of, slope, span

OMNIGROK = "Liu, Michaud, Tegmark 2023 (arXiv 2210.01117)"
NOTSAWO = "Notsawo et al. 2025 (arXiv 2506.05718)"
BOURSIER = "Boursier et al. 2025 (arXiv 2505.20172)"

LU = LawGrid("law_lu", cut=("seeds=1",))
DECAY = LawGrid("law_teacher_decay", cut=("seeds=1", "optimizer.weight_decay=0.1,0.3"))
MEMORY = LawGrid("law_teacher_memory", cut=("seeds=1",))
PENALTY = LawGrid("law_adam_penalty", cut=("seeds=1", "steps=4000"))
FLOW = LawGrid("law_relu_flow", cut=("seeds=2",))

SLOW_TIMES = (0.4, 0.8, 1.2)
"""Values of decay * time at which the test losses of the flow are compared."""

LANDSCAPE = """
    select model.init_scale as scale, seed, arg_max(test_loss, step) as test,
      arg_max(train_loss, step) as train
    from trials join metrics using (trial_id) group by all order by all"""
"""Of law_lu: the losses at the end, by the norm that the weights have throughout."""


def measure_lu(evidence: Evidence) -> Measured:
    """Find the norm of the least test loss, and what larger ones cost."""
    rows = evidence.columns(LANDSCAPE)
    best, cost = [], []
    for seed in np.unique(rows["seed"]):
        mine = rows["seed"] == seed
        scale, test = rows["scale"][mine], rows["test"][mine]
        if not test.min() < 1e-3:
            raise UnmeasuredError(f"no student learns: the least test loss is {test.min():.2g}")
        best.append(float(scale[np.argmin(test)]))
        cost.append(float(test[scale == 4][0] / test[scale == 1][0]))
    large = rows["train"][rows["scale"] >= 1]
    return Measured(
        f"least test loss at alpha {span(best)}; at alpha 4 it is {span(cost)} times that at 1; "
        f"train loss at most {large.max():.1e} from alpha 1 on",
        {
            "least test loss between alpha 0.5 and 1.3 for every seed": all(
                0.5 <= b <= 1.3 for b in best
            ),
            "test loss at alpha 4 more than 1e3 times that at 1 for every seed": min(cost) > 1e3,
            "train loss at most 1e-5 from alpha 1 on": bool(large.max() <= 1e-5),
        },
        {"best": median_of(best, 1.0), "cost": median_of(cost)},
    )


def picture_lu(evidence: Evidence) -> Picture:
    """Show the test and train losses against the norm."""
    rows = evidence.columns(LANDSCAPE)
    series = series_by(rows, "seed", "scale", "test", kind="line", label="test, seed")
    series += series_by(rows, "seed", "scale", "train", kind="dashed", label="train, seed")
    return Picture(
        [
            Panel(
                x="alpha: norm over that of the default init",
                y="final loss",
                series=series,
                log_x=True,
                log_y=True,
            )
        ]
    )


TIMES = """
    select seed, optimizer.weight_decay as decay, t1, t2, t2 * optimizer.lr * decay as slow,
      ln(1 / norm_ratio) / (optimizer.lr * decay * t2) as explained, norm_ratio as ratio
    from trials join delays using (trial_id)
      left join metrics on metrics.trial_id = trials.trial_id and step = t2 order by all"""
"""Of law_teacher_decay: when trials generalize, and what is left of their norm then."""


def measure_times(evidence: Evidence) -> Measured:
    """Compare the step of generalization with the decay of the norm."""
    rows = evidence.columns(TIMES)
    exponent = slope(rows["decay"], rows["t2"])
    return Measured(
        f"t2 * lr * decay {span(rows['slow'])}, exponent of the decay {exponent:.3g}; norm at t2 "
        f"{span(rows['ratio'])} of the initial, and ln(w0 / w) / (lr * decay) is "
        f"{span(rows['explained'])} of t2",
        {
            "t2 ~ 1 / decay: exponent -1 +- 0.15": abs(exponent + 1) <= 0.15,
            "the norm alone tells t2 to 15 %": bool(np.all(np.abs(rows["explained"] - 1) <= 0.15)),
            "t2 * lr * decay = 0.55 +- 0.12 for every trial": bool(
                np.all(np.abs(rows["slow"] - 0.55) <= 0.12)
            ),
        },
        {"slow": median_of(rows["slow"], 0.55)},
        note="w_c is the norm at which the test accuracy reaches 95 %, as measured.",
    )


def picture_times(evidence: Evidence) -> Picture:
    """Show t2 against the decay beside the claimed law, and t1."""
    rows = evidence.columns(TIMES)
    decays = np.unique(rows["decay"])
    series = series_by(rows, "seed", "decay", "t2", label="t2, seed")
    series.append(Series(x=rows["decay"], y=rows["t1"], label="t1", colour=9))
    series.append(
        Series(
            x=decays,
            y=0.55 / (1e-3 * decays),
            kind="dashed",
            label="0.55 / (lr * decay)",
            colour=None,
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


MEMORIZED = """
    select model.init_scale as scale, optimizer.weight_decay as decay, seed, t1, t2
    from trials join delays using (trial_id) order by all"""
"""Of law_teacher_memory: the first steps at which trials memorize and generalize."""


def measure_memory(evidence: Evidence) -> Measured:
    """Compare t1 over the decays, seed by seed."""
    rows = evidence.columns(MEMORIZED, nulls=("t2",))
    large = rows["scale"] == 2
    paper = [_moved(rows, seed, 1.0) for seed in np.unique(rows["seed"])]
    moved = [_moved(rows, seed, 3.0) for seed in np.unique(rows["seed"])]
    small = (rows["scale"] == 0.5) & (rows["decay"] <= 0.3)
    lag = rows["t2"][small] - rows["t1"][small]
    return Measured(
        f"t1 {span(rows['t1'][large])} at alpha 2, over the decays of a seed by a factor of "
        f"{span(paper)} up to 0.3 and {span(moved)} up to 3; at alpha 0.5 and decays up to 0.3 "
        f"t1 is {span(rows['t1'][small])} and t2 - t1 {span(lag)}",
        {
            "t1 within a factor of 1.5 over the paper's decays": max(paper) <= 1.5,
            "t1 within a factor of 2 while the decay grows 100 times": max(moved) <= 2,
            "at alpha 0.5 generalization comes within as many steps again": bool(
                np.all(lag <= rows["t1"][small])
            ),
        },
        {"moved": median_of(moved, 1.0)},
    )


def _moved(rows: dict[str, Floats], seed: float, most: float) -> float:
    """Return the largest over the least t1 of a seed at alpha 2, over the decays up to `most`."""
    mine = (rows["scale"] == 2) & (rows["seed"] == seed) & (rows["decay"] <= most)
    return float(rows["t1"][mine].max() / rows["t1"][mine].min())


def picture_memory(evidence: Evidence) -> Picture:
    """Show t1 against the decay, for the large and the small init."""
    rows = evidence.columns(MEMORIZED, nulls=("t2",))
    series = series_by(rows, "scale", "decay", "t1", label="alpha")
    return Picture(
        [
            Panel(
                x="optimizer.weight_decay",
                y="t1 (optimizer steps)",
                series=series,
                log_x=True,
                log_y=True,
            )
        ]
    )


HALVES = """
    with m as (
      select trial_id, regularizer.name as penalty, regularizer.strength as strength, seed, step,
        test_loss, t1
      from trials join metrics using (trial_id) join delays using (trial_id)),
    p as (select trial_id, any_value(test_loss) filter (step = t1) as plateau from m group by all)
    select penalty, strength, seed, any_value(plateau) as plateau,
      min(step) filter (step >= t1 and test_loss <= plateau / 2) as half
    from m join p using (trial_id) group by trial_id, penalty, strength, seed order by all"""
"""Of law_adam_penalty: when the test loss is half of what it was as the data were memorized."""


def _halves(evidence: Evidence, penalty: str) -> dict[str, Floats]:
    rows = evidence.columns(HALVES, nulls=("half",))
    mine = (rows["penalty"] == penalty) & ~np.isnan(rows["half"])
    if not mine.any():
        raise UnmeasuredError(f"under {penalty} no test loss fell to a half")
    return {name: column[mine] for name, column in rows.items()}


def exponents(rows: dict[str, Floats]) -> list[float]:
    """Return the exponents of the strength between neighbouring strengths, of all seeds."""
    slopes: list[float] = []
    for seed in np.unique(rows["seed"]):
        mine = rows["seed"] == seed
        strength, half = np.log(rows["strength"][mine]), np.log(rows["half"][mine])
        slopes += list(np.diff(half) / np.diff(strength))
    return slopes


def measure_adam(evidence: Evidence) -> Measured:
    """Find the exponents of the strength in the time that Adam takes."""
    rows = _halves(evidence, "l1")
    local = exponents(rows)
    if not local:
        raise UnmeasuredError("the test loss fell to a half under one strength alone")
    middle = [
        f"{np.median(rows['half'][rows['strength'] == s]):.0f} at {s:g}"
        for s in np.unique(rows["strength"])[::-1]
    ]
    return Measured(
        f"exponents {span(local)} between strengths; half of the plateau at step "
        + ", ".join(middle),
        {
            "every exponent between -1 and 0": all(-1 < e < 0 for e in local),
            "every exponent above -0.8: it isn't 1 / strength": all(e > -0.8 for e in local),
        },
        {"exponent": median_of(local, -0.54)},
    )


def picture_adam(evidence: Evidence) -> Picture:
    """Show the time against the strength beside a line of slope -1."""
    rows = _halves(evidence, "l1")
    first = rows["strength"].max()
    strengths = np.unique(rows["strength"])
    start = float(np.median(rows["half"][rows["strength"] == first]))
    series = series_by(rows, "seed", "strength", "half", label="seed")
    series.append(
        Series(
            x=strengths,
            y=start * first / strengths,
            kind="dashed",
            label="1 / strength",
            colour=None,
        )
    )
    return Picture(
        [
            Panel(
                x="regularizer.strength (l1)",
                y="steps to half of the plateau",
                series=series,
                log_x=True,
                log_y=True,
            )
        ]
    )


def measure_sobolev(evidence: Evidence) -> Measured:
    """Compare the Sobolev penalty with l1."""
    fast, slow = _halves(evidence, "sobolev"), _halves(evidence, "l1")
    shares = {strength: _shares(fast, slow, strength) for strength in (1e-4, 1e-2)}
    return Measured(
        f"half of the plateau at step {span(fast['half'])} under sobolev 1e-2: "
        f"{span(shares[1e-4])} of that under l1 1e-4, {span(shares[1e-2])} of that under l1 1e-2",
        {"at most a quarter of the steps under l1 1e-4 for every seed": max(shares[1e-4]) <= 0.25},
        {"share": median_of(shares[1e-4], 220 / 2530)},
        note="At equal strengths the two take about as long.",
    )


def _shares(fast: dict[str, Floats], slow: dict[str, Floats], strength: float) -> list[float]:
    """Return, seed by seed, the time of `fast` over that of `slow` at `strength`."""
    at = np.isclose(slow["strength"], strength)
    ratios = [
        float(half / slow["half"][at & (slow["seed"] == seed)][0])
        for seed, half in zip(fast["seed"], fast["half"], strict=True)
        if seed in slow["seed"][at]
    ]
    if not ratios:
        raise UnmeasuredError(f"no test loss fell to a half under both, with l1 {strength:g}")
    return ratios


def picture_sobolev(evidence: Evidence) -> Picture:
    """Show the test losses of the first seed under both penalties."""
    rows = evidence.columns("""
        select regularizer.name || ' ' || regularizer.strength as penalty, step, test_loss
        from trials join metrics using (trial_id) where seed = 0 and step > 0 order by all""")
    series = series_by(rows, "penalty", "step", "test_loss", kind="line", label="")
    return Picture(
        [Panel(x="optimizer steps", y="test_loss", series=series, log_x=True, log_y=True)]
    )


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
        settings="cheaper: decays 2e-2 and 1e-2 where the paper has 1e-3; its function isn't told",
        grids=(FLOW,),
        measure=measure_flow,
        picture=picture_flow,
    ),
    Claim(
        id="teacher-lu",
        number=20,
        title="L and U: the loss by the norm of the weights",
        claim="At constant norm alpha times the initial one, the test loss of a student is least "
        "for alpha in [0.5, 1.3] and 1e3 times as large at alpha = 4; the train loss stays 0.",
        source=f"{OMNIGROK}, Fig. 2a",
        settings="cheaper: lr 1e-3 and 3e3 steps where the code has 3e-4 and 1e4",
        grids=(LU,),
        measure=measure_lu,
        picture=picture_lu,
        quick=True,
    ),
    Claim(
        id="teacher-decay",
        number=21,
        title="the delay of a large init under weight decay",
        claim="t2 = ln(w0 / w_c) / (lr * decay) with one norm w_c for all decays; for alpha = 2 "
        "and decays up to 0.3 it is 0.55 +- 0.12 / (lr * decay).",
        source=f"{OMNIGROK}, Sec. 3 and Fig. 2c",
        settings="cheaper: lr 1e-3 where the code has 3e-4",
        grids=(DECAY,),
        measure=measure_times,
        picture=picture_times,
        quick=True,
        expected=Verdict.IN_PART,
    ),
    Claim(
        id="teacher-memory",
        number=22,
        title="memorization doesn't wait for the decay",
        claim="t1 doesn't depend on the weight decay (within a factor of 2 over 0.03 to 3).",
        source=f"{OMNIGROK}, Fig. 2c, decays 0.03 to 1",
        settings="cheaper: lr 1e-3 where the code has 3e-4",
        grids=(MEMORY,),
        measure=measure_memory,
        picture=picture_memory,
        quick=True,
        expected=Verdict.IN_PART,
    ),
    Claim(
        id="adam-penalty",
        number=28,
        title="Adam with a penalty doesn't follow 1 / strength",
        claim="Under Adam the time of generalization rises as the l1 strength falls, with an "
        "exponent between -1 and 0 (about -0.5), not -1.",
        source=f"{NOTSAWO}, Figs 10 and 31; the exponents are ours",
        settings="cheaper: 50 inputs, 200 hidden units where the paper has 100 and 500",
        grids=(PENALTY,),
        measure=measure_adam,
        picture=picture_adam,
        quick=True,
    ),
    Claim(
        id="sobolev",
        number=31,
        title="a Sobolev penalty accelerates",
        claim="Under a Sobolev penalty of 1e-2 the test loss falls to half of its plateau in less "
        "than a quarter of the steps that l1 of 1e-4 takes.",
        source=f"{NOTSAWO}, Figs 11 and 34",
        settings="cheaper: 50 inputs, 200 hidden units where the paper has 100 and 500",
        grids=(PENALTY,),
        measure=measure_sobolev,
        picture=picture_sobolev,
        quick=True,
    ),
)
"""The claims of this module."""
