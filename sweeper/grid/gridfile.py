"""The shape of a grid file: its keys and the types of their values.

`sweeper.grid.shape` checks a file against these models. `sweeper.compile` then checks the values of
the config's fields against the trainable. A file is never evaluated as Python.
"""

from __future__ import annotations

from posixpath import normpath
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from sweeper.criterion import Criterion
from sweeper.grid.search_section import Search, Seeds
from sweeper.grid.spacing import AxisValues, Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

TRAINABLE = r"^([A-Za-z_][\w.]*(:[A-Za-z_]\w*)?|\S+\.py|\S+( +\S+)+)$"
"""A module, ``module:function``, a path of a script, or a command line."""


class GridBlock(Strict):
    """One block of a grid: the product of its axes and of its groups of zipped axes.

    Attributes:
        product: Axes whose every combination is a cell.
        zip: List of groups of axes. The axes of a group have equal lengths and move together.
    """

    product: dict[str, AxisValues] = Field(default_factory=dict)
    zip: list[dict[str, AxisValues]] = Field(default_factory=list)


class Stop(Strict):
    """When a trial ends before its horizon. It is never compared with other trials.

    Attributes:
        after_generalization: End a trial once it has memorized and generalized.
        diverged: End a trial whose loss isn't finite.
    """

    after_generalization: bool = True
    diverged: bool = True


class Log(Strict):
    """The steps and the metrics that are logged.

    Attributes:
        points_per_decade: Logged steps per decade of steps; fixed per sweep.
        metrics: Names of expensive metrics, from the trainable's `Config.on_request`. They are
            no part of a trial's identity: trials that have already ended keep null.
    """

    points_per_decade: Annotated[int, Field(ge=1, le=1000)] = 50
    metrics: list[str] = Field(default_factory=list)


class CheckpointSettings(Strict):
    """How often a running pack is saved, and which final states are kept.

    Attributes:
        every_s: Seconds between two checkpoints of a pack.
        keep: Final checkpoints to keep: `all`, only those of `censored` trials, or `none`.
    """

    every_s: Annotated[float, Field(gt=0)] = 60.0
    keep: Literal["all", "censored", "none"] = "all"


class Resources(Strict):
    """The resources of one pack.

    Attributes:
        cpu: CPUs of one pack.
        gpu: GPUs of one pack; a fraction shares one GPU.
        pack: Most trials in one pack; `auto` chooses by memory and number of workers.
        timeout: Seconds without a new row after which a pack counts as hanging. It is split until
            the trial that hangs is alone, which ends as failed. By default there is no limit.
    """

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    pack: Annotated[
        Annotated[Literal["auto"], Tag("auto")]
        | Annotated[int, Field(ge=1, le=1_000_000), Tag("size")],
        Discriminator(lambda value: "auto" if isinstance(value, str) else "size"),
    ] = "auto"
    timeout: Annotated[float, Field(gt=0)] | None = None


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
    """A whole grid file.

    Attributes:
        name: Name of the sweep: its folder in the store, and its name in every other command.
        trainable: What trains: a script (``./train.py``), a command line, a function
            (``my_lab.train:train``), or a module that trains packs.
        fixed: Values that all trials share, dotted or nested. `steps`, the horizon, is required.
        grid: One block of axes, or a list of blocks. The cells are the union of the blocks.
        exclude: SQL conditions over the axes. A cell that meets one of them is left out.
        seeds: Number of seeds (0, 1, ...) or a list of seeds.
        criterion: How t1 and t2 are read from the metrics. By default, the task's criterion.
        stop: When a trial ends before its horizon.
        log: Which steps and metrics are logged.
        checkpoint: How often checkpoints are saved, and which are kept.
        resources: Resources of one pack.
        search: The search of `sweeper search`.
    """

    name: Annotated[str, Field(pattern=NAME)]
    trainable: Annotated[str, Field(pattern=TRAINABLE)] = "trainables.grokking"
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

    @field_validator("trainable")
    @classmethod
    def _normal(cls, name: str) -> str:
        """Return one spelling for each path of a script: it is part of the trials' ids."""
        if not name.endswith(".py") or " " in name:
            return name
        path = normpath(name)
        return path if path.startswith(("/", "../")) else f"./{path}"

    @property
    def blocks(self) -> list[GridBlock]:
        """The blocks of the grid. A file without blocks has one empty block: a single cell."""
        blocks = [self.grid] if isinstance(self.grid, GridBlock) else self.grid
        return blocks or [GridBlock()]

    @property
    def excludes(self) -> list[str]:
        """The exclusion rules."""
        return [self.exclude] if isinstance(self.exclude, str) else self.exclude

    @property
    def seed_list(self) -> list[int]:
        """The seeds as a list."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
