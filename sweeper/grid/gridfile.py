"""The shape of a grid file: which keys it has and what each may hold.

Only the shape: what the config fields mean is checked in `sweeper.compile.compile`, against
the trainable. Nothing in a file is ever evaluated as Python.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from sweeper.config.messages import reason, show
from sweeper.criterion import Criterion
from sweeper.errors import ConfigError, did_you_mean
from sweeper.grid.document import Document, Path_, arrange
from sweeper.grid.search_section import KINDS, MAX_CHOICES, Finalists, Objective, Search, Seeds
from sweeper.grid.spacing import AXIS_KINDS, MAX_AXIS, Axis, Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Block(Strict):
    """One block of a grid: the product of its axes and of its groups of zipped axes."""

    product: dict[str, Axis] = Field(default_factory=dict)
    zip: list[dict[str, Axis]] = Field(default_factory=list)


class Stop(Strict):
    """When a trial may end before its horizon; never by comparison with others."""

    after_generalization: bool = True
    diverged: bool = True


class Log(Strict):
    """What is logged, and how often.

    Attributes:
        points_per_decade: Logged steps a decade; fixed per store.
        metrics: Metrics that cost too much to be logged always, by their names in the
            trainable's `Config.on_request`. No part of a trial's identity: trials that have
            ended already keep null.
    """

    points_per_decade: Annotated[int, Field(ge=1, le=1000)] = 50
    metrics: list[str] = Field(default_factory=list)


class Checkpoint(Strict):
    """How often a running pack is saved, and which final states are kept."""

    every_s: Annotated[float, Field(gt=0)] = 60.0
    keep: Literal["all", "censored", "none"] = "all"


class Resources(Strict):
    """What one pack gets; `gpu` may be a fraction; `pack` is the number of trials fused."""

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    pack: Annotated[
        Annotated[Literal["auto"], Tag("auto")]
        | Annotated[int, Field(ge=1, le=1_000_000), Tag("size")],
        Discriminator(lambda value: "auto" if isinstance(value, str) else "size"),
    ] = "auto"


def _criterion_kind(value: Any) -> str:
    per_task = isinstance(value, dict) and any(
        isinstance(v, dict | Criterion) for v in value.values()
    )
    return "tasks" if per_task else "one"


Criteria = Annotated[
    Annotated[Criterion, Tag("one")] | Annotated[dict[str, Criterion], Tag("tasks")],
    Discriminator(_criterion_kind),
]

Blocks = Annotated[
    Annotated[Block, Tag("block")] | Annotated[list[Block], Tag("blocks")],
    Discriminator(lambda value: "blocks" if isinstance(value, list) else "block"),
]

Rule = Annotated[str, Field(min_length=1)]


class GridFile(Strict):
    """A whole grid file."""

    name: Annotated[str, Field(pattern=NAME)]
    trainable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")] = "trainables.grokking"
    fixed: dict[str, Any] = Field(default_factory=dict)
    grid: Blocks = Field(default_factory=list)
    exclude: Annotated[
        Annotated[Rule, Tag("rule")] | Annotated[list[Rule], Tag("rules")],
        Discriminator(lambda value: "rules" if isinstance(value, list) else "rule"),
    ] = Field(default_factory=list)
    seeds: Seeds = 1
    criterion: Criteria | None = None
    stop: Stop = Stop()
    log: Log = Log()
    checkpoint: Checkpoint = Checkpoint()
    resources: Resources = Resources()
    search: Search | None = None

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the grid; one empty block where there is none: a single cell."""
        blocks = [self.grid] if isinstance(self.grid, Block) else self.grid
        return blocks or [Block()]

    @property
    def excludes(self) -> list[str]:
        """The exclusion rules."""
        return [self.exclude] if isinstance(self.exclude, str) else self.exclude

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True, slots=True)
class Refusal:
    """A mistake in the file's shape.

    Attributes:
        path: The node that was refused, keys and indices from the top of the file.
        place: Where it stands, "file:line:column".
        message: What is wrong with it, and what would be right.
    """

    path: Path_
    place: str
    message: str


def validate(document: Document) -> GridFile:
    """Return the file's content as a `GridFile`.

    Raises:
        ConfigError: Every mistake in the file's shape, each with its place.
    """
    file, refusals = inspect(document)
    if refusals or file is None:
        raise ConfigError(arrange((r.place, r.message) for r in refusals))
    return file


