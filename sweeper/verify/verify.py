"""The verification of the papers' laws: launch their grids, read the rows, measure the claims.

All grids of the chosen laws are launched together, so that the packs of one grid fill the cores
while another one ends. Each grid is an ordinary sweep in an ordinary store: trials that are there
aren't trained again, and an interrupted verification continues.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.laws import LAWS, Claim, Evidence, LawGrid, Measured
from sweeper.analysis.plot import draw_picture
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.config.messages import counted
from sweeper.engine.commands import request_stop
from sweeper.engine.driver import Launched, Progress, Runner, drive
from sweeper.engine.planner import plan_launch
from sweeper.engine.task import PackTask
from sweeper.errors import SweeperError, UsageError, did_you_mean
from sweeper.grid.grid import Grid
from sweeper.sql import query
from sweeper.store.compaction import compact
from sweeper.store.lease import open_sweep
from sweeper.store.ledger import POLL_S, Ledger

OFF_EXPECTATION = 3
"""Exit code if a verdict is worse than expected."""

WORK_LEFT = 4
"""Exit code if a law could not be measured because its sweeps were stopped."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A claim with its result.

    Attributes:
        claim: The claim.
        measured: The result. A claim that could not be measured meets none of its checks.
        seconds: Seconds of all packs of its sweeps, added up, with packs that other claims share
            and packs of earlier launches.
        trials: Number of trials of its sweeps.
        quick: Whether its grids were the smaller ones.
    """

    claim: Claim
    measured: Measured
    seconds: float
    trials: int
    quick: bool

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one, or decides more than that."""
        return self.measured.verdict.reaches(self.claim.expected)

    @property
    def outcome(self) -> str:
        """The verdict in words."""
        return self.claim.outcome(self.measured.verdict)

    def as_dict(self) -> dict[str, Any]:
        """Return one JSON object."""
        measured = self.measured
        return {
            "id": self.claim.id,
            "law": self.claim.number,
            "title": self.claim.title,
            "claim": self.claim.claim,
            "source": self.claim.source,
            "settings": self.claim.settings,
            "measured": measured.text,
            "values": {name: asdict(value) for name, value in measured.values.items()},
            "checks": {words: bool(met) for words, met in measured.checks.items()},
            "note": measured.note,
            "verdict": self.outcome,
            "expected": self.claim.outcome(self.claim.expected),
            "instead": self.claim.instead,
            "as_expected": self.as_expected,
            "seconds": round(self.seconds, 2),
            "trials": self.trials,
            "quick": self.quick,
        }


def choose(wanted: Sequence[str], *, quick: bool) -> list[Claim]:
    """Return the laws with these ids or numbers; without any, all laws or all `quick` ones.

    Raises:
        UsageError: There is no such law. The message names the nearest one.
    """
    if not wanted:
        return [law for law in LAWS if law.quick or not quick]
    unknown = [w for w in wanted if not any(w in (law.id, str(law.number)) for law in LAWS)]
    if unknown:
        ids = [law.id for law in LAWS]
        said = " ".join(f"no law {w!r}. {did_you_mean(w, ids)}" for w in unknown)
        raise UsageError(f"{said} `sweeper verify --list` shows all.")
    return [law for law in LAWS if law.id in wanted or str(law.number) in wanted]


def grids_of(laws: Sequence[Claim], *, quick: bool) -> dict[str, Grid]:
    """Return name to grid for the grids of `laws`; with `quick` the smaller grids.

    Raises:
        ConfigError: A grid file is wrong.
    """
    named: dict[str, LawGrid] = {grid.name: grid for law in laws for grid in law.grids}
    return {name: load_grid(grid.path, grid.cut if quick else ()) for name, grid in named.items()}


@dataclass(slots=True)
class Verification:
    """The launches of a verification. `train` makes it.

    Attributes:
        launched: One launch per grid.
        stopped: Whether it was asked to stop.
    """

    launched: list[Launched] = field(default_factory=list)
    stopped: bool = False

    @property
    def new(self) -> int:
        """Number of trials to train."""
        return sum(one.trials for one in self.launched)

    @property
    def trials(self) -> int:
        """Number of all trials of the grids."""
        return sum(one.counts.trials for one in self.launched)

    @property
    def tasks(self) -> list[PackTask]:
        """The packs of all launches, in the order of the launches."""
        return [task for one in self.launched for task in one.tasks]

    def stop(self) -> None:
        """Ask all packs to save a checkpoint and end."""
        self.stopped = True
        for one in self.launched:
            request_stop(one.ledger.files, one.launch_id)


