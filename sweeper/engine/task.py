"""The task that sends one pack to a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PackTask:
    """One pack to train. Everything else is read from the store.

    Attributes:
        sweep: URI of the sweep's folder.
        launch_id: The launch that the pack belongs to.
        pack_id: The pack.
        device: The device, by its name in torch.
        threads: Number of threads on a CPU.
        timeout: Seconds without a new row after which the pack is given up; None for never.
        split_from: The packs that were split one after the other until this pack came out.
    """

    sweep: str
    launch_id: str
    pack_id: str
    device: str = "cpu"
    threads: int = 1
    timeout: float | None = None
    split_from: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, to send them to a worker."""
        return asdict(self)


Launcher = Callable[[Sequence[PackTask]], None]
"""Runs every task once and returns. The results are in the store."""
