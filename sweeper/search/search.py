"""A search: Optuna suggests cells, the sweep trains them, the views give their objectives.

A suggestion is trained as trials of the same store with the same ids. So a known point is told to
the study without training it again, and trials of an earlier grid seed the study. Suggestions are
asked in batches that fill packs; each batch is one round.

`sweeper.search.objectives` explains how censored delays are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.compute as pc

from sweeper import trainable
from sweeper.analysis.diagrams.amplification import evaluate
from sweeper.analysis.diagrams.history import History, HistoryPoint
from sweeper.analysis.views.views import open_views
from sweeper.config.fields import build
from sweeper.engine.commands import peek
from sweeper.engine.driver import Driver, Launched, Runner, drive
from sweeper.engine.planner import Plan
from sweeper.errors import StorageError
from sweeper.grid.grid import Grid
from sweeper.grid.search_section import AMPLIFICATION, Finalists, Search
from sweeper.search.finalist import Finalist, SearchProgress, SearchResult
from sweeper.search.objectives import Evaluator
from sweeper.search.samplers import lattice
from sweeper.search.storage import at_file, checked, reach
from sweeper.search.study import Evaluation, Observation, Study, open_study
from sweeper.space.space import Impossible, Params, Point, Space
from sweeper.store.files import Files
from sweeper.store.lease import join
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials

ROUNDS = 10
"""Least number of rounds, unless the file sets the size of a batch."""

GROUPS = 4
"""Largest number of groups of leaders that are evaluated again while none is confirmed."""

ENUMERATED = 10_000
"""Largest finite space whose points are counted, to end the search when all are known."""

RUNG = 3
"""With a pruner, each rung has this many times the steps of the previous one."""


def search(
    grid: Grid,
    where: str,
    runner: Runner,
    *,
    storage: str | None = None,
    fresh: bool = False,
    announce: Callable[[Plan], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
    say: Callable[[SearchProgress], None] = lambda _: None,
) -> SearchResult:
    """Run the search in the section `search` of the grid file; continue one that was killed.

    Args:
        grid: The file.
        where: URI of the store.
        runner: Runs the packs.
        storage: URL of the study's database; None for an SQLite file in the sweep's folder.
        fresh: Begin a new study if the search's definition has changed.
        announce: Called with the plan of each round.
        started: Called once a round's packs are in the ledger.
        say: Called after each round.

    Raises:
        UsageError: The file has no section `search`, or the study of that name is another one's.
        StorageError: The study's database can't be reached.
        BusyError: Another driver is at work on this sweep.
    """
    space = Space.of(grid)
    settings = space.search
    check_objectives(grid, space, where)
    if storage is not None:
        url = checked(storage)
        reach(url)
    else:
        url = _beside(where, grid.name)
    with drive(grid, where, runner) as driver:
        about = {"sweep": driver.ledger.meta.get("uid", ""), "definition": _definition(space, grid)}
        study = open_study(url, grid.name, space, settings, about, fresh=fresh)
        evaluator = Evaluator(grid, settings, space, driver.ledger, settings.seed_list(grid.seeds))
        loop = Loop(grid, settings, space, study, driver, evaluator, announce, started)
        return loop.run(url, say)


def check_objectives(grid: Grid, space: Space, where: str) -> None:
    """Check that the objectives can be computed, before anything is trained.

    An objective that reads `metrics` isn't checked in a sweep without trials: the columns that
    its task adds are still unknown.

    Raises:
        UsageError: An objective can't be computed; names it and the nearest known column.
    """
    texts = [o.value for o in space.search.objectives]
    ledger = peek(join(where, grid.name))
    nothing = space.table([], [])
    if ledger is not None and ledger.state.launches:
        with open_views(ledger, plan=nothing, criteria=grid.criteria) as views:
            evaluate(views, {}, texts)
        return
    with TemporaryDirectory() as folder:
        log = grid.file.log.points_per_decade
        empty = Ledger.create(Files.at(folder), {"name": grid.name, "points_per_decade": log})
        with open_views(empty, plan=nothing, criteria=grid.criteria) as views:
            evaluate(views, {}, [text for text in texts if "metrics" not in text])


def _beside(where: str, name: str) -> str:
    root = Files.at(join(where, name), create=True).root
    if root is None:
        raise StorageError(
            f"{where}: not a folder of this machine, so the study needs a database of its own. "
            "Set --storage or OPTUNA_STORAGE to its URL: postgresql+psycopg://USER@HOST/NAME."
        )
    return at_file(root.resolve() / "search.db")


def _definition(space: Space, grid: Grid) -> dict[str, Any]:
    """Return the settings on which a study's numbers depend."""
    settings = space.search
    return {
        "objective": [o.model_dump() for o in settings.objectives],
        "space": [repr(d) for d in space.dimensions],
        "reference": settings.reference,
        "seeds": settings.seed_list(grid.seeds),
        "steps": grid.steps,
        "criterion": {t: c.model_dump() for t, c in grid.criteria.items()},
        "fixed": {k: v for k, v in grid.file.fixed.items() if k != "steps"},
    }


