"""Types of fields that several parts have, the tasks of each family, and the sizes of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, get_args

from pydantic import Field

from sweeper.config.fields import Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

SPARSE = ("sparse_recovery",)
MODULAR = ("modular_arithmetic",)
TABLES = (*MODULAR, "symmetric_group")
TEACHER = ("teacher_student",)
IMAGES = ("digits", "mnist")
DENSE = (*TEACHER, "relu_regression", *IMAGES, "toy_addition")
NETWORKS = TABLES + DENSE + ("imdb", "qm9")
COMPLETION = ("matrix_completion",)
SENSING = ("matrix_sensing",)
MATRIX = COMPLETION + SENSING
LINEAR = SPARSE + MATRIX
"""Tasks of linear measurements, all of which are used at every step.

`DENSE` are tasks of fully connected networks, `NETWORKS` those of any network. `TABLES` are tasks
of the table of a binary operation.
"""


def share(fraction: float, whole: int) -> int:
    """Return floor(fraction * whole); 0.29 of 100 is 29, although its float product is below."""
    return math.floor(fraction * whole + 1e-9)


def table_size(operation: str, p: int) -> int:
    """Return the pairs that `operation` is defined on: division leaves out b = 0."""
    return p * (p - 1) if operation == "div" else p * p


def symbols(values: Mapping[str, Any]) -> int:
    """Return how many operands, and so results, the operation of a task of `TABLES` has."""
    p = values.get("task.p")
    return int(math.factorial(values["task.degree"]) if p is None else p)


def pairs(values: Mapping[str, Any]) -> int:
    """Return the pairs that the operation of a task of `TABLES` is defined on."""
    return table_size(values["task.operation"], symbols(values))


@cache
def installed(*packages: str) -> bool:
    """Return whether all of these packages are installed, without importing them."""
    return all(find_spec(package) is not None for package in packages)


def by_name(union: Any) -> dict[str, type[Section]]:
    """Return the sections of ``A | B | ...`` by their names."""
    return {section.model_fields["name"].default: section for section in get_args(union)}
