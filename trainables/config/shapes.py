"""How large networks are: the shapes of their weights, free of torch.

One definition for the networks and for the planning of packs. A new
model for networks is an entry of `SHAPES` and `ACTIVITY`; a new task one of `EXAMPLES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import prod
from typing import Any

from sweeper.trainables.config import molecules, texts
from sweeper.trainables.config.fields import IMAGES, TABLES, pairs, share, symbols
from sweeper.trainables.config.indices import indices
from sweeper.trainables.config.toy import toy_examples

Values = Mapping[str, Any]
Shape = tuple[int, ...]


def _stated(values: Values) -> tuple[int, int]:
    return values["task.inputs"], values["task.outputs"]


ENDS: dict[str, Callable[[Values], tuple[int, int]]] = {
    **dict.fromkeys(TABLES, lambda _: (4, 2)),  # two operands and a class, each of 64 bits
    "teacher_student": _stated,
    "digits": lambda _: (64, 10),
    "mnist": lambda _: (784, 10),
    "relu_regression": lambda _: (1, 1),
    "toy_addition": lambda v: (v["task.latent"], v["task.outputs"]),
    "imdb": lambda v: (v["task.length"], 1),
    "qm9": lambda v: (molecules.example(v), 1),
}
"""Task name to the numbers per example and the number of outputs."""


def ends(values: Values) -> tuple[int, int]:
    """Return the numbers per example of the task and the number of outputs."""
    known = ENDS.get(values["task.name"], _stated)  # an own task states them
    return known(values)


def dense(values: Values) -> list[Shape]:
    """Return W_1, b_1, ..., W_L, b_L of a fully connected network, or only those that it has."""
    inputs, outputs = ends(values)
    sizes = [inputs, *[values["model.width"]] * values["model.depth"], outputs]
    shapes: list[Shape] = []
    for before, after in pairwise(sizes):
        shapes.append((after, before))
        if values["model.bias"]:
            shapes.append((after,))
    return shapes if values["model.last_bias"] or not values["model.bias"] else shapes[:-1]


def _dense_activity(values: Values) -> int:
    inputs, outputs = ends(values)
    width, depth = values["model.width"], values["model.depth"]
    forward = inputs + 2 * width * depth + outputs
    return int(forward + (outputs * (2 * width * depth + inputs) if sobolev(values) else 0))


def sobolev(values: Values) -> bool:
    """Return whether the penalty `sobolev` is among the regularizers, with its Jacobians."""
    term = values.get("regularizer.terms.sobolev.strength")
    return values["regularizer.name"] == "sobolev" or term is not None


def transformer(values: Values) -> list[Shape]:
    """Return the weights of a transformer: embeddings, positions, layers, unembedding.

    ``tokens x d``, ``positions x d``; for each layer W_Q, W_K and W_V, ``heads x d/heads x d``,
    W_O, ``heads x d x d/heads``, W_in and its bias, W_out and its bias, and, where there are layer
    norms, the scale and the shift of each of two; ``results x d``.
    """
    d, heads, mlp = values["model.d"], values["model.heads"], values["model.mlp"]
    more = 2 if values["model.operator_token"] else 1  # =, o
    results = symbols(values)
    layer: list[Shape] = [*[(heads, d // heads, d)] * 3, (heads, d, d // heads)]
    layer += [(mlp, d), (mlp,), (d, mlp), (d,)]
    layer += [(d,)] * 4 if values["model.layer_norm"] else []
    return [(results + more, d), (2 + more, d), *layer * values["model.layers"], (results, d)]


def _transformer_activity(values: Values) -> int:
    d, mlp, layers = values["model.d"], values["model.mlp"], values["model.layers"]
    norms = 4 * d if values["model.layer_norm"] else 0
    last = 7 * d + mlp + norms
    inner = 2 * (9 * d + mlp + norms)  # at b and at =; what depends on a alone is small
    return int(last + (layers - 1) * inner + 2 * symbols(values))


SHAPES: dict[str, Callable[[Values], list[Shape]]] = {
    "dense": dense,
    "transformer": transformer,
    "lstm": texts.lstm,
    "message_passing": molecules.message_passing,
}
"""Model name to the shapes of the weights of one trial."""

ACTIVITY: dict[str, Callable[[Values], int]] = {
    "dense": _dense_activity,
    "transformer": _transformer_activity,
    "lstm": lambda v: v["task.length"] * texts.lstm_moment(v),
    "message_passing": molecules.message_passing_activity,
}
"""Model name to the numbers that the forward pass of one example keeps for the backward pass."""


def table(values: Values) -> tuple[int, int]:
    """Return the numbers of train and test pairs of a table."""
    file, size = values.get("selection.file"), pairs(values)
    train = share(values["selection.fraction"], size) if file is None else len(indices(file))
    return train, size - train


EXAMPLES: dict[str, Callable[[Values], tuple[int, int]]] = {
    **dict.fromkeys(TABLES, table),
    "toy_addition": lambda v: toy_examples(v["task.symbols"], v["task.N"]),
}
"""Task name to the numbers of train and test examples, where they are not N and N_test."""


OWN_PARAMETERS, OWN_ACTIVITY, OWN_EXAMPLES = 1 << 14, 1 << 10, (1 << 10, 1 << 10)
"""Assumed sizes of a user's own model and task, which are unknown before they are made."""


def parameters(values: Values) -> int:
    """Return how many numbers one trial trains; an assumed number for a user's own model."""
    known = SHAPES.get(values["model.name"])
    return OWN_PARAMETERS if known is None else sum(prod(shape) for shape in known(values))


def activity(values: Values) -> int:
    """Return the numbers that one example's forward pass keeps; assumed for a user's own model."""
    known = ACTIVITY.get(values["model.name"])
    return OWN_ACTIVITY if known is None else known(values)


def examples(values: Values) -> tuple[int, int]:
    """Return the numbers of train and test examples; assumed numbers for a user's own task."""
    known = EXAMPLES.get(values["task.name"])
    if known is not None:
        return known(values)
    return (values["task.N"], values["task.N_test"]) if "task.N_test" in values else OWN_EXAMPLES


def step_numbers(values: Values) -> int:
    """Return how many numbers one step of one trial leaves in memory, weights not counted."""
    N = examples(values)[0]
    return min(N, values.get("optimizer.batch") or N) * activity(values)


def data_numbers(values: Values) -> int:
    """Return the numbers of one trial's examples; an image counts as a row number in a table."""
    numbers = 4 if values["task.name"] in IMAGES else sum(ends(values))
    return sum(examples(values)) * numbers


CACHE = 1 << 21
"""Numbers that the trials of one block may keep: beyond, larger blocks are no faster."""

FEW, MOST = 16, 256
"""Trials of a block at least, and at most.

Fewer are slower even where one network fills the caches, because Python, autograd and torch take
the same time for one network as for all.
"""


PASSES: dict[str, Callable[[Values], int]] = {
    "lstm": lambda v: max(1, v["task.length"] // 4),
    "message_passing": lambda _: 16,
}
"""Model name to the parts, one after another, that a step goes through memory in."""


def side_by_side(values: Values) -> int:
    """Return how many trials train in the same tensors, at most: many small ones, or few large."""
    known = PASSES.get(values["model.name"])
    numbers = step_numbers(values) // (1 if known is None else known(values))
    size = CACHE // (numbers + 2 * parameters(values))
    return min(MOST, max(FEW, size // FEW * FEW))
