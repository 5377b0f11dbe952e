"""Sparse recovery: B trials of a = f(weights) against shared measurements.

Loss: 1/2 ||X a - y||^2 ([N25] 1.1, without 1/N). Metrics: relative errors ||X a - y|| / ||y||
and ||a - a*|| / ||a*||; test_loss is 1/2 ||a - a*||^2, the expected loss of a fresh unit
Gaussian measurement.

Shape suffixes: D data sets, M trials of a data set, N measurements, n length of a. Trials of
one data set share its two matrix products. M, N and n are padded with zeros to multiples of 8:
products then came out bit-equal whatever the pack-mates, in both dtypes and for all sizes
tried. The factors of a product start equal and have equal gradients for ever, so one tensor
stands for all of them.

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
from trainables.blocks import Block, Weights, padded
from trainables.config import GrokkingConfig
from trainables.optimizers import needs_moments, optimizer
from trainables.regularizers import add_gradient, strengths
from trainables.sparse_data import Instance, instance


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
    """Return a block for each padded number of trials that data sets have at `positions`."""
    groups: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for position in positions:
        groups[data_key(pack.config_type, pack.trials[position])].append(position)
    buckets: defaultdict[int, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        buckets[padded(len(group))].append(group)
    return [SparseRecovery(pack, m, same) for m, same in sorted(buckets.items())]


class SparseRecovery:
    """The trials of data sets that have about equally many of them.

    Args:
        pack: The whole pack.
        m: Rows a data set, padded.
        groups: For each data set the positions of its trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], m: int, groups: list[list[int]]) -> None:
        values: Any = pack.trials[0].values
        self.positions = [p for g in groups for p in (*g, *[-1] * (m - len(g)))]
        self._depth: int = values["model.depth"]
        self._sign_free: bool = values["model.sign_free"]
        self._solver: str = values["optimizer.name"]
        self._move: Any = {"dtype": getattr(torch, values["dtype"]), "device": pack.run.device}
        self._lead = (len(groups), m)
        self._load_data([instance_of(pack.trials[g[0]]) for g in groups])
        D, n = len(groups), self._X.shape[2]
        signs = 2 if self._sign_free else 1
        self.weights = Weights(
            self._lead, [(values["task.n"],)] * signs, [(n,)] * signs,
            moments=needs_moments(self._solver), **self._move,
        )  # fmt: skip
        init = self._rows(pack.column("model.init_scale")).to(self._X)
        scale = init[..., None] * self._real[:, None, :]
        for weight in self.weights.each:
            weight.value.copy_(scale)
        self._linear = self._depth == 1 and not self._sign_free
        self._a, self._s = (torch.zeros(D, m, n).to(scale) for _ in range(2))
        self._g = self.weights.each[0].grad if self._linear else torch.zeros(D, m, n).to(scale)
        self._r = torch.zeros(D, m, self._X.shape[1]).to(scale)
        deep = self._depth > 2  # at depth 2, A^(L-1) is A itself
        self._powers = [torch.empty_like(w.value) if deep else w.value for w in self.weights.each]
        self._optimizer = optimizer(pack, self.weights, lambda path: self._rows(pack.column(path)))
        self._lr = self._rows(pack.column("optimizer.lr")).to(self._X)[..., None]
        self._penalties = {
            name: self._rows(column).to(self._X) for name, column in strengths(pack).items()
        }
        self._l1 = self._penalties.pop("l1", None)

    def _rows(self, column: Sequence[float]) -> Tensor:
        """Return the number of each row's trial, ``[D, M]`` in float64; 0 for inert rows."""
        numbers = [float(column[p]) if p >= 0 else 0.0 for p in self.positions]
        rows = torch.tensor(numbers, dtype=torch.float64, device=self._move["device"])
        return rows.reshape(self._lead)

    def _load_data(self, data: list[Instance]) -> None:
        """Stack the data sets, padded with zeros."""
        N, n = data[0].X.shape
        D, N2, n2 = len(data), padded(N), padded(n)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64)

        X, y, signal, real = zeros(D, N2, n2), zeros(D, N2), zeros(D, n2), zeros(D, n2)
        pinv = zeros(D, N2, n2)
        for i, one in enumerate(data):
            X[i, :N, :n], y[i, :N], signal[i, :n], real[i, :n] = one.X, one.y, one.signal, 1.0
            pinv[i, :N, :n] = one.pinv.mT
        self._X, self._Xt = X.to(**self._move), X.mT.contiguous().to(**self._move)
        self._pinv_t = pinv.to(**self._move) if self._solver == "projected" else None
        self._signal, self._real = signal.to(**self._move), real.to(**self._move)
        minus_y = -y.to(**self._move)[:, None, :]
        self._minus_y = minus_y.expand(D, self._lead[1], N2).contiguous()
        # constants of each data set: a logged row carries them, so that laws are one query
        self._y_norm, self._signal_norm, self._ls_linf, self._null_floor = (
            torch.tensor(numbers, dtype=torch.float64).to(**self._move)[:, None]
            for numbers in (
                [float(one.y.norm()) for one in data],
                [float(one.signal.norm()) for one in data],
                [one.ls_linf for one in data],
                [one.null_floor for one in data],
            )
        )

    def _predict(self) -> Tensor:
        """Return a, ``[D, M, n]``, and leave A^(L-1) of every factor A in `_powers`."""
        values = [w.value for w in self.weights.each]
        if self._linear:
            return values[0]
        if self._depth == 1:
            return torch.sub(values[0], values[1], out=self._a)
        if self._depth > 2:
            for value, power in zip(values, self._powers, strict=True):
                torch.mul(value, value, out=power)
                for _ in range(self._depth - 3):
                    power.mul_(value)
        torch.mul(self._powers[0], values[0], out=self._a)
        if self._sign_free:
            self._a.addcmul_(self._powers[1], values[1], value=-1)
        return self._a

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
        """Turn the gradient g on a into that on the weights, by the chain rule.

        One factor of a product gets A^(L-1) g; u of u^L - v^L gets L u^(L-1) g, v its negative.
        """
        if self._linear:
            return  # g is the weight's own
        if self._sign_free and self._depth > 1:
            self._g.mul_(self._depth)
        for weight, power in zip(self.weights.each, self._powers, strict=True):
            if self._depth == 1:
                weight.grad.copy_(self._g)
            else:
                torch.mul(power, self._g, out=weight.grad)
            self._g.neg_()  # for v

    def _proximal(self, a: Tensor) -> None:
        """Take ISTA's step: a gradient step on the loss, then the proximal map of lr * penalty."""
        a.addcmul_(self._g, self._lr, value=-1)
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
        assert self._pinv_t is not None
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
