"""How often the interval of a cell's median holds the true one, and how far off the median is.

The ln t2 of a cell's seeds is normal, Gumbel or has two humps. Each time is read off logged steps
and censored at the horizon that a given share exceeds, see `benchmarks/coverage.py`. The table says
for each number of seeds which level the interval claims, and in how many percent of the cells it
holds the median of the distribution (least and largest over the distributions); without censoring
also the median error of the estimate's logarithm if ln t2 is normal.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np

from benchmarks.coverage import MIDDLE, NOISE, read_off
from sweeper.analysis.fit.aft import Floats
from sweeper.analysis.views.medians import medians

SEEDS = (2, 3, 4, 5, 6, 8, 10, 20)
GRIDS = ((0.05, 10), (0.3, 50), (1.0, 50))
"""Scatter of ln t2 and logged steps per decade."""

CENSORED = (0.0, 0.2, 0.45)


def _humps(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    values: Floats = rng.choice([-1.0, 1.0], size=shape, p=[0.6, 0.4])
    return values + 0.3 * rng.standard_normal(shape)


SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": NOISE["normal"],
    "gumbel": NOISE["gumbel"],
    "humps": _humps,
}


def measured(
    shape: str, n: int, sigma: float, density: int, censored: float, cells: int
) -> tuple[float, float, float]:
    """Return level, coverage and the median error of the estimate's logarithm."""
    rng = np.random.default_rng([n, density, int(100 * censored), *map(ord, shape)])
    many = SHAPES[shape](rng, (400_000,))
    middle = float(np.median(many))
    horizon = MIDDLE + sigma * float(np.quantile(many, 1 - censored)) if censored else np.inf
    times = MIDDLE + sigma * SHAPES[shape](rng, (cells, n))
    ends = [read_off(row, density, horizon, rng.uniform()) for row in times]
    low, high = (np.exp([pair[k] for pair in ends]) for k in (0, 1))
    value = np.where(np.isfinite(high), np.sqrt(low * high), np.nan)
    found = medians(low, value, high)
    truth = np.exp(MIDDLE + sigma * middle)
    outside = (found.low > truth) | (found.high < truth)
    error = np.log(np.where(np.isnan(found.median), np.inf, found.median) / truth)
    return found.level, 1 - float(np.mean(outside)), float(np.median(error))


def main() -> None:
    """Print one row per number of seeds: the level, then what came out, over the shapes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000, help="cells per setting")
    given = parser.parse_args()
    settings = list(itertools.product(GRIDS, CENSORED))
    heads = [f"{sigma:g} at {density}, {share:.0%}" for (sigma, density), share in settings]
    print(f"| seeds | level | {' | '.join(heads)} |\n{'|---' * (2 + len(heads))}|")
    for n in SEEDS:
        row = []
        level = 0.0
        for (sigma, density), share in settings:
            found = [measured(shape, n, sigma, density, share, given.cells) for shape in SHAPES]
            level = found[0][0]
            held = [100 * f[1] for f in found]
            off = "" if share else f"; {found[0][2]:+.2f}"
            row.append(f"{min(held):.0f} to {max(held):.0f}{off}")
        print(f"| {n} | {100 * level:.1f} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
