"""Search beside a dense grid: amplification by data selection, at a share of the grid's trials.

The grid is trained whole and its best cells are chosen as a search chooses its own: the leaders
are evaluated again on fresh seeds. Then each search starts from nothing, with its own sampler
seed, and may train a given share of the grid's trials, references and leaders' reruns included.
In the end all winners are trained on one more set of seeds, which chose none of them, and compared
there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper import api
from sweeper.config.decoding import trials_of
from sweeper.engine.driver import Driver, drive
from sweeper.grid.grid import Grid
from sweeper.grid.search_section import Finalists
from sweeper.search.objectives import Evaluator
from sweeper.space.space import Params, Point, Space

COMPARED = range(1000, 1020)
"""Seeds on which the winners are compared: no grid and no search uses them."""


@dataclass(frozen=True, slots=True)
class Winner:
    """The best cell of one way to look for it.

    Attributes:
        who: The way.
        trials: What it trained in all.
        params: The cell.
        chosen: Its amplification on the seeds that chose it among the leaders.
    """

    who: str
    trials: int
    params: Params
    chosen: float | None


def evaluator_of(grid: Grid, space: Space, driver: Driver) -> Evaluator:
    """Return the evaluator of a grid's cells."""
    return Evaluator(grid, space.search, space, driver.ledger, grid.seeds)


def train(
    driver: Driver, grid: Grid, evaluator: Evaluator, points: Sequence[Point], seeds: Any
) -> None:
    """Train points and their references."""
    outcome = driver.train(grid, evaluator.table(points, list(seeds)), adds="search")
    assert outcome.exit_code == 0, outcome


def best_of_grid(path: Path, store: str, inline: bool) -> Winner:
    """Train the whole grid; return its best cell on fresh seeds."""
    grid = api.load_grid(path)
    space = Space.of(grid)
    api.launch(grid, store, inline=inline)
    points: dict[int, Point] = {}
    params: dict[int, Params] = {}
    for trial in trials_of(grid.config, grid.table()):
        given = space.params_of(trial.values) if trial.seed == grid.seeds[0] else None
        made = None if given is None else space.point(given)
        if given is not None and isinstance(made, Point):
            points[len(points)], params[len(params)] = made, given
    finalists = space.search.finalists or Finalists()
    fresh = finalists.fresh(list(grid.seeds))
    with api.runner(grid, inline=inline) as runner, drive(grid, store, runner) as driver:
        evaluator = evaluator_of(grid, space, driver)
        rows = evaluator.rows(points, grid.seeds)
        ranked = sorted(
            (n for n, row in rows.items() if row["amplification"] is not None),
            key=lambda n: -rows[n]["amplification"],
        )
        again: dict[int, Any] = {}
        while not again or all(row["amplification"] is None for row in again.values()):
            group = {n: points[n] for n in ranked[len(again) : len(again) + finalists.top]}
            train(driver, grid, evaluator, list(group.values()), fresh)
            again |= evaluator.rows(group, fresh)
    first = max(again, key=lambda n: again[n]["amplification"] or 0)
    return Winner("grid", grid.n_trials, params[first], again[first]["amplification"])


def best_of_search(path: Path, store: str, sampler: str, seed: int, n: int, inline: bool) -> Winner:
    """Search from nothing; return the winner."""
    changes = [f"search.sampler={sampler}", f"search.sampler_seed={seed}", f"search.n_trials={n}"]
    result = api.search(api.load_grid(path, changes), f"{store}/{sampler}-{seed}", inline=inline)
    held = [f for f in result.finalists if f.values[0] is not None]
    first = held[0] if held else None
    return Winner(
        f"{sampler}, seed {seed}",
        result.trials,
        first.params if first else {},
        first.values[0] if first else None,
    )


def compare(
    path: Path, store: str, winners: Sequence[Winner], inline: bool
) -> list[dict[str, Any]]:
    """Return the winners' amplification on the seeds that chose none of them."""
    grid = api.load_grid(path, ["name=compared"])
    space = Space.of(grid)
    points: dict[int, Point] = {}
    for number, winner in enumerate(winners):
        made = space.point(winner.params) if winner.params else None
        if isinstance(made, Point):
            points[number] = made
    with api.runner(grid, inline=inline) as runner, drive(grid, store, runner) as driver:
        evaluator = evaluator_of(grid, space, driver)
        train(driver, grid, evaluator, list(points.values()), COMPARED)
        rows = evaluator.rows(points, COMPARED)
    table = []
    for number, winner in enumerate(winners):
        row = rows.get(number, {})
        table.append(
            {
                "who": winner.who,
                "trials": winner.trials,
                "params": dict(winner.params),
                "chosen_at": winner.chosen,
                "amplification": row.get("amplification"),
                "at_least": row.get("amplification_lower"),
                "interval": [row.get(f"amplification_{end}") for end in ("low", "high")],
                "generalized": row.get("n_generalized"),
                "delay": row.get("delay"),
                "reference_delay": row.get("reference_delay"),
            }
        )
    return table


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--store", default="sweeps-amplify")
    parser.add_argument("--share", type=float, default=0.15, help="Of the grid's trials.")
    parser.add_argument("--seeds", type=int, default=5, help="Searches of each sampler.")
    parser.add_argument(
        "-n", type=int, help="Suggestions; by default as if none shared a reference."
    )
    parser.add_argument("--samplers", nargs="+", default=["tpe", "random"])
    parser.add_argument("--inline", action="store_true")
    given = parser.parse_args()
    grid = api.load_grid(given.grid)
    space = Space.of(grid)
    finalists = space.search.finalists or Finalists()
    each = 2 * len(space.search.seed_list(grid.seeds))  # a suggestion and its reference
    reruns = 2 * finalists.top * len(finalists.fresh(list(grid.seeds)))
    n = given.n or int((given.share * grid.n_trials - reruns) // each)
    print(f"{given.grid}: {grid.n_trials} trials; {n} suggestions a search", flush=True)
    winners = [best_of_grid(given.grid, given.store, given.inline)]
    print(winners[0], flush=True)
    for sampler in given.samplers:
        for seed in range(given.seeds):
            winners.append(best_of_search(given.grid, given.store, sampler, seed, n, given.inline))
            print(winners[-1], flush=True)
    for row in compare(given.grid, given.store, winners, given.inline):
        row["share"] = round(row["trials"] / grid.n_trials, 4)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
