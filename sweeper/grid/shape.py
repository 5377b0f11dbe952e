"""The check of a grid file's shape: keys and types. Each mistake has its place."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sweeper.config.diagnostic import Diagnostic, KeyPath, Kind, Place, lines
from sweeper.config.messages import quoted, requirement
from sweeper.criterion import Criterion
from sweeper.errors import ConfigError, did_you_mean, nearest
from sweeper.grid.document import Document
from sweeper.grid.gridfile import CheckpointSettings, GridBlock, GridFile, Log, Resources, Stop
from sweeper.grid.search_section import KINDS, MAX_CHOICES, Finalists, Objective, Search
from sweeper.grid.spacing import AXIS_KINDS, MAX_AXIS


def validate(document: Document) -> GridFile:
    """Return the file's content as a `GridFile`.

    Raises:
        ConfigError: Every mistake in the file's shape, each with its place.
    """
    file, diagnostics = check_shape(document)
    if diagnostics or file is None:
        raise ConfigError(lines(diagnostics))
    return file


def check_shape(document: Document) -> tuple[GridFile | None, list[Diagnostic]]:
    """Return the part of the file that has the right shape, and the mistakes in the rest.

    Returns:
        The file without its refused nodes, so that the rest can still be checked; None where
        the rest has no meaning: the file is no mapping, or its trainable is refused. And the
        mistakes, each with the node that was refused.
    """
    value = document.value
    if not isinstance(value, dict):
        what = "empty" if value is None else f"a {type(value).__name__}, not a mapping"
        place = Place(document.source, 1, 1)
        text, remedy = f"the file is {what}.", "It needs keys: name, fixed, grid, ..."
        return None, [Diagnostic(Kind.INVALID, "", text, remedy, value, place)]
    try:
        return GridFile.model_validate(value, strict=True), []
    except ValidationError as error:
        every: dict[KeyPath, Diagnostic] = {}
        for item in error.errors():
            diagnostic = _diagnostic(document, item)
            every.setdefault(diagnostic.node, diagnostic)
    refused = _without_nested(document, _without_misspelt(document, every))
    diagnostics = list(refused.values())
    if ("trainable",) in refused:
        return None, diagnostics
    pruned = deepcopy(value)
    for node in refused:
        _prune(pruned, node)
    try:
        return GridFile.model_validate(pruned, strict=True), diagnostics
    except ValidationError:
        return None, diagnostics


def _without_misspelt(
    document: Document, refused: dict[KeyPath, Diagnostic]
) -> dict[KeyPath, Diagnostic]:
    """Return `refused` without missing keys that the file has under a misspelt name."""
    meant = {
        (*node[:-1], nearest(str(node[-1]), _known_keys(document.value, node[:-1])))
        for node, diagnostic in refused.items()
        if diagnostic.kind is Kind.UNKNOWN
    }
    return {n: d for n, d in refused.items() if d.kind is not Kind.MISSING or n not in meant}


def _without_nested(
    document: Document, refused: dict[KeyPath, Diagnostic]
) -> dict[KeyPath, Diagnostic]:
    """Return `refused` with one mistake per axis that is a mapping of fields, as in ``fixed``."""
    kept: dict[KeyPath, Diagnostic] = {}
    for node, diagnostic in refused.items():
        axis = axis_of(node)
        value: Any = document.value
        for key in axis or ():
            value = value[key]
        if axis is None or not isinstance(value, dict) or not value or _is_spacing(value):
            kept[node] = diagnostic
            continue
        name = str(axis[-1])
        kept[axis] = Diagnostic(
            Kind.INVALID,
            name,
            f"{name} is a mapping of fields, but an axis has values.",
            f"Write {', '.join(_dotted(name, value))}.",
            value,
            document.place(*axis),
            axis,
        )
    return kept


def _is_spacing(value: dict[Any, Any]) -> bool:
    """Return whether `value` is meant to be a logspace, linspace or range, maybe misspelt."""
    return any(key in AXIS_KINDS or nearest(str(key), AXIS_KINDS) for key in value)


def _dotted(name: str, value: Any) -> list[str]:
    """Return the axes that set what the mapping `value` of the axis `name` means to set."""
    if isinstance(value, dict) and value and not _is_spacing(value):
        return [text for key, inner in value.items() for text in _dotted(f"{name}.{key}", inner)]
    values = value if isinstance(value, list | dict) else [value]
    return [f"{name}: {quoted(values)}"]


def _prune(value: Any, path: KeyPath) -> None:
    """Remove from the file `value` the smallest optional node that contains `path`.

    List items are replaced, never removed: the places of the others stay true.
    """
    if path == ("name",):
        value["name"] = "unnamed"
    elif path[0] == "exclude" and len(path) > 1:
        value["exclude"][path[1]] = "false"
    elif path[0] == "search" and len(path) > 1:
        inner = value.get("search", {})
        if path[1] == "space" and len(path) > 2 and isinstance(inner.get("space"), dict):
            inner["space"].pop(path[2], None)
        elif path[1] == "objective":  # replaced by one that needs no other setting
            several = inner.get("objective")
            if isinstance(several, list) and len(path) > 2:
                several[int(path[2])] = "delay"
            else:
                inner["objective"] = "delay"
        else:
            inner.pop(path[1], None)
    elif path[0] == "grid":
        path = axis_of(path) or path
        key: Any
        for key in path[:-1]:
            if not isinstance(value, list) and key not in value:
                return  # gone already, with another mistake of the same axis
            value = value[key]
        last: Any = path[-1]
        if isinstance(value, list):
            value[last] = {}
        else:
            value.pop(last, None)
    else:
        value.pop(path[0], None)


def axis_of(path: KeyPath) -> KeyPath | None:
    """Return the path of the axis that holds the node at `path`; None if none does."""
    for depth, key in enumerate(path if path[:1] == ("grid",) else ()):
        end = depth + {"product": 2, "zip": 3}.get(str(key), len(path) + 1)
        if end <= len(path):
            return path[:end]
    return None


def _diagnostic(document: Document, item: ErrorDetails) -> Diagnostic:
    """Return an error of pydantic as a mistake with its place."""
    node = _real_path(document.value, item["loc"])
    name = _shown_path(node)
    if item["type"] == "extra_forbidden":
        parent, key = _shown_path(node[:-1]), str(node[-1])
        text = f"{parent} has no key {key!r}." if parent else f"unknown key {key!r}."
        misplaced = _misplaced(key) if not parent else ""
        remedy = misplaced or did_you_mean(key, _known_keys(document.value, node[:-1]))
        kind = Kind.MISPLACED if misplaced else Kind.UNKNOWN
        return Diagnostic(kind, name, text, remedy, key, document.place(*node, key=True), node)
    if item["type"] == "missing":
        place = document.place(*node[:-1])
        return Diagnostic(Kind.MISSING, name, f"{name} is missing.", "Add it.", None, place, node)
    value = item["input"]
    text, remedy = f"{name} = {quoted(value)}", _remedy(node, item)
    return Diagnostic(Kind.INVALID, name, text, remedy, value, document.place(*node), node)


def _remedy(node: KeyPath, item: ErrorDetails) -> str:
    """Return the requirement that the value at `node` doesn't meet."""
    if item["type"] in ("value_error", "finite_number"):
        return requirement(item)
    if node[0] == "seeds" or (node[0] == "search" and "seeds" in node[-2:]):
        return _seeds_remedy(node[-1] == "seeds", item)
    remedy = _distribution_remedy(node, item) if node[0] == "search" else _axis_remedy(node, item)
    return remedy or _REMEDIES.get(_shown_path(node), "") or requirement(item)


