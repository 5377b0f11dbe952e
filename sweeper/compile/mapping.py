"""A grid from a mapping in Python: the content of a grid file, without a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from sweeper import trainable
from sweeper.compile.compile import read_grid
from sweeper.config.fields import Config
from sweeper.config.messages import quoted
from sweeper.errors import ConfigError
from sweeper.grid import document, overrides
from sweeper.grid.grid import Grid

SOURCE = "grid"
"""The name of a mapping in messages. It has no lines."""


def grid_of(values: Mapping[str, Any], changes: Sequence[str] = ()) -> Grid:
    """Return the grid that a mapping describes: the keys and values of a grid file.

    Args:
        values: Nested mappings, lists and scalars; numbers and arrays of numpy count as Python's.
        changes: Overrides such as ``seeds=3``.

    Raises:
        ConfigError: All mistakes together.
    """
    text = json.dumps(_plain(values, ""), indent=1, ensure_ascii=False)
    parsed = replace(document.parse(text, SOURCE), places={}, keys={})
    changed = overrides.apply(parsed, changes)
    text += "".join(f"\n# override: {change}" for change in changes)
    return replace(read_grid(changed, _config, text), overrides=tuple(changes))


def _config(name: str) -> type[Config]:
    return trainable.load(name).Config


def _plain(value: Any, path: str) -> Any:
    """Return `value` as JSON has it; `path` is its place.

    Raises:
        ConfigError: A grid file can't hold it.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{SOURCE}: {_within(path)}the key {quoted(key)} must be text.")
        return {k: _plain(v, f"{path}.{k}" if path else k) for k, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not abs(value) < float("inf"):
            raise ConfigError(f"{SOURCE}: {path} = {value} isn't finite. Write a finite number.")
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy or torch
        return _plain(value.tolist(), path)
    raise ConfigError(
        f"{SOURCE}: {path} is of the type {type(value).__name__}. A grid has mappings, lists, "
        "numbers, text, true, false and null."
    )


def _within(path: str) -> str:
    return f"{path}: " if path else ""
