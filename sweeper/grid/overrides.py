"""`KEY=VALUE` on the command line, applied to a document before it is validated.

`KEY` is a key of the file (``seeds``, ``resources.cpu``) or a dotted path of the config;
``KEY=V1,V2`` makes it an axis. An override replaces the value or the axis that the
file has for that path. Text in quotes, and a list in brackets, stays one value; a list of lists is
an axis of vectors. `exclude` is one rule, unquoted, or a list of rules in brackets.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from sweeper.config.diagnostic import KeyPath, Place
from sweeper.errors import ConfigError
from sweeper.grid.document import Document, parse_value
from sweeper.grid.gridfile import GridFile
from sweeper.grid.spacing import AXIS_KINDS

EXAMPLE = "Write KEY=VALUE, e.g. task.N=40, task.N=20,40 or seeds=3."


@dataclass(frozen=True, slots=True)
class _AxisOverride:
    """The values of an axis: a list, or a mapping such as ``{logspace: ...}``."""

    values: Any


def apply(document: Document, overrides: Sequence[str]) -> Document:
    """Return `document` with the overrides applied, the last one of a key last.

    Raises:
        ConfigError: An override isn't of the form KEY=VALUE, or its value isn't YAML.
    """
    if not overrides or not isinstance(document.value, dict):
        return document
    value = deepcopy(document.value)
    changed = Document(document.source, value, dict(document.places), dict(document.keys))
    problems: list[str] = []
    for text in overrides:
        source = f"override {text!r}"
        key, separator, right = (part.strip() for part in text.partition("="))
        if not separator or not key or not right or not all(key.split(".")):
            problems.append(f"{source}: has no key or no value. {EXAMPLE}")
            continue
        try:
            _apply(changed, key.removeprefix("fixed."), right, source)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return changed


def _apply(document: Document, key: str, right: str, source: str) -> None:
    head = key.split(".")[0]
    if key in ("fixed", "grid") or head == "grid":
        raise ConfigError(
            f"{source}: {key} is a section, not a value. Name a path below it. {EXAMPLE}"
        )
    if head in GridFile.model_fields:
        value = _rules(right, source) if head == "exclude" else _value(right, source)
        if isinstance(value, _AxisOverride):
            value = value.values
        _forget_below(document, tuple(key.split(".")))
        _set(document, tuple(key.split(".")), value, source)
        return
    _forget(document.value, key)
    value = _value(right, source)
    if isinstance(value, _AxisOverride):
        _add_axis(document, key, value.values, source)
    else:
        _set(document, ("fixed", key), value, source)


def _value(right: str, source: str) -> Any:
    """Return the value of the right side; an `_AxisOverride` if it is an axis."""
    try:
        value = parse_value(right, source)
    except ConfigError:
        if "," not in right:
            raise ConfigError(f"{source}: {right!r} isn't a YAML value. Quote it.") from None
        return _several(right, source)  # e.g. [1, 2], [3, 4]
    if isinstance(value, str) and "," in right and right[0] not in "'\"":
        return _several(right, source)
    if isinstance(value, list) and value and all(isinstance(v, list) for v in value):
        return _AxisOverride(value)
    if isinstance(value, dict) and set(value) & set(AXIS_KINDS):
        return _AxisOverride(value)
    return value


def _rules(right: str, source: str) -> Any:
    """Return the right side as a list of rules if it is a YAML list, else as one rule."""
    try:
        value = parse_value(right, source)
    except ConfigError:
        return right  # SQL needn't be YAML
    return value if isinstance(value, list) else right


def _several(right: str, source: str) -> _AxisOverride:
    try:
        return _AxisOverride(parse_value(f"[{right}]", source))
    except ConfigError:
        raise ConfigError(
            f"{source}: {right!r} isn't a list of YAML values. Quote text that has brackets."
        ) from None


def _blocks(value: dict[str, Any]) -> list[tuple[KeyPath, dict[str, Any]]]:
    """Return the blocks of the grid that are mappings, each with its path."""
    grid = value.get("grid")
    if isinstance(grid, list):
        return [(("grid", i), block) for i, block in enumerate(grid) if isinstance(block, dict)]
    return [(("grid",), grid)] if isinstance(grid, dict) else []


def _add_axis(document: Document, key: str, values: Any, source: str) -> None:
    """Add an axis to every block, or to a new block if there is none."""
    if not document.value.get("grid"):
        document.value["grid"] = [{}]
    for path, block in _blocks(document.value):
        axes = block.setdefault("product", {})
        if isinstance(axes, dict):  # else it is refused as it stands
            axes[key] = values
            place = (*path, "product", key)
            _forget_below(document, place)
            document.keys[place] = document.places[place] = Place(source, override=True)


def _forget(value: dict[str, Any], key: str) -> None:
    """Remove the path `key`, and all paths below it, from the file's value."""
    _remove(value.get("fixed"), key)
    for _, block in _blocks(value):
        groups = block.get("zip")
        for group in (block.get("product"), *(groups if isinstance(groups, list) else [])):
            _remove(group, key)


def _remove(node: Any, key: str) -> None:
    """Remove `key` from a mapping, whether its path is written nested, dotted, or both."""
    if not isinstance(node, dict):
        return
    for name in list(node):
        if name == key or name.startswith(f"{key}."):
            del node[name]
        elif key.startswith(f"{name}."):
            _remove(node[name], key.removeprefix(f"{name}."))


def _set(document: Document, path: tuple[str, ...], value: Any, source: str) -> None:
    node = document.value
    for parent in path[:-1]:
        inner = node.setdefault(parent, {})
        if inner is None:
            node[parent] = inner = {}
        if not isinstance(inner, dict):
            return  # refused as it stands
        node = inner
    node[path[-1]] = value
    document.keys[path] = document.places[path] = Place(source, override=True)


def _forget_below(document: Document, path: KeyPath) -> None:
    """Remove the places within a node that is replaced: they belong to its old value."""
    for table in (document.places, document.keys):
        for inner in [p for p in table if p[: len(path)] == path]:
            del table[inner]
