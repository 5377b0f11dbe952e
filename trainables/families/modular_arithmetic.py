"""MLPs on the table of a binary operation, many at once.

Two separate embeddings of the operands, combined to one input
(`sweeper.trainables.families.combinations`), `depth` hidden ReLU layers, no biases. Every weight
starts at init_scale * U(+-1/sqrt(fan_in)); an embedding is a linear map of one-hot operands, so its
fan_in is p. Or, with the init `fan_out`, the weights behind the embeddings start at init_scale *
N(0, 1/fan_out) [N25]; with `normal`, all weights as init_scale * N(0, 1). The loss is the mean
cross-entropy in nats.

Shape suffixes: B trials of a block, N examples, p operands, d embedding, h hidden (both padded
with zeros, see `sweeper.trainables.batch.weights`). Logits are
kept transposed, [B, p, N]: products with few columns are slow. The backward pass is written
out: an automatic one took more than twice the time of a step.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718, Figs 1, 2, 30 and their code
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sweeper.packing import Pack
from sweeper.trainables.batch.weights import Block, Placement, Weights, padded
from sweeper.trainables.config import GrokkingConfig, symbols
from sweeper.trainables.config.fields import MODULAR
from sweeper.trainables.data.batches import Batches
from sweeper.trainables.data.pairs import labels_of, mean_step, split_of, table_of
from sweeper.trainables.data.streams import stream
from sweeper.trainables.families.combinations import combination
from sweeper.trainables.optim.norms import total_norm
from sweeper.trainables.optim.optimizers import optimizer
from sweeper.trainables.optim.optional_metrics import (
    gradient_ratio,
    layer_norms,
    layer_singular_values,
)
from sweeper.trainables.optim.regularizers import add_gradient, decomposable, strengths

TRIALS = 8
"""Trials of a block: more do not fit into a core's cache, and are no faster."""


@lru_cache(maxsize=32)
def base_weights(
    seed: int, p: int, d: int, h: int, depth: int, init: str = "default"
) -> list[Tensor]:
    """Return the initial weights for init_scale 1: E_a, E_b, W_1, ..., W_out."""
    g = stream(seed, "mlp", p, d, h, depth)
    shapes = shapes_of(p, d, h, depth)
    fans = [p, p, *(columns for _, columns in shapes[2:])]
    weights = []
    for place, (shape, fan) in enumerate(zip(shapes, fans, strict=True)):
        if init == "normal" or (init == "fan_out" and place >= 2):
            normal = torch.randn(*shape, generator=g, dtype=torch.float64)
            weights.append(normal / math.sqrt(shape[0] if init == "fan_out" else 1))
        else:
            uniform = torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1
            weights.append(uniform / math.sqrt(fan))
    return weights