def _axis_remedy(node: KeyPath, item: ErrorDetails) -> str:
    """Return the requirement on an axis of the grid, or a group of them; "" if it is neither."""
    if item["type"] in ("too_short", "too_long"):
        return _SPACINGS.get(str(node[-1]), "")
    if node[0] != "grid" or item["type"] not in ("list_type", "dict_type", "model_type"):
        return ""
    if node[-1] == "zip" or node[-2:-1] == ("zip",):
        return "must be a list of mappings, e.g. zip: [{task.N: [20, 40], task.s: [2, 4]}]."
    if node[-1] == "product" or isinstance(node[-1], int) or node == ("grid",):
        return "must be a mapping, e.g. product: {model.depth: [1, 2]}."
    return (
        "must be a list of values, or logspace, linspace or range. "
        "To fix it at one value, move it to fixed."
    )


def _seeds_remedy(whole: bool, item: ErrorDetails) -> str:
    """Return the requirement on seeds: on all of them (`whole`), or on one in the list."""
    if not whole:
        return "must be a whole number from 0, below 2^63."
    if item["type"] == "too_short":
        return "needs at least one value."
    return f"must be a whole number of seeds from 1 to {MAX_AXIS}, or a list of seeds."


def _distribution_remedy(node: KeyPath, item: ErrorDetails) -> str:
    """Return the requirement on a distribution of the search; "" if the node is none."""
    if item["type"] == "union_tag_not_found":
        given = list(item["input"]) if isinstance(item["input"], dict) else []
        strange = next((key for key in given if key not in KINDS), None)
        if strange is not None and KINDS.keys().isdisjoint(given):
            return f"names no distribution. {did_you_mean(str(strange), list(KINDS))}"
        return f"must be a mapping with one of: {', '.join(KINDS)}."
    if node[-1] in KINDS and item["type"] in ("too_short", "too_long", "list_type"):
        if node[-1] != "categorical":
            return "must be [low, high]."
        few = item["type"] == "too_short"
        most = f"must be a list of at most {MAX_CHOICES} values."
        return "needs at least one value." if few else most
    return ""


