"""The shape of a grid file: which keys it has and what each may hold.

`sweeper.grid.shape` checks a file against these models. The meaning of the config's fields is
checked later, in `sweeper.compile`, against the trainable. A file is never evaluated as Python.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from sweeper.criterion import Criterion
from sweeper.grid.search_section import Search, Seeds
from sweeper.grid.spacing import AxisValues, Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class GridBlock(Strict):
    """One block of a grid: the product of its axes and of its groups of zipped axes."""

    product: dict[str, AxisValues] = Field(default_factory=dict)
    zip: list[dict[str, AxisValues]] = Field(default_factory=list)


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


class CheckpointSettings(Strict):
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
    Annotated[GridBlock, Tag("block")] | Annotated[list[GridBlock], Tag("blocks")],
    Discriminator(lambda value: "blocks" if isinstance(value, list) else "block"),
]

RuleText = Annotated[str, Field(min_length=1)]


class GridFile(Strict):
    """A whole grid file."""

    name: Annotated[str, Field(pattern=NAME)]
    trainable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")] = "trainables.grokking"
    fixed: dict[str, Any] = Field(default_factory=dict)
    grid: Blocks = Field(default_factory=list)
    exclude: Annotated[
        Annotated[RuleText, Tag("rule")] | Annotated[list[RuleText], Tag("rules")],
        Discriminator(lambda value: "rules" if isinstance(value, list) else "rule"),
    ] = Field(default_factory=list)
    seeds: Seeds = 1
    criterion: Criteria | None = None
    stop: Stop = Stop()
    log: Log = Log()
    checkpoint: CheckpointSettings = CheckpointSettings()
    resources: Resources = Resources()
    search: Search | None = None

    @property
    def blocks(self) -> list[GridBlock]:
        """The blocks of the grid; one empty block where there is none: a single cell."""
        blocks = [self.grid] if isinstance(self.grid, GridBlock) else self.grid
        return blocks or [GridBlock()]

    @property
    def excludes(self) -> list[str]:
        """The exclusion rules."""
        return [self.exclude] if isinstance(self.exclude, str) else self.exclude

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
