"""How MLPs on modular addition are trained without sweeper.

Two embeddings, multiplied elementwise, one hidden ReLU layer, AdamW: as
`sweeper.trainables.families.modular_arithmetic` does it, and with the metrics that it logs, at the
same steps. In a plain loop, one trial at a time; or as torch's page on model ensembling teaches it
[T].

References:
    [T] https://docs.pytorch.org/tutorials/intermediate/ensembling.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

LR, BETAS, EPS = 1e-2, (0.9, 0.98), 1e-8

METRICS = (
    "train_loss",
    "test_loss",
    "train_acc",
    "test_acc",
    "l1",
    "l2",
    "nuclear",
    "norm_ratio",
    "med",
)

WEIGHTS = ("a.weight", "b.weight", "hidden.weight", "out.weight")
"""The parameters, in the order of `sweeper.trainables.families.modular_arithmetic.base_weights`."""

Row = NDArray[np.float64]


class Data:
    """One split of the table a + b = c mod p, and the initial weights that go with it.

    Args:
        arrays: ``train`` and ``test``, pairs of operands ``[N, 2]``; ``w0`` to ``w3``.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.weights = [torch.from_numpy(arrays[f"w{i}"]) for i in range(len(WEIGHTS))]
        self.p = len(self.weights[0])
        self.train, self.test = (torch.from_numpy(arrays[side]) for side in ("train", "test"))
        self.train_labels, self.test_labels = (
            side.sum(dim=1) % self.p for side in (self.train, self.test)
        )


class Net(nn.Module):
    """The network of one trial."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        p, d = data.weights[0].shape
        h = len(data.weights[2])
        self.a, self.b = nn.Embedding(p, d), nn.Embedding(p, d)
        self.hidden, self.out = nn.Linear(d, h, bias=False), nn.Linear(h, p, bias=False)
        self.to(data.weights[0].dtype)
        self.load_state_dict(dict(zip(WEIGHTS, data.weights, strict=True)))

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits, ``[N, p]``."""
        x = self.a(pairs[:, 0]) * self.b(pairs[:, 1])
        logits: Tensor = self.out(torch.relu(self.hidden(x)))
        return logits


def measure(data: Data, weights: Sequence[Tensor], initial: float) -> Row:
    """Return `METRICS` of B networks, ``[B, metrics]``.

    Args:
        data: What they learn.
        weights: Theirs in the order of `WEIGHTS`, each ``[B, ...]``.
        initial: Norm of all weights of a network before its first step.
    """
    E_a, E_b, hidden, out = weights
    columns = []
    accuracies = []
    for pairs, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        x = E_a[:, pairs[:, 0]] * E_b[:, pairs[:, 1]]
        logits = torch.relu(x @ hidden.mT) @ out.mT  # [B, N, p]
        true = logits[:, torch.arange(len(labels)), labels]
        columns.append((torch.logsumexp(logits, 2) - true).mean(dim=1).double())
        right = (logits >= true[..., None]).sum(dim=2) == 1  # strictly the largest
        accuracies.append(right.double().mean(dim=1))
    flat = torch.cat([w.flatten(1) for w in weights], dim=1).double()
    norm = flat.square().sum(dim=1).sqrt()
    nuclear = sum(torch.linalg.svdvals(w).double().sum(dim=1) for w in weights)
    steps = [(E.roll(-1, 1) - E).double().square().sum(dim=2).sqrt() for E in (E_a, E_b)]
    med = (steps[0].mean(dim=1) + steps[1].mean(dim=1)) / 2
    columns += [*accuracies, flat.abs().sum(dim=1), norm, nuclear, norm / initial, med]
    return torch.stack(columns, dim=1).numpy()


def norm_of(weights: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all weights together."""
    return math.sqrt(sum(float(w.double().square().sum()) for w in weights))


def torch_trial(
    data: Data, decay: float, steps: int, logged: frozenset[int], report: Any = None
) -> list[Row]:
    """Return the rows of a trial as one writes it first: autograd and `torch.optim.AdamW`.

    Args:
        data: What it learns.
        decay: Weight decay.
        steps: Optimizer steps.
        logged: Steps at which to measure.
        report: Called with each row as a dictionary; None for nothing.
    """
    net = Net(data)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=decay)
    initial = norm_of(data.weights)
    rows = []
    for step in range(steps + 1):
        if step in logged:
            with torch.no_grad():
                row = measure(data, [w.detach()[None] for w in net.parameters()], initial)[0]
            rows.append(row)
            if report is not None:
                report({"step": step, **dict(zip(METRICS, row.tolist(), strict=True))})
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(data.train), data.train_labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return rows


def ensemble(
    data: Data, decays: Sequence[float], steps: int, logged: frozenset[int]
) -> list[list[Row]]:
    """Return the rows of trials that share their data, trained as one ensemble.

    Args:
        data: What they learn.
        decays: Weight decay of each trial.
        steps: Optimizer steps.
        logged: Steps at which to measure.
    """
    models = [Net(data) for _ in decays]
    params, buffers = stack_module_state(models)
    one = Net(data).to("meta")

    def loss(params: Any, buffers: Any, pairs: Tensor, labels: Tensor) -> Tensor:
        logits = functional_call(one, (params, buffers), (pairs,))
        return nn.functional.cross_entropy(logits, labels)

    gradients = vmap(grad(loss), in_dims=(0, 0, None, None))
    initial = norm_of(data.weights)
    keep = (1 - LR * torch.tensor(decays, dtype=torch.float64))[:, None, None]
    keep = keep.to(data.weights[0].dtype)
    with torch.no_grad():
        params = {name: value.detach() for name, value in params.items()}
        m = {name: torch.zeros_like(value) for name, value in params.items()}
        v = {name: torch.zeros_like(value) for name, value in params.items()}
        rows: list[list[Row]] = [[] for _ in decays]
        for step in range(steps + 1):
            if step in logged:
                for row, new in zip(
                    rows, measure(data, [params[w] for w in WEIGHTS], initial), strict=True
                ):
                    row.append(new)
            change = gradients(params, buffers, data.train, data.train_labels)
            first, second = (1 - beta ** (step + 1) for beta in BETAS)
            for name, value in params.items():
                m[name].lerp_(change[name], 1 - BETAS[0])
                v[name].mul_(BETAS[1]).addcmul_(change[name], change[name], value=1 - BETAS[1])
                root = (v[name].sqrt() / math.sqrt(second)).add_(EPS)
                value.mul_(keep).addcdiv_(m[name], root, value=-LR / first)
    return rows
