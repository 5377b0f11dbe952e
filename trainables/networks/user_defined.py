"""Runs a user's own task and model, which are written for one trial, for many trials side by side.

The classes that a user subclasses are in `sweeper.trainables.config.own`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from sweeper.config.trial import Trial
from sweeper.trainables.config import own
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.selected import section, selected
from sweeper.trainables.data.splits import parted
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.losses import CLASSES, Loss, squares


def data_of(trial: Trial) -> Data:
    """Return the examples of a trial whose task is a user's own."""
    task: own.Task = section(trial, "task")
    inputs, targets = _examples(task, data_seed(trial))
    if trial.values["model.name"] == "dense":
        if inputs[0].numel() != task.inputs:
            raise ValueError(
                f"{task.name}.examples: an example has {inputs[0].numel()} numbers, and inputs = "
                f"{task.inputs}."
            )
        inputs = inputs.double()
    parts = parted(selected(trial, inputs, targets), len(targets))
    return Data(*(Examples((inputs[part],), targets[part]) for part in parts))


@lru_cache(maxsize=64)
def _examples(task: own.Task, seed: int) -> tuple[Tensor, Tensor]:
    result: Any = task.examples(stream(seed, "examples"))
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            f"{task.name}.examples has to return (inputs, targets); it returned "
            f"{type(result).__name__}."
        )
    inputs, targets = (torch.as_tensor(t) for t in result)
    wanted = "[N]" if task.loss == "cross_entropy" else "[N, outputs]"
    if len(inputs) != len(targets) or targets.dim() != len(wanted.split(",")) or not len(targets):
        raise ValueError(
            f"{task.name}.examples returned inputs {list(inputs.shape)} and targets "
            f"{list(targets.shape)}: they have to be [N, ...] and {wanted}."
        )
    if task.loss == "cross_entropy":
        if not torch.equal(targets, targets.long().to(targets)):
            raise ValueError(
                f"{task.name}.examples: targets have to be whole numbers. For other targets set "
                "loss = 'mse'."
            )
        targets = targets.long()
        if int(targets.min()) < 0 or int(targets.max()) >= task.outputs:
            raise ValueError(f"{task.name}.examples: targets have to be from 0 to outputs - 1.")
    elif targets.shape[1] != task.outputs:
        raise ValueError(
            f"{task.name}.examples: targets have {targets.shape[1]} columns, and "
            f"outputs = {task.outputs}."
        )
    if task.loss == "mse":
        targets = targets.double()
    return (inputs.double() if inputs.is_floating_point() else inputs), targets


def loss_of(task: own.Task) -> Loss:
    """Return the loss of a user's own task."""
    return CLASSES if task.loss == "cross_entropy" else Loss(squares, relative=True)


class OwnModel:
    """A user's own model: one module, called with the weights of each trial.

    Args:
        model: The section.
        shape: The shape of one example's input.
        outputs: Number of outputs that the task needs.
    """

    def __init__(self, model: own.Model, shape: tuple[int, ...], outputs: int) -> None:
        self._model, self._shape, self._outputs = model, shape, outputs
        self._module = self._made(0)
        if not isinstance(self._module, torch.nn.Module):
            raise ValueError(
                f"{model.name}.module has to return a torch.nn.Module; it returned "
                f"{type(self._module).__name__}."
            )
        if [*self._module.buffers()]:
            raise ValueError(
                f"{model.name}: a module with buffers cannot be trained here. Make "
                "them parameters, or leave them out (batch norm)."
            )
        if not all(p.requires_grad for p in self._module.parameters()):
            raise ValueError(
                f"{model.name}: every parameter is trained. Make frozen ones plain tensors."
            )
        named = dict(self._module.named_parameters())
        self._names = list(named)
        self.shapes = [tuple(p.shape) for p in named.values()]

    def _made(self, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "own model").initial_seed())
            return self._model.module(self._shape, self._outputs)

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes as they are."""
        return self.shapes

    def base(self, seed: int) -> list[Tensor]:
        """Return the module's own initial weights."""
        return [p.detach().double() for p in self._made(seed).parameters()]

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs ``[B, N, outputs]``."""
        outputs: Tensor = vmap(self._one)(dict(zip(self._names, weights, strict=True)), inputs[0])
        return outputs

    def _one(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._module, weights, (inputs,))
        if not isinstance(outputs, Tensor):
            raise ValueError(f"{self._model.name} returned no tensor but {type(outputs).__name__}.")
        if outputs.shape != (len(inputs), self._outputs):
            raise ValueError(
                f"{self._model.name} returned {list(outputs.shape)} for {len(inputs)} examples: it "
                f"has to be [N, {self._outputs}]."
            )
        return outputs
