"""Faults of one kind, injected into real launches of one sweep after the other.

A `Kind` starts a launch, strikes it, and does what a person does before launching again. A
`Campaign` launches, strikes and launches again until its sweep is done. `inject` runs one campaign
after the other until there were enough faults, and compares the rows with undisturbed ones.

A launch is struck at a random moment after a worker took a pack. In three of four cases it has
committed a row before, so that the recovery from the fault before can be measured.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import chaos, invariants
from benchmarks.launched import Process

Record = dict[str, Any]

PATIENCE_S = 60.0
"""Seconds after a fault in which a driver has to end; one that doesn't hangs."""

LONGEST = 160
"""Characters of a message in the table."""

EARLY = 0.25
"""Share of the launches that are struck without waiting for a row."""


@dataclass
class Fault:
    """One fault.

    Attributes:
        at: Unix time.
        pack: The pack whose worker was struck; None if the whole launch was.
        ended: Unix time of the end of the launch; 0 if it went on.
        message: First line that the launch printed afterwards.
    """

    at: float
    pack: str | None = None
    ended: float = 0.0
    message: str = ""


@dataclass
class Result:
    """What happened in all sweeps with one kind of fault.

    Attributes:
        kind: The kind of fault.
        injected: Number of faults.
        sweeps: Number of sweeps.
        lost: Rows that are missing at the end.
        doubled: Rows that are there twice at the end.
        trials: Number of trials of all sweeps.
        equal: Those with the bits of an undisturbed sweep.
        ended_s: Seconds from faults to the end of the launch, for those that end it.
        first_row_s: Seconds from faults to the first new row.
        done_s: Seconds from the last fault of each sweep to its end.
        messages: First lines of the messages, with the number of times.
        actions: What the user had to do, with the number of times.
        problems: What must not happen, in words.
    """

    kind: str
    injected: int = 0
    sweeps: int = 0
    lost: int = 0
    doubled: int = 0
    trials: int = 0
    equal: int = 0
    ended_s: list[float] = field(default_factory=list)
    first_row_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, compared: invariants.Comparison) -> None:
        """Count the rows of a sweep that is done."""
        self.sweeps += 1
        self.lost += compared.lost
        self.doubled += compared.doubled
        self.trials += compared.trials
        self.equal += compared.equal

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        wrong = self.lost or self.doubled or self.equal != self.trials
        return bool(wrong or self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**vars(self), "messages": dict(self.messages), "actions": dict(self.actions)}


def row_of(result: Result) -> list[str]:
    """Return the cells of a result's row of the table."""
    said = [text for text, _ in result.messages.most_common(2)] or [""]
    done = [f"{text} ({times})" for text, times in result.actions.most_common()]
    return [
        result.kind,
        str(result.injected),
        str(result.lost),
        str(result.doubled),
        f"{result.equal} of {result.trials}",
        seconds(result.ended_s),
        seconds(result.first_row_s),
        seconds(result.done_s),
        "; ".join(f"`{text}`" if text else "none" for text in said),
        ", ".join(done) or "nothing",
    ]


HEADER = (
    "fault",
    "injected",
    "rows lost",
    "rows doubled",
    "trials bit-equal",
    "s to the end of the launch: median, worst",
    "s to the first new row: median, worst",
    "s to the end of the sweep: median, worst",
    "first line of the message",
    "what the user had to do",
)


