"""From a path and overrides to a `Grid`: read, override, check, compile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeper import compile as compiling
from sweeper import document, overrides, trainable
from sweeper.grid import Grid


def load_grid(path: str | Path, changes: Sequence[str] = ()) -> Grid:
    """Return the grid in the file at `path` with the overrides `changes`.

    Raises:
        ConfigError: All mistakes of the file and the overrides together.
    """
    changed = overrides.apply(document.read(Path(path)), changes)
    text = Path(path).read_text(encoding="utf-8") + "".join(f"\n# override: {c}" for c in changes)
    return compiling.read_grid(changed, lambda name: trainable.load(name).Config, text)
