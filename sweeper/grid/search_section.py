"""The shape of a grid file's section `search`: objective, space, sampler.

These models check only the shape. `sweeper.compile.search_checks` checks the paths and values, and
`sweeper.space.space` turns suggestions into cells.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from sweeper.grid.spacing import MAX_AXIS, Strict

Sampler = Literal["tpe", "gp", "cmaes", "nsga2", "random", "qmc", "grid"]
Direction = Literal["maximize", "minimize"]

AMPLIFICATION = "amplification"
"""The objective that compares each cell with its reference cell."""

MEASURES = (
    AMPLIFICATION,
    "delay",
    "log_delay",
    "t1",
    "t2",
    "delay_low",
    "delay_high",
    "delay_bound",
    "t1_bound",
    "t2_bound",
    "censored_share",
    "agreement",
    "n_seeds",
    "n_memorized",
    "n_generalized",
    "n_diverged",
    "n_failed",
    "counted",
    "log_amplification",
    "amplification_lower",
    "amplification_upper",
    "reference_delay",
    "final_train",
    "final_test",
)
"""Names that an objective can consist of: the numbers of a cell."""

MAX_CHOICES = 1000
"""The most values of a categorical dimension."""


def _whole(value: Any) -> Any:
    """Return a whole number spelt as a float, such as ``1e3``, as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=1, le=MAX_AXIS), BeforeValidator(_whole)]
Conditions = Annotated[dict[str, Any], Field(min_length=1)]


class Distribution(Strict):
    """The settings that every distribution may have.

    Attributes:
        when: Condition of the dimension: path to a value, or to a list of values. Only suggestions
            that have one of these values at every path have the dimension.
    """

    when: Conditions | None = None

    @property
    def conditions(self) -> dict[str, list[Any]]:
        """The condition `when`, with a list of values per path."""
        return {p: v if isinstance(v, list) else [v] for p, v in (self.when or {}).items()}


class Uniform(Distribution):
    """A number between two ends, both included: {uniform: [low, high]}.

    Attributes:
        ends: [low, high].
        step: Suggest only low, low + step, ... up to high.
    """

    ends: Annotated[list[float], Field(alias="uniform", min_length=2, max_length=2)]
    step: Annotated[float, Field(gt=0)] | None = None


class LogUniform(Distribution):
    """A number above 0, uniform in its logarithm: {loguniform: [low, high]}.

    Attributes:
        ends: [low, high].
    """

    ends: Annotated[list[float], Field(alias="loguniform", min_length=2, max_length=2)]


class Int(Distribution):
    """A whole number between two ends, both included: {int: [low, high]}.

    Attributes:
        ends: [low, high].
        step: Suggest only low, low + step, ... up to high.
        log: Suggest uniformly in the logarithm.
    """

    ends: Annotated[list[Whole], Field(alias="int", min_length=2, max_length=2)]
    step: Count | None = None
    log: bool = False


class Categorical(Distribution):
    """One of the values listed: {categorical: [a, b]}.

    Attributes:
        choices: The values.
    """

    choices: Annotated[list[Any], Field(alias="categorical", min_length=1, max_length=MAX_CHOICES)]


KINDS: dict[str, type[Distribution]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "int": Int,
    "categorical": Categorical,
}


def _kind(value: Any) -> str | None:
    """Return the kind that the mapping `value` names; None if it names none or several."""
    if isinstance(value, Distribution):
        return next(name for name, model in KINDS.items() if type(value) is model)
    named = [kind for kind in KINDS if kind in value] if isinstance(value, dict) else []
    return named[0] if len(named) == 1 else None


AnyDistribution = Annotated[
    Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("loguniform")]
    | Annotated[Int, Tag("int")]
    | Annotated[Categorical, Tag("categorical")],
    Discriminator(_kind),
]


class Objective(Strict):
    """The quantity that a search optimizes.

    Attributes:
        value: A name (amplification, delay, log_delay, t2) or SQL over the columns of `cells`.
        direction: Whether a larger or a smaller value is better.
    """

    value: Annotated[str, Field(min_length=1)]
    direction: Direction = "maximize"

    @property
    def needs_reference(self) -> bool:
        """Whether the objective compares a cell with its reference cell."""
        return re.search(rf"{AMPLIFICATION}|\breference_", self.value) is not None


def _objective_kind(value: Any) -> str:
    return "name" if isinstance(value, str) else "full"


AnyObjective = Annotated[
    Annotated[Annotated[str, Field(min_length=1)], Tag("name")] | Annotated[Objective, Tag("full")],
    Discriminator(_objective_kind),
]

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = Annotated[
    Annotated[Count, Tag("number")]
    | Annotated[list[Seed], Field(min_length=1, max_length=MAX_AXIS), Tag("seeds")],
    Discriminator(lambda value: "seeds" if isinstance(value, list) else "number"),
]


class Finalists(Strict):
    """The best cells, evaluated again at the end on seeds that the search did not use.

    Attributes:
        top: Number of cells.
        seeds: Number of fresh seeds per cell, or a list of seeds.
    """

    top: Count = 5
    seeds: Seeds = 10

    def fresh(self, used: list[int]) -> list[int]:
        """Return the listed seeds, or else the smallest seeds that aren't among the `used` ones."""
        if isinstance(self.seeds, list):
            return self.seeds
        taken = set(used)
        return [s for s in range(self.seeds + len(taken)) if s not in taken][: self.seeds]


class Search(Strict):
    """The objective of a search, its space, and its sampler.

    Attributes:
        sampler: Optuna's sampler, which suggests cells.
        objective: The quantity to optimize. A list searches for trade-offs.
        n_trials: Number of suggestions. Each one is a cell.
        batch: Number of suggestions per round. `auto` chooses by the number of workers.
        seeds: Number of seeds per suggestion, or a list of seeds; null: the seeds of the file.
        space: Path to distribution. Axes of the grid that it doesn't name are searched over their
            listed values.
        reference: Path to value in the reference cell; null: the neutral values of the config.
        finalists: The best cells, evaluated again at the end on fresh seeds; null: none.
        pruner: Ends weak suggestions early. It needs `unsafe_for_grokking: true`.
        unsafe_for_grokking: Accept a pruner, which ends trials that would generalize late.
        sampler_seed: Seed of the sampler.
    """

    sampler: Sampler = "tpe"
    objective: Annotated[
        Annotated[AnyObjective, Tag("one")]
        | Annotated[Annotated[list[AnyObjective], Field(min_length=1)], Tag("several")],
        Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
    ] = AMPLIFICATION
    n_trials: Count = 100
    batch: Annotated[
        Annotated[Literal["auto"], Tag("auto")] | Annotated[Count, Tag("size")],
        Discriminator(lambda value: "auto" if isinstance(value, str) else "size"),
    ] = "auto"
    seeds: Seeds | None = None
    space: dict[str, AnyDistribution] = Field(default_factory=dict)
    reference: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    finalists: Finalists | None = None
    pruner: Literal["none", "median", "asha"] = "none"
    unsafe_for_grokking: bool = False
    sampler_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def objectives(self) -> list[Objective]:
        """The objectives, each with its direction."""
        several = self.objective if isinstance(self.objective, list) else [self.objective]
        return [Objective(value=o) if isinstance(o, str) else o for o in several]

    @property
    def needs_reference(self) -> bool:
        """Whether an objective compares a cell with its reference cell."""
        return any(objective.needs_reference for objective in self.objectives)

    def seed_list(self, usual: list[int]) -> list[int]:
        """Return the seeds of a suggestion; without own seeds, the `usual` ones of the file."""
        if self.seeds is None:
            return usual
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
