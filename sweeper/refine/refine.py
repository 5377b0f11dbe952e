"""Refinement: new cells where neighbouring cells of a phase diagram disagree.

Each round reads the known cells from the views, asks `sweeper.refine.mesh` for the next points and
trains their cells. No other state is kept: a refinement that was killed, or gets a larger budget,
continues from the cells in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from sweeper.config.fields import Scalar, chosen_leaves
from sweeper.config.messages import counted
from sweeper.config.resolve import broken
from sweeper.config.trial import Trial
from sweeper.engine.driver import Driver, Launched, Runner, drive
from sweeper.engine.planner import Plan, plan_launch
from sweeper.grid.grid import Grid, columns
from sweeper.refine.diagram import Diagram, Panel, marks_of, panels
from sweeper.refine.mesh import FINE, Point, ends, propose
from sweeper.store.outcomes import ended_trials
from sweeper.store.packs import pack_rows


@dataclass(frozen=True, slots=True)
class Refined:
    """The result of a refinement.

    Attributes:
        trials: Number of trials that it trained.
        cells: Number of cells that it added, or that an earlier refinement had planned.
        rounds: Number of its rounds.
        failed: Number of its trials that failed.
        settled: Whether nothing is left to refine at this depth.
        unfinished: Whether it was stopped early.
    """

    trials: int = 0
    cells: int = 0
    rounds: int = 0
    failed: int = 0
    settled: bool = False
    unfinished: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 3 some trials failed, 4 work remains."""
        return 4 if self.unfinished else 3 if self.failed else 0


