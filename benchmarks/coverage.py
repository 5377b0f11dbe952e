"""How often the intervals of `sweeper fit` hold the true value, over many simulated sweeps.

A simulated trial of seed g has ``ln t2 = b0 + a_g + sum_j (1 + s_gj) x_j + sigma * noise`` with
normal a_g and s_gj. Its t2 is read off the logged steps ``round(10^((i + phase) / per_decade))``,
where the phase is drawn anew for each sweep, and is censored at the horizon that a given share of
all times exceeds. The regression, the seeds and the interval are those of the command.

For each setting, sweeps are drawn until `--sets` of them have an interval with two ends, at most
four times as many. The table says in percent how many of these intervals hold the true value, and
behind it how many sweeps have one, where that is below 99.5.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sweeper.analysis.fit.aft import Floats, Regression
from sweeper.analysis.fit.interval import Interval, PooledFit

LEVEL = 0.95
MIDDLE = np.log(1000.0)
"""ln t2 in the middle of the design."""

MOST = 4
"""Sweeps per wanted interval."""

RESAMPLES = 1000

SEEDS = (3, 5, 10, 20)
DENSITIES = (10, 50)
SCATTERS = (0.02, 0.15, 0.5, 1.0)
CENSORED = (0.0, 0.2, 0.5, 0.8)
RANDOM = ((0.0, 0.0), (0.0, 0.05), (0.3, 0.0), (0.3, 0.05))
"""Standard deviations of a_g and s_gj."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How sweeps are simulated.

    Attributes:
        law: A name of `DESIGNS`.
        seeds: Their number.
        density: Logged steps per decade.
        sigma: Standard deviation of the noise.
        censored: Share of all times that exceed the horizon.
        intercepts: Standard deviation of a_g.
        slopes: Of s_gj.
        noise: A name of `NOISE`.
    """

    law: str
    seeds: int
    density: int
    sigma: float
    censored: float
    intercepts: float
    slopes: float
    noise: str = "normal"


@dataclass(frozen=True, slots=True)
class Covered:
    """What came of a setting for one coefficient.

    Attributes:
        sets: Sweeps that were drawn.
        fitted: Those with a fit.
        two_sided: Those whose interval has two ends.
        held: How many of these hold the true value.
        one_sided: Sweeps whose interval has one end.
        one_held: How many of these hold the true value.
        width: Median width of the intervals with two ends.
        notes: Note of an interval to how many have it.
    """

    sets: int
    fitted: int
    two_sided: int
    held: int
    one_sided: int
    one_held: int
    width: float
    notes: dict[str, int]


def _spread(values: int, decades: float) -> Floats:
    return np.linspace(-decades / 2 * np.log(10), decades / 2 * np.log(10), values)


def _crossed() -> Floats:
    pairs = itertools.product(_spread(4, 1), _spread(3, 1))
    return np.array(list(pairs))


def _correlated() -> Floats:
    first = _spread(8, 1)
    aside = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * np.std(first)
    second: Floats = 0.9 * first + (1 - 0.9**2) ** 0.5 * aside
    return np.column_stack([first, second])


DESIGNS: dict[str, Callable[[], Floats]] = {
    "slope": lambda: _spread(8, 2)[:, None],
    "prefactor": lambda: _spread(8, 2)[:, None],
    "one cell": lambda: np.zeros((8, 1)),
    "crossed": _crossed,
    "correlated": _correlated,
}
"""Law to the logarithms of its paths in the cells, ``[cells, paths]``: one slope; the law as it
stands; the same where its value is one in all cells; two exponents on a grid; two exponents whose
paths have a correlation of 0.9."""

AS_IT_STANDS = ("prefactor", "one cell")
"""Laws of which only the prefactor is fitted."""

NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "gumbel": lambda rng, shape: (np.euler_gamma - rng.gumbel(size=shape)) * 6**0.5 / np.pi,
    "t3": lambda rng, shape: rng.standard_t(3, shape) / 3**0.5,
}
"""Each with mean 0 and standard deviation 1."""


def drawn(setting: Setting, sweeps: int, rng: np.random.Generator) -> Floats:
    """Return ln t2 of trials, ``[sweeps, seeds, cells]``."""
    x = DESIGNS[setting.law]()
    of_seed = (sweeps, setting.seeds)
    slopes: Floats = 1 + setting.slopes * rng.standard_normal((*of_seed, x.shape[1]))
    line = slopes @ x.T + setting.intercepts * rng.standard_normal((*of_seed, 1))
    shape = (*of_seed, len(x))
    times: Floats = MIDDLE + line + setting.sigma * NOISE[setting.noise](rng, shape)
    return times


def read_off(times: Floats, density: int, horizon: float, phase: float) -> tuple[Floats, Floats]:
    """Return the logarithms of the ends between which times lie on a grid of logged steps.

    Args:
        times: ln t2, ``[n]``.
        density: Logged steps per decade.
        horizon: ln of the last step; infinity without censoring.
        phase: Where the grid begins, in [0, 1).
    """
    last = min(horizon, float(times.max()) + 1)
    powers = (np.arange(-1, density * last / np.log(10) + 2) + phase) / density
    steps = np.unique(np.round(10**powers))
    with np.errstate(divide="ignore"):
        ends = np.log(np.append(0.0, steps[steps >= 1]))
    ends = ends[: np.searchsorted(ends, horizon, side="right")]
    place = np.searchsorted(ends, times)  # the first logged step that isn't below
    high = np.append(ends, np.inf)[np.minimum(place, len(ends))]
    return ends[np.minimum(place, len(ends)) - 1], high


def sweeps(setting: Setting, seed: int) -> Iterator[tuple[Regression, NDArray[np.int64]]]:
    """Yield simulated sweeps, each as its regression and the seeds of its trials."""
    rng = np.random.default_rng([seed, *map(ord, repr(setting))])
    paths = DESIGNS[setting.law]()
    stands = setting.law in AS_IT_STANDS
    law = np.tile(paths.sum(axis=1), setting.seeds) if stands else 0.0
    free = [] if stands else [paths]
    design = np.tile(np.column_stack([np.ones(len(paths)), *free]), (setting.seeds, 1))
    seeds = np.repeat(np.arange(setting.seeds), len(paths))
    many = drawn(setting, 20_000 // setting.seeds, rng)
    share = setting.censored
    horizon = float(np.quantile(many, 1 - share)) if share else float("inf")
    while True:
        times = drawn(setting, 1, rng).reshape(-1)
        low, high = read_off(times, setting.density, horizon, rng.uniform())
        yield Regression(low - law, high - law, design), seeds


def percentile(
    regression: Regression, seeds: NDArray[np.int64], resamples: int
) -> Callable[[int, float], Interval]:
    """Return the percentile bootstrap over seeds, which `sweeper fit` took before."""
    n = seeds[-1] + 1
    draws = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=resamples)
    distinct, times = np.unique(draws, axis=0, return_counts=True)
    fits = [regression.fit(1.0 * counts[seeds]) for counts in distinct]

    def interval(column: int, level: float) -> Interval:
        ends: list[float | None] = []
        for sign in (1, -1):  # a resample without a fit could have had any value
            values = [-np.inf if fit is None else sign * fit[column] for fit in fits]
            end = float(np.quantile(np.repeat(values, times), (1 - level) / 2, method="lower"))
            ends.append(sign * end if np.isfinite(end) else None)
        return Interval(ends[0], ends[1])

    return interval


def simulate(setting: Setting, sets: int, method: str = "rule", seed: int = 0) -> list[Covered]:
    """Return what came of a setting, for each coefficient that its law is about.

    Args:
        setting: How sweeps are simulated.
        sets: How many intervals with two ends are wanted; at most `MOST` times as many sweeps.
        method: ``rule`` or ``bootstrap``.
        seed: Of the draws.
    """
    paths = DESIGNS[setting.law]().shape[1]
    columns = [0] if setting.law in AS_IT_STANDS else [*range(1, paths + 1)]
    found: dict[int, list[Interval]] = {column: [] for column in columns}
    n = 0
    for regression, seeds in itertools.islice(sweeps(setting, seed), MOST * sets):
        n += 1
        fit = PooledFit(regression, seeds) if method == "rule" else None
        if (fit.best if fit else regression.fit()) is not None:
            interval = fit.interval if fit else percentile(regression, seeds, RESAMPLES)
            for column in columns:
                found[column].append(interval(column, LEVEL))
        if all(len(_sided(found[c], 2)) >= sets for c in columns):
            break
    return [_counted(n, found[c], MIDDLE if c == 0 else 1.0) for c in columns]


def _sided(intervals: Iterable[Interval], ends: int) -> list[Interval]:
    return [i for i in intervals if (i.low is not None) + (i.high is not None) == ends]


def _holds(interval: Interval, value: float) -> bool:
    low, high = interval.low, interval.high
    return bool((low is None or low <= value) and (high is None or value <= high))


def _counted(sets: int, found: list[Interval], value: float) -> Covered:
    two, one = _sided(found, 2), _sided(found, 1)
    widths = [i.high - i.low for i in two if i.low is not None and i.high is not None]
    notes = [i.note or "seeds" for i in found]
    return Covered(
        sets,
        len(found),
        len(two),
        sum(_holds(i, value) for i in two),
        len(one),
        sum(_holds(i, value) for i in one),
        float(np.median(widths)) if widths else float("nan"),
        {note: notes.count(note) for note in sorted(set(notes))},
    )


def slopes() -> list[Setting]:
    """Return the settings of the main table: the slope of one path."""
    return [
        Setting("slope", seeds, density, sigma, share, *spreads)
        for seeds, sigma, density, spreads, share in itertools.product(
            SEEDS, SCATTERS, DENSITIES, RANDOM, CENSORED
        )
    ]


def noises() -> list[Setting]:
    """Return those of them with other noise that are a fifth censored."""
    base = [s for s in slopes() if s.censored == 0.2]
    return [replace(s, noise=noise) for noise in ("gumbel", "t3") for s in base]


def laws() -> list[Setting]:
    """Return those of them with other laws that have both kinds of random effects or none."""
    return [
        replace(s, law=law)
        for law in ("prefactor", "one cell", "crossed", "correlated")
        for s in slopes()
        if (s.intercepts, s.slopes) in (RANDOM[0], RANDOM[3])
    ]


def few() -> list[Setting]:
    """Return a few settings, for which the percentile bootstrap takes minutes and not days."""
    return [
        s
        for s in slopes()
        if s.seeds < 10
        and s.sigma < 0.5
        and (s.intercepts, s.slopes) == RANDOM[0]
        and s.censored == (0.0 if s.sigma > 0.02 else 0.5)
    ]


TABLES = {"slopes": slopes, "noises": noises, "laws": laws, "few": few}

Row = tuple[Setting, int, Covered]


def main() -> None:
    """Run the tables in processes of their own, or read what came of them, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400, help="intervals per setting")
    parser.add_argument("--tables", nargs="+", default=[*TABLES], choices=[*TABLES])
    parser.add_argument("--method", default="rule", choices=["rule", "bootstrap"])
    parser.add_argument("--first", type=int, default=0, help="the setting to begin with")
    parser.add_argument("--every", type=int, default=1, help="take each N-th setting only")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("-o", "--output", type=Path, help="append the counts here as JSON lines")
    parser.add_argument("--read", nargs="+", type=Path, help="print such files, simulate nothing")
    given = parser.parse_args()
    if given.read:
        found = [row for path in given.read for row in rows_of(path)]
        print(f"{summary(found)}\n{table(found)}")
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the processes to come
    began = time.perf_counter()
    for name in given.tables:
        settings = TABLES[name]()[given.first :: given.every]
        rows: list[Row] = []
        for row in run(settings, given.sets, given.method, given.workers):
            rows.append(row)
            if given.output:
                text = json.dumps({"setting": asdict(row[0]), "of": row[1], **asdict(row[2])})
                with given.output.open("a") as file:
                    file.write(text + "\n")
        print(f"\n## {name}, {given.method}\n\n{table(rows)}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


def run(settings: list[Setting], sets: int, method: str, workers: int | None) -> Iterator[Row]:
    """Yield what came of each setting and coefficient, simulated in `workers` processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(simulate, setting, sets, method) for setting in settings]
        for setting, future in zip(settings, futures, strict=True):
            for number, covered in enumerate(future.result(), start=1):
                yield setting, number, covered


def rows_of(path: Path) -> Iterator[Row]:
    """Yield what a file of JSON lines holds."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        yield Setting(**row.pop("setting")), row.pop("of"), Covered(**row)


def summary(found: list[Row]) -> str:
    """Return the mean, least and largest coverage by law, noise and what limits the interval."""
    groups: dict[tuple[str, str, str], list[Covered]] = {}
    for setting, _, covered in found:
        limit = "scatter above the grid"
        if setting.sigma < np.log(10) / setting.density:
            limit = "scatter below the grid"
        elif setting.censored == max(CENSORED):
            limit = "80 % censored"
        if covered.two_sided:
            groups.setdefault((setting.law, setting.noise, limit), []).append(covered)
    lines = ["| law | noise | | settings | mean | least | largest |", "|---" * 7 + "|"]
    for key, members in groups.items():
        shares = [100 * c.held / c.two_sided for c in members]
        whole = 100 * sum(c.held for c in members) / sum(c.two_sided for c in members)
        ends = f"{len(members)} | {whole:.1f} | {min(shares):.1f} | {max(shares):.1f}"
        lines.append(f"| {' | '.join(key)} | {ends} |")
    return "\n".join(lines)


def table(found: list[Row]) -> str:
    """Return the coverage as tables, one per law and noise.

    A row per seeds and scatter; a column per density and random effects, with a number per share
    of censored times.
    """
    tables: dict[tuple[str, str, int], dict[tuple[int, float], dict[tuple[str, float], str]]] = {}
    for setting, number, covered in found:
        rows = tables.setdefault((setting.law, setting.noise, number), {})
        cells = rows.setdefault((setting.seeds, setting.sigma), {})
        head = f"{setting.density}: {setting.intercepts:g}, {setting.slopes:g}"
        cells[head, setting.censored] = _words(covered)
    lines = []
    for (law, noise, number), rows in tables.items():
        places = {place for cells in rows.values() for place in cells}
        heads, shares = sorted({h for h, _ in places}), sorted({share for _, share in places})
        lines += ["", f"{law}, coefficient {number}, {noise} noise; censored {shares}:", ""]
        lines += [f"| seeds | sigma | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
        for (seeds, sigma), cells in sorted(rows.items()):
            each = (" ".join(cells.get((h, share), ".") for share in shares) for h in heads)
            lines.append(f"| {seeds} | {sigma:g} | {' | '.join(each)} |")
    return "\n".join(lines)


def _words(covered: Covered) -> str:
    if not covered.two_sided:
        return "-"
    share, known = covered.held / covered.two_sided, covered.two_sided / covered.sets
    text = "**" if share >= 0.995 else f"{100 * share:.0f}"
    return text if known >= 0.995 else f"{text}({100 * known:.0f})"


if __name__ == "__main__":
    main()
