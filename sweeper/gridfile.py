"""The shape of a grid file: which keys it has and what each may hold.

Only the shape: what the config fields mean is checked in `sweeper.grid`, against the
trainable. Nothing in a file is ever evaluated as Python.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from sweeper.criterion import Criterion
from sweeper.document import Document
from sweeper.errors import ConfigError, did_you_mean

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_AXIS = 1_000_000

Plain = bool | int | float | str | None


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Ends = Annotated[list[float], Field(min_length=3, max_length=3)]


class LogSpace(_Strict):
    """Values spaced evenly in logarithm, both end points included: [first, last, count]."""

    logspace: Ends

    def values(self) -> list[float]:
        """Return the values; the end points are those of the file."""
        first, last, count = _ends(self.logspace)
        if first <= 0 or last <= 0:
            raise ValueError("logspace needs end points above 0. Use linspace")
        return _pinned(np.geomspace(first, last, count), first, last)


class LinSpace(_Strict):
    """Evenly spaced values, both end points included: [first, last, count]."""

    linspace: Ends

    def values(self) -> list[float]:
        """Return the values; the end points are those of the file."""
        first, last, count = _ends(self.linspace)
        return _pinned(np.linspace(first, last, count), first, last)


class Range(_Strict):
    """Half-open range as Python's: [start, stop] or [start, stop, step]."""

    range: Annotated[list[float], Field(min_length=2, max_length=3)]

    def values(self) -> list[float]:
        """Return the values; integers where all of the file's numbers are."""
        start, stop, step = (*self.range, 1)[:3]
        if step == 0:
            raise ValueError("range needs a step other than 0")
        count = max(0, int(np.ceil((stop - start) / step)))
        if count > MAX_AXIS:
            raise ValueError(f"{count} values. An axis has at most {MAX_AXIS}")
        return _integral([start + i * step for i in range(count)], self.range)


def _ends(given: list[float]) -> tuple[float, float, int]:
    first, last, count = given
    if count != int(count) or count < 1:
        raise ValueError(f"the count is {count}; it must be a whole number from 1")
    if count > MAX_AXIS:
        raise ValueError(f"{int(count)} values. An axis has at most {MAX_AXIS}")
    if count == 1 and first != last:
        raise ValueError("one value can't include two end points. Write a list of one value")
    return first, last, int(count)


def _pinned(values: np.ndarray, first: float, last: float) -> list[float]:
    # 12 digits: 0.30000000000000004 is nobody's intention, and ids must not depend on it
    rounded = [float(f"{v:.12g}") for v in values]
    rounded[0], rounded[-1] = float(first), float(last)
    return _integral(rounded, [first, last])


def _integral(values: list[float], ends: list[float]) -> list[float]:
    if all(float(v).is_integer() for v in (*values, *ends)) and not any(
        isinstance(v, float) for v in ends
    ):
        return [int(v) for v in values]
    return [float(v) for v in values]


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return next((k for k in ("logspace", "linspace", "range") if k in value), "logspace")
    if isinstance(value, LogSpace | LinSpace | Range):
        return type(value).__name__.lower()
    return "list"


Axis = Annotated[
    Annotated[list[Plain | list[float]], Tag("list"), Field(min_length=1)]
    | Annotated[LogSpace, Tag("logspace")]
    | Annotated[LinSpace, Tag("linspace")]
    | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]


class Block(_Strict):
    """One block of a grid: the product of its axes and of its groups of zipped axes."""

    product: dict[str, Axis] = {}
    zip: list[dict[str, Axis]] = []


class Stop(_Strict):
    """When a trial may end before its horizon; never by comparison with others."""

    after_generalization: bool = True
    diverged: bool = True


class Log(_Strict):
    """How often metrics are logged; fixed per store."""

    points_per_decade: Annotated[int, Field(ge=1, le=1000)] = 50


class Checkpoint(_Strict):
    """How often a running pack is saved, and which final states are kept."""

    every_s: Annotated[float, Field(gt=0)] = 60.0
    keep: Literal["all", "censored", "none"] = "all"


class Resources(_Strict):
    """What one pack gets; `gpu` may be a fraction; `pack` is the number of trials fused."""

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    pack: Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000)] = "auto"


def _criterion_kind(value: Any) -> str:
    per_task = (
        isinstance(value, dict)
        and value
        and all(isinstance(v, dict | Criterion) for v in value.values())
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


class GridFile(_Strict):
    """A whole grid file."""

    name: Annotated[str, Field(pattern=NAME)]
    trainable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")] = "trainables.grokking"
    fixed: dict[str, Any] = {}
    grid: Blocks = []
    exclude: list[str] | str = []
    seeds: (
        Annotated[int, Field(ge=1, le=MAX_AXIS)]
        | Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    ) = 1
    criterion: Criteria | None = None
    stop: Stop = Stop()
    log: Log = Log()
    checkpoint: Checkpoint = Checkpoint()
    resources: Resources = Resources()
    search: dict[str, Any] | None = None

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


_REMEDIES = {
    "name": "A name is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit.",
    "seeds": "Write a number of seeds from 1, or a list of them.",
    "trainable": "Name a Python module, e.g. trainables.grokking.",
}


def validate(document: Document) -> GridFile:
    """Return the file's content as a `GridFile`.

    Raises:
        ConfigError: Every mistake in the file's shape, each with its place.
    """
    value = document.value
    if not isinstance(value, dict):
        what = "empty" if value is None else f"a {type(value).__name__}"
        raise ConfigError(
            f"{document.source}:1:1: the file is {what}. It needs keys: name, fixed, grid, ..."
        )
    try:
        return GridFile.model_validate(value, strict=True)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for item in error.errors():
            place, message = _explain(document, item)
            problems.setdefault(place, f"{place}: {message}")  # a union tells each place twice
        raise ConfigError(list(problems.values())) from None


def _explain(document: Document, item: Any) -> tuple[str, str]:
    """Return (place, message) of one of pydantic's errors."""
    path = _real_path(document.value, item["loc"])
    name = ".".join(str(p) for p in path) or "file"
    if item["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        parent = ".".join(str(p) for p in path[:-1])
        where = f"{parent} has no key" if parent else "unknown key"
        return document.place(
            *path, key=True
        ), f"{where} {path[-1]!r}. {did_you_mean(str(path[-1]), known)}"
    if item["type"] == "missing":
        return document.place(*path[:-1]), f"{name} is missing. Add it."
    shown = repr(item["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    reason = str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    remedy = _REMEDIES.get(str(path[0]), "") if path else ""
    return document.place(*path), f"{name} = {shown}: {reason}. {remedy}".rstrip()


def _real_path(value: Any, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return `loc` without the names of union members, which aren't in the file."""
    path: list[str | int] = []
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(value, dict) and (step in value or last):
            path.append(step)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            path.append(step)
            value = value[step]
    return tuple(path)


def _known_keys(parent: tuple[str | int, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "stop": Stop, "log": Log, "checkpoint": Checkpoint, "resources": Resources,
        "criterion": Criterion, "grid": Block,
    }  # fmt: skip
    if not parent:
        return list(GridFile.model_fields)
    if parent[0] == "grid" and len(parent) > 2 + (
        parent[1:2] == (0,) or isinstance(parent[1], int)
    ):
        return ["logspace", "linspace", "range"]
    model = models.get(str(parent[0]))
    return list(model.model_fields) if model else []
