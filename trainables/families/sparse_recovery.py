"""Sparse recovery: B trials of a = f(weights) against shared measurements.

Loss: 1/2 ||X a - y||^2 ([N25] 1.1, without 1/N). Metrics: relative errors ||X a - y|| / ||y||
and ||a - a*|| / ||a*||; test_loss is 1/2 ||a - a*||^2, the expected loss of a fresh unit
Gaussian measurement.

Shape suffixes: D data sets, M trials of a data set, N measurements, n length of a. Trials of
one data set share its two matrix products (`sweeper.trainables.batch.shared`). The map
from weights to a is in `sweeper.trainables.families.products`; l1 and group act on a, l2 on the
weights.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.packing import Pack, data_key
from sweeper.trainables.batch.shared import Shared, SharedProducts, slots
from sweeper.trainables.batch.weights import Block, Placement, Weights
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.data.sparse_data import SparseInstance, instance
from sweeper.trainables.data.streams import data_seed
from sweeper.trainables.families.basis_pursuit import basis_pursuit
from sweeper.trainables.families.products import DiagonalFactors, factors, starts
from sweeper.trainables.optim.norms import total_norm
from sweeper.trainables.optim.optimizers import optimizer
from sweeper.trainables.optim.optional_metrics import gradient_ratio, layer_norms, sparsity
from sweeper.trainables.optim.regularizers import add_gradient, directions, group_norms, strengths


def instance_of(trial: Trial) -> SparseInstance:
    """Return the data of `trial`."""
    v: Any = trial.values
    return instance(
        seed=data_seed(trial),
        n=v["task.n"],
        s=v["task.s"],
        N=v["task.N"],
        signal=v["task.signal"],
        snr=v["task.snr"],
        tau=v.get("selection.tau", 0.0),
        rng=v["task.rng"],
        group_size=v["task.group_size"],
        design=v["task.design"],
    )


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return a block for each number of slots that data sets need at `positions`."""
    dtype = getattr(torch, str(pack.trials[0].values["dtype"]))
    groups: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for position in positions:
        groups[data_key(pack.config_type, pack.trials[position])].append(position)
    buckets: defaultdict[int, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        buckets[slots(len(group), dtype)].append(group)
    return [SparseRecoveryBlock(pack, m, same) for m, same in sorted(buckets.items())]


class SparseRecoveryBlock:
    """The trials of data sets that have about equally many of them.

    Args:
        pack: The whole pack.
        m: Slots of a data set.
        groups: For each data set the positions of its trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], m: int, groups: list[list[int]]) -> None:
        values = pack.trials[0].values
        self.positions = [p for g in groups for p in (*g, *[-1] * (m - len(g)))]
        self._place: Placement = {
            "dtype": getattr(torch, str(values["dtype"])),
            "device": pack.run.device,
        }
        self._lead = (len(groups), m)
        self._requested = pack.run.metrics
        self._data = [instance_of(pack.trials[g[0]]) for g in groups]
        self._load_data(self._data)
        self._l1_min = (
            least_l1(self._data, self._signal).abs().sum(-1)
            if values["model.name"] == "diagonal"
            else None
        )
        self.weights = self._initialized(pack, [pack.trials[g[0]].seed for g in groups])
        self._initial = total_norm(self.weights)
        self._factors = factors(values, self.weights)
        self._fit = self._fitted()
        self._projection: SharedProducts | None = None
        self._s = torch.zeros_like(self._fit.g)
        self._penalties = {
            name: self._rows(column).to(self._signal) for name, column in strengths(pack).items()
        }
        self._l1 = self._penalties.pop("l1", None)
        self._group = self._penalties.pop("group", None)
        self._group_size = group_size(values)
        self._optimizer = optimizer(pack, self, lambda path: self._rows(pack.column(path)))
        del self._data  # only the optimizer's constructor reads them

    def _rows(self, column: Sequence[float]) -> Tensor:
        """Return the number of each row's trial, ``[D, M]`` in float64; 0 for inert rows."""
        numbers = [float(column[p]) if p >= 0 else 0.0 for p in self.positions]
        rows = torch.tensor(numbers, dtype=torch.float64, device=self._place["device"])
        return rows.reshape(self._lead)

    def _load_data(self, data: list[SparseInstance]) -> None:
        """Stack the tensors that the trials of a data set share."""
        self._n = len(data[0].signal)
        self._shared = Shared(torch.stack([one.X for one in data]), self._lead[1], **self._place)
        signal = torch.stack([one.signal for one in data]).to(**self._place)
        self._signal = torch.nn.functional.pad(signal, (0, self._shared.n - signal.shape[1]))
        # constants of each data set: a logged row carries them, so that laws are one query
        self._y_norm, self._signal_norm, self._ls_linf, self._null_floor, self._coherence = (
            torch.tensor(numbers, dtype=torch.float64).to(**self._place)[:, None]
            for numbers in (
                [float(one.y.norm()) for one in data],
                [float(one.signal.norm()) for one in data],
                [one.ls_linf for one in data],
                [one.null_floor for one in data],
                [one.coherence for one in data],
            )
        )

    def _initialized(self, pack: Pack[GrokkingConfig], seeds: Sequence[int]) -> Weights:
        """Return the weights at the start; `seeds` has one seed per data set."""
        values = pack.trials[0].values
        bases = [starts(values, seed) for seed in seeds]
        count = len(bases[0])
        weights = Weights(
            self._lead,
            [(self._n,)] * count,
            [(self._shared.n,)] * count,
            columns=self._shared.columns,
            **self._place,
        )
        init = self._rows(pack.column("model.init_scale")).to(self._signal)[..., None]
        for i, weight in enumerate(weights.each):
            base = torch.stack([base[i] for base in bases]).to(init)
            torch.mul(init, base[:, None, :], out=weight.real(weight.value))
        return weights

    def _fitted(self) -> SharedProducts:
        """Return the products of a step."""
        a = self._factors.predict()
        g = self.weights.each[0].grad if self._factors.linear else torch.zeros_like(a)
        return self._shared.fit(a, g, -torch.stack([one.y for one in self._data]))

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        self._optimizer.step(self, taken)

    def set_gradient(self, taken: int) -> None:  # noqa: ARG002
        """Set the gradients of the weights to those of the loss and the penalties."""
        a = self._factors.predict()
        g = self._fit.gradient()
        self._add_subgradients(a, g)
        self._factors.pull_back(g)
        self._add_penalties()

    def set_loss_gradient(self) -> None:
        """Set the gradients of the weights to those of the loss alone."""
        self._factors.predict()
        self._factors.pull_back(self._fit.gradient())

    def set_penalty_gradient(self) -> None:
        """Set the gradients of the weights to those of the penalties alone."""
        a, g = self._factors.predict(), self._fit.g.zero_()
        self._add_subgradients(a, g)
        self._factors.pull_back(g)
        self._add_penalties()

    def _add_subgradients(self, a: Tensor, g: Tensor) -> None:
        """Add the subgradients of the penalties on a to g."""
        if self._l1 is not None:
            torch.sign(a, out=self._s)
            g.addcmul_(self._s, self._l1[..., None])
        if self._group is not None:
            g.addcmul_(directions(a, self._group_size), self._group[..., None])

    def _add_penalties(self) -> None:
        """Add the gradients of the penalties on the weights."""
        for name, strength in self._penalties.items():
            add_gradient(self.weights.each, name, strength)

    def shrink(self, lr: Tensor) -> None:
        """Apply the proximal map of lr * penalty to a, which is the one weight itself."""
        a = self.weights.each[0].value
        if self._l1 is not None:
            shrunk = (a.abs() - (lr * self._l1)[..., None]).clamp_min_(0)
            torch.mul(a.sign(), shrunk, out=a)
        if self._group is not None:
            norms = group_norms(a, self._group_size)
            shrunk = (norms - (lr * self._group)[..., None]).clamp_min_(0)
            a.mul_(torch.where(norms > 0, shrunk / norms, 0.0))
        if "l2_sq" in self._penalties:
            a.div_((1 + lr * self._penalties["l2_sq"])[..., None])

    def descend_penalties(self, lr: Tensor) -> None:
        """Take a subgradient step on the penalties alone."""
        self.set_penalty_gradient()
        (weight,) = self.weights.each
        weight.value.sub_(lr[..., None] * weight.grad)  # rounded twice: addcmul_ rounds once

    def projection(self) -> Callable[[], None]:
        """Return the projection onto the solutions of X a = y."""
        a = self.weights.each[0].value
        pinv = torch.stack([one.pinv.mT for one in self._data])
        fit = self._projection = self._shared.projected(self._fit, pinv)

        def project() -> None:
            a.sub_(fit.gradient())

        return project

    def solver(self) -> Callable[[], None]:
        """Return the way to the solution of least l1 norm under X a = y."""
        a, data = self.weights.each[0].value, self._data

        def solve() -> None:
            a.copy_(least_l1(data, a[:, 0])[:, None, :])

        return solve

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every row, ``[D * M]``.

        Beyond the common ones: `distance`, ||a - a*||; and the data set's constants `ls_linf`,
        ||a_LS - a*||_inf of the least-squares solution (law 2), and `null_floor`, the share of
        a* that X does not measure, ||(I - X^+ X) a*|| / ||a*|| (law 11), and `coherence`
        (`sweeper.trainables.data.sparse_data`). Of `diagonal`: `l1_min`, the least l1 norm under X
        a = y, and `weights_l2`, the norm of all factors; half of its square is at least `l1` at
        depth 2 (law 16). Of what a has become: `sparsity`
        (`sweeper.trainables.optim.optional_metrics`), `on_support` and `off_support`, the norm of a
        on the support of a* and beside it (Fig. 24 of [N25]), and `norm_ratio`, the norm of all
        factors over its initial value.
        """
        a = self._factors.predict().contiguous()
        residual = self._fit.residual().contiguous()
        train = torch.linalg.vector_norm(residual, dim=-1)
        distance = torch.linalg.vector_norm(a - self._signal[:, None, :], dim=-1)
        support = self._signal[:, None, :] != 0
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
            "coherence": self._coherence.expand(self._lead),
            "sparsity": sparsity(a[..., : self._n]),
            "on_support": torch.linalg.vector_norm(torch.where(support, a, 0.0), dim=-1),
            "off_support": torch.linalg.vector_norm(torch.where(support, 0.0, a), dim=-1),
            "norm_ratio": total_norm(self.weights) / self._initial,
        }
        if self._l1_min is not None:
            rows["l1_min"] = self._l1_min[:, None].expand(self._lead)
        if isinstance(self._factors, DiagonalFactors):
            squares = torch.zeros_like(train)  # one by one: the order of a sum is in its bits
            for weight in self.weights.each:
                squares = squares + weight.norm().square()[..., 0]
            rows["weights_l2"] = squares.sqrt()
        if "gradient_ratio" in self._requested:
            rows["gradient_ratio"] = self._gradient_ratio()
        if "layer_norms" in self._requested:
            rows |= layer_norms(self.weights, self._factors.copies)
        return {name: column.reshape(-1) for name, column in rows.items()}

    def _gradient_ratio(self) -> Tensor:
        """Return `gradient_ratio`, ``[D, M]``; the weights' gradients are spoilt."""
        self.set_loss_gradient()
        loss = [weight.grad.clone() for weight in self.weights.each]
        self.set_penalty_gradient()
        return gradient_ratio(loss, [weight.grad for weight in self.weights.each], self.weights)


def least_l1(data: Sequence[SparseInstance], like: Tensor) -> Tensor:
    """Return the solution of least l1 norm of each data set, ``[D, n]``, padded with zeros.

    Args:
        data: The data sets.
        like: A tensor of the shape, dtype and device that are wanted.
    """
    solutions = torch.zeros_like(like)
    for i, one in enumerate(data):
        solutions[i, : len(one.signal)] = basis_pursuit(one.X, one.y)
    return solutions


def group_size(values: Mapping[str, Any]) -> int:
    """Return the size of the groups of the penalty `group`; 1 where it has none."""
    size = values.get("regularizer.size") or values.get("regularizer.terms.group.size")
    return size or 1
