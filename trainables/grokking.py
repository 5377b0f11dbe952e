"""The trainable of the papers: sparse recovery and modular arithmetic, fused.

Importing this module doesn't import torch: a driver needs only the config. `train` and `probe`
load it when they are first looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.config import Config as AnyConfig
from trainables.config import GrokkingConfig as Config
from trainables.config import ModularArithmetic, SparseRecovery

if TYPE_CHECKING:
    from trainables.loop import device, probe, train

__all__ = ["Config", "device", "memory_bytes", "probe", "train", "useful_size"]


def memory_bytes(config: AnyConfig) -> int:
    """Return the bytes that one trial adds to a pack: weights, gradients, moments, activations."""
    assert isinstance(config, Config)
    size = 8 if config.dtype == "float64" else 4
    task, model = config.task, config.model
    if isinstance(task, SparseRecovery):
        per_data = 3 * task.N * task.n  # X, its transpose and its pseudo-inverse, if not shared
        return size * (per_data + 8 * 8 * task.n + 8 * 2 * task.N)
    assert isinstance(task, ModularArithmetic)
    pairs = task.p**2
    p, d, h = task.p, getattr(model, "d", 64), getattr(model, "width", 128)
    depth = getattr(model, "depth", 1)
    weights = 2 * p * d + d * h + (depth - 1) * h * h + h * p
    activations = pairs * (6 * d + 2 * (depth + 1) * h + 4 * p)
    return size * (5 * weights + activations)


def useful_size(config: AnyConfig) -> int:
    """Return the pack size beyond which a trial-step gets no cheaper (`benchmarks/packing.py`)."""
    assert isinstance(config, Config)
    return 512 if isinstance(config.task, SparseRecovery) else 32


def __getattr__(name: str) -> Any:
    """Load the tensors' side on first use."""
    if name in ("train", "probe", "device"):
        from trainables import loop

        return getattr(loop, name)
    raise AttributeError(name)
