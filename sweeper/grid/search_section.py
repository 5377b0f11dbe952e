"""The shape of a grid file's section `search`: what to look for, where, and how.

Only the shape: what the paths and values mean is checked by `sweeper.searchable`, and
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
"""What an objective can name by itself: the numbers of a cell."""

MAX_CHOICES = 1000
"""Values of a categorical dimension."""


def _whole(value: Any) -> Any:
    """Return a whole number spelt as a float, such as ``1e3``, as the int that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=1, le=MAX_AXIS), BeforeValidator(_whole)]
Conditions = Annotated[dict[str, Any], Field(min_length=1)]


class Distribution(Strict):
    """What every distribution may have.

    Attributes:
        when: Path to the value, or the list of values, for which the dimension is asked at all.
    """

    when: Conditions | None = None

    @property
    def conditions(self) -> dict[str, list[Any]]:
        """`when` with a list for every path."""
        return {p: v if isinstance(v, list) else [v] for p, v in (self.when or {}).items()}


class Uniform(Distribution):
    """A number between two ends, both included: {uniform: [low, high]}.

    Attributes:
        ends: [low, high].
        step: Only low, low + step, ... up to high.
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
        step: Only low, low + step, ... up to high.
        log: Uniform in the logarithm.
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
    """Return the one kind that the mapping `value` names; None where it names none or several."""
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
    """What makes a cell good.

    Attributes:
        value: A name (amplification, delay, log_delay, t2) or SQL over the columns of `cells`.
        direction: Whether more of it is better, or less.
    """

    value: Annotated[str, Field(min_length=1)]
    direction: Direction = "maximize"

    @property
    def needs_reference(self) -> bool:
        """Whether it compares a cell with its reference cell."""
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
    """The leaders that are evaluated again at the end, on seeds that chose none of them.

    Attributes:
        top: How many leaders.
        seeds: How many fresh seeds each, or the seeds themselves.
    """

    top: Count = 5
    seeds: Seeds = 10

    def fresh(self, used: list[int]) -> list[int]:
        """Return the seeds: those listed, or the first ones that aren't among the `used`."""
        if isinstance(self.seeds, list):
            return self.seeds
        taken = set(used)
        return [s for s in range(self.seeds + len(taken)) if s not in taken][: self.seeds]


class Search(Strict):
    """How cells are suggested, and what makes one of them good.

    Attributes:
        sampler: Who suggests.
        objective: What is sought; several make a search for trade-offs.
        n_trials: Suggestions, each a cell.
        batch: Suggestions asked for at once.
        seeds: Seeds of each suggestion; null: the file's.
        space: Path to its distribution. Axes of the grid that it doesn't name are searched over
            the values they list.
        reference: What replaces these paths in the reference cell; null: the neutral value.
        finalists: The leaders that are evaluated again at the end.
        pruner: Ends weak suggestions early. Needs `unsafe_for_grokking`.
        unsafe_for_grokking: Accepts a pruner that kills late grokkers.
        sampler_seed: Seeds the suggestions.
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
        """Return the seeds of a suggestion; `usual` are the file's."""
        if self.seeds is None:
            return usual
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
