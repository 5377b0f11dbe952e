"""Matrix completion and sensing: B trials of A = f(weights), each against its measurements.

Loss: 1/2 ||X(A) - y||^2 ([N25] 1.1). Metrics: relative errors ||X(A) - y|| / ||y|| and
||A - A*|| / ||A*|| over the whole matrix (Frobenius); test_loss is 1/2 ||A - A*||^2. The penalties
l1 and nuclear act on A, l2 on the factors.

Shape suffixes: B trials of a block, n1 x n2 matrices, both padded to multiples of 4: then every
matrix begins at the same place of a cache line, and results do not depend on a trial's place.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
    [B25] Boursier et al., 2025. arXiv 2505.20172
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.packing import Pack
from sweeper.trainables.batch import spectra
from sweeper.trainables.batch.weights import Block, Placement, Weights, padded
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.data.matrix_data import MatrixInstance, completion, sensing
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.families.operators import (
    BilinearMeasurements,
    EntryMeasurements,
    Measurements,
)
from sweeper.trainables.optim.norms import total_norm
from sweeper.trainables.optim.optimizers import optimizer
from sweeper.trainables.optim.optional_metrics import (
    gradient_ratio,
    layer_norms,
    numbered,
    sparsity,
)
from sweeper.trainables.optim.regularizers import add_gradient, strengths

FOUR = 4
"""Rows and columns are padded to a multiple of this; 8 would double the work of 10 x 10."""

TRIALS = 64
"""Trials of a block: more do not fit into a core's cache, and are slower."""

VISIBLE = 0.01
"""Singular values below this share of the largest do not count for the effective rank."""


def instance_of(trial: Trial) -> MatrixInstance:
    """Return the data of `trial`."""
    v: Any = trial.values
    draw = completion if v["task.name"] == "matrix_completion" else sensing
    return draw(
        data_seed(trial),
        v["task.n1"],
        v["task.n2"],
        v["task.rank"],
        v["task.N"],
        v.get("selection.tau", 0.0),
    )


def blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    """Return blocks of `TRIALS` trials for the trials at `positions`."""
    return [
        LowRankBlock(pack, list(positions[i : i + TRIALS]))
        for i in range(0, len(positions), TRIALS)
    ]


@lru_cache(maxsize=512)
def base_factors(seed: int, shapes: tuple[tuple[int, int], ...]) -> list[Tensor]:
    """Return the initial factors for init_scale 1: independent N(0, 1)."""
    g = stream(seed, "factors", *shapes)
    return [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes]


