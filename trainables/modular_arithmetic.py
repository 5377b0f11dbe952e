"""Modular arithmetic: MLPs on the table of a binary operation, many at once.

Two separate embeddings of the operands, multiplied elementwise, `depth` hidden ReLU layers, no
biases. Every weight starts at init_scale * U(+-1/sqrt(fan_in)); an embedding is a linear map of
one-hot operands, so its fan_in is p. The loss is the mean cross-entropy in nats.

Shape suffixes: B trials of a block, N examples, p modulus, d embedding, h hidden. Logits are
kept transposed, [B, p, N]: products with few columns are slow. The backward pass is written
out: an automatic one took more than twice the time of a step.

References:
    [P22] Power et al., 2022. arXiv 2201.02177
    [G25] Gu et al., 2025. arXiv 2504.03162
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sweeper.packing import Pack
from sweeper.trial import Trial
from trainables.blocks import Block, Weights
from trainables.config import GrokkingConfig
from trainables.optimizers import needs_moments, optimizer
from trainables.regularizers import add_gradient, strengths
from trainables.streams import stream

TRIALS = 8
"""Trials of a block: more don't fit into a core's cache, and are no faster."""


@lru_cache(maxsize=64)
def table(operation: str, p: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the operands a, b and the result c of every pair that `operation` is defined on.

    Division leaves out b = 0; `div_odd_sub` divides by odd b and subtracts even ones.
    """
    a = torch.arange(p).repeat_interleave(p)
    b = torch.arange(p).repeat(p)
    inverse = torch.tensor([0, *(pow(x, -1, p) for x in range(1, p))])
    results = {
        "add": a + b, "sub": a - b, "mul": a * b, "div": a * inverse[b],
        "div_odd_sub": torch.where(b % 2 == 1, a * inverse[b], a - b),
        "x2_y2": a**2 + b**2, "x2_xy_y2": a**2 + a * b + b**2,
        "x2_xy_y2_x": a**2 + a * b + b**2 + a, "x3_xy": a**3 + a * b,
        "x3_xy2_y": a**3 + a * b**2 + b,
    }  # fmt: skip
    keep = (b != 0) if operation == "div" else torch.ones_like(b, dtype=torch.bool)
    return a[keep], b[keep], (results[operation] % p)[keep]


@lru_cache(maxsize=4096)
def split(
    seed: int, operation: str, p: int, selection: str, fraction: float, k: int | None
) -> tuple[Tensor, Tensor]:
    """Return the indices of the train and test pairs, ascending.

    floor(fraction * pairs) pairs are drawn for training: from all (`uniform`), from those with
    an operand above k (`square`), or with a first operand above k (`strip`).
    """
    a, b, _ = table(operation, p)
    order = torch.randperm(len(a), generator=stream(seed, "split", len(a)))
    if selection == "square":
        order = order[(a[order] > k) | (b[order] > k)]
    elif selection == "strip":
        order = order[a[order] > k]
    n_train = int(fraction * len(a))
    if n_train > len(order):
        raise ValueError(
            f"selection.fraction = {fraction} asks for {n_train} of {len(a)} pairs, but the "
            f"hold-out {selection} with k = {k} leaves {len(order)}. Lower one of them."
        )
    train = torch.zeros(len(a), dtype=torch.bool)
    train[order[:n_train]] = True
    return train.nonzero()[:, 0], (~train).nonzero()[:, 0]


@lru_cache(maxsize=256)
def base_weights(seed: int, p: int, d: int, h: int, depth: int) -> list[Tensor]:
    """Return the initial weights for init_scale 1: E_a, E_b [p, d], W_1 [h, d], ..., W_out [p, h]."""
    g = stream(seed, "mlp", p, d, h, depth)
    shapes = shapes_of(p, d, h, depth)
    fans = [p, p, *(columns for _, columns in shapes[2:])]
    return [
        (torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1) / math.sqrt(fan)
        for shape, fan in zip(shapes, fans, strict=True)
    ]


def shapes_of(p: int, d: int, h: int, depth: int) -> list[tuple[int, int]]:
    """Return the shapes of the weights of one trial."""
    return [(p, d), (p, d), (h, d), *[(h, h)] * (depth - 1), (p, h)]


