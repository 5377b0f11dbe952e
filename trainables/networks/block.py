"""A block of networks: any architecture on any problem, by automatic differentiation.

One backward pass of the summed losses gives every trial its own gradient, since trials never
mix. Penalties, optimizers and their state are those of every other family.

Shape suffixes: B trials of a block, N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.packing import Pack
from trainables.blocks import Block, Weights
from trainables.config import GrokkingConfig
from trainables.config.shapes import ACTIVITY, SHAPES, side_by_side
from trainables.networks.examples import Data, Examples, Gathered, Rows
from trainables.networks.tables import ARCHITECTURES, PROBLEMS
from trainables.optimizers import needs_moments, optimizer, total_norm
from trainables.regularizers import add_gradient, decomposable, strengths
from trainables.streams import stream

EVALUATED = 1 << 22
"""Numbers that an evaluation may keep: test sets are gone through in pieces."""


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return blocks for the trials at `positions`."""
    size = side_by_side(pack.trials[0].values)
    return [Network(pack, list(positions[i : i + size])) for i in range(0, len(positions), size)]


class Network:
    """A block of networks.

    Args:
        pack: The whole pack.
        positions: Of the block's trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], positions: list[int]) -> None:
        values: Any = pack.trials[0].values
        self.positions = positions
        self._values = values
        self._trials = [pack.trials[p] for p in positions]
        self._move: Any = {"dtype": getattr(torch, values["dtype"]), "device": pack.run.device}
        self._architecture = ARCHITECTURES[values["model.name"]](values)
        problem = PROBLEMS[values["task.name"]]
        self._loss = problem.loss(values)
        self.weights = Weights(
            (len(positions),), SHAPES[values["model.name"]](values), self._architecture.held(),
            moments=needs_moments(values), **self._move,
        )  # fmt: skip
        self._initialize()
        self._load([problem.data(t) for t in self._trials])
        self._batch: int | None = values.get("optimizer.batch")
        self._epoch = -1
        self._optimizer = optimizer(pack, self.weights, lambda path: self._rows(pack.column(path)))
        self._penalties = {
            name: self._rows(column).to(**self._move) for name, column in strengths(pack).items()
        }

    def _rows(self, column: Sequence[float]) -> Tensor:
        """Return the number of each trial of the block, ``[B]``, in float64."""
        numbers = [column[p] for p in self.positions]
        return torch.tensor(numbers, dtype=torch.float64, device=self._move["device"])

    def _initialize(self) -> None:
        for i, trial in enumerate(self._trials):
            scale: Any = trial.values["model.init_scale"]
            base = self._architecture.base(trial.seed)
            for weight, start in zip(self.weights.each, base, strict=True):
                weight.real(weight.value)[i] = start * scale
        self._initial = total_norm(self.weights)

    def _load(self, data: Sequence[Data]) -> None:
        """Stack the examples of the trials."""

        def moved(tensors: Sequence[Any]) -> Any:
            if isinstance(tensors[0], Rows):
                return Gathered(tensors, **self._move)
            stacked = torch.stack(list(tensors))
            return stacked.to(**self._move if stacked.is_floating_point() else
                              {"device": self._move["device"]})  # fmt: skip

        def stacked(examples: Sequence[Examples]) -> tuple[list[Tensor | Gathered], Tensor]:
            inputs = [moved(parts) for parts in zip(*(e.inputs for e in examples), strict=True)]
            return inputs, moved([e.targets for e in examples])

        self._train = stacked([d.train for d in data])
        self._test = stacked([d.test for d in data])

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        inputs, targets = self._whole() if self._batch is None else self._minibatch(taken)
        with torch.enable_grad():
            values = [w.value.detach().requires_grad_() for w in self.weights.each]
            outputs = self._architecture.forward(values, inputs)
            loss = self._loss.each(outputs, targets).mean(dim=1).sum()
            gradients = torch.autograd.grad(loss, values)
        for weight, gradient in zip(self.weights.each, gradients, strict=True):
            weight.grad.copy_(gradient)
        for penalty, strength in self._penalties.items():
            add_gradient(self.weights.each, penalty, strength)
        self._optimizer.step(taken)

    def _whole(self) -> tuple[list[Tensor], Tensor]:
        inputs, targets = self._train
        return [x[:] for x in inputs], targets

    def _minibatch(self, taken: int) -> tuple[list[Tensor], Tensor]:
        """Return the examples of step `taken`: epochs are permutations keyed by the seed."""
        inputs, targets = self._train
        N = targets.shape[1]
        size = min(self._batch or N, N)
        epoch, index = divmod(taken, N // size)
        if epoch != self._epoch:
            self._epoch = epoch
            orders = [
                torch.randperm(N, generator=stream(t.seed, "batches", N, epoch))
                for t in self._trials
            ]
            self._order = torch.stack(orders).to(targets.device)
        chosen = self._order[:, index * size : (index + 1) * size]
        rows = torch.arange(len(self._trials), device=targets.device)[:, None]
        return [x[rows, chosen] for x in inputs], targets[rows, chosen]

    def _evaluate(
        self, side: str, examples: tuple[list[Tensor | Gathered], Tensor]
    ) -> dict[str, Tensor]:
        """Return the loss, accuracy and relative error of each trial, ``[B]``."""
        inputs, targets = examples
        N = targets.shape[1]
        sums: dict[str, Tensor] = {}
        activity = ACTIVITY[self._values["model.name"]](self._values)
        size = max(64, EVALUATED // (activity * side_by_side(self._values)))  # whoever is there
        for start in range(0, N, size):
            part = slice(start, start + size)
            wanted = targets[:, part]
            outputs = self._architecture.forward(
                [w.value for w in self.weights.each], [x[:, part] for x in inputs]
            )
            found = {"loss": self._loss.each(outputs, wanted).double().sum(dim=1)}
            if self._loss.right is not None:
                found["acc"] = self._loss.right(outputs, wanted).double().sum(dim=1)
            if self._loss.relative:
                found["off"] = (outputs - wanted).double().square().sum(dim=(1, 2))
                found["size"] = wanted.double().square().sum(dim=(1, 2))
            for name, column in found.items():
                sums[name] = sums[name] + column if name in sums else column
        rows = {f"{side}_{name}": sums[name] / N for name in ("loss", "acc") if name in sums}
        if self._loss.relative:
            rows[f"{side}_error"] = (sums["off"] / sums["size"]).sqrt()
        return rows

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every trial, ``[B]``.

        Norms are over all weights, `nuclear` summed over the weight matrices; `norm_ratio` is
        the norm of all weights over its initial value.
        """
        rows = self._evaluate("train", self._train) | self._evaluate("test", self._test)
        l1 = nuclear = torch.zeros_like(self._initial)
        for weight in self.weights.each:
            l1 = l1 + weight.value.double().abs().flatten(1).sum(dim=1)
            if len(weight.shape) > 1:
                values = torch.linalg.svdvals(decomposable(weight)[0])
                nuclear = nuclear + values.double().flatten(1).sum(dim=1)
        nuclear = torch.where(torch.isfinite(l1), nuclear, torch.nan)
        norm = total_norm(self.weights)
        return rows | {
            "l1": l1, "l2": norm, "nuclear": nuclear, "norm_ratio": norm / self._initial
        }  # fmt: skip
