"""Laws fitted to stores made by hand, whose exponents are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sweeper.analysis.fit.fit import Fit, fit_law
from sweeper.analysis.fit.law import Law
from sweeper.analysis.terminal.fit_table import fit_table
from sweeper.analysis.views.views import open_views
from sweeper.errors import UsageError
from sweeper.report import figures
from tests.stores import Made, Planned, config, curve, end

LRS = (0.01, 0.02, 0.05, 0.1)
STRENGTHS = (1e-4, 3e-4, 1e-3)
HORIZON = 20_000
LAW = "t2 ~ 1/(optimizer.lr*regularizer.strength)"

Times = Callable[[float, float, int], tuple[float, float]]
"""(lr, strength, seed) to the true (t1, t2); infinity for never."""


def grid(per_decade: float) -> list[int]:
    """Return the logged steps: 0, then about `per_decade` a decade."""
    n = int(per_decade * math.log10(HORIZON)) + 1
    return [0, *sorted({round(10 ** (k / per_decade)) for k in range(n)})]


def noisy(lr: float, strength: float, seed: int) -> tuple[float, float]:
    """t2 = 0.2 / (lr * strength) with a scatter of 0.4, half of it the seed's."""
    rng = np.random.default_rng([seed, round(1e6 * lr), round(1e6 * strength)])
    noise = np.random.default_rng(seed).normal(0, 0.28) + rng.normal(0, 0.28)
    return 12.3, 0.2 / (lr * strength) * math.exp(noise)


def make(
    folder: Path,
    times: Times = noisy,
    *,
    seeds: Sequence[int] = range(6),
    per_decade: float = 20,
    optimizers: Sequence[str] = ("adamw",),
    ends: dict[str, str] | None = None,
) -> Made:
    """Return a store whose trials memorize and generalize at `times`, as a grid of steps shows.

    Args:
        folder: Where.
        times: Of every trial.
        seeds: Replicates.
        per_decade: Logged steps.
        optimizers: Names of the optimizer; the second one is `times` to the power 1.5.
        ends: Id of a trial to its status, where it isn't what follows from `times`; "pending"
            for one that hasn't begun.
    """
    made = Made.at(folder)
    steps = grid(per_decade)
    plan, rows, over = [], [], []
    for place, name in enumerate(optimizers):
        for lr in LRS:
            for strength in STRENGTHS:
                for seed in seeds:
                    cell = f"{name}-{lr}-{strength}"
                    values = config(
                        optimizer__lr=lr, regularizer__strength=strength, optimizer__name=name
                    )
                    trial = f"{cell}-{seed}"
                    plan.append(Planned(trial, cell, seed, values))
                    t1, t2 = times(lr, strength, seed)
                    t2 = t2**1.5 / 100 if place else t2
                    status = "generalized" if t2 <= steps[-1] else "censored"
                    status = (ends or {}).get(trial, status)
                    if status == "pending":
                        continue
                    rows += curve(
                        trial,
                        steps,
                        train_acc=[float(s >= t1) for s in steps],
                        test_acc=[float(s >= t2) for s in steps],
                    )
                    over.append(end(trial, status, steps[-1]))
    launch = made.launch(plan, steps=HORIZON)
    pack = made.pack([p.trial_id for p in plan])
    made.rows(pack, made.claim(pack, launch), rows, over, done=True)
    return made


def printed(found: Fit) -> str:
    """Return what the terminal shows, blanks and line ends as one blank."""
    console = Console(width=150, file=StringIO(), record=True)
    console.print(fit_table(found))
    return " ".join(console.export_text().split())


def fitted(made: Made, law: str = LAW, **options: Any) -> Fit:
    with open_views(made.ledger) as connection:
        return fit_law(connection, Law.parse(law), **options)


@pytest.fixture(scope="module")
def noisy_store(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("noisy"))