def train(
    grids: Sequence[Grid],
    where: str,
    runner: Runner,
    *,
    started: Callable[[Verification], None] = lambda _: None,
    show: Callable[[Progress], None] = lambda _: None,
) -> bool:
    """Train the trials of `grids` that aren't in the store `where`; return whether all are done.

    Args:
        grids: Grids of different names, whose packs are trained together.
        where: URI of the store; it is created if it doesn't exist.
        runner: Runs the packs; all grids need the same resources.
        started: Called once all packs are in the ledgers.
        show: Called with the progress of all of them.

    Raises:
        BusyError: Another driver is running one of the sweeps.
        StoreError: The store can't be read or written.
    """
    verification = Verification()
    listing = replace(runner, launcher=lambda _: None)
    with ExitStack() as held:
        for grid in grids:
            driver = held.enter_context(drive(grid, where, listing))
            driver.train(grid, started=verification.launched.append)
        started(verification)
        if verification.tasks:
            with _followed(verification, show):
                runner.launcher(verification.tasks)
        left = 0
        for grid, one in zip(grids, verification.launched, strict=True):
            one.ledger.refresh()
            compact(one.ledger)
            left += plan_launch(grid, one.ledger, workers=runner.workers).counts.new
    return left == 0


@contextmanager
def _followed(verification: Verification, show: Callable[[Progress], None]) -> Iterator[None]:
    """Show the progress of all launches from a thread, until the body ends."""
    over = threading.Event()

    def follow() -> None:
        ledgers = [Ledger.open(one.ledger.files) for one in verification.launched]
        while True:
            ending = over.wait(POLL_S)
            try:
                each = [
                    one.progress(ledger)
                    for one, ledger in zip(verification.launched, ledgers, strict=True)
                ]
            except SweeperError:  # e.g. a network error: the next poll reads again
                each = []
            if each:
                show(Progress.total(each))
            if ending:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(
    laws: Sequence[Claim], where: str, *, quick: bool = False, figures: Path | None = None
) -> Iterator[Verified]:
    """Yield the result of each law, measured on the rows in the store `where`.

    Args:
        laws: Laws whose grids were trained.
        where: URI of the store.
        quick: Whether the grids were the smaller ones; only recorded in the results.
        figures: Folder for a figure of each law, ``<id>.png``; None for no figures.

    Raises:
        StoreError: A sweep is missing or damaged.
        UsageError: A figure can't be written.
    """
    for law in laws:
        with ExitStack() as opened:
            views, origins = {}, []
            for grid in law.grids:
                ledger = open_sweep(where, grid.name)
                views[grid.name] = opened.enter_context(open_views(ledger))
                origins.append(Provenance.of(ledger, views[grid.name]))
            evidence = Evidence(views)
            measured = _measured(law, evidence)
            if figures is not None and MEASURABLE not in measured.checks:
                _draw(law, evidence, figures, origins)
            seconds, trials = _cost(evidence)
        yield Verified(law, measured, seconds, trials, quick)


MEASURABLE = "can be measured"
"""The only check of a law that could not be measured, because trials failed or stopped early."""


def _measured(law: Claim, evidence: Evidence) -> Measured:
    """Return the result; if it can't be measured, a result with one check that isn't met."""
    text = "select count(*) as n from trials where status = 'failed'"
    failed = sum(query(views, text).to_pylist()[0]["n"] for _, views in evidence.views())
    if failed:
        return Measured(
            f"{counted(failed, 'trial')} failed: see `sweeper status`", {MEASURABLE: False}
        )
    try:
        return law.measure(evidence)
    except SweeperError as error:
        return Measured(f"can't be measured: {error}", {MEASURABLE: False})


COST = """
    select sum(n)::bigint as trials, coalesce(sum(wall_s), 0) as seconds
    from (select count(*) as n, max(wall_s) as wall_s from trials group by pack_id, attempt)"""
"""The number of trials, and the seconds that the last attempts of their packs took."""


def _cost(evidence: Evidence) -> tuple[float, int]:
    """Return the seconds that the packs of all sweeps took, and the number of trials."""
    rows = [query(views, COST).to_pylist()[0] for _, views in evidence.views()]
    return sum(row["seconds"] for row in rows), sum(row["trials"] or 0 for row in rows)


@dataclass(frozen=True, slots=True)
class _Joined(Provenance):
    """The provenance of a figure of several sweeps."""

    sizes: str = ""

    @property
    def footer(self) -> str:
        """One line: every sweep with its trials and ledger record, and the code."""
        return f"{self.sizes} · {super(_Joined, self).footer.split(' · ')[1]}"


def _draw(law: Claim, evidence: Evidence, folder: Path, origins: Sequence[Provenance]) -> None:
    first = asdict(origins[0]) | {
        "sweep": f"law {law.id}",
        "criterion": "\n".join(dict.fromkeys(o.criterion for o in origins)),
    }
    sizes = (f"{o.sweep} ({o.size}, record {o.record})" for o in origins)
    joined = _Joined(**first, sizes=", ".join(sizes))
    draw_picture(law.picture(evidence), folder / f"{law.id}.png", joined, law.title)


def exit_code(verified: Sequence[Verified], *, complete: bool) -> int:
    """Return 0 if every verdict is as expected, 3 if one is not, 4 if training was stopped."""
    if not complete:
        return WORK_LEFT
    return 0 if all(one.as_expected for one in verified) else OFF_EXPECTATION


__all__ = ["Verification", "Verified", "choose", "exit_code", "grids_of", "measure", "train"]
