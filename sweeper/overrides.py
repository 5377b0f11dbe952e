"""`KEY=VALUE` on the command line, applied to a document before it is validated.

`KEY` is a key of the file (``seeds``, ``resources.cpu``) or a dotted path of the config;
``KEY=V1,V2`` makes it an axis. An override replaces what the file says of that path,
wherever it says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from sweeper.document import Document, parse_value
from sweeper.errors import ConfigError
from sweeper.gridfile import GridFile


def apply(document: Document, overrides: Sequence[str]) -> Document:
    """Return `document` with the overrides applied.

    Raises:
        ConfigError: An override isn't of the form KEY=VALUE, or its value isn't YAML.
    """
    if not overrides or not isinstance(document.value, dict):
        return document
    value = deepcopy(document.value)
    changed = Document(document.source, value, dict(document.places), dict(document.keys))
    problems = []
    for text in overrides:
        source = f"override {text!r}"
        key, separator, right = text.partition("=")
        if not separator or not key or not right:
            problems.append(f"{source}: write KEY=VALUE, e.g. task.N=40 or seeds=3.")
            continue
        try:
            _apply(changed, key, _value(right, source), source)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return changed


def _value(right: str, source: str) -> Any:
    value = parse_value(right, source)
    if isinstance(value, str) and "," in right and right[0] not in "'\"[{":
        return tuple(parse_value(f"[{right}]", source))  # a tuple marks an axis
    if isinstance(value, dict) and set(value) & {"logspace", "linspace", "range"}:
        return (value,)
    return value


def _apply(document: Document, key: str, value: Any, source: str) -> None:
    head = key.split(".")[0]
    if head == "fixed":
        key = key.removeprefix("fixed.")
        head = key.split(".")[0]
    if head in GridFile.model_fields and head not in ("fixed", "grid"):
        _set(
            document,
            tuple(key.split(".")),
            list(value) if isinstance(value, tuple) else value,
            source,
        )
        return
    grid = document.value.get("grid", [])
    blocks = grid if isinstance(grid, list) else [grid]
    base = [("grid", i) if isinstance(grid, list) else ("grid",) for i in range(len(blocks))]
    _forget(document.value, key, blocks)
    if not isinstance(value, tuple):
        _set(document, ("fixed", key), value, source)
        return
    if not blocks:
        document.value["grid"] = blocks = [{}]
        base = [("grid", 0)]
    axis = value[0] if len(value) == 1 and isinstance(value[0], dict) else list(value)
    for path, block in zip(base, blocks, strict=True):
        if isinstance(block, dict):
            block.setdefault("product", {})[key] = axis
            place = (*path, "product", key)
            document.keys[place] = document.places[place] = source
            for index in range(len(axis)):
                document.places[(*place, index)] = source


def _forget(value: dict[str, Any], key: str, blocks: Sequence[Any]) -> None:
    """Remove what the file says of the path `key`."""
    fixed = value.setdefault("fixed", {})
    if isinstance(fixed, dict):
        fixed.pop(key, None)
        node: Any = fixed
        *parents, last = key.split(".")
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)
    for block in blocks:
        if isinstance(block, dict):
            groups = [block.get("product"), *(block.get("zip") or [])]
            for group in groups:
                if isinstance(group, dict):
                    group.pop(key, None)
            block["zip"] = [group for group in block.get("zip") or [] if group]


def _set(document: Document, path: tuple[str, ...], value: Any, source: str) -> None:
    node = document.value
    for parent in path[:-1]:
        inner = node.get(parent)
        node[parent] = node = inner if isinstance(inner, dict) else {}
    node[path[-1]] = value
    document.keys[path] = document.places[path] = source
