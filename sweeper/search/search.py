"""A search: Optuna suggests cells, the store trains them, the views say what became of them.

Every suggestion is trials of the same store under the same identity, so a point that is known is
told and not trained again, and what a grid trained before seeds the study. Suggestions are asked
for in batches that fill packs; each batch is one round.

Delays are right-censored: a cell whose median isn't reached has no infinite delay. It is told
with its bound, as one that violates the constraint of generalizing.
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
from sweeper.analysis.diagrams.history import History, Suggestion
from sweeper.analysis.views.views import open_views
from sweeper.config.fields import build
from sweeper.engine.commands import peek
from sweeper.engine.driver import Driver, Launched, Runner, drive
from sweeper.engine.planner import Plan
from sweeper.errors import StorageError
from sweeper.grid.grid import Grid
from sweeper.grid.search_section import AMPLIFICATION, Finalists, Search
from sweeper.search.finalist import Finalist, Found, Progressed
from sweeper.search.objectives import Judge
from sweeper.search.samplers import lattice
from sweeper.search.storage import reach
from sweeper.search.study import Study, Told, Verdict, open_study
from sweeper.space.space import Impossible, Params, Point, Space
from sweeper.store.files import Files
from sweeper.store.lease import join
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials

ROUNDS = 10
"""Rounds that a search has at least, unless its file says how many suggestions one has."""

GROUPS = 4
"""How many times as many leaders are evaluated again while none of them holds up."""

ENUMERATED = 10_000
"""Points of a finite space that are counted, to end the search when all are known."""

RUNG = 3
"""With a pruner, each rung has this many times the steps of the one before."""


def search(
    grid: Grid,
    where: str,
    runner: Runner,
    *,
    storage: str | None = None,
    fresh: bool = False,
    announce: Callable[[Plan], None] = lambda _: None,
    started: Callable[[Launched], None] = lambda _: None,
    say: Callable[[Progressed], None] = lambda _: None,
) -> Found:
    """Search as the section `search` of the grid's file says; go on where a search was killed.

    Args:
        grid: The file.
        where: URI of the store.
        runner: Runs the packs.
        storage: URL of the study's database; None for an SQLite file in the sweep's folder.
        fresh: Begin a new study where the search's definition has changed.
        announce: Called with what each round is to train.
        started: Called once a round's packs are in the ledger.
        say: Called after each round.

    Raises:
        UsageError: There is nothing to search, or a study of that name is of something else.
        StorageError: The study's database can't be reached.
        BusyError: Another driver is at work on this sweep.
    """
    space = Space.of(grid)
    settings = space.search
    check_objectives(grid, space, where)
    url = storage or _beside(where, grid.name)
    if storage is not None:
        reach(storage)
    with drive(grid, where, runner) as driver:
        about = {"sweep": driver.ledger.meta.get("uid", ""), "definition": _definition(space, grid)}
        study = open_study(url, grid.name, space, settings, about, fresh=fresh)
        judge = Judge(grid, settings, space, driver.ledger, settings.seed_list(grid.seeds))
        loop = Loop(grid, settings, space, study, driver, judge, announce, started)
        return loop.run(url, say)


def check_objectives(grid: Grid, space: Space, where: str) -> None:
    """Check that the objectives can be computed, before anything is trained.

    In a sweep without any trial, what reads `metrics` can't be checked: the columns that a task
    adds are unknown.

    Raises:
        UsageError: One can't; names it and the nearest known column.
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
            "Name one by --storage or OPTUNA_STORAGE: postgresql+psycopg://USER@HOST/NAME."
        )
    return f"sqlite:///{root.resolve() / 'search.db'}"


