"""The command ``sweeper doctor``: one sweep, or all sweeps of a store and the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sweeper.doctor import machine
from sweeper.doctor.examine import examine
from sweeper.doctor.repair import repair as mend
from sweeper.errors import StoreError, SweeperError, UsageError, redact
from sweeper.store.files import Files
from sweeper.store.lease import join, sweeps


class Event(Protocol):
    """Something that the command prints."""

    @property
    def is_well(self) -> bool:
        """Whether it is less than an error."""

    @property
    def line(self) -> str:
        """One line for the terminal."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """Something that was mended.

    Attributes:
        name: The sweep.
        action: What was done.
    """

    name: str
    action: str

    @property
    def is_well(self) -> bool:
        """True: it is mended."""
        return True

    @property
    def line(self) -> str:
        """One line for the terminal."""
        return f"repaired: {self.name}: {self.action}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"event": "repair", "name": self.name, "action": redact(self.action)}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sweep that could not be examined.

    Attributes:
        name: The sweep.
        reason: Why.
    """

    name: str
    reason: str

    @property
    def is_well(self) -> bool:
        """False: nothing is known."""
        return False

    @property
    def line(self) -> str:
        """One line for the terminal."""
        return redact(f"{self.name}: can't be examined: {self.reason}".splitlines()[0])

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"event": "sweep", "name": self.name, "well": False, "error": redact(self.reason)}


def visit(where: str, name: str | None, *, repair: bool = False) -> Iterator[Event]:
    """Yield what there is to say about a sweep, or about all sweeps and the machine.

    Args:
        where: URI of the store.
        name: The sweep; None for all, each in one line, and the machine.
        repair: Whether to mend the sweep.

    Raises:
        UsageError: All sweeps at once are to be repaired.
        BusyError: The sweep is to be repaired, and a launch of it is running.
        StoreError: There is no such sweep, or the store can't be read.
    """
    if name is None:
        if repair:
            raise UsageError("--repair mends one sweep: write `sweeper doctor NAME --repair`.")
        yield from machine.check(where)
        for each in sweeps(where):
            try:
                yield examine(Files.at(join(where, each)), each)
            except SweeperError as error:
                yield Unreadable(each, str(error))
        return
    files = _folder(where, name)
    if repair:
        actions, examined = mend(files, name)
        yield from (Repaired(name, action) for action in actions)
    else:
        examined = examine(files, name)
    yield from examined.findings
    yield examined


def _folder(where: str, name: str) -> Files:
    """Return the folder of a sweep, also if its ``sweep.json`` is gone.

    Raises:
        StoreError: There is no such folder; lists the sweeps that exist.
    """
    there = Files.at(where)
    if not name or "/" in name or name not in there.folders():
        known = ", ".join(sweeps(where)) or "none"
        raise StoreError(f"no sweep {name!r} in {where}. There: {known}.")
    return Files.at(join(where, name))