@dataclass(slots=True)
class Loop:
    """Rounds of asking the study, training the suggestions and telling the study their results."""

    grid: Grid
    settings: Search
    space: Space
    study: Study
    driver: Driver
    evaluator: Evaluator
    announce: Callable[[Plan], None]
    started: Callable[[Launched], None]
    seen: set[str] = field(default_factory=set)

    def run(self, url: str, say: Callable[[SearchProgress], None]) -> SearchResult:
        """Search to the end or until a stop is requested."""
        self.study.learn(self.evaluator.known(self.taken()))
        size = self.batch_size()
        halted = False
        whole = self.whole()
        while not (halted or self.exhausted(whole)):
            left = self.settings.n_trials - self.study.n_asked
            batch = self.study.pending() or self.study.ask(max(0, min(size, left)))
            if not batch:
                break
            halted = not self.round({s.number: s.params for s in batch})
            say(self.progress())
        fresh = (self.settings.finalists or Finalists()).fresh(list(self.evaluator.seeds))
        finalists, halted = ([], True) if halted else self.finals(fresh)
        left = self.settings.n_trials - self.study.n_asked + len(self.study.pending())
        if not halted and (self.settings.sampler == "grid" or self.exhausted(whole)):
            left = 0
        trials = self.trials()
        return SearchResult(
            history=self.history(),
            finalists=tuple(finalists),
            seeds=tuple(fresh),
            trials=len(trials),
            failed=len(trials & self.failed()),
            left=max(left, int(halted)),
            storage=url,
        )

    def whole(self) -> int | None:
        """Return the number of points of the space; None if infinite or too large to count."""
        sizes = [d.count for d in self.space.dimensions if d.finite]
        if len(sizes) < len(self.space.dimensions) or prod(sizes) > ENUMERATED:
            return None
        return len(lattice(self.space))

    def exhausted(self, whole: int | None) -> bool:
        """Return whether the study knows all of the `whole` points of a finite space."""
        if whole is None:
            return False
        known = {frozenset(o.params.items()) for o in self.study.observations()}
        return len(known) >= whole

    def taken(self) -> set[object]:
        """Return the cells of the study, observed or pending, and their reference cells."""
        cells: set[object] = set()
        for observation in self.study.observations():
            cells.add(observation.evaluation.about.get("cell_id"))
            if observation.suggested:
                cells.add(observation.evaluation.about.get("reference_id"))
        for point in self.points(s.params for s in self.study.pending()):
            reference = self.evaluator.reference(point)
            cells |= {point.cell_id, reference.cell_id if reference else None}
        return cells

    def points(self, every: Iterable[Params]) -> list[Point]:
        """Return the cells of suggestions; suggestions that are no cells are left out."""
        made = map(self.space.point, every)
        return [point for point in made if isinstance(point, Point)]

    def trials(self) -> set[str]:
        """Return the trials of this search, from this run and earlier ones."""
        points = self.points(o.params for o in self.study.observations() if o.suggested)
        return self.seen | set(
            self.evaluator.table(points, self.evaluator.seeds)["trial_id"].to_pylist()
        )

    def failed(self) -> set[str]:
        """Return the failed trials of the sweep."""
        ends = ended_trials(self.driver.ledger)
        return set(ends.filter(pc.equal(ends["status"], "failed"))["trial_id"].to_pylist())

    def batch_size(self) -> int:
        """Return the number of suggestions per round.

        Large rounds fill packs; small ones let later suggestions learn from earlier ones.
        """
        if isinstance(self.settings.batch, int):
            return self.settings.batch
        module = trainable.load(self.grid.file.trainable, self.grid.config.code)
        useful = module.useful_size(build(self.grid.config, self.space.structure({}).values))
        cells = len(self.evaluator.seeds) * (2 if self.settings.needs_reference else 1)
        room = max(1, useful * self.driver.runner.workers // cells)
        return max(1, min(ceil(self.settings.n_trials / ROUNDS), room))

    def round(self, batch: Mapping[int, Params]) -> bool:
        """Train a batch and tell the study its results; return False if it was cut short."""
        points: dict[int, Point] = {}
        for number, params in batch.items():
            made = self.space.point(params)
            if isinstance(made, Impossible):
                self.study.tell(number, Evaluation(None, 1.0, {"impossible": made.reason}))
            else:
                points[number] = made
        for steps in self.rungs():
            if not points:
                break
            if not self.train(list(points.values()), self.evaluator.seeds, steps):
                return False
            evaluations = self.evaluator.evaluate(points)
            if steps < self.grid.steps:
                given_up = [n for n in points if self.study.report(n, evaluations[n][1], steps)]
                for number in given_up:
                    self.study.tell(number, replace(evaluations[number][0], values=None))
                    del points[number]
        for number in points:
            self.study.tell(number, evaluations[number][0])
        return not self.driver.stopped

    def rungs(self) -> list[int]:
        """Return the horizons of a round: several if a pruner compares trials on the way."""
        steps = [self.grid.steps]
        if self.settings.pruner != "none":
            steps = [self.grid.steps // RUNG**k for k in (3, 2, 1) if self.grid.steps > RUNG**k]
            steps.append(self.grid.steps)
        return steps

    def train(self, points: Sequence[Point], seeds: Sequence[int], steps: int) -> bool:
        """Train points and their references up to `steps`; return False if that was cut short."""
        if self.driver.stopped:  # during the sampling of the suggestions
            return False
        table = self.evaluator.table(points, seeds)
        outcome = self.driver.train(
            replace(self.grid, steps=steps),
            table,
            adds="search",
            announce=self.announce,
            started=self.started,
        )
        self.seen |= set(table["trial_id"].to_pylist())
        return not outcome.counts.new

    def leaders(self) -> list[Observation]:
        """Return the best feasible points, each cell once, the best first."""
        good = [o for o in self.study.observations() if o.evaluation.feasible]
        if len(self.settings.objectives) > 1:
            front = {s.number for s in self.history().pareto()}
            good = [o for o in good if o.number in front]
        best: dict[Any, Observation] = {}
        for observation in sorted(good, key=self.rank):
            best.setdefault(observation.evaluation.about["cell_id"], observation)
        return list(best.values())

    def rank(self, observation: Observation) -> float:
        """Return a number that is smaller for a better point, by the first objective."""
        assert observation.evaluation.values is not None
        value = observation.evaluation.values[0]
        return -value if self.settings.objectives[0].direction == "maximize" else value

    def finals(self, seeds: Sequence[int]) -> tuple[list[Finalist], bool]:
        """Evaluate the leaders again on fresh seeds.

        If none of them is confirmed, they led by the luck of their seeds: the next group of
        leaders follows, up to `GROUPS` groups.

        Returns:
            The finalists, the best first, and whether their training was cut short.
        """
        top = (self.settings.finalists or Finalists()).top
        ranked = self.leaders()[: GROUPS * top]
        finalists: list[Finalist] = []
        while len(finalists) < len(ranked) and not any(f.holds for f in finalists):
            group = ranked[len(finalists) : len(finalists) + top]
            more = self.rerun(group, seeds)
            if not more:
                return finalists, True
            finalists += more
        sign = -1 if self.settings.objectives[0].direction == "maximize" else 1
        finalists.sort(key=lambda f: (not f.holds, f.values[0] is None, sign * (f.values[0] or 0)))
        return finalists, False

    def rerun(self, leaders: Sequence[Observation], seeds: Sequence[int]) -> list[Finalist]:
        """Return the leaders evaluated on fresh seeds; an empty list if that was cut short."""
        points: dict[int, Point] = {}
        for leader in leaders:
            made = self.space.point(leader.params)
            assert isinstance(made, Point)
            points[leader.number] = made
        if not self.train(list(points.values()), seeds, self.grid.steps):
            return []
        rows = self.evaluator.rows(points, seeds)
        return [self.finalist(leader, rows[leader.number]) for leader in leaders]

    def finalist(self, leader: Observation, row: Mapping[str, Any]) -> Finalist:
        """Return a leader with its row on the fresh seeds."""
        first, interval, level = self.settings.objectives[0].value, None, None
        if first in ("delay", AMPLIFICATION) and row[f"{first}_level"] is not None:
            interval, level = (row[f"{first}_low"], row[f"{first}_high"]), row[f"{first}_level"]
        n = len(self.settings.objectives)
        return Finalist(
            params=leader.params,
            searched=leader.evaluation.values or (),
            values=tuple(row[f"objective_{i}"] for i in range(n)),
            interval=interval,
            level=level,
            row=row,
            overrides=tuple(self.space.overrides(leader.params)),
        )

    def progress(self) -> SearchProgress:
        """Return the progress of the search."""
        observations, leaders = self.study.observations(), self.leaders()
        return SearchProgress(
            asked=self.study.n_asked,
            of=self.settings.n_trials,
            known=sum(not o.suggested for o in observations),
            best=next(iter(leaders), None),
            front=len(leaders),
            objectives=tuple(o.value for o in self.settings.objectives),
        )

    def history(self) -> History:
        """Return every observation, for figures."""
        return History(
            objectives=tuple((o.value, o.direction) for o in self.settings.objectives),
            suggestions=tuple(map(self.history_point, self.study.observations())),
            importance=self.study.importance(),
            log=frozenset(d.name for d in self.space.dimensions if d.log),
        )

    def history_point(self, observation: Observation) -> HistoryPoint:
        """Return an observation for figures; the objectives of one that isn't feasible are None."""
        evaluation = observation.evaluation
        return HistoryPoint(
            number=observation.number,
            values=dict(observation.params),
            objectives=(evaluation.values if evaluation.feasible else None)
            or (None,) * len(self.settings.objectives),
            feasible=evaluation.feasible,
            bound=evaluation.about.get("bound"),
            source="search" if observation.suggested else "store",
            cell_id=evaluation.about.get("cell_id"),
        )