def _definition(space: Space, grid: Grid) -> dict[str, Any]:
    """Return all that gives a study's numbers their meaning."""
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
    """Rounds of asking, training, telling."""

    grid: Grid
    settings: Search
    space: Space
    study: Study
    driver: Driver
    judge: Judge
    announce: Callable[[Plan], None]
    started: Callable[[Launched], None]
    seen: set[str] = field(default_factory=set)

    def run(self, url: str, say: Callable[[Progressed], None]) -> Found:
        """Search to the end, or until asked to stop."""
        self.study.learn(self.judge.known(self.taken()))
        size = self.batch_size()
        halted = False
        whole = self.whole()
        while not (halted or self.exhausted(whole)):
            left = self.settings.n_trials - self.study.n_asked
            batch = self.study.pending() or self.study.ask(max(0, min(size, left)))
            if not batch:
                break
            halted = not self.round({s.number: s.params for s in batch})
            say(self.progressed())
        fresh = (self.settings.finalists or Finalists()).fresh(list(self.judge.seeds))
        finalists, halted = ([], True) if halted else self.finals(fresh)
        left = self.settings.n_trials - self.study.n_asked + len(self.study.pending())
        if not halted and (self.settings.sampler == "grid" or self.exhausted(whole)):
            left = 0
        trials = self.trials()
        return Found(
            history=self.history(),
            finalists=tuple(finalists),
            seeds=tuple(fresh),
            trials=len(trials),
            failed=len(trials & self.failed()),
            left=max(left, int(halted)),
            storage=url,
        )

    def whole(self) -> int | None:
        """Return how many points the space has; None where that is more than are asked for."""
        sizes = [d.count for d in self.space.dimensions if d.finite]
        if len(sizes) < len(self.space.dimensions) or prod(sizes) > ENUMERATED:
            return None
        return len(lattice(self.space))

    def exhausted(self, whole: int | None) -> bool:
        """Return whether all of the `whole` points of a finite space are told."""
        told = {frozenset(t.params.items()) for t in self.study.told()} if whole else ()
        return whole is not None and len(told) >= whole

    def taken(self) -> set[object]:
        """Return the cells that the study knows or waits for, and those that it took along."""
        found: set[object] = set()
        for told in self.study.told():
            found.add(told.verdict.about.get("cell_id"))
            if told.suggested:
                found.add(told.verdict.about.get("reference_id"))
        for point in self.points(s.params for s in self.study.pending()):
            reference = self.judge.reference(point)
            found |= {point.cell_id, reference.cell_id if reference else None}
        return found

    def points(self, every: Iterable[Params]) -> list[Point]:
        """Return the cells of suggestions; those that are none are left out."""
        made = map(self.space.point, every)
        return [point for point in made if isinstance(point, Point)]

    def trials(self) -> set[str]:
        """Return the trials of this search, by whatever run of it they were trained."""
        points = self.points(t.params for t in self.study.told() if t.suggested)
        return self.seen | set(self.judge.table(points, self.judge.seeds)["trial_id"].to_pylist())

    def failed(self) -> set[str]:
        """Return the trials of the sweep that failed."""
        ends = ended_trials(self.driver.ledger)
        return set(ends.filter(pc.equal(ends["status"], "failed"))["trial_id"].to_pylist())

    def batch_size(self) -> int:
        """Return how many suggestions make a round: many fill packs, few learn from each other."""
        if isinstance(self.settings.batch, int):
            return self.settings.batch
        module = trainable.load(self.grid.file.trainable)
        useful = module.useful_size(build(self.grid.config, self.space.structure({}).values))
        cells = len(self.judge.seeds) * (2 if self.settings.needs_reference else 1)
        room = max(1, useful * self.driver.runner.workers // cells)
        return max(1, min(ceil(self.settings.n_trials / ROUNDS), room))

    def round(self, batch: Mapping[int, Params]) -> bool:
        """Train a batch and tell what became of it; return False if it was cut short."""
        points: dict[int, Point] = {}
        for number, params in batch.items():
            made = self.space.point(params)
            if isinstance(made, Impossible):
                self.study.tell(number, Verdict(None, 1.0, {"impossible": made.reason}))
            else:
                points[number] = made
        for steps in self.rungs():
            if not points:
                break
            if not self.train(list(points.values()), self.judge.seeds, steps):
                return False
            verdicts = self.judge.judge(points)
            if steps < self.grid.steps:
                given_up = [n for n in points if self.study.report(n, verdicts[n][1], steps)]
                for number in given_up:
                    self.study.tell(number, replace(verdicts[number][0], values=None))
                    del points[number]
        for number in points:
            self.study.tell(number, verdicts[number][0])
        return not self.driver.stopped

    def rungs(self) -> list[int]:
        """Return the horizons of a round: one, unless a pruner compares trials on the way."""
        steps = [self.grid.steps]
        if self.settings.pruner != "none":
            steps = [self.grid.steps // RUNG**k for k in (3, 2, 1) if self.grid.steps > RUNG**k]
            steps.append(self.grid.steps)
        return steps

    def train(self, points: Sequence[Point], seeds: Sequence[int], steps: int) -> bool:
        """Train points and their references up to `steps`; return False if that was cut short."""
        if self.driver.stopped:  # while it was thought about what to suggest
            return False
        table = self.judge.table(points, seeds)
        outcome = self.driver.train(
            replace(self.grid, steps=steps),
            table,
            adds="search",
            announce=self.announce,
            started=self.started,
        )
        self.seen |= set(table["trial_id"].to_pylist())
        return not outcome.counts.new

    def leaders(self) -> list[Told]:
        """Return the best feasible points, each cell once, the best first."""
        good = [t for t in self.study.told() if t.verdict.values and t.verdict.violation <= 0]
        if len(self.settings.objectives) > 1:
            front = {s.number for s in self.history().pareto()}
            good = [t for t in good if t.number in front]
        best: dict[Any, Told] = {}
        for told in sorted(good, key=self.rank):
            best.setdefault(told.verdict.about["cell_id"], told)
        return list(best.values())

    def rank(self, told: Told) -> float:
        """Return a number that is smaller for a better point, by the first objective."""
        assert told.verdict.values is not None
        value = told.verdict.values[0]
        return -value if self.settings.objectives[0].direction == "maximize" else value

    def finals(self, seeds: Sequence[int]) -> tuple[list[Finalist], bool]:
        """Evaluate the leaders again on fresh seeds.

        Where none of them holds up, they owed their places to the seeds that chose them: the
        next ones follow, at most `GROUPS` times as many.

        Returns:
            The leaders, the best first, and whether their training was cut short.
        """
        top = (self.settings.finalists or Finalists()).top
        ranked = self.leaders()[: GROUPS * top]
        found: list[Finalist] = []
        while len(found) < len(ranked) and not any(f.holds for f in found):
            group = ranked[len(found) : len(found) + top]
            more = self.rerun(group, seeds)
            if not more:
                return found, True
            found += more
        sign = -1 if self.settings.objectives[0].direction == "maximize" else 1
        found.sort(key=lambda f: (not f.holds, f.values[0] is None, sign * (f.values[0] or 0)))
        return found, False

    def rerun(self, leaders: Sequence[Told], seeds: Sequence[int]) -> list[Finalist]:
        """Return the leaders as they are on fresh seeds; nothing if that was cut short."""
        points: dict[int, Point] = {}
        for told in leaders:
            made = self.space.point(told.params)
            assert isinstance(made, Point)
            points[told.number] = made
        if not self.train(list(points.values()), seeds, self.grid.steps):
            return []
        rows = self.judge.rows(points, seeds, intervals=self.settings.needs_reference)
        n = len(self.settings.objectives)
        return [
            Finalist(
                params=told.params,
                searched=told.verdict.values or (),
                values=tuple(rows[told.number][f"objective_{i}"] for i in range(n)),
                interval=self.interval(rows[told.number]),
                row=rows[told.number],
                overrides=tuple(self.space.overrides(told.params)),
            )
            for told in leaders
        ]

    def interval(self, row: Mapping[str, Any]) -> tuple[float | None, float | None] | None:
        """Return the interval of the first objective, where there is a way to one."""
        if self.settings.objectives[0].value == "delay":
            return row["delay_low"], row["delay_high"]
        first = self.settings.objectives[0].value == AMPLIFICATION
        return row.get("interval") if first else None

    def progressed(self) -> Progressed:
        """Return where the search stands."""
        told, leaders = self.study.told(), self.leaders()
        return Progressed(
            asked=self.study.n_asked,
            of=self.settings.n_trials,
            known=sum(not t.suggested for t in told),
            best=next(iter(leaders), None),
            front=len(leaders),
            objectives=tuple(o.value for o in self.settings.objectives),
        )

    def history(self) -> History:
        """Return every point that was told, for figures."""
        told = self.study.told()
        return History(
            objectives=tuple((o.value, o.direction) for o in self.settings.objectives),
            suggestions=tuple(self.suggestion(t) for t in told),
            importance=self.study.importance(),
            log=frozenset(d.name for d in self.space.dimensions if d.log),
        )

    def suggestion(self, told: Told) -> Suggestion:
        """Return a told point as figures know it: bounds aren't values."""
        verdict = told.verdict
        feasible = verdict.values is not None and verdict.violation <= 0
        return Suggestion(
            number=told.number,
            values=dict(told.params),
            objectives=(verdict.values if feasible else None)
            or (None,) * len(self.settings.objectives),
            feasible=feasible,
            bound=verdict.about.get("bound"),
            source="search" if told.suggested else "store",
            cell_id=verdict.about.get("cell_id"),
        )
