"""A user's own parts of a trial, and the examples that a selection selects.

The classes that a user subclasses are in `sweeper.trainables.config.own`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sweeper.config.fields import is_import_path
from sweeper.config.plugins import load_plugin
from sweeper.config.trial import Trial
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.fields import share
from sweeper.trainables.data.streams import data_seed, stream


def section(trial: Trial, part: str) -> Any:
    """Return the own choice of `trial` for `part`, with the trial's values."""
    values = trial.values
    head = f"{part}."
    fields = {p.removeprefix(head): v for p, v in values.items() if p.startswith(head)}
    return load_plugin(GrokkingConfig, part, str(values[f"{part}.name"])).model_validate(fields)


def selected(trial: Trial, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the indices of the train examples among all, ascending.

    Raises:
        ValueError: The selection returned no indices, or left nothing to train or to test on.
    """
    v: Any = trial.values
    name, N = v["selection.name"], len(targets)
    g = stream(data_seed(trial), "split", N)
    if is_import_path(name):
        result = section(trial, "selection").train(inputs.clone(), targets.clone(), g)
        train = _indices(name, result, N)
    else:
        train = torch.randperm(N, generator=g)[: share(v["selection.fraction"], N)]
    chosen: Tensor = torch.unique(train)
    if not 0 < len(chosen) < N or chosen[0] < 0 or chosen[-1] >= N:
        raise ValueError(
            f"{name} selects {len(chosen)} of {N} examples: indices have to be from 0 to N - 1, "
            "with at least one example to train on and one to test on."
        )
    return chosen


def _indices(name: str, result: Any, N: int) -> Tensor:
    """Return the result of a selection as indices.

    Raises:
        ValueError: The result is neither indices, each once, nor a mask of N examples.
    """
    wanted = f"{name}.train has to return whole numbers [n], each once, or a mask [{N}]"
    try:
        train = torch.as_tensor(result)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{wanted}; it returned {type(result).__name__}.") from error
    if train.dtype == torch.bool and train.shape == (N,):
        return train.nonzero()[:, 0]
    whole = not (train.is_floating_point() or train.is_complex() or train.dtype == torch.bool)
    if not whole or train.dim() != 1 or len(torch.unique(train)) != len(train):
        raise ValueError(f"{wanted}; it returned {train.dtype} of shape {list(train.shape)}.")
    return train.long()
