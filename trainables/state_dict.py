"""The trained weights of one trial, read from a checkpoint as a state dict."""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.config.fields import Section
from sweeper.config.plugins import with_plugins
from sweeper.config.trial import Trial
from sweeper.errors import StoreError
from sweeper.store.checkpoint import Saved
from sweeper.trainables.config import GrokkingConfig, own
from sweeper.trainables.config.shapes import ends
from sweeper.trainables.config.weight_names import NAMES
from sweeper.trainables.data.examples import Data
from sweeper.trainables.loop import read_payload
from sweeper.trainables.networks import user_defined
from sweeper.trainables.networks.tables import PROBLEMS

PADDED = 1
"""The version of checkpoints whose weights are padded."""


def weights(payload: bytes, trial: Trial) -> dict[str, Tensor] | None:
    """Return the weights of `trial` in a checkpoint, on the CPU; None if it doesn't hold them.

    Names are those of `sweeper.trainables.config.weight_names`, or those that a user's own module
    has. Loading runs no code but the user's own module and, for its input's shape, the examples of
    its task.

    Args:
        payload: The checkpoint's bytes.
        trial: The trial.

    Raises:
        StoreError: The checkpoint can't be read.
    """
    content = read_payload(Saved(payload, (trial.id,)))
    if trial.id not in content["trial_ids"]:
        return None
    if content["version"] <= PADDED:
        raise StoreError(
            f"the checkpoint of {trial.id} was saved by an earlier version, with padded weights. "
            "Train the trial again, or extend it by a step."
        )
    row = content["trial_ids"].index(trial.id)
    state = content["state"]
    count = sum(name.startswith("value.") for name in state)
    values = [state[f"value.{i}"][row].clone() for i in range(count)]
    named = dict(zip(_names(trial), values, strict=True))
    if trial.values["model.name"] == "lstm":
        return {
            name: _as_torch(value) if "lstm." in name else value for name, value in named.items()
        }
    return named


def _names(trial: Trial) -> list[str]:
    """Return the names of the weights, in the order of the model."""
    known = NAMES.get(str(trial.values["model.name"]))
    if known is not None:
        return known(trial.values)
    names = [(part, str(trial.values[f"{part}.name"])) for part in GrokkingConfig.parts]
    config = trial.config(with_plugins(GrokkingConfig, names))
    assert isinstance(config, GrokkingConfig)
    model: Section = config.model
    assert isinstance(model, own.Model), "every other model is in NAMES"
    shape = tuple(_data(trial, config).train.inputs[0].shape[1:])
    with torch.random.fork_rng(devices=[]):
        module = model.module(shape, ends(trial.values)[1])
    return [name for name, _ in module.named_parameters()]


def _data(trial: Trial, config: GrokkingConfig) -> Data:
    task: Section = config.task
    if isinstance(task, own.Task):
        return user_defined.data_of(trial)
    return PROBLEMS[str(trial.values["task.name"])].data(trial)


def _as_torch(weight: Tensor) -> Tensor:
    """Return the rows of an LSTM's gates in torch's order, i f g o; here they are o i f g."""
    o, *others = weight.chunk(4)
    return torch.cat([*others, o])
