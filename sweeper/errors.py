"""Every error a user can cause, with its exit code.

A message says where the mistake is, what is wrong, with the value, and what to write instead. Any
exception that isn't a `SweeperError` is a bug and keeps its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

_USER = re.compile(r"(?<=://)([^\s/:@'\"]*):[^\s'\"]+(?=@)")
_NAME = (
    r"(?:[\w-]*(?:password|passwd|passphrase|secret|token|signature|credential"
    r"|(?:access|account|api|encryption|private|storage)[_-]?key)[\w-]*|pwd|sig)"
)
_SECRETS = (
    re.compile(rf"(?i)(\b{_NAME}(?:=|%3D)(['\"]))(?:(?!\2).)+(?=\2)"),
    re.compile(rf"(?i)((?<![\w.]){_NAME}(?:=|%3D))[^\s&'\";]+"),
    re.compile(rf"(?i)((['\"]){_NAME}\2\s*:\s*(['\"]))(?:(?!\3).)+(?=\3)"),
    re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:\w+ )?)[^\s'\"]+"),
)


def redact(text: str) -> str:
    """Return `text` with its secrets as ``***``.

    These are the passwords in URLs, the values of parameters such as ``token=...``, of keys such as
    ``"api_key": ...``, and what follows ``Authorization:``.
    """
    text = _USER.sub(r"\1:***", text)
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


class SweeperError(Exception):
    """An error with a remedy, shown without a traceback; `exit_code` as in the contract."""

    exit_code = 2


class ConfigError(SweeperError):
    """One or more mistakes in a grid file or in overrides, all reported together.

    Attributes:
        problems: One line per mistake, each with its place.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class UsageError(SweeperError):
    """The arguments of a command are invalid or contradict each other."""


class StoreError(SweeperError):
    """The store is missing, damaged, newer than this program, or refuses to be written."""


class DamagedRecordError(StoreError):
    """A record of a ledger is damaged, or isn't understood."""


class StoreFullError(StoreError):
    """The storage of the store is full. All earlier commits are intact."""

    exit_code = 4


class WorkerError(SweeperError):
    """A worker could not train its pack. All earlier commits are intact."""

    exit_code = 4


class BusyError(SweeperError):
    """Another driver holds the same sweep."""


class ClusterError(SweeperError):
    """The cluster is unreachable or refused the connection."""

    exit_code = 5


class ClusterLostError(ClusterError):
    """The cluster was lost while it trained. This process can't use Ray any more."""


class StorageError(SweeperError):
    """The database of a search is unreachable or refused the connection."""

    exit_code = 5


class PackTooLargeError(Exception):
    """A pack didn't fit into memory: the engine runs its halves instead."""


class SupersededError(Exception):
    """A newer attempt has claimed this pack: this worker must stop and write nothing."""


class DiedError(Exception):
    """The process of a user's script was ended by a signal that may have come from outside.

    Attributes:
        signal: The number of the signal.
    """

    def __init__(self, signal: int) -> None:
        self.signal = signal
        super().__init__(f"the script died (signal {signal})")


class DrainedError(Exception):
    """The sweep was asked to stop: the pack saved a checkpoint and ends here."""


def nearest(name: str, known: Sequence[str], likely: Sequence[str] = ()) -> str | None:
    """Return the one of `known` that `name` probably means; None if none does.

    A name that is the end of a dotted one means it: ``strength`` is ``regularizer.strength``. Next
    come misspellings. Of names that are about equally near, those in `likely` win.
    """
    for pool in (likely, known):
        ends = [one for one in pool if one == name or one.endswith(f".{name}")]
        if ends:
            return ends[0]
    parts = [(one.rpartition(".")[2], one) for one in known]
    whole = [(one, one) for one in known]
    ways = [(whole, 0.6)] if "." in name else [(parts, 0.7), (whole, 0.6)]
    for spellings, least in ways:
        near = {one: _likeness(name, text) for text, one in spellings}
        scores = {one: x + LIKELY * (one in likely) for one, x in near.items() if x >= least}
        if scores:
            return max(scores, key=scores.__getitem__)
    return None


LIKELY = 0.1
"""How much more alike a likely name counts, on the scale from 0 to 1."""


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def did_you_mean(name: str, known: Sequence[str], likely: Sequence[str] = ()) -> str:
    """Return a remedy: the name that is probably meant, or the names to choose from.

    Args:
        name: The unknown name.
        known: All names.
        likely: The names among them to try first, and to list if none is near; empty for all.
    """
    near = nearest(name, known, likely)
    if near is not None:
        return f"Did you mean {near!r}?"
    if not known:
        return "There is none."
    return "Known: " + ", ".join(likely or known) + "."