class LowRankBlock:
    """A block of matrices.

    Args:
        pack: The whole pack.
        positions: Of the block's trials in the pack.
    """

    def __init__(self, pack: Pack[GrokkingConfig], positions: list[int]) -> None:
        values: Mapping[str, Any] = pack.trials[0].values
        self.positions = positions
        self._trials = [pack.trials[p] for p in positions]
        self._n1: int = values["task.n1"]
        self._n2: int = values["task.n2"]
        self._place: Placement = {
            "dtype": getattr(torch, values["dtype"]),
            "device": pack.run.device,
        }
        self._requested = pack.run.metrics
        depth: int = values.get("model.depth", 1)
        self._linear = depth == 1
        width: int = values.get("model.width") or min(self._n1, self._n2)
        sizes = [self._n1, *[width] * (depth - 1), self._n2]
        self.weights = self._initialized(pairwise(sizes))
        self._initial = total_norm(self.weights)
        self._load_data()
        self._penalties = {
            name: self._rows(column).to(**self._place) for name, column in strengths(pack).items()
        }
        self._l1 = self._penalties.pop("l1", None)
        self._nuclear = self._penalties.pop("nuclear", None)
        self._optimizer = optimizer(pack, self, lambda path: self._rows(pack.column(path)))

    def _rows(self, column: Sequence[float]) -> Tensor:
        """Return the number of each trial of the block, ``[B]``, in float64."""
        numbers = [column[p] for p in self.positions]
        return torch.tensor(numbers, dtype=torch.float64, device=self._place["device"])

    def _initialized(self, shapes: Iterable[tuple[int, int]]) -> Weights:
        """Return the factors of `shapes` at the start."""
        unpadded = tuple(shapes)
        weights = Weights(
            (len(self.positions),),
            unpadded,
            [(padded(a, FOUR), padded(b, FOUR)) for a, b in unpadded],
            **self._place,
        )
        for i, trial in enumerate(self._trials):
            scale: Any = trial.values["model.init_scale"]
            start = (
                [torch.eye(self._n1, self._n2, dtype=torch.float64)]
                if self._linear
                else base_factors(trial.seed, unpadded)
            )
            for weight, factor in zip(weights.each, start, strict=True):
                weight.real(weight.value)[i] = factor * scale
        return weights

    def _load_data(self) -> None:
        data = [instance_of(t) for t in self._trials]
        shape = torch.Size((len(data), padded(self._n1, FOUR), padded(self._n2, FOUR)))
        self._signal = torch.zeros(shape, **self._place)
        for i, one in enumerate(data):
            self._signal[i, : self._n1, : self._n2] = one.signal
        self._measurements: Measurements = (
            EntryMeasurements(data, shape, self._place)
            if data[0].X is None
            else BilinearMeasurements(data, self._place)
        )
        self._g = self.weights.each[0].grad if self._linear else torch.zeros_like(self._signal)
        self._signal_norm, self._ls_spectral, self._null_floor = (
            torch.tensor(numbers, dtype=torch.float64).to(**self._place)
            for numbers in (
                [float(one.signal.norm()) for one in data],
                [one.ls_spectral for one in data],
                [one.null_floor for one in data],
            )
        )
        ranks: Any = [t.values["task.rank"] for t in self._trials]
        self._rank = torch.tensor(ranks, device=self._place["device"])[:, None]

    def _products(self) -> list[Tensor]:
        """Return W_1, W_1 W_2, ..., of which the last is A."""
        products = [self.weights.each[0].value]
        for weight in self.weights.each[1:]:
            products.append(torch.bmm(products[-1], weight.value))
        return products

    def step(self, taken: int) -> None:
        """Take one step of every trial."""
        self._optimizer.step(self, taken)

    def set_gradient(self, taken: int) -> None:  # noqa: ARG002
        """Set the gradients of the weights to those of the loss and the penalties."""
        products = self._products()
        self._measurements.gradient(products[-1], self._g)
        self._add_subgradients(products[-1], self._g)
        self._pull_back(products)
        self._add_penalties()

    def set_loss_gradient(self) -> None:
        """Set the gradients of the weights to those of the loss alone."""
        products = self._products()
        self._measurements.gradient(products[-1], self._g)
        self._pull_back(products)

    def set_penalty_gradient(self) -> None:
        """Set the gradients of the weights to those of the penalties alone."""
        products = self._products()
        self._g.zero_()
        self._add_subgradients(products[-1], self._g)
        self._pull_back(products)
        self._add_penalties()

    def _add_penalties(self) -> None:
        """Add the gradients of the penalties on the factors."""
        for name, strength in self._penalties.items():
            add_gradient(self.weights.each, name, strength)

    def _add_subgradients(self, A: Tensor, out: Tensor) -> None:
        """Add the subgradients of the penalties on A."""
        if self._l1 is not None:
            out.addcmul_(A.sign(), self._l1[:, None, None])
        if self._nuclear is not None:
            out.addcmul_(spectra.polar(A, self._n1, self._n2), self._nuclear[:, None, None])

    def _pull_back(self, products: list[Tensor]) -> None:
        """Turn the gradient on A into that on the factors, by the chain rule."""
        if self._linear:
            return  # it is the weight's own
        rest = self._g
        for weight, before in zip(self.weights.each[:0:-1], products[-2::-1], strict=True):
            torch.bmm(before.mT, rest, out=weight.grad)
            rest = torch.bmm(rest, weight.value.mT)
        self.weights.each[0].grad.copy_(rest)

    def shrink(self, lr: Tensor) -> None:
        """Apply the proximal map of lr * penalty to A, which is the one weight itself."""
        A = self.weights.each[0].value
        if self._nuclear is not None:
            A.copy_(spectra.shrink(A, self._n1, self._n2, lr * self._nuclear))
        if "l2_sq" in self._penalties:
            A.div_((1 + lr * self._penalties["l2_sq"])[:, None, None])

    def descend_penalties(self, lr: Tensor) -> None:
        """Take a subgradient step on the penalties alone."""
        self.set_penalty_gradient()
        (weight,) = self.weights.each
        weight.value.addcmul_(weight.grad, -lr[:, None, None])

    def projection(self) -> Callable[[], None]:
        """Return the projection onto the solutions of the measurements."""
        return partial(self._measurements.project, self.weights.each[0].value)

    def metrics(self) -> dict[str, Tensor]:
        """Return the metrics of every trial, ``[B]``.

        Beyond the common ones: `distance`, ||A - A*||; `weights_l2`, the norm of all factors;
        `sigma_max`, `sigma_rank`, `sigma_next`, the first, r-th and next singular value of A, of
        which A* has r; `effective_rank`, how many are above 1 % of the first; and the data's
        constants `ls_spectral` and `null_floor` (`sweeper.trainables.data.matrix_data`). Of the
        present A: `sparsity` (`sweeper.trainables.optim.optional_metrics`) and `norm_ratio`, the
        norm of all factors over its initial value.
        """
        A = self._products()[-1]
        train = self._measurements.residual(A)
        distance = torch.linalg.vector_norm(A - self._signal, dim=(1, 2))
        s = torch.nn.functional.pad(spectra.singular_values(A), (0, 1))
        squares = torch.zeros_like(train)  # one by one: the order of a sum is in its bits
        for weight in self.weights.each:
            squares = squares + weight.norm().square()[:, 0, 0]
        rows = {
            "train_loss": train.square() / 2,
            "test_loss": distance.square() / 2,
            "train_error": train / self._measurements.norm,
            "test_error": distance / self._signal_norm,
            "l1": A.abs().sum(dim=(1, 2)),
            "l2": torch.linalg.vector_norm(A, dim=(1, 2)),
            "nuclear": s.sum(dim=-1),
            "distance": distance,
            "weights_l2": squares.sqrt(),
            "sigma_max": s[:, 0],
            "sigma_rank": s.gather(1, self._rank - 1)[:, 0],
            "sigma_next": s.gather(1, self._rank)[:, 0],
            "effective_rank": (s > VISIBLE * s[:, :1]).sum(dim=-1).double(),
            "ls_spectral": self._ls_spectral,
            "null_floor": self._null_floor,
            "sparsity": sparsity(A[:, : self._n1, : self._n2].flatten(1)),
            "norm_ratio": total_norm(self.weights) / self._initial,
        }
        if "gradient_ratio" in self._requested:
            rows["gradient_ratio"] = self._gradient_ratio()
        if "layer_norms" in self._requested:
            rows |= layer_norms(self.weights)
        if "singular_values" in self._requested:
            rows |= numbered("sigma", s[:, : min(self._n1, self._n2)].unbind(dim=1))
        return rows

    def _gradient_ratio(self) -> Tensor:
        """Return `gradient_ratio`, ``[B]``; the weights' gradients are spoilt."""
        self.set_loss_gradient()
        loss = [weight.grad.clone() for weight in self.weights.each]
        self.set_penalty_gradient()
        return gradient_ratio(loss, [weight.grad for weight in self.weights.each], self.weights)