def inspect(document: Document) -> tuple[GridFile | None, list[Refusal]]:
    """Return what of the file has the right shape, and what was refused.

    Returns:
        The file without its refused nodes, so that the rest can still be checked, and the
        refusals. No file where the rest means nothing: no mapping, or no usable trainable.
    """
    value = document.value
    if not isinstance(value, dict):
        what = "empty" if value is None else f"a {type(value).__name__}, not a mapping"
        message = f"the file is {what}. It needs keys: name, fixed, grid, ..."
        return None, [Refusal((), f"{document.source}:1:1", message)]
    refusals: dict[Path_, Refusal] = {}
    try:
        return GridFile.model_validate(value, strict=True), []
    except ValidationError as error:
        for item in error.errors():
            refusal = _refusal(document, item)
            refusals.setdefault(refusal.path, refusal)
    extra = {r.message for r in refusals.values()}
    for path, refusal in list(refusals.items()):  # a misspelt key isn't missing as well
        misspelt = f"Did you mean {path[-1]!r}?" if path else ""
        if refusal.message.endswith("is missing. Add it.") and any(
            message.endswith(misspelt) for message in extra
        ):
            del refusals[path]
    pruned = deepcopy(value)
    for path in refusals:
        _prune(pruned, path)
    found = list(refusals.values())
    if ("trainable",) in refusals:
        return None, found
    try:
        return GridFile.model_validate(pruned, strict=True), found
    except ValidationError:
        return None, found


def _prune(value: Any, path: Path_) -> None:
    """Remove from the file `value` the smallest thing around `path` that it can do without.

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
        elif path[1] == "objective":  # one that asks for nothing else
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


def axis_of(path: Path_) -> Path_ | None:
    """Return the path of the axis that holds the node at `path`; None if none does."""
    for depth, key in enumerate(path if path[:1] == ("grid",) else ()):
        end = depth + {"product": 2, "zip": 3}.get(str(key), len(path) + 1)
        if end <= len(path):
            return path[:end]
    return None


def _refusal(document: Document, item: ErrorDetails) -> Refusal:
    """Return one of pydantic's errors in our words."""
    path = _real_path(document.value, item["loc"])
    name = _shown_path(path)
    if item["type"] == "extra_forbidden":
        parent = _shown_path(path[:-1])
        key = str(path[-1])
        where = f"{parent} has no key {key!r}." if parent else f"unknown key {key!r}."
        remedy = _misplaced(key) if not parent else ""
        searching = path[0] == "search" and len(path) > 1
        known = _known_search_keys(document.value["search"], path[1:-1]) if searching else None
        remedy = remedy or did_you_mean(key, known or _known_keys(path[:-1]))
        return Refusal(path, document.place(*path, key=True), f"{where} {remedy}")
    if item["type"] == "missing":
        return Refusal(path, document.place(*path[:-1]), f"{name} is missing. Add it.")
    place = document.place(*path)
    return Refusal(path, place, f"{name} = {show(item['input'])} {_reason(path, item)}")


def _reason(path: Path_, item: ErrorDetails) -> str:
    """Return what the value at `path` must be."""
    if item["type"] in ("value_error", "finite_number"):
        return reason(item)
    if path[0] == "search":
        return _search_reason(path, item)
    if path[0] == "seeds":
        return _seeds_reason(path[1:], item)
    if path[0] == "grid" and item["type"] in ("list_type", "dict_type", "model_type"):
        if path[-1] in ("product", "zip") or isinstance(path[-1], int) or path == ("grid",):
            if path[-1] == "zip" or path[-2:-1] == ("zip",):
                return "must be a list of mappings, e.g. zip: [{task.N: [20, 40], task.s: [2, 4]}]."
            return "must be a mapping, e.g. product: {model.depth: [1, 2]}."
        return (
            "must be a list of values, or logspace, linspace or range. "
            "To fix it at one value, move it to fixed."
        )
    if item["type"] in ("too_short", "too_long") and path[-1] in ("logspace", "linspace"):
        return "must be [first, last, count]."
    if item["type"] in ("too_short", "too_long") and path[-1] == "range":
        return "must be [start, stop] or [start, stop, step]."
    return _REMEDIES.get(_shown_path(path), "") or reason(item)


