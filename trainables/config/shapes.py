"""How large networks are: the shapes of their weights, free of torch.

One definition for the tensors' side and for what the planning of packs needs to know. A new
model for networks is an entry of `SHAPES` and `ACTIVITY`; a new task one of `EXAMPLES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import prod
from typing import Any

from trainables.config.fields import IMAGES

Values = Mapping[str, Any]
Shape = tuple[int, ...]


ENDS: dict[str, Callable[[Values], tuple[int, int]]] = {
    "teacher_student": lambda v: (v["task.inputs"], v["task.outputs"]),
    "digits": lambda _: (64, 10),
    "mnist": lambda _: (784, 10),
}
"""Task name to how many numbers an example of it has, and how many outputs it wants."""


def ends(values: Values) -> tuple[int, int]:
    """Return how many numbers an example of the task has, and how many outputs it wants."""
    return ENDS[values["task.name"]](values)


def dense(values: Values) -> list[Shape]:
    """Return W_1, b_1, ..., W_L, b_L of a fully connected network, without b if it has none."""
    inputs, outputs = ends(values)
    sizes = [inputs, *[values["model.width"]] * values["model.depth"], outputs]
    found: list[Shape] = []
    for before, after in pairwise(sizes):
        found.append((after, before))
        if values["model.bias"]:
            found.append((after,))
    return found


def _dense_activity(values: Values) -> int:
    inputs, outputs = ends(values)
    return int(inputs + 2 * values["model.width"] * values["model.depth"] + outputs)


SHAPES: dict[str, Callable[[Values], list[Shape]]] = {
    "dense": dense,
}
"""Model name to the shapes of the weights of one trial."""

ACTIVITY: dict[str, Callable[[Values], int]] = {
    "dense": _dense_activity,
}
"""Model name to the numbers that the forward pass of one example keeps for the backward pass."""

EXAMPLES: dict[str, Callable[[Values], tuple[int, int]]] = {
    "teacher_student": lambda v: (v["task.N"], v["task.N_test"]),
    "digits": lambda v: (v["task.N"], v["task.N_test"]),
    "mnist": lambda v: (v["task.N"], v["task.N_test"]),
}
"""Task name to the numbers of train and test examples."""


def parameters(values: Values) -> int:
    """Return how many numbers one trial of a network trains."""
    return sum(prod(shape) for shape in SHAPES[values["model.name"]](values))


def step_numbers(values: Values) -> int:
    """Return how many numbers one step of one trial leaves in memory, weights not counted."""
    N = EXAMPLES[values["task.name"]](values)[0]
    batch = min(N, values.get("optimizer.batch") or N)
    return batch * ACTIVITY[values["model.name"]](values)


def data_numbers(values: Values) -> int:
    """Return how many numbers the examples of one trial have; images only count where to look."""
    numbers = 4 if values["task.name"] in IMAGES else sum(ends(values))
    return sum(EXAMPLES[values["task.name"]](values)) * numbers


CACHE = 1 << 20
"""Numbers that the trials of one block may keep: about what a core's caches hold."""

MOST = 256
"""Trials of a block at most."""


def side_by_side(values: Values) -> int:
    """Return how many trials train in the same tensors: many small networks, or few large."""
    size = CACHE // (step_numbers(values) + 2 * parameters(values))
    return min(MOST, size // 8 * 8) if size >= 8 else max(1, size)
