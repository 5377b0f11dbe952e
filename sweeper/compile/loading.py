"""From a path and overrides to a `Grid`: read, override, check, compile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sweeper import trainable
from sweeper.compile import compile as compiling
from sweeper.errors import StoreError
from sweeper.grid import document, overrides
from sweeper.grid.grid import Grid
from sweeper.store.ledger import Ledger


def load_grid(path: str | Path, changes: Sequence[str] = ()) -> Grid:
    """Return the grid in the file at `path` with the overrides `changes`.

    Raises:
        ConfigError: All mistakes of the file and the overrides together.
    """
    changed = overrides.apply(document.read(Path(path)), changes)
    text = Path(path).read_text(encoding="utf-8") + "".join(f"\n# override: {c}" for c in changes)
    return _compile(changed, text, changes)


def stored_grid(ledger: Ledger, changes: Sequence[str] = ()) -> Grid:
    """Return the grid of the sweep's last launch, with more overrides.

    Raises:
        StoreError: Nothing was launched yet.
        ConfigError: The trainable has changed so that the grid means nothing any more.
    """
    name = ledger.meta["name"]
    launch = ledger.state.launch
    if launch is None:
        raise StoreError(f"{name}: nothing was launched yet. Launch its grid first.")
    every = [*launch["overrides"], *changes]
    parsed = document.parse(launch["grid"], f"the grid of {name}")
    return _compile(overrides.apply(parsed, every), launch["grid"], every)


def _compile(changed: document.Document, text: str, changes: Sequence[str]) -> Grid:
    grid = compiling.read_grid(changed, lambda name: trainable.load(name).Config, text)
    return replace(grid, overrides=tuple(changes))
