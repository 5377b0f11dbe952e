"""Laws of products of factors in sparse recovery: depth and init instead of a penalty."""

from __future__ import annotations

import math

from sweeper.analysis.diagrams.picture import Panel, Picture, Series, series_by
from sweeper.analysis.fit.fit import Estimate
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, near, span
from sweeper.analysis.laws.published import NOTSAWO, published_signal

PRODUCTS = LawGrid("law_products")
FOUR = LawGrid("law_product_four")
LARGE_INIT = LawGrid("law_large_init", cut=("seeds=[1]",))

PUBLISHED = {
    (30, 1): 0.1327,
    (30, 2): 0.0199,
    (30, 3): 0.0140,
    (50, 1): 0.1133,
    (50, 2): 0.0158,
    (50, 3): 0.0132,
}
"""(N, depth) to the distance in the published figure, by the published code."""

NEAREST = """
    select task.N as N, model.depth as depth, model.sign_free as sign_free,
      min(distance) as nearest
    from trials join metrics using (trial_id) group by all order by all"""
"""The least distance ||a - a*|| over a run, as in the published figure."""

DISTANCES = """
    select concat(if(model.sign_free, 'u^L - v^L', 'product'), ', L = ', model.depth) as model,
      step, distance
    from trials join metrics using (trial_id) where task.N = 30 and step > 0
    order by all"""


def measure_depth(evidence: Evidence) -> Measured:
    """Compare the nearest point of every run with the published one."""
    rows = evidence.rows(NEAREST)
    got = {(r["N"], r["depth"]): r["nearest"] for r in rows if not r["sign_free"]}
    off = max(abs(got.get(at, math.inf) - value) for at, value in PUBLISHED.items())
    listed = ", ".join(f"{got[30, depth]:.4f}" for depth in (1, 2, 3) if (30, depth) in got)
    return Measured(
        f"{listed} at N = 30 for depth 1, 2, 3; at most {off:.1g} off",
        {"all within 3e-4 of the published distances": off <= 3e-4},
        {f"N {n} depth {d}": Estimate(PUBLISHED.get((n, d)), v) for (n, d), v in got.items()},
        note="It is the least distance over the run: depth 2 goes past it.",
    )


def picture_depth(evidence: Evidence) -> Picture:
    """Show the distances by depth beside the published ones."""
    rows = evidence.rows(NEAREST)
    panels = []
    for N in (30, 50):
        own = [(r["depth"], r["nearest"]) for r in rows if r["N"] == N and not r["sign_free"]]
        said = [value for (n, _), value in PUBLISHED.items() if n == N]
        places = list(range(len(own)))
        panels.append(
            Panel(
                x="model.depth",
                y="least ||a - a*||",
                log_y=True,
                title=f"N = {N}",
                names=[str(depth) for depth, _ in own],
                series=[
                    Series(x=places, y=[v for _, v in own], label="measured"),
                    Series(
                        x=places, y=said[: len(own)], kind="bounds", label="published", colour=1
                    ),
                ],
            )
        )
    return Picture(panels)


def measure_sign(evidence: Evidence) -> Measured:
    """See whether a product stays above its negative entry and u^3 - v^3 doesn't."""
    floor = float(-published_signal(1, 100, 5).min())
    rows = evidence.rows(NEAREST)
    products = [r["nearest"] for r in rows if not r["sign_free"]]
    free = [r["nearest"] for r in rows if r["sign_free"] and r["depth"] == 3]
    return Measured(
        f"negative entry {floor:.5f}; products come no nearer than {min(products):.5f}, "
        f"u^3 - v^3 comes to {span(free)}",
        {
            "products come to the negative entry (10 %), never nearer": floor
            <= min(products)
            <= 1.1 * floor,
            "u^3 - v^3 comes nearer than a tenth of it": max(free) < floor / 10,
        },
        {"product": Estimate(floor, min(products)), "u^3 - v^3": Estimate(None, max(free))},
    )


def picture_sign(evidence: Evidence) -> Picture:
    """Show the distance over the run, with the floor of products."""
    lines = series_by(
        evidence.columns(DISTANCES), "model", "step", "distance", kind="line", label=""
    )
    floor = float(-published_signal(1, 100, 5).min())
    return Picture(
        [
            Panel(
                x="optimizer steps",
                y="||a - a*||, N = 30",
                series=lines,
                log_x=True,
                log_y=True,
                level=[floor],
            )
        ]
    )


FACTORS = """
    select model.depth as depth, model.init_scale as init, min(distance) as nearest,
      arg_min(step, distance) as at, arg_max(train_error, step) as train
    from trials join metrics using (trial_id) group by all order by all"""


def measure_four(evidence: Evidence) -> Measured:
    """Compare a product of four factors with one of three."""
    rows = {(r["depth"], round(r["init"], 3)): r for r in evidence.rows(FACTORS)}
    three, same, slow = rows[3, 0.01], rows[4, 0.032], rows[4, 0.01]
    return Measured(
        f"least distance {three['nearest']:.5f} with three factors, {same['nearest']:.5f} with "
        f"four of the same product at the start, {slow['nearest']:.5f} with four that start at "
        f"0.01, whose train error is {slow['train']:.2g} after {slow['at']} steps",
        {
            "three factors come to 0.0140 +- 3e-4, and four as near (5 %)": near(
                [three["nearest"]], PUBLISHED[30, 3], 3e-4
            )
            and same["nearest"] <= 1.05 * three["nearest"],
            "not yet from 0.01 each within 1e6 steps": slow["nearest"] > 1.05 * three["nearest"]
            and slow["train"] > 0.05,
        },
        {
            "three": Estimate(None, three["nearest"]),
            "four": Estimate(None, same["nearest"]),
            "four from 0.01": Estimate(None, slow["nearest"]),
        },
        finding=Verdict.DEPENDS,
    )