def refine(
    wanted: Diagram,
    where: str,
    runner: Runner,
    budget: int,
    *,
    announce: Callable[[Plan], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
) -> Refined:
    """Add cells where neighbours disagree, until all agree or `budget` new trials are spent.

    Args:
        wanted: The diagram.
        where: URI of the store.
        runner: Runs the packs.
        budget: Largest number of trials to train.
        announce: Called with the plan of each round.
        started: Called once a round's packs are in the ledger.

    Raises:
        BusyError: Another driver is at work on this sweep.
        StoreError: The store can't be read or written.
    """
    with drive(wanted.grid, where, runner) as driver:
        return _Rounds(wanted, driver, budget, announce, started).run()


@dataclass(slots=True)
class _Rounds:
    wanted: Diagram
    driver: Driver
    left: int
    announce: Callable[[Plan], None]
    started: Callable[[Launched], None]
    so_far: Refined = field(default_factory=Refined)

    def run(self) -> Refined:
        grid = self.wanted.grid
        while not self.so_far.unfinished:
            wanted = self.next(panels(self.wanted, self.driver.ledger))
            trials, cost = self.affordable(wanted) if wanted else ([], 0)
            if not trials:
                return replace(self.so_far, settled=not wanted)
            outcome = self.driver.train(
                grid,
                _table(grid, trials),
                adds="refine",
                announce=self.announce,
                started=self.started,
            )
            self.left -= cost
            self.so_far = Refined(
                trials=self.so_far.trials + cost - outcome.counts.new,
                cells=self.so_far.cells + len({t.cell_id for t in trials if t.seed in grid.seeds}),
                rounds=self.so_far.rounds + 1,
                failed=self.so_far.failed + outcome.counts.failed,
                unfinished=outcome.counts.new > 0 or self.driver.stopped,
            )
        return self.so_far

    def next(self, every: Sequence[Panel]) -> list[list[Trial]]:
        """Return the trials of the next round, cell by cell; none if nothing is left to refine.

        A round that was cut short comes first: the next round depends on all of its cells.
        """
        grid, cells = self.wanted.grid, [cell for panel in every for cell in panel.values()]
        if owed := [_trials(grid, cell.values, cell.owed) for cell in cells if cell.owed]:
            return owed
        levels = [level for panel in every for level in self.between(panel)[:1]]
        fresh = [trials for cells in zip_longest(*levels) for trials in cells if trials]
        return fresh or [trials for panel in every for trials in self.undecided(panel)]

    def affordable(self, wanted: Sequence[list[Trial]]) -> tuple[list[Trial], int]:
        """Return the trials of the first cells that the budget pays for, and their cost.

        A trial that is in the store costs nothing.
        """
        grid, ledger = self.wanted.grid, self.driver.ledger
        table = _table(grid, [t for trials in wanted for t in trials])
        runner = self.driver.runner
        plan = plan_launch(grid, ledger, workers=runner.workers, memory=runner.memory, table=table)
        new = {i for listed in plan.packs.values() for i in listed["trial_id"].to_pylist()}
        ended = set(ended_trials(ledger)["trial_id"].to_pylist())
        new |= {*pack_rows(ledger, plan.restored)["trial_id"].to_pylist()} - ended
        taken: list[Trial] = []
        cost = 0
        for trials in wanted:
            price = sum(t.id in new for t in trials)
            if cost + price > self.left:
                break
            taken, cost = taken + trials, cost + price
        return taken, cost

    def between(self, panel: Panel) -> list[list[list[Trial]]]:
        """Return the trials of each new cell of a panel, for each level that has new cells."""
        wanted = self.wanted
        levels = propose(
            marks_of(panel), wanted.x, wanted.y, finest=FINE >> wanted.levels, steep=wanted.steep
        )
        made = [[t for place in level if (t := self.cell(panel, place))] for level in levels]
        return [level for level in made if level]

    def cell(self, panel: Panel, place: Point) -> list[Trial]:
        """Return the trials of the new cell at `place`; empty if it exists or can't exist."""
        grid, wanted = self.wanted.grid, self.wanted
        if place in panel:
            return []
        like = next(iter(panel.values())).values
        values = dict(like)
        for scale, position in ((wanted.x, place[0]), (wanted.y, place[1])):
            value, refusal = chosen_leaves(grid.config, like)[scale.name].check(
                scale.value(position)
            )
            if refusal is not None:
                return []
            values[scale.name] = value
        if any(broken(grid.config, values)) or excluded(grid, values):
            return []
        return _trials(grid, values, grid.seeds)

    def undecided(self, panel: Panel) -> list[list[Trial]]:
        """Return more seeds for the cells at the boundary whose seeds disagree."""
        seeds = self.wanted.grid.seeds
        more = range(max(seeds) + 1, max(seeds) + 1 + len(seeds))
        marks = marks_of(panel)
        return [
            _trials(self.wanted.grid, panel[place].values, more)
            for place in ends(marks, self.wanted.steep)
            if marks[place].split and panel[place].seeds <= set(seeds)
        ]


def sentence(refined: Refined) -> str:
    """Return the result of a refinement as a sentence."""
    cells, trials = counted(refined.cells, "cell"), counted(refined.trials, "trial")
    text = f"{cells}, {trials} in {counted(refined.rounds, 'round')}; "
    if refined.unfinished:
        return text + "stopped early: refine again to continue"
    if refined.settled:
        return text + "neighbours agree, or are as close as --levels allows"
    return text + "the budget is spent: neighbours still disagree"


def excluded(grid: Grid, values: Mapping[str, Scalar]) -> bool:
    """Return whether a rule under `exclude` removes the cell with these values."""
    types = columns(grid.config)
    return any(
        rule.holds([pa.array([values.get(p)], types.field(p).type) for p in rule.paths])[0]
        for rule in grid.rules
    )


def _trials(grid: Grid, values: Mapping[str, Scalar], seeds: Iterable[int]) -> list[Trial]:
    name = grid.file.trainable
    return [Trial.of(grid.config, values, seed, trainable=name) for seed in seeds]


def _table(grid: Grid, trials: Sequence[Trial]) -> pa.Table:
    """Return trials in the columns of `Grid.table`."""
    schema = columns(grid.config)
    data: dict[str, list[Any]] = {
        "trial_id": [t.id for t in trials],
        "cell_id": [t.cell_id for t in trials],
        "seed": [t.seed for t in trials],
    }
    data |= {name: [t.values.get(name) for t in trials] for name in schema.names[3:]}
    return pa.table(data, schema=schema)
