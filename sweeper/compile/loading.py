"""From a path and overrides to a `Grid`: read, override, check, compile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sweeper import trainable
from sweeper.compile.compile import read_grid
from sweeper.config.fields import Config
from sweeper.errors import StoreError
from sweeper.grid import document, overrides
from sweeper.grid.grid import Grid
from sweeper.store.ledger import Ledger


def load_grid(path: str | Path, changes: Sequence[str] = (), *, trust: bool | None = None) -> Grid:
    """Return the grid in the file at `path` with the overrides `changes`.

    Args:
        path: The file; ``-`` stands for standard input.
        changes: Overrides such as ``seeds=3``.
        trust: Whether to import modules that the grid names: a trainable, or `module:Class`. By
            default yes, but not for a grid from standard input, which may come from anywhere.

    Raises:
        ConfigError: All mistakes of the file and the overrides together.
    """
    trusted = Path(path) != document.STDIN if trust is None else trust
    text = document.read_text(Path(path))
    parsed = document.parse(text, document.source_of(Path(path)))
    changed = overrides.apply(parsed, changes)
    text += "".join(f"\n# override: {c}" for c in changes)
    return replace(read_grid(changed, _config, text, trusted=trusted), overrides=tuple(changes))


def stored_grid(ledger: Ledger, changes: Sequence[str] = ()) -> Grid:
    """Return the grid of the sweep's last launch, with more overrides.

    Raises:
        StoreError: Nothing was launched yet.
        ConfigError: The trainable has changed, and the grid is invalid now.
    """
    name = ledger.meta["name"]
    launch = ledger.state.launch
    if launch is None:
        raise StoreError(f"{name}: nothing was launched yet. Launch its grid first.")
    every = [*launch["overrides"], *changes]
    parsed = document.parse(launch["grid"], f"the grid of {name}")
    grid = read_grid(overrides.apply(parsed, every), _config, launch["grid"])
    return replace(grid, overrides=tuple(every))


def _config(name: str) -> type[Config]:
    return trainable.load(name).Config
