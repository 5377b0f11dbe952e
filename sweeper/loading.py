"""From a path and overrides to a `Grid`: read, override, validate, compile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeper import compile as compiling
from sweeper import document, gridfile, overrides, trainable
from sweeper.errors import ConfigError, UsageError
from sweeper.grid import Grid


def load_grid(path: str | Path, changes: Sequence[str] = ()) -> Grid:
    """Return the grid in the file at `path` with the overrides `changes`.

    Raises:
        ConfigError: All mistakes of the file and the overrides together.
    """
    read = document.read(Path(path))
    changed = overrides.apply(read, changes)
    file = gridfile.validate(changed)
    try:
        config = trainable.load(file.trainable).Config
    except UsageError as error:
        raise ConfigError(f"{changed.place('trainable')}: {error}") from None
    text = Path(path).read_text() + "".join(f"\n# override: {c}" for c in changes)
    return compiling.compile_grid(changed, file, config, text)


