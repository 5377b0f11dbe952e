"""Sparse recovery: B trials of a = f(weights) against shared measurements.

Loss: 1/2 ||X a - y||^2 ([N25] 1.1, without 1/N). Metrics: relative errors ||X a - y|| / ||y||
and ||a - a*|| / ||a*||; test_loss is 1/2 ||a - a*||^2, the expected loss of a fresh unit
Gaussian measurement.

Shape suffixes: D data sets, M trials of a data set padded to a multiple of 8, N measurements,
n length of a. Trials of one data set share its two matrix products. n and N are padded to even
numbers with zeros: with that, and rows in eights, products came out bit-equal whatever the
pack-mates. The factors of a product start equal and have equal gradients for ever, so one
tensor stands for all of them.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.packing import Pack, data_key
from sweeper.trial import Trial
from trainables.blocks import Block, Weights
from trainables.config import GrokkingConfig
from trainables.optimizers import needs_moments, optimizer
from trainables.regularizers import add_gradient, strengths
from trainables.sparse_data import Instance, instance

ROWS = 8
"""Rows of a data set are padded to a multiple of this."""


def instance_of(trial: Trial) -> Instance:
    """Return the data of `trial`."""
    v: Any = trial.values
    data_seed = v["task.data_seed"]
    return instance(
        seed=trial.seed if data_seed is None else data_seed,
        n=v["task.n"], s=v["task.s"], N=v["task.N"], signal=v["task.signal"], snr=v["task.snr"],
        tau=v.get("selection.tau", 0.0), rng=v["task.rng"],
    )  # fmt: skip


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return blocks for the trials at `positions`: one for each padded number of trials a data set."""
    groups: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for position in positions:
        groups[data_key(pack.config_type, pack.trials[position])].append(position)
    buckets: defaultdict[int, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        buckets[len(group) + (-len(group)) % ROWS].append(group)
    return [SparseRecovery(pack, m, same) for m, same in sorted(buckets.items())]


class SparseRecovery:
    """The trials of data sets that have about equally many of them.

    Args:
        pack: The whole pack.
        m: Rows a data set, a multiple of `ROWS`.
        groups: For each data set the positions of its trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], m: int, groups: list[list[int]]) -> None:
        values: Any = pack.trials[0].values
        self.positions = [p for g in groups for p in (*g, *[-1] * (m - len(g)))]
        self._depth: int = values["model.depth"]
        self._sign_free: bool = values["model.sign_free"]
        self._solver: str = values["optimizer.name"]
        self._dtype = getattr(torch, values["dtype"])
        self._device = pack.run.device
        self._lead = (len(groups), m)
        self._load_data(pack, groups)
        D, n = len(groups), self._X.shape[2]
        count = 2 if self._sign_free else 1
        moments = needs_moments(self._solver)
        self.weights = Weights(
            self._lead, [(n,)] * count, dtype=self._dtype, device=self._device, moments=moments
        )
        scale = self._column(pack, "model.init_scale")[..., None] * self._real[:, None, :]
        for weight in self.weights.each:
            weight.value.copy_(scale)
        self._a, self._s = (torch.zeros(D, m, n).to(scale) for _ in range(2))
        self._g = torch.zeros(D, m, n).to(scale)
        self._r = torch.zeros(D, m, self._X.shape[1]).to(scale)
        lr = self._column(pack, "optimizer.lr")
        decay = self._flat(pack, "optimizer.weight_decay") if self._solver == "adamw" else None
        self._optimizer = optimizer(pack, self.weights, lr, decay)
        self._lr = lr[..., None]
        self._penalties = {
            name: torch.tensor([column[p] if p >= 0 else 0.0 for p in self.positions])
            .to(self._X).reshape(self._lead)
            for name, column in strengths(pack).items()
        }  # fmt: skip
        self._l1 = self._penalties.pop("l1", None)
        if self._solver == "projected":
            self._pinv_t = torch.linalg.pinv(self._X.double()).mT.contiguous().to(self._X)

    def _flat(self, pack: Pack[GrokkingConfig], path: str) -> list[float]:
        column = pack.column(path)
        return [float(column[p]) if p >= 0 else 0.0 for p in self.positions]

    def _column(self, pack: Pack[GrokkingConfig], path: str) -> Tensor:
        numbers = torch.tensor(self._flat(pack, path), dtype=torch.float64)
        return numbers.to(dtype=self._dtype, device=self._device).reshape(self._lead)

    def _load_data(self, pack: Pack[GrokkingConfig], groups: list[list[int]]) -> None:
        """Stack the data of every data set, padded with zeros to even sizes."""
        data = [instance_of(pack.trials[g[0]]) for g in groups]
        N, n = data[0].X.shape
        D, N2, n2 = len(data), N + N % 2, n + n % 2
        X, y = torch.zeros(D, N2, n2, dtype=torch.float64), torch.zeros(D, N2, dtype=torch.float64)
        signal = torch.zeros(D, n2, dtype=torch.float64)
        real = torch.zeros(D, n2, dtype=torch.float64)
        for i, one in enumerate(data):
            X[i, :N, :n], y[i, :N], signal[i, :n], real[i, :n] = one.X, one.y, one.signal, 1.0
        least = (torch.linalg.pinv(X) @ y[..., None])[..., 0]
        row_space = (torch.linalg.pinv(X) @ X @ signal[..., None])[..., 0]
        size = torch.linalg.vector_norm(signal, dim=-1, keepdim=True)
        # constants of each data set: a logged row carries them, so that laws are one query
        self._ls_linf = (least - signal).abs().amax(dim=-1, keepdim=True)
        self._null_floor = torch.linalg.vector_norm(signal - row_space, dim=-1, keepdim=True) / size
        move = {"dtype": self._dtype, "device": self._device}
        self._X, self._Xt = X.to(**move), X.mT.contiguous().to(**move)
        self._signal, self._real = signal.to(**move), real.to(**move)
        self._minus_y = -y.to(**move)[:, None, :].expand(D, self._lead[1], N2).contiguous()
        self._y_norm = torch.linalg.vector_norm(y, dim=-1).to(**move)[:, None]
        self._signal_norm = size.to(**move)

    def _predict(self) -> Tensor:
        """Return a, ``[D, M, n]``; a weight itself where the model is linear."""
        each = self.weights.each
        if self._depth == 1 and not self._sign_free:
            return each[0].value
        self._power(each[0].value, self._depth, self._a)
        if self._sign_free:
            self._power(each[1].value, self._depth, self._s)
            self._a.sub_(self._s)
        return self._a

    @staticmethod
    def _power(base: Tensor, exponent: int, out: Tensor) -> Tensor:
        """Write base ** exponent to `out` by multiplication."""
        if exponent == 0:
            return out.fill_(1.0)
        out.copy_(base)
        for _ in range(exponent - 1):
            out.mul_(base)
        return out

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        if self._solver == "projected":
            self._project()
            return
        a = self._predict()
        torch.baddbmm(self._minus_y, a, self._Xt, out=self._r)
        torch.bmm(self._r, self._X, out=self._g)
        if self._solver == "ista":
            self._proximal(a)
            return
        if self._l1 is not None:
            torch.sign(a, out=self._s)
            self._g.addcmul_(self._s, self._l1[..., None])
        self._pull_back()
        for name, strength in self._penalties.items():
            add_gradient(self.weights.each, name, strength)
        self._optimizer.step(taken)

    def _pull_back(self) -> None:
        """Turn the gradient on a into that on the weights, by the chain rule.

        One factor of a product gets A^(L-1) g; u of u^L - v^L gets L u^(L-1) g, v its negative.
        """
        each = self.weights.each
        if self._depth == 1:
            each[0].grad.copy_(self._g)
        else:
            self._power(each[0].value, self._depth - 1, self._s)
            torch.mul(self._s, self._g, out=each[0].grad)
        if not self._sign_free:
            return
        if self._depth > 1:
            each[0].grad.mul_(self._depth)
        self._power(each[1].value, self._depth - 1, self._s)
        torch.mul(self._s, self._g, out=each[1].grad)
        each[1].grad.mul_(-self._depth)

    def _proximal(self, a: Tensor) -> None:
        """Take ISTA's step: a gradient step on the loss, then the proximal map of lr * penalty."""
        a.addcmul_(self._g, -self._lr)
        if self._l1 is not None:
            shrunk = (a.abs() - self._lr * self._l1[..., None]).clamp_min_(0)
            torch.mul(a.sign(), shrunk, out=a)
        if "l2_sq" in self._penalties:
            a.div_(1 + self._lr * self._penalties["l2_sq"][..., None])

    def _project(self) -> None:
        """Step against the penalty, then project onto the solutions of X a = y."""
        a = self._predict()
        step = torch.zeros_like(a)
        if self._l1 is not None:
            step += self._l1[..., None] * a.sign()
        if "l2_sq" in self._penalties:
            step += self._penalties["l2_sq"][..., None] * a
        a.sub_(self._lr * step)
        torch.baddbmm(self._minus_y, a, self._Xt, out=self._r)
        torch.bmm(self._r, self._pinv_t, out=self._g)
        a.sub_(self._g)

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every row, ``[D * M]``.

        Beyond the common ones: `distance`, ||a - a*||; and the data set's constants `ls_linf`,
        ||a_LS - a*||_inf of the least-squares solution (law 2), and `null_floor`, the share of
        a* that X doesn't see, ||(I - X^+ X) a*|| / ||a*|| (law 11).
        """
        a = self._predict()
        residual = torch.baddbmm(self._minus_y, a, self._Xt)
        train = torch.linalg.vector_norm(residual, dim=-1)
        distance = torch.linalg.vector_norm(a - self._signal[:, None, :], dim=-1)
        rows = {
            "train_loss": train.square() / 2,
            "test_loss": distance.square() / 2,
            "train_error": train / self._y_norm,
            "test_error": distance / self._signal_norm,
            "l1": a.abs().sum(dim=-1),
            "l2": torch.linalg.vector_norm(a, dim=-1),
            "distance": distance,
            "ls_linf": self._ls_linf.expand(self._lead),
            "null_floor": self._null_floor.expand(self._lead),
        }
        return {name: column.reshape(-1) for name, column in rows.items()}
