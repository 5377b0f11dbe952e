"""Packs that no worker could train: the error of a worker, as the user reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.errors import StoreError, WorkerError

_NODE = re.compile(r"\bip[=:]\s*(?P<ip>[0-9A-Fa-f.:]*[0-9A-Fa-f])")
"""Where the text of Ray's errors names the address of a node."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last error of a pack that was tried as often as it may be.

    Attributes:
        pack_id: The pack.
        error: What Ray raised. Its attribute `cause` is the worker's own error, where the worker
            lived long enough to raise one.
    """

    pack_id: str
    error: BaseException

    @property
    def cause(self) -> BaseException:
        """Return the worker's own error, or that of Ray about the worker."""
        cause = getattr(self.error, "cause", None)
        return cause if isinstance(cause, BaseException) else self.error

    @property
    def node(self) -> str | None:
        """Return the address of the node where the pack failed; None where Ray names none."""
        found = _NODE.search(str(self.error))
        return found["ip"] if found else None

    @property
    def line(self) -> str:
        """Return the pack, the node and the error in one line."""
        where = f" on node {self.node}" if self.node else ""
        lines = str(self.cause).strip().splitlines() or ["no message"]
        reason = lines[0].strip()
        return f"pack {self.pack_id}{where}: {type(self.cause).__name__}: {reason}"


def raise_failures(failures: Sequence[Failure]) -> None:
    """Raise the error that tells of all `failures`, if there are any.

    Raises:
        StoreError: A worker could not read or write the store.
        WorkerError: A worker failed in another way.
    """
    for failure in failures:
        if isinstance(failure.cause, StoreError):
            raise type(failure.cause)(str(failure.cause))
    if failures:
        n = len(failures) - 1
        more = f" ({n} more {'pack' if n == 1 else 'packs'} failed.)" if n else ""
        raise WorkerError(f"{failures[0].line}{more}")