def split_of(trial: Trial) -> tuple[Tensor, Tensor]:
    """Return the train and test pairs of `trial`."""
    v: Any = trial.values
    data_seed = v["task.data_seed"]
    return split(
        trial.seed if data_seed is None else data_seed, v["task.operation"], v["task.p"],
        v["selection.name"], v["selection.fraction"], v.get("selection.k"),
    )  # fmt: skip


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return blocks of `TRIALS` trials for the trials at `positions`."""
    cuts = [list(positions[i : i + TRIALS]) for i in range(0, len(positions), TRIALS)]
    return [ModularArithmetic(pack, cut) for cut in cuts]


class ModularArithmetic:
    """A block of networks.

    Args:
        pack: The whole pack.
        positions: Of the block's trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], positions: list[int]) -> None:
        values: Any = pack.trials[0].values
        self.positions = positions
        self._trials = [pack.trials[i] for i in positions]
        self._p, self._d = values["task.p"], values["model.d"]
        self._h, self._depth = values["model.width"], values["model.depth"]
        self._move = {"dtype": getattr(torch, values["dtype"]), "device": pack.run.device}
        name = values["optimizer.name"]
        self.weights = Weights(
            (len(positions),), shapes_of(self._p, self._d, self._h, self._depth),
            moments=needs_moments(name), **self._move,
        )  # fmt: skip
        for i, trial in enumerate(self._trials):
            scale: Any = trial.values["model.init_scale"]
            base = base_weights(trial.seed, self._p, self._d, self._h, self._depth)
            for weight, start in zip(self.weights.each, base, strict=True):
                weight.value[i] = start * scale
        size = len(positions) * self._p * self._d
        self._embedding = self.weights.value[: 2 * size].view(-1, self._d)
        self._embedding_grad = self.weights.grad[: 2 * size].view(-1, self._d)
        self._batch: int | None = values.get("optimizer.batch")
        self._load_table(values["task.operation"])
        self._use(self._train)
        lr = self._column(pack, "optimizer.lr")
        decay = [float(t.values["optimizer.weight_decay"]) for t in self._trials] if name == "adamw" else None  # type: ignore[arg-type]  # fmt: skip
        self._optimizer = optimizer(pack, self.weights, lr, decay)
        self._penalties = {
            penalty: torch.tensor([column[i] for i in positions], dtype=torch.float64).to(
                **self._move
            )
            for penalty, column in strengths(pack).items()
        }

    def _column(self, pack: Pack[GrokkingConfig], path: str) -> Tensor:
        column = pack.column(path)
        numbers = torch.tensor([column[i] for i in self.positions], dtype=torch.float64)
        return numbers.to(**self._move)

    def _load_table(self, operation: str) -> None:
        device = self._move["device"]
        a, b, c = (t.to(device) for t in table(operation, self._p))
        splits = [split_of(t) for t in self._trials]
        self._train = torch.stack([s[0] for s in splits]).to(device)  # [B, N]
        self._test = torch.stack([s[1] for s in splits]).to(device)
        self._operands, self._result = (a, b), c
        base = (torch.arange(len(self._trials), device=device) * self._p)[:, None]
        self._base = base, base + len(self._trials) * self._p

    def _rows(self, pairs: Tensor) -> Tensor:
        """Return the rows of both embeddings that `pairs`, [B, N], look up: [2 * B * N]."""
        a, b = self._operands
        return torch.stack([self._base[0] + a[pairs], self._base[1] + b[pairs]]).reshape(-1)

    def _use(self, pairs: Tensor) -> None:
        """Train on `pairs`, [B, N], from now on."""
        B, N = pairs.shape
        new = {"size": (B, N, self._h), **self._move}
        self._n = N
        self._lookup = self._rows(pairs)
        swapped = self._lookup.view(2, -1).flip(0).reshape(-1)
        self._scatter = swapped  # row a gets E_b * dX, row b gets E_a * dX
        target = self._result[pairs][:, None]
        self._target = torch.zeros(B, self._p, N, **self._move).scatter_(1, target, 1.0 / N)
        self._E = torch.empty(2 * B * N, self._d, **self._move)
        self._X = [torch.empty(B, N, self._d, **self._move)]
        self._X += [torch.empty(**new) for _ in range(self._depth)]
        self._dX = [torch.empty(B, N, self._d, **self._move)]
        self._dX += [torch.empty(**new) for _ in range(self._depth)]
        self._logits, self._S = (torch.empty(B, self._p, N, **self._move) for _ in range(2))

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        if self._batch is not None:
            self._use(self._minibatch(taken))
        self._forward()
        self._backward()
        for penalty, strength in self._penalties.items():
            add_gradient(self.weights.each, penalty, strength)
        self._optimizer.step(taken)

    def _minibatch(self, taken: int) -> Tensor:
        """Return the pairs of step `taken`: epochs of permutations keyed by the data seed."""
        N = self._train.shape[1]
        size = min(self._batch or N, N)
        epoch, index = divmod(taken, N // size)
        rows = []
        for trial, pairs in zip(self._trials, self._train, strict=True):
            order = torch.randperm(N, generator=stream(trial.seed, "batches", N, epoch))
            rows.append(pairs[order[index * size : (index + 1) * size].to(pairs.device)])
        return torch.stack(rows)

    def _forward(self) -> None:
        X, W = self._X, [w.value for w in self.weights.each]
        torch.index_select(self._embedding, 0, self._lookup, out=self._E)
        E_a, E_b = self._E.view(2, *X[0].shape)
        torch.mul(E_a, E_b, out=X[0])
        for i in range(self._depth):
            torch.bmm(X[i], W[2 + i].mT, out=X[i + 1]).relu_()
        torch.bmm(W[-1], X[-1].mT, out=self._logits)

    def _backward(self) -> None:
        X, dX, S = self._X, self._dX, self._S
        W, G = [w.value for w in self.weights.each], [w.grad for w in self.weights.each]
        torch.softmax(self._logits, 1, out=S)
        S.mul_(1.0 / self._n).sub_(self._target)  # d loss / d logits
        torch.bmm(S, X[-1], out=G[-1])
        torch.bmm(S.mT, W[-1], out=dX[-1])
        for i in range(self._depth, 0, -1):
            torch.ops.aten.threshold_backward.grad_input(dX[i], X[i], 0, grad_input=dX[i])
            torch.bmm(dX[i].mT, X[i - 1], out=G[1 + i])
            torch.bmm(dX[i], W[1 + i], out=dX[i - 1])
        self._E.view(2, *X[0].shape).mul_(dX[0])
        self._embedding_grad.zero_().index_add_(0, self._scatter, self._E)

    def _logits_of(self, pairs: Tensor) -> Tensor:
        """Return the logits of `pairs`, [B, N], transposed: [B, p, N]."""
        W = [w.value for w in self.weights.each]
        E = self._embedding.index_select(0, self._rows(pairs))
        E_a, E_b = E.view(2, *pairs.shape, self._d)
        x = E_a * E_b
        for i in range(self._depth):
            x = torch.bmm(x, W[2 + i].mT).relu_()
        return torch.bmm(W[-1], x.mT)

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every trial, ``[B]``.

        An answer is right if its logit is strictly the largest: a dead network, all of whose
        logits are equal, has accuracy 0. Norms are over all weights, `nuclear` summed over the
        weight matrices.
        """
        rows: dict[str, Tensor] = {}
        for side, pairs in (("train", self._train), ("test", self._test)):
            logits = self._logits_of(pairs)
            true = logits.gather(1, self._result[pairs][:, None])
            rows[f"{side}_loss"] = (torch.logsumexp(logits, 1) - true[:, 0]).mean(dim=1)
            rows[f"{side}_acc"] = ((logits >= true).sum(dim=1) == 1).double().mean(dim=1)
        each = [w.value.double() for w in self.weights.each]
        rows["l1"] = torch.stack([w.abs().sum(dim=(1, 2)) for w in each]).sum(dim=0)
        rows["l2"] = torch.stack([w.square().sum(dim=(1, 2)) for w in each]).sum(dim=0).sqrt()
        finite = torch.isfinite(rows["l1"])[:, None, None]
        values = [torch.linalg.svdvals(torch.where(finite, w, 0.0)).sum(dim=1) for w in each]
        rows["nuclear"] = torch.where(finite[:, 0, 0], torch.stack(values).sum(dim=0), math.nan)
        return rows