def table(results: Iterable[Result]) -> str:
    """Return the results as a table of Markdown."""
    rows = [HEADER, ["---"] * len(HEADER), *map(row_of, results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def seconds(values: list[float]) -> str:
    """Return the median and the largest of `values`."""
    return f"{median(values):.1f}, {max(values):.1f}" if values else "-"


class Kind:
    """A kind of fault.

    Attributes:
        name: As the table names it.
        ends_launch: Whether the launch ends by it, and somebody launches again.
        remedy: What the user does then.
    """

    name = ""
    ends_launch = True
    remedy = "launch again"

    def start(self, grid: Path, store: str, log: Path) -> Process:
        """Launch."""
        return Process.start(grid, store, log=log)

    def strike(self, launched: Process, known: list[Record]) -> Fault | None:
        """Inject the fault; return None if there was nothing to strike.

        Args:
            launched: The launch.
            known: The records of the sweep, as `Campaign.known` returns them.
        """
        raise NotImplementedError

    def mend(self) -> None:
        """Do what is due before the next launch."""

    def close(self) -> None:
        """Do what is due after the end of a sweep."""


class Campaign:
    """One sweep from an empty store to its end, with faults of one kind on the way.

    Args:
        kind: The kind of fault.
        grid: The grid file.
        home: An empty folder; its store is a folder in it.
        dice: Says when.
        window: The longest time in seconds from the moment that is waited for to the fault.

    Attributes:
        faults: The faults so far.
        actions: What the user had to do, each time.
        problems: What must not happen, in words.
        ended: Unix time of the end of the sweep.
    """

    def __init__(
        self, kind: Kind, grid: Path, home: Path, dice: random.Random, window: float
    ) -> None:
        self.kind, self.grid, self.store = kind, grid, str(home / "store")
        self._log = home.with_suffix(".log")
        self._dice, self._window = dice, window
        self.faults: list[Fault] = []
        self.actions: list[str] = []
        self.problems: list[str] = []
        self.ended = 0.0
        self._processes: list[Process] = []

    def known(self) -> list[Record]:
        """Return the claims and the rows of the sweep, as the ledger's records have them."""
        return list(invariants.records(self.store))

    def compared(self, reference: str) -> invariants.Comparison:
        """Return how the finished sweep differs from the undisturbed one, in `reference`."""
        late = invariants.late_commits(self.store)
        self.problems += [f"{late} late commits"] * bool(late)
        return invariants.compare(self.store, reference)

    def run(self, most: int) -> None:
        """Launch and strike until the sweep is done; after `most` faults nothing is struck.

        Raises:
            RuntimeError: A launch that nothing struck failed.
        """
        try:
            while not self._launch(most):
                self.kind.mend()
        finally:
            for one in self._processes:
                one.kill_all()

    def _launch(self, most: int) -> bool:
        """Launch once; return whether the sweep is done."""
        begun = time.time()
        launched = self.kind.start(self.grid, self.store, self._log)
        self._processes.append(launched)
        printed = self._log.stat().st_size
        while len(self.faults) < most and self._comes(launched, begun):
            if self.kind.ends_launch or not self.faults:
                printed = self._log.stat().st_size
            fault = self.kind.strike(launched, self.known())
            if fault is None:
                continue
            self.faults.append(fault)
            if self.kind.ends_launch:
                self._end(launched, fault, printed)
                return False
        code = launched.process.wait()
        self.ended = time.time()
        text = self._log.read_bytes()[printed:].decode()
        if code:
            raise RuntimeError(f"a launch that nothing struck ended with {code}: {text[-2000:]}")
        if not self.kind.ends_launch:
            for fault in self.faults:
                fault.message = first_line(text)
        return True

    def _end(self, launched: Process, fault: Fault, printed: int) -> None:
        """Wait for the end of a launch that was struck; keep what it said after `printed` bytes."""
        try:
            launched.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.actions.append("kill the driver that hung")
            self.problems.append(f"a launch hung for {PATIENCE_S:.0f} s")
            launched.kill_all()
        fault.ended = time.time()
        text = self._log.read_bytes()[printed:].decode()
        fault.message = first_line(text)
        self.actions.append(self.kind.remedy)
        if "Traceback" in text:
            self.problems.append(f"a traceback: {text[-2000:]}")

    def _comes(self, launched: Process, begun: float) -> bool:
        """Wait for the moment of the next fault; return whether the launch still runs then."""
        alive = wait_while_running(launched, lambda: self._claimed(begun))
        if alive and self._dice.random() >= EARLY:
            after = self.faults[-1] if not self.kind.ends_launch and self.faults else Fault(begun)
            alive = wait_while_running(launched, lambda: self._recovered(after))
        return alive and chaos.sleep_while_running(launched, self._dice.uniform(0, self._window))

    def _claimed(self, begun: float) -> bool:
        """Return whether a worker has taken a pack since `begun`."""
        return any(r["kind"] == "claim" and r["at"] > begun for r in self.known())

    def _recovered(self, fault: Fault) -> bool:
        """Return whether there are new rows since `fault`, or its pack has ended."""
        known = self.known()
        ended = {r["pack_id"] for r in known if r.get("done") or r["kind"] == "split"}
        return fault.pack in ended or first_row(known, fault) is not None

    def recoveries(self) -> list[float]:
        """Return the seconds from faults to the first row that was committed by a new attempt.

        A fault counts only if there was no other before this row.
        """
        known = self.known()
        taken = []
        following = [fault.at for fault in self.faults[1:]] + [float("inf")]
        for fault, later in zip(self.faults, following, strict=True):
            at = first_row(known, fault)
            if at is not None and at < later:
                taken.append(at - fault.at)
        return taken


def wait_while_running(launched: Process, happened: Callable[[], bool]) -> bool:
    """Wait until something happened; return whether that was before the end of the launch."""
    while launched.process.poll() is None:
        if happened():
            return True
        time.sleep(0.1)
    return False


def first_row(known: Iterable[Record], fault: Fault) -> float | None:
    """Return the Unix time of the first rows by an attempt that began after `fault`.

    If the launch ended by it, the attempt is one of the next launch.
    """
    every = list(known)
    since = max(fault.at, fault.ended)
    new = {
        (r["pack_id"], r["attempt"])
        for r in every
        if r["kind"] == "claim" and r["at"] > since and fault.pack in (None, r["pack_id"])
    }
    times = [
        r["at"]
        for r in every
        if r["kind"] == "rows" and "part" in r and (r["pack_id"], r["attempt"]) in new
    ]
    return min(times, default=None)


def first_line(text: str) -> str:
    """Return the first line of `text` that isn't empty.

    Colours, folders and numbers of processes are left out, and the end of a long line.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    line = next((line.strip() for line in plain.splitlines() if line.strip()), "")
    line = re.sub(r"/\S*/", ".../", re.sub(r"\d{3,}", "N", line))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def inject(
    campaign: Callable[[Path, random.Random], Campaign],
    reference: str,
    folder: Path,
    count: int,
    seed: int,
    per_sweep: int,
) -> Result:
    """Inject `count` faults of a kind, at most `per_sweep` per sweep; return what happened.

    Args:
        campaign: Makes the campaign of a sweep, of its folder and random numbers.
        reference: Store with the undisturbed sweep.
        folder: For the folders of the sweeps. Those with problems stay.
        count: Number of faults.
        seed: Of the moments.
        per_sweep: The most faults of a sweep.
    """
    dice, result = random.Random(seed), Result("")
    while result.injected < count:
        home = folder / f"sweep-{result.sweeps}"
        home.mkdir(parents=True)
        one = campaign(home, dice)
        result.kind = one.kind.name
        try:
            one.run(min(per_sweep, count - result.injected))
            settle(result, one, reference)
        finally:
            one.kind.close()
        if not result.broken:
            shutil.rmtree(home)
    return result


def settle(result: Result, one: Campaign, reference: str) -> None:
    """Add a sweep that is done to the result, and print a line about it."""
    compared = one.compared(reference)
    result.add(compared)
    result.injected += len(one.faults)
    result.ended_s += [fault.ended - fault.at for fault in one.faults if fault.ended]
    result.first_row_s += one.recoveries()
    if one.faults:
        result.done_s.append(one.ended - one.faults[-1].at)
    result.messages.update(fault.message for fault in one.faults)
    result.actions.update(one.actions)
    result.problems += one.problems
    tell(result, one.problems)


def tell(result: Result, problems: list[str]) -> None:
    """Print a line about the sweeps so far, and the problems of the last one."""
    print(
        f"  {result.kind}: {result.injected} in {result.sweeps} sweeps, {result.lost} lost, "
        f"{result.doubled} doubled, {result.equal} of {result.trials} equal, "
        f"first row {seconds(result.first_row_s)} s, end {seconds(result.done_s)} s",
        *problems,
        flush=True,
    )