def shapes_of(p: int, d: int, h: int, depth: int) -> list[tuple[int, int]]:
    """Return the shapes of the weights of one trial."""
    return [(p, d), (p, d), (h, d), *[(h, h)] * (depth - 1), (p, h)]


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return blocks of `TRIALS` trials for the trials at `positions`; they share their scratch."""
    cuts = [list(positions[i : i + TRIALS]) for i in range(0, len(positions), TRIALS)]
    scratch: dict[tuple[int, int], Scratch] = {}
    return [ModularArithmeticBlock(pack, cut, scratch) for cut in cuts]


class Scratch:
    """The buffers of one step of B trials on N pairs; nothing in them outlives the step.

    Attributes:
        E: Looked-up rows of both embeddings, ``[2 * B * N, d]``.
        dE: Their gradients; `E` itself where those can take its place.
        X: Input of each layer, ``[B, N, d or h]``.
        dX: Its gradient.
        logits: ``[B, p, N]``.
        S: Gradient of the logits.
    """

    def __init__(
        self,
        B: int,
        N: int,
        p: int,
        d: int,
        h: int,
        depth: int,
        *,
        in_place: bool,
        place: Placement,
    ) -> None:
        widths = [d] + [h] * depth
        self.E = torch.empty(2 * B * N, d, **place)
        self.dE = self.E if in_place else torch.zeros(2 * B * N, d, **place)
        self.X = [torch.zeros(B, N, width, **place) for width in widths]
        self.dX = [torch.empty(B, N, width, **place) for width in widths]
        self.logits, self.S = (torch.empty(B, p, N, **place) for _ in range(2))


class ModularArithmeticBlock:
    """A block of networks.

    Args:
        pack: The whole pack.
        positions: Of the block's trials in the pack.
        scratch: Buffers by (B, N), shared by the blocks of the pack.
    """

    def __init__(
        self,
        pack: Pack[GrokkingConfig],
        positions: list[int],
        scratch: dict[tuple[int, int], Scratch],
    ) -> None:
        values: Mapping[str, Any] = pack.trials[0].values
        self.positions = positions
        self._shared = scratch
        self._trials = [pack.trials[i] for i in positions]
        self._numbers = values["task.name"] in MODULAR
        self._p, self._depth = symbols(values), values["model.depth"]
        self._d, self._h = padded(values["model.d"]), padded(values["model.width"])
        self._combination = combination(values["model.embedding"], values["model.d"])
        self._place: Placement = {
            "dtype": getattr(torch, values["dtype"]),
            "device": pack.run.device,
        }
        self._requested = pack.run.metrics
        self.weights = self._initialized(values)
        self._initial = total_norm(self.weights)
        size = len(positions) * self._p * self._d
        self._embedding = self.weights.value[: 2 * size].view(-1, self._d)
        self._embedding_grad = self.weights.grad[: 2 * size].view(-1, self._d)
        self._load_table(values)
        self._batches: Batches | None = None
        if values.get("optimizer.batch") is not None:
            seeds = [t.seed for t in self._trials]
            self._batches = Batches(values, seeds, self._train.shape[1], self._train.device)
        self._use(self._train if self._batches is None else self._minibatch(0))
        self._penalties = {
            penalty: self._rows(column).to(self.weights.value)
            for penalty, column in strengths(pack).items()
        }
        self._optimizer = optimizer(pack, self, lambda path: self._rows(pack.column(path)))

    def _initialized(self, values: Mapping[str, Any]) -> Weights:
        """Return the weights at the start."""
        d, h, depth = (values[path] for path in ("model.d", "model.width", "model.depth"))
        weights = Weights(
            (len(self.positions),),
            shapes_of(self._p, d, h, depth),
            shapes_of(self._p, self._d, self._h, depth),
            **self._place,
        )
        for i, trial in enumerate(self._trials):
            scale: Any = trial.values["model.init_scale"]
            base = base_weights(trial.seed, self._p, d, h, depth, values["model.init"])
            for weight, start in zip(weights.each, base, strict=True):
                weight.real(weight.value)[i] = start * scale
        return weights

    def _rows(self, column: Sequence[float]) -> Tensor:
        """Return the number of each trial of the block, ``[B]``, in float64."""
        numbers = [column[i] for i in self.positions]
        return torch.tensor(numbers, dtype=torch.float64, device=self._place["device"])

    def _load_table(self, values: Any) -> None:
        device = self._place["device"]
        a, b, _ = (t.to(device) for t in table_of(values))
        splits = [split_of(t) for t in self._trials]
        self._train = torch.stack([s[0] for s in splits]).to(device)  # [B, N]
        self._test = torch.stack([s[1] for s in splits]).to(device)
        self._operands = a, b
        self._labels = torch.stack([labels_of(t) for t in self._trials]).to(device)  # [B, pairs]
        base = (torch.arange(len(self._trials), device=device) * self._p)[:, None]
        self._base = base, base + len(self._trials) * self._p

    def _looked_up(self, pairs: Tensor) -> Tensor:
        """Return the rows of both embeddings that `pairs`, [B, N], look up: [2 * B * N]."""
        a, b = self._operands
        return torch.stack([self._base[0] + a[pairs], self._base[1] + b[pairs]]).reshape(-1)

    def _use(self, pairs: Tensor) -> None:
        """Train on `pairs`, [B, N], from now on."""
        B, N = pairs.shape
        key = B, N
        if key not in self._shared:
            self._shared[key] = Scratch(
                B,
                N,
                self._p,
                self._d,
                self._h,
                self._depth,
                in_place=self._combination.in_place,
                place=self._place,
            )
        self._scratch = self._shared[key]
        self._lookup = self._looked_up(pairs)
        self._scatter = self._lookup
        if self._combination.in_place:  # rows of a hold the gradients of b
            self._scatter = self._lookup.view(2, -1).flip(0).reshape(-1)
        self._true = self._labels.gather(1, pairs)[:, None]  # [B, 1, N]
        self._minus = torch.tensor(-1.0 / N, **self._place).expand_as(self._true)

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        self._optimizer.step(self, taken)

    def set_gradient(self, taken: int) -> None:
        """Set the gradients of the weights to those of the loss and the penalties."""
        if self._batches is not None:
            self._use(self._minibatch(taken))
        self._forward()
        self._backward()
        self._add_penalties()

    def _add_penalties(self) -> None:
        """Add the gradients of the penalties."""
        for penalty, strength in self._penalties.items():
            add_gradient(self.weights.each, penalty, strength)

    def _minibatch(self, taken: int) -> Tensor:
        """Return the pairs of step `taken`, ``[B, batch]``."""
        assert self._batches is not None
        return self._train.gather(1, self._batches.of(taken))

    def _forward(self) -> None:
        X, W = self._scratch.X, [w.value for w in self.weights.each]
        torch.index_select(self._embedding, 0, self._lookup, out=self._scratch.E)
        self._combination.combine(self._scratch.E.view(2, *X[0].shape), X[0])
        for i in range(self._depth):
            torch.bmm(X[i], W[2 + i].mT, out=X[i + 1]).relu_()
        torch.bmm(W[-1], X[-1].mT, out=self._scratch.logits)

    def _backward(self) -> None:
        X, dX, S = self._scratch.X, self._scratch.dX, self._scratch.S
        W, G = [w.value for w in self.weights.each], [w.grad for w in self.weights.each]
        torch.softmax(self._scratch.logits, 1, out=S)
        S.mul_(1.0 / S.shape[2]).scatter_add_(1, self._true, self._minus)  # d loss / d logits
        torch.bmm(S, X[-1], out=G[-1])
        torch.bmm(S.mT, W[-1], out=dX[-1])
        for i in range(self._depth, 0, -1):
            torch.ops.aten.threshold_backward.grad_input(dX[i], X[i], 0, grad_input=dX[i])
            torch.bmm(dX[i].mT, X[i - 1], out=G[1 + i])
            torch.bmm(dX[i], W[1 + i], out=dX[i - 1])
        E, dE = self._scratch.E, self._scratch.dE
        both = (2, *X[0].shape)
        self._combination.gradients(E.view(both), dX[0], dE.view(both))
        self._embedding_grad.zero_().index_add_(0, self._scatter, dE)

    def _logits_of(self, pairs: Tensor) -> Tensor:
        """Return the logits of `pairs`, [B, N], transposed: [B, p, N]."""
        W = [w.value for w in self.weights.each]
        E = self._embedding.index_select(0, self._looked_up(pairs))
        x = E.new_zeros(*pairs.shape, self._d)
        self._combination.combine(E.view(2, *x.shape), x)
        for i in range(self._depth):
            x = torch.bmm(x, W[2 + i].mT).relu_()
        return torch.bmm(W[-1], x.mT)

    def _gradient_ratio(self) -> Tensor:
        """Return `gradient_ratio` over all train pairs, ``[B]``; gradients are spoilt."""
        self._use(self._train)
        self._forward()
        self._backward()
        loss = [weight.grad.clone() for weight in self.weights.each]
        self.weights.grad.zero_()
        self._add_penalties()
        return gradient_ratio(loss, [weight.grad for weight in self.weights.each], self.weights)

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every trial, ``[B]``.

        An answer is right if its logit is strictly the largest: a dead network, all of whose
        logits are equal, has accuracy 0. Norms are over all weights, `nuclear` summed over the
        weight matrices; `norm_ratio` is the norm of all weights over its initial value. `med` is
        the mean embedding distance of neighbours of both embeddings, where operands are numbers.
        """
        rows: dict[str, Tensor] = {}
        for side, pairs in (("train", self._train), ("test", self._test)):
            logits = self._logits_of(pairs)
            true = logits.gather(1, self._labels.gather(1, pairs)[:, None])
            rows[f"{side}_loss"] = (torch.logsumexp(logits, 1) - true[:, 0]).mean(dim=1)
            rows[f"{side}_acc"] = ((logits >= true).sum(dim=1) == 1).double().mean(dim=1)
        zero = torch.zeros(len(self.positions), dtype=torch.float64, device=self._place["device"])
        l1, nuclear = zero, zero  # one by one: the order of a sum is in its bits
        for weight in self.weights.each:
            l1 = l1 + weight.value.double().abs().sum(dim=(1, 2))
            nuclear = nuclear + torch.linalg.svdvals(decomposable(weight)[0]).double().sum(dim=1)
        nuclear = torch.where(torch.isfinite(l1), nuclear, math.nan)
        if "gradient_ratio" in self._requested:
            rows["gradient_ratio"] = self._gradient_ratio()
        if "layer_norms" in self._requested:
            rows |= layer_norms(self.weights)
        if "singular_values" in self._requested:
            rows |= layer_singular_values(self.weights)
        if self._numbers:
            E_a, E_b = (weight.value for weight in self.weights.each[:2])
            rows["med"] = (mean_step(E_a) + mean_step(E_b)) / 2
        norm = total_norm(self.weights)
        return rows | {"l1": l1, "l2": norm, "nuclear": nuclear, "norm_ratio": norm / self._initial}
