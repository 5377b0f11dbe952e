"""From a path and overrides to a `Grid`: read, override, check, compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    folder = None if Path(path) == document.STDIN else Path(path).resolve().parent
    grid = read_grid(changed, _loader(folder=folder), text, trusted=trusted)
    return replace(grid, overrides=tuple(changes))


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
    grid = read_grid(overrides.apply(parsed, every), _loader(launch.get("code")), launch["grid"])
    return replace(grid, overrides=tuple(every))


def _loader(
    code: Mapping[str, Any] | None = None, folder: Path | None = None
) -> Callable[[str], type[Config]]:
    """Return the function that returns the config of the trainable of a name."""
    return lambda name: trainable.load(name, code, folder=folder).Config