def _seeds_reason(path: Path_, item: ErrorDetails) -> str:
    """Return what seeds must be; `path` is the node among them."""
    if path:
        return "must be a whole number from 0, below 2^63."
    if item["type"] == "too_short":
        return "needs at least one value."
    return f"must be a whole number of seeds from 1 to {MAX_AXIS}, or a list of seeds."


def _search_reason(path: Path_, item: ErrorDetails) -> str:
    """Return what the value at `path` of the section `search` must be."""
    if path[-1] == "seeds" or path[-2:-1] == ("seeds",):
        return _seeds_reason(() if path[-1] == "seeds" else path[-1:], item)
    if item["type"] == "union_tag_not_found":
        given = list(item["input"]) if isinstance(item["input"], dict) else []
        strange = next((key for key in given if key not in KINDS), None)
        if strange is not None and KINDS.keys().isdisjoint(given):
            return f"names no distribution. {did_you_mean(str(strange), list(KINDS))}"
        return f"must be a mapping with one of: {', '.join(KINDS)}."
    if path[-1] in KINDS and item["type"] in ("too_short", "too_long", "list_type"):
        return (
            "needs at least one value."
            if path[-1] == "categorical" and (item["type"] == "too_short")
            else _ENDS.get(str(path[-1]), "must be [low, high].")
        )
    return _REMEDIES.get(_shown_path(path), "") or reason(item)


_ENDS = {"categorical": f"must be a list of at most {MAX_CHOICES} values."}

_REMEDIES = {
    "name": "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit.",
    "trainable": "must name a Python module, e.g. trainables.grokking.",
    "resources.pack": "must be auto or a whole number from 1 to 1000000.",
    "fixed": "must be a mapping of names and values, e.g. fixed: {steps: 1000}.",
    "search": "must be a mapping, e.g. search: {space: {selection.tau: {uniform: [0, 1]}}}.",
    "search.space": "must be a mapping, e.g. space: {selection.tau: {uniform: [0, 1]}}.",
    "search.reference": "must be a mapping, e.g. reference: {selection.tau: 0}.",
    "search.batch": "must be auto or a whole number from 1 to 1000000.",
    "search.objective": "must be a name or SQL, {value: ..., direction: ...}, or a list of these.",
    "criterion": "must be a mapping, e.g. criterion: {metric: acc, train: 0.99, test: 0.99}.",
    "log.metrics": "must be a list of names, e.g. metrics: [layer_norms].",
}


def _shown_path(path: Path_) -> str:
    """Return the dotted name of a node; within the grid that of the axis."""
    axis = axis_of(path)
    return ".".join(str(p) for p in (path if axis is None else path[len(axis) - 1 :]))


def _misplaced(key: str) -> str:
    """Return the remedy for a key that stands a level too high."""
    if key == "steps":
        return "The horizon belongs to fixed: fixed: {steps: ...}."
    if key in ("product", "zip"):
        return f"Axes belong to grid: grid: {{{key}: ...}}."
    if "." in key or key in ("task", "model", "regularizer", "selection", "optimizer"):
        return "Values of the config belong to fixed, or as axes to grid."
    return ""


def _real_path(value: Any, loc: tuple[str | int, ...]) -> Path_:
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


def _known_keys(parent: Path_) -> list[str]:
    """Return the keys that the node at `parent` may have."""
    models: dict[str, type[BaseModel]] = {
        "stop": Stop,
        "log": Log,
        "checkpoint": Checkpoint,
        "resources": Resources,
        "criterion": Criterion,
    }
    if not parent:
        return list(GridFile.model_fields)
    if parent[0] == "grid":
        in_axis = any(key in ("product", "zip") for key in parent)
        return list(AXIS_KINDS) if in_axis else list(Block.model_fields)
    model = models.get(str(parent[0]))
    return list(model.model_fields) if model else []


def _known_search_keys(search: Any, parent: Path_) -> list[str]:
    """Return the keys of the node at `parent` within the section `search`."""
    model: type[BaseModel] = Search
    if parent[:1] == ("space",):
        given = search["space"][parent[1]]
        model = next(KINDS[key] for key in given if key in KINDS)
    elif parent:
        model = Finalists if parent[0] == "finalists" else Objective
    return [field.alias or name for name, field in model.model_fields.items()]
