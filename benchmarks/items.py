"""What a step of a family is made of, beside its floor.

Every operation of a step is timed where it happens and put into a group: by the file that asked
for it (optimizer, penalties, loss), else by its name. What a step takes beyond its operations is
Python, autograd and torch's dispatch. The floor is the flops of the products over the machine's
matrix rate plus the bytes that all other operations read and write over its memory rate: the
time of the same operations on a machine that does nothing else. Products are also timed alone,
with the shapes and strides they have. Time is that of the process: neighbours on a shared machine
count less.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.rates import matrix_step, rate
from sweeper.packing import Pack
from sweeper.store.schema import logged_steps
from sweeper.trainables import loop
from sweeper.trainables.batch import malloc

SOURCES = {
    "trainables/optim/optimizers.py": "optimizer",
    "trainables/optim/norms.py": "optimizer",
    "trainables/optim/regularizers.py": "penalties",
    "trainables/batch/spectra.py": "penalties",
    "networks/sobolev.py": "penalties",
    "networks/losses.py": "loss",
    "trainables/data/batches.py": "gather, scatter",
    "trainables/data/examples.py": "gather, scatter",
}
"""End of the name of a file to the group of what it asks for, products excepted."""

NAMES = {
    "products": ("bmm", "baddbmm", "baddbmm_", "mm", "addmm"),
    "gather, scatter": (
        "index",
        "index_select",
        "index_add",
        "index_add_",
        "gather",
        "scatter",
        "scatter_",
        "scatter_add",
        "scatter_add_",
        "embedding",
        "embedding_dense_backward",
        "index_put",
    ),
    "loss": (
        "softmax",
        "_softmax",
        "_log_softmax",
        "_log_softmax_backward_data",
        "nll_loss_forward",
        "nll_loss_backward",
        "softplus",
        "softplus_backward",
    ),
    "norms": ("native_layer_norm", "native_layer_norm_backward"),
    "copies": (
        "copy_",
        "clone",
        "_to_copy",
        "cat",
        "stack",
        "constant_pad_nd",
        "zeros",
        "zeros_like",
        "new_zeros",
        "zero_",
        "fill_",
        "slice_backward",
        "select_backward",
        "full",
    ),
}
"""Group to the names of its operations; all others are elementwise passes and sums."""

GROUPS = (*NAMES, "elementwise", "penalties", "optimizer", "overhead")

PRODUCTS = frozenset(NAMES["products"])

CLOCK = time.process_time

HORIZON = 10_000
"""Steps of the run that the share of evaluations is given for."""

Shape = tuple[tuple[int, ...], tuple[int, ...]]


class Items(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times every operation.

    Attributes:
        seconds: Group to seconds.
        moved: Bytes that operations other than products read and wrote.
        products: (name, sizes and strides of each argument, dtype) to how often it was asked for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.moved = 0
        self.products: Counter[tuple[str, tuple[Shape, ...], torch.dtype]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begun = time.process_time()
        out = func(*args, **(kwargs or {}))
        taken = time.process_time() - begun
        name = func.overloadpacket.__name__
        given = [x for x in _flat([*args, *(kwargs or {}).values()]) if isinstance(x, Tensor)]
        if name in PRODUCTS:
            self.seconds["products"] += taken
            shapes = tuple((tuple(x.shape), x.stride()) for x in given[: len(args)])
            self.products[name, shapes, given[0].dtype] += 1
            return out
        self.seconds[_group(name)] += taken
        if not func.is_view:
            made = [x for x in _flat([out]) if isinstance(x, Tensor)]
            self.moved += sum(x.numel() * x.element_size() for x in given + made)
        return out


def _flat(values: Sequence[Any]) -> list[Any]:
    return [x for v in values for x in (_flat(v) if isinstance(v, list | tuple) else [v])]


def _group(name: str) -> str:
    """Return the group of the operation that is asked for right now."""
    frame: Any = sys._getframe(2)
    while frame is not None and "benchmarks" not in frame.f_code.co_filename:
        for end, group in SOURCES.items():
            if frame.f_code.co_filename.endswith(end):
                return group
        frame = frame.f_back
    return next((group for group, names in NAMES.items() if name in names), "elementwise")


def memory_rate() -> float:
    """Return the bytes per second of a triad on arrays of 4 MB, larger than a core's own cache."""
    a, b, c = (torch.rand(1 << 20) for _ in range(3))
    return 12.0 * a.numel() * rate(lambda: torch.add(a, b, alpha=2.0, out=c), clock=CLOCK)


def _alone(products: Counter[tuple[str, tuple[Shape, ...], torch.dtype]]) -> float:
    """Return the seconds that products take one by one, with the shapes that they have."""
    total = 0.0
    for (name, shapes, dtype), count in products.items():
        made = []
        for size, stride in shapes:
            span = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
            made.append(torch.rand(span, dtype=dtype).as_strided(size, stride))
        function = getattr(torch, name, None) or getattr(Tensor, name)
        total += count / rate(partial(function, *made), 0.02, CLOCK)
    return total


def measured(pack: Pack[Any], flops: float, steps: int = 10) -> dict[str, Any]:
    """Return what a step of `pack` is made of.

    Args:
        pack: Its trials.
        flops: Of the products of one step.
        steps: That are looked at.

    Returns:
        Microseconds of a trial-step; the shares of its time by group; the flops over the time and
        over that of the products alone, as shares of the matrix rate; the floor over the time;
        the share of evaluations in a run of `HORIZON` steps.
    """
    dtype = getattr(torch, str(pack.trials[0].values["dtype"]))
    malloc.keep_freed()
    with torch.no_grad():
        blocks = loop._blocks(pack, range(len(pack.trials)))
        taken = [0]

        def step() -> None:
            for block in blocks:
                block.step(taken[0])
            taken[0] += 1

        gemm, each = matrix_step(dtype)
        before = rate(gemm, clock=CLOCK)
        seconds = 1 / rate(step, 0.5, CLOCK)
        matrix = (before + rate(gemm, clock=CLOCK)) / 2 * each
        items = Items()
        with items:
            for _ in range(steps):
                step()
        begun = time.process_time()
        for block in blocks:
            block.metrics()
        evaluation = time.process_time() - begun
    asked = sum(items.seconds.values()) / steps
    groups = {group: found / steps / max(asked, seconds) for group, found in items.seconds.items()}
    groups["overhead"] = 1 - sum(groups.values())
    floor = flops / matrix + items.moved / steps / memory_rate()
    alone = _alone(items.products) / steps
    logs = len(logged_steps(pack.run.points_per_decade, HORIZON)) * evaluation
    return {
        "us": seconds / len(pack.trials) * 1e6,
        "groups": groups,
        "of_gemm": flops / seconds / matrix,
        "shapes_of_gemm": flops / alone / matrix if alone else 0.0,
        "floor": floor / seconds,
        "evaluation": logs / (logs + HORIZON * seconds),
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table of rows of `measured`, each with the name of its `family`."""
    print(
        "| family | us | of gemm | its products alone | floor | "
        + " | ".join(GROUPS)
        + " | evaluation |"
    )
    print("|" + "---|" * (6 + len(GROUPS)))
    for r in rows:
        cells = [f"{100 * r['groups'].get(group, 0):.0f}" for group in GROUPS]
        print(
            f"| {r['family']} | {r['us']:.0f} | {100 * r['of_gemm']:.0f} % | "
            f"{100 * r['shapes_of_gemm']:.0f} % | {100 * r['floor']:.0f} % | "
            + " | ".join(cells)
            + f" | {100 * r['evaluation']:.0f} % |"
        )
