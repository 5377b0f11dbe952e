"""The trainable of the papers: sparse recovery, low-rank matrices, modular arithmetic; fused.

Importing this module does not import torch: a driver needs only the config. `train` and `probe`
load it when they are first looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.config.fields import Config as AnyConfig
from sweeper.trainables.config import (
    MLP,
    Diagonal,
    Factorised,
    MatrixCompletion,
    MatrixSensing,
    Product,
    SparseRecovery,
    pairs,
    shapes,
    share,
    symbols,
)
from sweeper.trainables.config import GrokkingConfig as Config

if TYPE_CHECKING:
    from sweeper.trainables.loop import device, probe, train

EIGHT = 8
"""Slots that a data set of sparse recovery has at least."""

PADDING = 24
"""An upper bound of the padding of vectors (`sweeper.trainables.batch.shared`)."""

__all__ = ["Config", "device", "memory_bytes", "probe", "train", "useful_size"]


def memory_bytes(config: AnyConfig) -> int:
    """Return the bytes that one trial adds to a pack, if it shares its data with none of them."""
    assert isinstance(config, Config)
    size = 8 if config.dtype == "float64" else 4
    copies = config.optimizer.tensors
    task, model = config.task, config.model
    if isinstance(task, SparseRecovery) and isinstance(model, Product | Diagonal):
        matrices = 3 + config.optimizer.inverse  # X as it is drawn, X, X^T, its pseudo-inverse
        if isinstance(model, Diagonal):
            tensors = model.depth * copies
        else:
            tensors = (2 if model.sign_free else 1) * (copies + (model.depth > 2))
            tensors += model.sign_free and model.depth > 1
        N, n = task.N + PADDING, task.n + PADDING
        return size * (matrices * N * n + EIGHT * ((tensors + 3) * n + 2 * N))
    if isinstance(task, MatrixCompletion | MatrixSensing):
        return _matrix_bytes(config, copies)
    if not isinstance(model, MLP):
        return _network_bytes(config, size, copies)
    flat = _flat(config)
    p, d, h, depth = symbols(flat), model.d, model.width, model.depth
    weights = 2 * p * d + d * h + (depth - 1) * h * h + h * p
    n = share(getattr(config.selection, "fraction", None) or 1.0, pairs(flat))
    seen = min(n, getattr(config.optimizer, "batch", None) or n)
    rows = 4 * d if model.embedding == "hadamard" else 6 * d
    scratch = seen * (rows + 2 * depth * h + 2 * p)  # of a block of eight; as if a pack had two
    return size * (copies * weights + scratch // 2) + 32 * n


def _matrix_bytes(config: Config, copies: int) -> int:
    """Return `memory_bytes` of a low-rank trial; its scratch is in float64 whatever the dtype."""
    task, model = config.task, config.model
    assert isinstance(task, MatrixCompletion | MatrixSensing)
    n1, n2 = task.n1 + EIGHT, task.n2 + EIGHT  # about as padded
    depth, width = 1, 0
    if isinstance(model, Factorised):
        depth, width = model.depth, (model.width or min(task.n1, task.n2)) + EIGHT
    factors = n1 * n2 if depth == 1 else width * (n1 + n2 + (depth - 2) * width)
    measurements = 3 * n1 * n2
    if isinstance(task, MatrixSensing):  # X, X^T, pseudo-inverse, rows of the data set
        measurements = 3 * task.N * task.n1 * task.n2 + EIGHT * 2 * (task.N + n1 * n2)
    return 8 * (copies * factors + measurements + depth * n1 * n2 + 6 * max(n1, n2) ** 2)


def _network_bytes(config: Config, size: int, copies: int) -> int:
    """Return `memory_bytes` of a network that is trained by automatic differentiation."""
    values = _flat(config)
    numbers = (copies + 2) * shapes.parameters(values) + shapes.data_numbers(values)
    return size * (numbers + 2 * shapes.step_numbers(values))


def _flat(config: Config) -> dict[str, Any]:
    """Return the fields of the parts of `config` by their paths."""
    parts = [(part, getattr(config, part)) for part in config.parts]
    return {f"{part}.{field}": v for part, section in parts for field, v in section}


def useful_size(config: AnyConfig) -> int:
    """Return the pack size beyond which a step gets no cheaper per trial (`benchmarks.packing`)."""
    assert isinstance(config, Config)
    if isinstance(config.task, MatrixCompletion | MatrixSensing):
        return 64
    if isinstance(config.task, SparseRecovery):
        return 1024
    if isinstance(config.model, MLP):
        return 32
    return max(8, shapes.side_by_side(_flat(config)))


def __getattr__(name: str) -> Any:
    """Load the tensors' side on first use."""
    if name in ("train", "probe", "device", "device_count", "device_memory"):
        from sweeper.trainables import loop

        return getattr(loop, name)
    if name == "weights":
        from sweeper.trainables import state_dict

        return state_dict.weights
    raise AttributeError(name)