_SPACINGS = {
    "logspace": "must be [first, last, count].",
    "linspace": "must be [first, last, count].",
    "range": "must be [start, stop] or [start, stop, step].",
}

_REMEDIES = {
    "name": "must have 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit.",
    "trainable": "must name a script (./train.py), a function (my_lab.train:train) or a module "
    "(trainables.grokking).",
    "resources.pack": "must be auto or a whole number from 1 to 1000000.",
    "fixed": "must be a mapping of names to values, e.g. fixed: {steps: 1000}.",
    "search": "must be a mapping, e.g. search: {space: {selection.tau: {uniform: [0, 1]}}}.",
    "search.space": "must be a mapping, e.g. space: {selection.tau: {uniform: [0, 1]}}.",
    "search.reference": "must be a mapping, e.g. reference: {selection.tau: 0}.",
    "search.batch": "must be auto or a whole number from 1 to 1000000.",
    "search.objective": "must be a name or SQL, {value: ..., direction: ...}, or a list of these.",
    "criterion": "must be a mapping, e.g. criterion: {metric: acc, train: 0.99, test: 0.99}.",
    "log.metrics": "must be a list of names, e.g. metrics: [layer_norms].",
}


def _shown_path(path: KeyPath) -> str:
    """Return the dotted name of a node. Within an axis, the name starts at the axis."""
    axis = axis_of(path)
    return ".".join(str(p) for p in (path if axis is None else path[len(axis) - 1 :]))


def _misplaced(key: str) -> str:
    """Return the remedy for a key that belongs one level deeper; "" for any other key."""
    if key == "steps":
        return "Write the horizon under fixed: fixed: {steps: ...}."
    if key in ("product", "zip"):
        return f"Write axes under grid: grid: {{{key}: ...}}."
    if "." in key or key in ("task", "model", "regularizer", "selection", "optimizer"):
        return "Write values of the config under fixed, or as axes under grid."
    return ""


def _real_path(value: Any, loc: tuple[str | int, ...]) -> KeyPath:
    """Return `loc` without the names of union members, which aren't in the file."""
    path: list[str | int] = []
    if loc[:2] == ("search", "space"):  # the kind of a distribution is a key as well
        loc = (*loc[:3], *loc[4:])
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(value, dict) and (step in value or last):
            path.append(step)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            path.append(step)
            value = value[step]
    return tuple(path)


def _known_keys(value: Any, parent: KeyPath) -> list[str]:
    """Return the keys that the node at `parent` of the file `value` may have."""
    if not parent:
        return list(GridFile.model_fields)
    if parent[0] == "grid" and any(key in ("product", "zip") for key in parent):
        return list(AXIS_KINDS)
    model = _SECTIONS.get(str(parent[0]))
    if parent[0] == "search" and len(parent) > 1:
        model = Finalists if parent[1] == "finalists" else Objective
        if parent[1] == "space":
            given = value["search"]["space"][parent[2]]
            model = next(KINDS[key] for key in given if key in KINDS)
    fields = model.model_fields if model is not None else {}
    return [field.alias or name for name, field in fields.items()]


_SECTIONS: dict[str, type[BaseModel]] = {
    "grid": GridBlock,
    "stop": Stop,
    "log": Log,
    "checkpoint": CheckpointSettings,
    "resources": Resources,
    "criterion": Criterion,
    "search": Search,
}