def picture_four(evidence: Evidence) -> Picture:
    """Show the distances over the run."""
    rows = evidence.columns("""
        select concat(model.depth, ' factors from ', model.init_scale) as model, step, distance
        from trials join metrics using (trial_id) where step > 0 order by all""")
    lines = series_by(rows, "model", "step", "distance", kind="line", label="")
    floor = float(-published_signal(1, 100, 5).min())
    return Picture(
        [
            Panel(
                x="optimizer steps",
                y="||a - a*||, N = 30",
                series=lines,
                log_x=True,
                log_y=True,
                level=[floor],
            )
        ]
    )


SLOW = {1e-3: 4.13, 3e-4: 3.95, 1e-4: 3.89}
"""Strength to t2 * lr * strength, as measured elsewhere on the published instance (seed 1)."""

INITS = """
    select regularizer.name as penalty, coalesce(regularizer.strength, 0) as strength, seed, t1, t2,
      t2 * optimizer.lr * regularizer.strength as slow, arg_max(test_error, step) as final
    from trials join delays using (trial_id) join metrics using (trial_id)
    group by all order by all"""


def measure_large_init(evidence: Evidence) -> Measured:
    """See when u^2 - v^2 from a large init generalizes with and without l2."""
    rows = evidence.rows(INITS)
    never = [r for r in rows if r["penalty"] == "none"]
    grokked = [r for r in rows if r["penalty"] != "none" and r["t2"] is not None]
    mine = {r["strength"]: r["slow"] for r in grokked if r["seed"] == 1}
    ratios = [mine.get(strength, math.inf) / slow for strength, slow in SLOW.items()]
    finals = [r["final"] for r in never]
    return Measured(
        f"t2 * lr * strength = {', '.join(f'{v:.2f}' for _, v in sorted(mine.items()))} for "
        f"strengths {', '.join(f'{s:g}' for s in sorted(mine))}; without l2 the error ends at "
        f"{span(finals)}",
        {
            "every trial with l2 generalizes, none without": len(grokked) == len(rows) - len(never)
            and all(r["t2"] is None for r in never),
            "t2 * lr * strength within 8 % of 4.13, 3.95, 3.89 (seed 1)": near(ratios, 1, 0.08),
        },
        {f"strength {s:g}": Estimate(SLOW.get(s), v) for s, v in mine.items()},
    )


def picture_large_init(evidence: Evidence) -> Picture:
    """Show the test error of seed 1, by strength."""
    rows = evidence.columns("""
        select coalesce(regularizer.strength, 0) as strength, step, test_error
        from trials join metrics using (trial_id) where seed = 1 and step > 0 order by all""")
    lines = series_by(rows, "strength", "step", "test_error", kind="line", label="l2 strength")
    return Picture(
        [Panel(x="optimizer steps", y="test_error", series=lines, log_x=True, log_y=True)]
    )


LAWS = (
    Claim(
        id="depth-for-l1",
        number=12,
        title="depth in place of an l1 penalty",
        claim="Products of 1, 2, 3 factors come to .1327, .0199, .0140 of a* (N = 30) and .1133, "
        ".0158, .0132 (N = 50), all +- 3e-4.",
        source=f"{NOTSAWO}, Fig. 9",
        settings="2e5 steps instead of 1e6",
        grids=(PRODUCTS,),
        measure=measure_depth,
        picture=picture_depth,
    ),
    Claim(
        id="product-sign",
        number=13,
        title="a product can't change its sign",
        claim="A product that starts positive comes no nearer than the one negative entry of a*, "
        ".0127; u^3 - v^3 goes far below it.",
        source="our reading of Fig. 9 of " + NOTSAWO,
        settings="2e5 steps instead of 1e6",
        grids=(PRODUCTS,),
        measure=measure_sign,
        picture=picture_sign,
    ),
    Claim(
        id="large-init",
        number=14,
        title="large init: a little l2 groks, none never does",
        claim="u^2 - v^2 from an init of ones generalizes at t2 * lr * strength = 4.13, 3.95, "
        "3.89 (+- 8 %) for strengths 1e-2, 3e-3, 1e-3, and never without l2.",
        source=f"{NOTSAWO}, Sec. 3 and App. F; the step by our own reference",
        settings="the signal is a tenth of the published one; init, rate and strength are scaled "
        "with it",
        grids=(LARGE_INIT,),
        measure=measure_large_init,
        picture=picture_large_init,
        quick=True,
    ),
    Claim(
        id="four-factors",
        number=32,
        title="a product of four factors",
        claim="Four factors come as near to a* as three (5 %), also from 0.01 each within 1e6 "
        "steps.",
        source=f"{NOTSAWO}, Fig. 9 (L = 4)",
        grids=(FOUR,),
        measure=measure_four,
        picture=picture_four,
        expected=Verdict.DEPENDS,
        depends_on="the horizon",
        instead="Four factors come as near as three once all have left the saddle at 0. Four equal "
        "factors u grow by du/dt = lr * c * u^3 there, c being the entry's pull of the data, so an "
        "entry leaves after 1 / (2 lr c u0^2) steps: from u0 = 0.01 after 5e5 to 8e5 steps, the "
        "smallest entry after 5.4e6, beyond the horizon of 1e6.",
    ),
)
"""The claims of this module."""