def test_known_exponents_are_found_among_heavily_censored_trials(noisy_store: Made) -> None:
    (group,) = fitted(noisy_store).groups
    assert (group.sample.size, group.sample.n_seeds) == (72, 6)
    assert 0.4 < group.sample.n_censored / group.sample.size < 0.6
    for estimate in (group.slope, *group.exponents.values()):
        assert estimate.value == pytest.approx(estimate.claimed, abs=0.12)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high  # type: ignore[operator]
        assert estimate.low < estimate.claimed < estimate.high  # type: ignore[operator]
    assert [e.claimed for e in group.exponents.values()] == [-1, -1]
    assert group.prefactor.value == pytest.approx(0.2, rel=0.35)
    assert group.sigma == pytest.approx(0.4, abs=0.12)
    assert group.notes == ()
    seen = group.sample.reached
    x, y = group.sample.log_law, np.log(group.sample.shown)
    assert np.polyfit(x[seen], y[seen], 1)[0] < 0.9  # what dropping censored trials makes of it
    assert np.polyfit(x, y, 1)[0] < 0.8  # and what their bounds do as times


def test_no_exponent_is_assumed(tmp_path: Path) -> None:
    def other(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 5, 3 * lr**-0.5 * strength**-0.8 * math.exp(0.05 * seed)

    (group,) = fitted(make(tmp_path, other, per_decade=100)).groups
    values = [e.value for e in group.exponents.values()]
    assert values == pytest.approx([-0.5, -0.8], abs=0.01)
    assert group.slope.value == pytest.approx(0.65, abs=0.05)


def test_a_law_that_holds_collapses_and_one_that_does_not_does_not(tmp_path: Path) -> None:
    def exact(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 5, 0.01 / (lr * strength) * (1 + 0.5 * seed)

    made = make(tmp_path, exact, per_decade=200, seeds=(0, 1))
    (group,) = fitted(made).groups
    assert group.collapse.before == pytest.approx(100, rel=0.03)
    assert group.collapse.spread == pytest.approx(1, abs=0.03)
    assert (group.collapse.cells, group.collapse.bounded) == (12, 0)
    assert not group.collapse.at_least
    (group,) = fitted(made, "t2 ~ 3/optimizer.lr").groups
    assert group.collapse.spread == pytest.approx(10, rel=0.03)
    assert group.exponents["optimizer.lr"].value == pytest.approx(-1, abs=0.01)


def test_a_cell_that_is_only_bounded_makes_the_spread_a_bound(tmp_path: Path) -> None:
    def rough(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 5, math.inf if lr == 0.1 else 2e5 * strength

    (group,) = fitted(make(tmp_path, rough), "t2 ~ regularizer.strength * optimizer.lr^0").groups
    collapse = group.collapse
    assert (collapse.cells, collapse.bounded, collapse.at_least) == (12, 3, True)
    last = grid(20)[-1]
    assert collapse.spread == pytest.approx(last / 1e-4 / 2e5, rel=0.12)
    assert collapse.before == pytest.approx(10, rel=0.12)


def test_a_coarse_grid_doesnt_move_the_prefactor(tmp_path: Path) -> None:
    found = {
        density: fitted(make(tmp_path / str(density), per_decade=density)).groups[0]
        for density in (3, 50)
    }
    fine, coarse = found[50].prefactor.value, found[3].prefactor.value
    assert fine is not None
    assert coarse is not None
    assert coarse == pytest.approx(fine, rel=0.2)  # a logged step is late by 1.5 times here
    late = found[3].sample.shown[found[3].sample.reached]
    assert np.mean(np.log(late)) > np.mean(found[3].sample.low[found[3].sample.reached]) + 0.7


def test_each_value_of_a_path_is_fitted_apart(tmp_path: Path) -> None:
    made = make(tmp_path, optimizers=("adamw", "sgd"), seeds=range(5))
    found = fitted(made, by="optimizer.name")
    assert [g.value for g in found.groups] == ["adamw", "sgd"]
    assert [g.sample.size for g in found.groups] == [60, 60]
    first, second = (g.slope.value for g in found.groups)
    assert first == pytest.approx(1, abs=0.15)
    assert second == pytest.approx(1.5, abs=0.2)
    alone = fitted(made, where="optimizer.name = 'sgd'").groups[0]
    assert alone.slope == found.groups[1].slope
    by_seed = fitted(made, by="seed", where="optimizer.name = 'adamw'")
    assert [g.value for g in by_seed.groups] == list(range(5))
    assert all(g.notes == ("one seed: no interval.",) for g in by_seed.groups)
    assert all(g.slope.low is None for g in by_seed.groups)


def test_what_has_no_such_time_is_left_out_and_counted(tmp_path: Path) -> None:
    def some(lr: float, strength: float, seed: int) -> tuple[float, float]:
        if lr == 0.1:  # neither; by luck t2 alone
            return math.inf, 50.0 if seed == 0 else math.inf
        return noisy(lr, strength, seed)

    ends = {"adamw-0.05-0.001-0": "diverged", "adamw-0.05-0.001-1": "pending"}
    made = make(tmp_path, some, seeds=(0, 1), ends=ends)
    found = fitted(made)
    assert found.left_out == {"without t1": 3, "diverged": 1, "without a logged step": 1}
    assert found.groups[0].sample.size == 24 - 5
    assert fitted(made, LAW.replace("t2", "delay")).left_out["without t1"] == 6
    early = fitted(made, LAW.replace("t2", "t1"))  # a t1 that isn't reached is just censored
    assert early.left_out == {"diverged": 1, "without a logged step": 1}
    assert early.groups[0].sample.n_censored == 6


def test_t1_and_delay_have_their_own_ends(tmp_path: Path) -> None:
    def late(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 3 / lr, 3 / lr + 3 / strength  # the weakest beyond the horizon

    made = make(tmp_path, late, per_decade=10, seeds=(0, 1))
    (group,) = fitted(made, "t1 ~ 1/optimizer.lr * regularizer.strength^0").groups
    assert group.sample.n_censored == 0
    assert group.prefactor.value == pytest.approx(3, rel=0.1)
    assert [e.value for e in group.exponents.values()] == pytest.approx([-1, 0], abs=0.05)
    (group,) = fitted(made, "delay ~ 1/regularizer.strength").groups
    sample = group.sample
    assert sample.n_censored == 8
    true = np.log(3 / np.exp(sample.log_paths[:, 0]))
    assert ((sample.low < true) & (true <= sample.high + 1e-9))[sample.reached].all()
    assert group.exponents["regularizer.strength"].value == pytest.approx(-1, abs=0.1)
    steps = grid(10)
    first = [min(s for s in steps if s >= 3 / lr) for lr in LRS]
    before = [max(s for s in steps if s < 3 / lr) for lr in LRS]
    after = [min(s for s in steps if s >= 3 / lr + 3000) for lr in LRS]  # t2 at strength 1e-3
    strong = sample.reached & (sample.log_paths[:, 0] > -7)
    ends = {round(float(e)) for e in np.exp(sample.high[strong])}
    assert ends == {t2 - t1_lower for t2, t1_lower in zip(after, before, strict=True)}
    censored = np.exp(sample.low[~sample.reached])
    assert set(np.round(censored)) == {steps[-1] - t1 for t1 in first}


def test_a_delay_of_0_is_less_than_a_step(tmp_path: Path) -> None:
    def together(lr: float, strength: float, seed: int) -> tuple[float, float]:
        return 900.0, 5.0 if lr == 0.1 else 900 + 1 / strength

    (group,) = fitted(make(tmp_path, together, seeds=(0, 1)), "delay ~ optimizer.lr").groups
    early = np.isneginf(group.sample.low)
    assert early.sum() == 6
    assert set(group.sample.high[early]) == {0.0}
    assert set(group.sample.shown[early]) == {1}


def test_any_column_of_steps_can_be_fitted(noisy_store: Made) -> None:
    (group,) = fitted(noisy_store, "t2_lower ~ 1/(optimizer.lr*regularizer.strength)").groups
    assert group.slope.value == pytest.approx(1, abs=0.15)
    assert (group.sample.low == group.sample.high)[group.sample.reached].all()


def test_the_same_data_give_the_same_fit(noisy_store: Made) -> None:
    first, second = (fitted(noisy_store, by="regularizer.strength") for _ in range(2))
    assert first.rows() == second.rows()
    wide, narrow = (fitted(noisy_store, level=level).groups[0].slope for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]


def test_what_cannot_be_fitted_is_said(noisy_store: Made) -> None:
    where = "regularizer.strength = 1e-3"
    (group,) = fitted(noisy_store, where=where).groups
    assert group.notes == (
        "regularizer.strength = 0.001 in all 24 trials: its exponent can't be fitted.",
    )
    assert group.exponents["regularizer.strength"].value is None
    assert group.exponents["optimizer.lr"].value == pytest.approx(-1, abs=0.2)
    (group,) = fitted(noisy_store, where=where + " and optimizer.lr = 0.1 and seed < 3").groups
    assert group.notes == (
        "1/(optimizer.lr*regularizer.strength) has one value in all 3 trials: "
        "its slope can't be fitted.",
        "optimizer.lr = 0.1 in all 3 trials: its exponent can't be fitted.",
        "regularizer.strength = 0.001 in all 3 trials: its exponent can't be fitted.",
    )
    assert group.prefactor.value is not None
    together = "(optimizer.lr, regularizer.strength) in ((0.1, 1e-3), (0.05, 3e-4), (0.01, 1e-4))"
    (group,) = fitted(noisy_store, where=together).groups
    assert group.slope.value is not None
    assert group.notes == (
        "the trials that reached t2 don't tell the exponents of optimizer.lr, "
        "regularizer.strength apart.",
    )
    found = fitted(noisy_store, by="regularizer.strength", law="t2 ~ 1/optimizer.lr").groups
    one_rate = [g for g in found if g.sample.reached.any() and g.slope.value is None]
    for group in one_rate:
        assert group.notes[0].endswith(
            "fewer than two values of 1/optimizer.lr: its slope can't be fitted."
        )


@pytest.mark.parametrize(
    ("law", "options", "message"),
    [
        (
            "t2 ~ 1/optimizer.lrr",
            {},
            "law 't2 ~ 1/optimizer.lrr', column 8: no path 'optimizer.lrr'. "
            "Did you mean 'optimizer.lr'?",
        ),
        (
            "t2 ~ optimizer.name*optimizer.lr",
            {},
            "law 't2 ~ optimizer.name*optimizer.lr', column 6: optimizer.name isn't a number: adamw. "
            "Fit its values apart with --by optimizer.name.",
        ),
        (
            "t2 ~ regularizer.terms.l1.strength",
            {},
            "law 't2 ~ regularizer.terms.l1.strength', column 6: regularizer.terms.l1.strength is "
            "null in 72 of 72 trials. Choose the others, e.g. --where "
            '"regularizer.terms.l1.strength is not null".',
        ),
        (
            "t3 ~ optimizer.lr",
            {},
            "law 't3 ~ optimizer.lr': no column of steps 't3'. Known: steps, last_step, pack_size, "
            "attempt, t1, t2, delay, t1_lower, t2_lower, t1_after, t2_after.",
        ),
        (
            "status ~ optimizer.lr",
            {},
            "law 'status ~ optimizer.lr': no column of steps 'status'. Known: steps, last_step, "
            "pack_size, attempt, t1, t2, delay, t1_lower, t2_lower, t1_after, t2_after.",
        ),
        (
            LAW,
            {"by": "optimizer.nam"},
            "by: no path 'optimizer.nam'. Did you mean 'optimizer.name'?",
        ),
        (LAW, {"where": "seed > 9"}, "no trial matches 'seed > 9'. Loosen it."),
        (LAW, {"where": "seed > 9 -- none"}, "no trial matches 'seed > 9 -- none'. Loosen it."),
        (
            LAW,
            {"where": "seed >"},
            "where 'seed >': not a condition in SQL. Write one like 'seed = 0'.",
        ),
        (LAW, {"level": 95.0}, "level = 95 must be between 0 and 1, e.g. 0.95."),
        (
            LAW,
            {"where": "t2 is null"},
            "none of 38 trials reached t2: bounds alone determine no law. "
            "Train longer with sweeper extend, or choose other trials.",
        ),
        (
            LAW,
            {"where": "(with w as (copy (select 1) to '/tmp/x') select true)"},
            "the store is read-only here: the query contains a statement that writes.",
        ),
    ],
)
def test_a_fit_that_makes_no_sense_is_refused_with_the_remedy(
    noisy_store: Made, law: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        fitted(noisy_store, law, **options)
    assert str(caught.value) == message


def test_powers_of_0_are_refused_and_a_sweep_without_times_says_why(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    plan = [
        Planned(f"t{k}", f"c{k}", 0, config(optimizer__lr=lr, selection__tau=0.5 * k))
        for k, lr in enumerate((0.1, 0.2))
    ]
    launch = made.launch(plan)
    with pytest.raises(UsageError) as caught:
        fitted(made, "t2 ~ optimizer.lr")
    assert str(caught.value) == "none of 2 trials has a t2: 2 without a logged step."
    pack = made.pack(["t0", "t1"])
    attempt = made.claim(pack, launch)
    for trial in ("t0", "t1"):
        rows = curve(trial, [0, 9], train_acc=[0.0, 1.0], test_acc=[0.0, 1.0])
        made.rows(pack, attempt, rows, [end(trial, "generalized", 9)])
    with pytest.raises(UsageError) as caught:
        fitted(made, "t2 ~ selection.tau")
    assert str(caught.value) == (
        "law 't2 ~ selection.tau', column 6: selection.tau = 0 in 1 of 2 trials, but powers need "
        'values above 0. Choose them, e.g. --where "selection.tau > 0".'
    )


def test_a_prefactor_beyond_the_largest_float_is_not_determined(tmp_path: Path) -> None:
    made = Made.at(tmp_path)
    rates = {"t0": 1e-307, "t1": 1e-300}
    plan = [Planned(t, f"c{t}", 0, config(optimizer__lr=lr)) for t, lr in rates.items()]
    launch = made.launch(plan)
    pack = made.pack(list(rates))
    attempt = made.claim(pack, launch)
    for trial in rates:
        rows = curve(trial, [0, 999, 1000], train_acc=[0.0, 1.0, 1.0], test_acc=[0.0, 0.0, 1.0])
        made.rows(pack, attempt, rows, [end(trial, "generalized", 1000)])
    prefactor = fitted(made, "t2 ~ optimizer.lr").groups[0].prefactor
    assert prefactor.value == pytest.approx(1000 / 1e-307**0.5 / 1e-300**0.5, rel=1e-3)
    prefactor = fitted(made, "t2 ~ optimizer.lr^2").groups[0].prefactor
    assert (prefactor.value, prefactor.low, prefactor.high) == (None, None, None)


def test_rows_are_json_and_the_table_says_the_same(noisy_store: Made) -> None:
    found = fitted(noisy_store)
    (row,) = json.loads(json.dumps(found.rows(), allow_nan=False))
    assert (row["law"], row["trials"], row["seeds"], row["level"]) == (LAW, 72, 6, 0.95)
    assert row["slope"].keys() == {"claimed", "value", "low", "high", "note"}
    assert row["slope"]["note"] is None
    text = printed(found)
    slope, lr = row["slope"], row["exponents"]["optimizer.lr"]
    for words in (
        f"{row['trials']} {row['censored']} {row['seeds']} k in t2 = C * law^k 1 "
        f"{slope['value']:#.4g} {slope['low']:#.4g} to {slope['high']:#.4g}",
        f"exponent of optimizer.lr -1 {lr['value']:#.4g} {lr['low']:#.4g} to {lr['high']:#.4g}",
        f"C where k = 1 {row['prefactor']['value']:#.4g}",
        "95 % interval",
        f"scatter: sigma of ln t2 {row['sigma']:#.4g}",
        f"{row['collapse']['spread']:.3g}x 12 cells, {row['collapse']['bounded']} only bounded",
    ):
        assert words in text, text


def test_a_law_is_read_before_the_store_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^law 't2', column 3"):
        figures.fit(str(tmp_path), "nope", "t2")
