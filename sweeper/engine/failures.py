"""Packs that no worker could train: the errors of workers, the retries, and the user's message."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sweeper.errors import StoreError, StoreFullError, WorkerError

_NODE = re.compile(r"\bip[=:]\s*(?P<ip>[0-9A-Fa-f.:]*[0-9A-Fa-f])")
"""How Ray's text about a worker that died names the address of its node."""

_STORE_ERRORS = {error.__name__: error for error in (StoreError, StoreFullError)}


RETRIES = 3
"""Number of times that a pack is retried after an error of its worker."""

WORKERS = 30
"""Number of workers of one pack that may die. It only ends a pack whose workers die as they start:
`sweeper.engine.deaths` deals with packs that were claimed."""


class PackError(Exception):
    """An error that a worker raised, as plain values: any error survives the way to the driver.

    Attributes:
        kind: The name of the error's class.
        message: Its text.
        node: The address of the worker's node.
    """

    def __init__(self, kind: str, message: str, node: str) -> None:
        super().__init__(kind, message, node)
        self.kind = kind
        self.message = message
        self.node = node


@dataclass(frozen=True, slots=True)
class Failure:
    """The last error of a pack after all retries.

    Attributes:
        pack_id: The pack.
        kind: The name of the error's class.
        message: Its text.
        node: The address of the node where the pack failed; None if unknown.
    """

    pack_id: str
    kind: str
    message: str
    node: str | None = None

    @classmethod
    def of(cls, pack_id: str, error: BaseException) -> Failure:
        """Return the failure of a pack for which Ray raised `error`.

        Ray's errors have the error of the worker as `cause`. A worker that died left none.
        """
        cause = getattr(error, "cause", None)
        if isinstance(cause, PackError):
            return cls(pack_id, cause.kind, cause.message, cause.node)
        node = _NODE.search(str(error))
        return cls(pack_id, type(error).__name__, str(error), node["ip"] if node else None)

    @property
    def store_error(self) -> StoreError | None:
        """The error of the worker if it could not read or write the store, else None."""
        error = _STORE_ERRORS.get(self.kind)
        return error(self.message) if error is not None else None

    @property
    def line(self) -> str:
        """The pack, the node, and the first line of the error."""
        where = f" on node {self.node}" if self.node else ""
        lines = self.message.strip().splitlines() or ["no message"]
        return f"pack {self.pack_id}{where}: {self.kind}: {lines[0].strip()}"


def death_of(error: BaseException) -> Literal["node", "worker"] | None:
    """Return what has died, if Ray raised `error` because its node or its worker process died."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"NodeDiedError", "ActorUnavailableError", "TaskUnschedulableError"}:
        return "node"
    if "RayActorError" in kinds and not getattr(error, "actor_init_failed", False):
        return "node" if "node has died" in str(error) else "worker"
    return "worker" if kinds & {"WorkerCrashedError", "OutOfMemoryError"} else None


class Retries:
    """Counts the errors of each pack that use up a retry.

    A node that is preempted or cut off uses up none, however often. Nor does a worker that died:
    the next one reads from the store whether the pack makes progress.
    """

    def __init__(self) -> None:
        self._errors: Counter[str] = Counter()
        self._workers: Counter[str] = Counter()

    def used(self, pack_id: str, error: BaseException) -> int:
        """Return the number of retries that the pack needs after `error`, with those before."""
        death = death_of(error)
        if death == "worker":
            self._workers[pack_id] += 1
        elif death is None:
            self._errors[pack_id] += 1
        return RETRIES + 1 if self._workers[pack_id] > WORKERS else self._errors[pack_id]


def raise_failures(failures: Sequence[Failure]) -> None:
    """Raise one error that describes all `failures`; do nothing if there are none.

    Raises:
        StoreError: A worker could not read or write the store.
        WorkerError: A worker failed in another way.
    """
    for failure in failures:
        if failure.store_error is not None:
            raise failure.store_error
    if failures:
        n = len(failures) - 1
        more = f" ({n} more {'pack' if n == 1 else 'packs'} failed.)" if n else ""
        raise WorkerError(f"{failures[0].line}{more}")
