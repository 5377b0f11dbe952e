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
from sweeper.trainables.batch.weights import Block, Placement, Weights
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.shapes import activity, side_by_side
from sweeper.trainables.data.batches import Batches
from sweeper.trainables.data.examples import Examples, Gathered, Rows
from sweeper.trainables.networks.sobolev import SobolevPenalty
from sweeper.trainables.networks.tables import HasMetrics, Problem, architecture_of, problem_of
from sweeper.trainables.optim.norms import total_norm
from sweeper.trainables.optim.optimizers import optimizer
from sweeper.trainables.optim.optional_metrics import (
    gradient_ratio,
    layer_norms,
    layer_singular_values,
)
from sweeper.trainables.optim.regularizers import add_gradient, decomposable, strengths

EVALUATED = 1 << 22
"""Numbers that an evaluation may keep: test sets are gone through in pieces."""


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return blocks for the trials at `positions`."""
    size = side_by_side(pack.trials[0].values)
    return [
        NetworkBlock(pack, list(positions[i : i + size])) for i in range(0, len(positions), size)
    ]


Stack = tuple[list[Tensor | Gathered], Tensor]
"""Inputs ``[B, N, ...]`` and targets ``[B, N]`` or ``[B, N, outputs]`` of the trials of a block."""


class NetworkBlock:
    """A block of networks.

    Args:
        pack: The whole pack.
        positions: Of the block's trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], positions: list[int]) -> None:
        values = pack.trials[0].values
        self.positions = positions
        self._values = values
        self._trials = [pack.trials[p] for p in positions]
        self._place: Placement = {
            "dtype": getattr(torch, str(values["dtype"])),
            "device": pack.run.device,
        }
        self._requested = pack.run.metrics
        problem = problem_of(pack)
        data = [problem.data(t) for t in self._trials]
        self._loss = problem.loss(values)
        self._train = self._stacked([d.train for d in data])
        self._test = self._stacked([d.test for d in data])
        self._batches: Batches | None = None
        if values.get("optimizer.batch") is not None:
            seeds, targets = [t.seed for t in self._trials], self._train[1]
            self._batches = Batches(values, seeds, targets.shape[1], targets.device)
        self._architecture, shapes = architecture_of(pack, data[0])
        self.weights = self._initialized(shapes, pack.column("model.init_scale"))
        self._initial = total_norm(self.weights)
        self._penalties = {
            name: self._rows(column).to(**self._place) for name, column in strengths(pack).items()
        }
        self._sobolev = self._compared(problem, self._penalties.pop("sobolev", None))
        self._optimizer = optimizer(pack, self, lambda path: self._rows(pack.column(path)))

    def _rows(self, column: Sequence[float]) -> Tensor:
        """Return the number of each trial of the block, ``[B]``, in float64."""
        numbers = [column[p] for p in self.positions]
        return torch.tensor(numbers, dtype=torch.float64, device=self._place["device"])

    def _initialized(self, shapes: Sequence[tuple[int, ...]], scales: Sequence[float]) -> Weights:
        """Return weights of `shapes` at the start; `scales` has one number per trial of a pack."""
        weights = Weights((len(self.positions),), shapes, self._architecture.held(), **self._place)
        for i, trial in enumerate(self._trials):
            base = self._architecture.base(trial.seed)
            for weight, start in zip(weights.each, base, strict=True):
                weight.real(weight.value)[i] = start * scales[self.positions[i]]
        return weights

    def _compared(self, problem: Problem, strength: Tensor | None) -> SobolevPenalty | None:
        """Return the Sobolev penalty with the `strength` of each trial, if there is one."""
        if strength is None:
            return None
        assert problem.jacobian is not None
        wanted = self._moved([problem.jacobian(t) for t in self._trials])
        paths = ("regularizer.squared", "regularizer.terms.sobolev.squared")
        network: Any = self._architecture
        return SobolevPenalty(
            network, wanted, strength, squared=any(self._values.get(path) for path in paths)
        )

    def _moved(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack tensors of the trials, numbers in the trials' dtype."""
        stacked = torch.stack(list(tensors))
        return stacked.to(
            **self._place if stacked.is_floating_point() else {"device": self._place["device"]}
        )

    def _inputs(self, parts: Sequence[Any]) -> Any:
        """Return the inputs of the trials ``[B, N, ...]``, or a tensor made on demand."""
        if isinstance(parts[0], Rows):
            return Gathered(parts, **self._place)
        return self._moved(parts)

    def _stacked(self, examples: Sequence[Examples]) -> Stack:
        """Return the inputs and the targets of some examples of each trial."""
        parts = zip(*(e.inputs for e in examples), strict=True)
        return [self._inputs(p) for p in parts], self._moved([e.targets for e in examples])

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        self._optimizer.step(self, taken)

    def set_gradient(self, taken: int) -> None:
        """Set the gradients of the weights to those of the loss and the penalties."""
        self._differentiate(None if self._batches is None else self._minibatch(taken))
        self._add_penalties()

    def _add_penalties(self) -> None:
        """Add the gradients of the penalties on weights."""
        for name, strength in self._penalties.items():
            add_gradient(self.weights.each, name, strength)

    def _differentiate(
        self, chosen: tuple[Tensor, Tensor] | None, *, fit: bool = True, penalty: bool = True
    ) -> None:
        """Set the weights' gradients to those of the terms that are differentiated automatically.

        Args:
            chosen: Index of the examples; None for all.
            fit: Whether the loss counts.
            penalty: Whether the penalty on Jacobians counts.
        """
        some = slice(None) if chosen is None else chosen
        inputs, targets = [x[some] for x in self._train[0]], self._train[1][some]
        with torch.enable_grad():
            values = [w.value.detach().requires_grad_() for w in self.weights.each]
            terms = []
            if fit:
                outputs = self._architecture.forward(values, inputs)
                terms.append(self._loss.each(outputs, targets).mean(dim=1).sum())
            if penalty and self._sobolev is not None:
                terms.append(self._sobolev.penalty(values, inputs, chosen).sum())
            if not terms:
                self.weights.grad.zero_()
                return
            total = torch.stack(terms).sum()
            gradients = torch.autograd.grad(total, values, materialize_grads=True)
        for weight, gradient in zip(self.weights.each, gradients, strict=True):
            weight.grad.copy_(gradient)

    def _gradient_ratio(self) -> Tensor:
        """Return `gradient_ratio` over all train examples, ``[B]``; gradients are spoilt."""
        self._differentiate(None, penalty=False)
        loss = [weight.grad.clone() for weight in self.weights.each]
        self._differentiate(None, fit=False)
        self._add_penalties()
        return gradient_ratio(loss, [weight.grad for weight in self.weights.each], self.weights)

    def _minibatch(self, taken: int) -> tuple[Tensor, Tensor]:
        """Return the index of the examples of step `taken`."""
        assert self._batches is not None
        chosen = self._batches.of(taken)
        return torch.arange(len(self._trials), device=chosen.device)[:, None], chosen

    def _evaluate(self, side: str, examples: Stack) -> dict[str, Tensor]:
        """Return the loss, accuracy and relative error of each trial, ``[B]``."""
        inputs, targets = examples
        N = targets.shape[1]
        sums: dict[str, Tensor] = {}
        each = activity(self._values)
        size = max(
            64, EVALUATED // (each * side_by_side(self._values))
        )  # whatever the block's size
        for start in range(0, N, size):
            part = slice(start, start + size)
            wanted = targets[:, part]
            outputs = self._architecture.forward(
                [w.value for w in self.weights.each], [x[:, part] for x in inputs]
            )
            columns = {"loss": self._loss.each(outputs, wanted).double().sum(dim=1)}
            if self._loss.right is not None:
                columns["acc"] = self._loss.right(outputs, wanted).double().sum(dim=1)
            if self._loss.relative:
                columns["off"] = (outputs - wanted).double().square().sum(dim=(1, 2))
                columns["size"] = wanted.double().square().sum(dim=(1, 2))
            for name, column in columns.items():
                sums[name] = sums[name] + column if name in sums else column
        rows = {f"{side}_{name}": sums[name] / N for name in ("loss", "acc") if name in sums}
        if self._loss.relative:
            rows[f"{side}_error"] = (sums["off"] / sums["size"]).sqrt()
        return rows

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every trial, ``[B]``.

        Norms are over all weights, `nuclear` summed over the weight matrices; `norm_ratio` is
        the norm of all weights over its initial value. Under the penalty `sobolev`,
        `jacobian_error` is ||J - J*||_F / ||J*||_F at the train examples; J* the teacher's.
        """
        rows = self._evaluate("train", self._train) | self._evaluate("test", self._test)
        if self._sobolev is not None:
            held = [w.value for w in self.weights.each]
            rows["jacobian_error"] = self._sobolev.error(held, [x[:] for x in self._train[0]])
        l1 = nuclear = torch.zeros_like(self._initial)
        for weight in self.weights.each:
            l1 = l1 + weight.value.double().abs().flatten(1).sum(dim=1)
            if len(weight.shape) > 1:
                values = torch.linalg.svdvals(decomposable(weight)[0])
                nuclear = nuclear + values.double().flatten(1).sum(dim=1)
        nuclear = torch.where(torch.isfinite(l1), nuclear, torch.nan)
        if isinstance(self._architecture, HasMetrics):
            rows |= self._architecture.measure([w.value for w in self.weights.each])
        if "gradient_ratio" in self._requested:
            rows["gradient_ratio"] = self._gradient_ratio()
        if "layer_norms" in self._requested:
            rows |= layer_norms(self.weights)
        if "singular_values" in self._requested:
            rows |= layer_singular_values(self.weights)
        norm = total_norm(self.weights)
        return rows | {"l1": l1, "l2": norm, "nuclear": nuclear, "norm_ratio": norm / self._initial}
