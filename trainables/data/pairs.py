"""Tables of binary operations: every pair of operands, its result, and the split of the pairs.

Pairs are numbered in the order of their table, by the first operand, then by the second.

References:
    [P22] Power et al., 2022. arXiv 2201.02177
    [G25] Gu et al., 2025. arXiv 2504.03162
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from sweeper.config.fields import Values, is_import_path
from sweeper.config.trial import Trial
from sweeper.trainables.config import share, symbols
from sweeper.trainables.config.indices import indices
from sweeper.trainables.data.selected import selected
from sweeper.trainables.data.splits import parted
from sweeper.trainables.data.streams import data_seed, stream

Table = tuple[Tensor, Tensor, Tensor]
"""The operands a, b and the result c of every pair that an operation is defined on, ``[pairs]``."""


@lru_cache(maxsize=64)
def table(operation: str, p: int) -> Table:
    """Return the table of `operation` modulo p.

    Division leaves out b = 0; `div_odd_sub` divides by odd b and subtracts even ones.
    """
    a, b = _operands(p)
    inverse = torch.tensor([0, *(pow(x, -1, p) for x in range(1, p))])
    results = {
        "add": a + b,
        "sub": a - b,
        "mul": a * b,
        "div": a * inverse[b],
        "div_odd_sub": torch.where(b % 2 == 1, a * inverse[b], a - b),
        "x2_y2": a**2 + b**2,
        "x2_xy_y2": a**2 + a * b + b**2,
        "x2_xy_y2_x": a**2 + a * b + b**2 + a,
        "x3_xy": a**3 + a * b,
        "x3_xy2_y": a**3 + a * b**2 + b,
    }
    keep = (b != 0) if operation == "div" else torch.ones_like(b, dtype=torch.bool)
    return a[keep], b[keep], (results[operation] % p)[keep]


@lru_cache(maxsize=16)
def products(operation: str, degree: int) -> Table:
    """Return the table of `operation` on the permutations of `degree` things.

    Permutations are numbered in lexicographic order; (x * y)(i) = x(y(i)).
    """
    elements = torch.tensor(list(permutations(range(degree))))
    a, b = _operands(len(elements))
    x, y = elements[a], elements[b]
    xy = x.gather(1, y)
    result = {"xy": xy, "xyx_inv": xy.gather(1, x.argsort(dim=1)), "xyx": xy.gather(1, x)}
    weights = degree ** torch.arange(degree - 1, -1, -1)  # numbers in the order of the elements
    return (
        a,
        b,
        torch.searchsorted((elements * weights).sum(1), (result[operation] * weights).sum(1)),
    )


def _operands(size: int) -> tuple[Tensor, Tensor]:
    return torch.arange(size).repeat_interleave(size), torch.arange(size).repeat(size)


def table_of(values: Values) -> Table:
    """Return the table of a task's operation."""
    v: Any = values
    if v["task.name"] == "symmetric_group":
        return products(v["task.operation"], v["task.degree"])
    return table(v["task.operation"], v["task.p"])


def split_of(trial: Trial) -> tuple[Tensor, Tensor]:
    """Return the numbers of the train and test pairs of `trial`, ascending.

    floor(fraction * pairs) pairs are drawn for training: from all (`uniform`, `outliers`), from
    those with an operand above k (`square`), or with a first operand above k (`strip`). Or the
    train pairs are those that a file names (`indices`).
    """
    v: Any = trial.values
    if "selection.file" in v:
        return _named(v["selection.file"], len(table_of(v)[0]))
    name = v["selection.name"]
    if is_import_path(name):
        a, b, c = table_of(v)
        return parted(selected(trial, torch.stack([a, b], dim=1), c), len(c))
    held = name if name in ("square", "strip") else ""
    return _drawn(
        data_seed(trial), _key(v), held, v["selection.fraction"], v["selection.k"] if held else -1
    )


def labels_of(trial: Trial) -> Tensor:
    """Return the label of every pair, ``[pairs]``: its result, or a wrong one for `outliers`."""
    v: Any = trial.values
    result = table_of(v)[2]
    if not v.get("selection.k") or v["selection.name"] != "outliers":
        return result
    train, _ = split_of(trial)
    g = stream(data_seed(trial), "outliers", len(train), symbols(v))
    chosen = train[torch.randperm(len(train), generator=g)][: v["selection.k"]]
    shifts = torch.randint(1, symbols(v), (len(train),), generator=g)[: v["selection.k"]]
    labels = result.clone()
    labels[chosen] = (labels[chosen] + shifts) % symbols(v)
    return labels


def mean_step(embedding: Tensor) -> Tensor:
    """Return the mean embedding distance of neighbours ([G25]'s MED), ``[B]``, in float64.

    (1/p) sum_i ||phi(i + 1) - phi(i)|| over the operands i modulo p; for embeddings ``[B, p, d]``.
    """
    steps = (embedding.roll(-1, 1) - embedding).double()
    distances: Tensor = torch.linalg.vector_norm(steps, dim=2)
    return distances.mean(dim=1)


def _key(v: Any) -> tuple[tuple[str, Any], ...]:
    """Return the fields that `table_of` reads."""
    paths = ("task.name", "task.operation", "task.p", "task.degree")
    return tuple((path, v[path]) for path in paths if path in v)


@lru_cache(maxsize=512)
def _drawn(
    seed: int, key: tuple[tuple[str, Any], ...], held: str, fraction: float, k: int
) -> tuple[Tensor, Tensor]:
    a, b, _ = table_of(dict(key))
    order = torch.randperm(len(a), generator=stream(seed, "split", len(a)))
    if held == "square":
        order = order[(a[order] > k) | (b[order] > k)]
    elif held == "strip":
        order = order[a[order] > k]
    n_train = share(fraction, len(a))
    assert 0 < n_train <= len(order)  # by the config's constraints
    return parted(order[:n_train], len(a))


@lru_cache(maxsize=64)
def _named(file: str, size: int) -> tuple[Tensor, Tensor]:
    return parted(torch.tensor(indices(file)), size)
