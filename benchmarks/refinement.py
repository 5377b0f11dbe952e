"""Boundaries between phases from few cells: `sweeper.refine.mesh` beside other ways to choose them.

An oracle, a dense grid whose labels are all known, stands in for training. Each method looks at
cells one batch after another; after each share of the dense grid it says what it believes of every
cell, and its boundary is held against the true one. No trial is trained.

Needs ``pip install adaptive scikit-learn``.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, isqrt
from pathlib import Path
from typing import Any

import adaptive
import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from benchmarks.interpolation import labels_at
from sweeper.refine.mesh import FINE, Mark, Point, Scale, propose

mpl.use("agg")
from matplotlib import pyplot as plt

DENSE = 64
"""Cells of a built-in truth along each axis."""

BASE, HALVINGS = 8, 3
"""Lines of the first grid along each axis, and how often it may be halved: 8 x 8 to 57 x 57."""

SHARES = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14)
"""Shares of the dense grid's cells at which each method is asked."""

GOAL, AFFORDED = 0.95, 0.12
"""A method is good if it has this share of the boundary at this share of the cells."""

BATCH = 16
"""Cells that a library chooses at once."""

FITTED = 160
"""Cells up to which the kernel of the classifier is fitted; it is kept from there on."""

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """A dense grid.

    Attributes:
        name: What it is called.
        labels: The true phase of each cell, [x, y].
        seen: The phase that a look at the cell tells: with few seeds not always the true one.
        split: Whether the seeds of a cell aren't of one mind.
    """

    name: str
    labels: Labels
    seen: Labels
    split: NDArray[np.bool_]


@dataclass
class Oracle:
    """Tells the labels of cells and remembers, in order, which were asked for."""

    truth: Truth
    looks: dict[Point, Mark] = field(default_factory=dict)

    def look(self, x: float, y: float) -> Mark:
        """Return what is seen at the cell nearest to a place, in cells."""
        cell = round(float(x)), round(float(y))
        mark = Mark(str(self.truth.seen[cell]), split=bool(self.truth.split[cell]))
        return self.looks.setdefault(cell, mark)

    def painted(self, n: int | None = None) -> Labels:
        """Return every cell's label as `labels_at` has it after the first `n` looks."""
        shape = self.truth.seen.shape
        labels = labels_at(dict(list(self.looks.items())[:n]), list(np.ndindex(*shape)))
        return np.array(labels, np.int64).reshape(shape)

    def nearest(self, n: int | None = None) -> Labels:
        """Return every cell's label as that of the nearest of the first `n` looks."""
        shape, looks = self.truth.seen.shape, list(self.looks)[:n]
        _, nearest = cKDTree(looks).query(list(np.ndindex(*shape)))
        labels = np.array([self.looks[cell].label for cell in looks], np.int64)
        return np.asarray(labels[nearest].reshape(shape), np.int64)


Beliefs = Iterator[tuple[str, int, Labels]]
"""Method, cells looked at, and the labels that it believes in."""

Method = Callable[[Truth, Sequence[int]], Beliefs]


def mesh(truth: Truth, sizes: Sequence[int]) -> Beliefs:
    """Ours: rounds of `propose`, the axes being the indices of the dense grid."""
    oracle, marks = Oracle(truth), dict[Point, Mark]()
    x, y = (Scale(a, lines(n), whole=True) for a, n in zip("xy", truth.seen.shape, strict=True))
    points = [(i, j) for i in x.lines(0) for j in y.lines(0)]
    while points:
        for i, j in points:
            marks[i, j] = oracle.look(x.value(i), y.value(j))
        points = [p for level in propose(marks, x, y, finest=FINE >> HALVINGS) for p in level]
    for size in (*(s for s in sizes if BASE**2 <= s < len(oracle.looks)), len(oracle.looks)):
        yield "mesh", size, oracle.painted(size)
        yield "mesh, nearest", size, oracle.nearest(size)


def lines(n: int, count: int = BASE) -> tuple[int, ...]:
    """Return `count` indices below `n`, both ends included, evenly."""
    return tuple(int(i) for i in np.linspace(0, n - 1, count).round())


def uniform(truth: Truth, sizes: Sequence[int]) -> Beliefs:
    """Grids with equal numbers of lines."""
    for count in sorted({isqrt(size) for size in sizes}):
        oracle = Oracle(truth)
        for i in lines(truth.seen.shape[0], count):
            for j in lines(truth.seen.shape[1], count):
                oracle.look(i, j)
        yield "uniform", len(oracle.looks), oracle.painted()


def scattered(truth: Truth, sizes: Sequence[int]) -> Beliefs:
    """Cells at random."""
    oracle, cells = Oracle(truth), list(np.ndindex(*truth.seen.shape))
    for index in np.random.default_rng(0).permutation(len(cells))[: max(sizes)]:
        oracle.look(*cells[index])
    for size in sizes:
        yield "random", size, oracle.painted(size)


def learner(truth: Truth, sizes: Sequence[int]) -> Beliefs:
    """`adaptive.Learner2D`, which sees labels as numbers; its interpolation, and the nearest."""
    oracle, shape = Oracle(truth), truth.seen.shape
    found = adaptive.Learner2D(lambda _: 0.0, bounds=[(0, n - 1) for n in shape])
    cells = np.array(list(np.ndindex(*shape)), np.float64)
    for size in sizes:
        for _ in range(10 * size // BATCH):  # it may ask for places in cells that it has seen
            if len(oracle.looks) >= size:
                break
            points, _ = found.ask(BATCH)
            for point in points:
                found.tell(point, float(oracle.look(*point).label))
        believed = found.interpolator()(cells[:, 0], cells[:, 1])
        yield "adaptive", len(oracle.looks), believed.round().astype(np.int64).reshape(shape)
        yield "adaptive, nearest", len(oracle.looks), oracle.nearest()


def classifier(truth: Truth, sizes: Sequence[int]) -> Beliefs:
    """A Gaussian process classifier that looks where it is unsure, far from what it has seen."""
    oracle, shape = Oracle(truth), truth.seen.shape
    cells = np.array(list(np.ndindex(*shape)), np.float64)
    for i in lines(shape[0]):
        for j in lines(shape[1]):
            oracle.look(i, j)
    kernel = None
    for size in sizes:
        while True:
            model, kernel = _fitted(oracle.looks, kernel)
            chances = model.predict_proba(cells)
            wanted = min(size - len(oracle.looks), 2 * BATCH)
            if wanted <= 0:
                break
            for index in _unsure(chances, cells, list(oracle.looks), wanted):
                oracle.look(*cells[index])
        believed = model.classes_[chances.argmax(axis=1)]
        yield "GP classifier", len(oracle.looks), believed.reshape(shape)


def _fitted(looks: dict[Point, Mark], kernel: Any) -> tuple[Any, Any]:
    """Return a classifier, and its kernel to go on with."""
    fit = kernel is None or len(looks) <= FITTED
    start = ConstantKernel(10.0, (0.1, 1e4)) * RBF(8.0, (1.0, 100.0))
    model = GaussianProcessClassifier(
        start if fit else kernel, optimizer="fmin_l_bfgs_b" if fit else None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.array(list(looks), np.float64), [int(mark.label) for mark in looks.values()])
    if fit:
        each = getattr(model.kernel_, "kernels", [model.kernel_])  # one against the rest
        height, length = np.exp(np.median([k.theta for k in each], axis=0))
        kernel = ConstantKernel(height) * RBF(length)
    return model, kernel


def _unsure(
    chances: NDArray[np.float64], cells: NDArray[np.float64], seen: Sequence[Point], n: int
) -> list[int]:
    """Return `n` cells by how close their two best labels are, times the distance to any look."""
    best = np.sort(chances, axis=1)
    doubt = 1 - (best[:, -1] - best[:, -2])
    apart = cKDTree(seen).query(cells)[0]
    chosen = []
    for _ in range(n):
        chosen.append(int(np.argmax(doubt * apart)))
        apart = np.minimum(apart, np.hypot(*(cells - cells[chosen[-1]]).T))
    return chosen


METHODS: tuple[Method, ...] = (mesh, uniform, scattered, learner, classifier)


def built_in() -> list[Truth]:
    """Return the truths that need no file."""
    u = np.arange(DENSE) / (DENSE - 1)
    x, y = np.meshgrid(u, u, indexing="ij")
    rise, bow = y - 0.42 - 0.5 * x, y - 0.1 - 0.6 * x**1.5
    heights = {
        "diagonal": [y - 0.15 - 0.75 * x],
        "circle": [np.hypot(x - 0.47, y - 0.55) - 0.31],
        "two": [bow, rise],
        "waves": [y - 0.5 - 0.1 * np.sin(40 * x)],
        "corner": [np.minimum(x - 0.37, y - 0.42)],
        "wiggly": [y - 0.5 - 0.18 * np.sin(9 * x) - 0.06 * np.sin(23 * x)],
        "crossing": [y - 0.2 - 0.6 * x, np.hypot(x - 0.7, y - 0.2) - 0.25],
    }
    clean = [
        Truth(name, sign, sign, np.zeros(sign.shape, np.bool_))
        for name, h in heights.items()
        for sign in [_signs(h)]
    ]
    noisy = [
        Truth(f"{name}, votes over {width} cells", _signs(h), *_votes(h, width))
        for name, h in heights.items()
        for width in (1, 2)
        if name in ("diagonal", "two")
    ]
    return clean + noisy


def _signs(heights: Sequence[NDArray[np.float64]]) -> Labels:
    """Return a label for each combination of what is above 0 and what isn't."""
    bits = np.array([(h > 0).astype(np.int64) << k for k, h in enumerate(heights)])
    return np.asarray(bits.sum(axis=0), np.int64)


def _votes(
    heights: Sequence[NDArray[np.float64]], width: float, seeds: int = 3
) -> tuple[Labels, NDArray[np.bool_]]:
    """Return what most of `seeds` are, and where they are split.

    A seed is on the wrong side of a boundary one time in four at a distance of `width` cells.
    """
    rng = np.random.default_rng(0)
    odds = [expit(h * DENSE / width) for h in heights]
    shares = [np.mean([rng.random(o.shape) < o for _ in range(seeds)], axis=0) for o in odds]
    split = np.any([(share > 0) & (share < 1) for share in shares], axis=0)
    return _signs([share - 0.5 for share in shares]), split


def read(path: Path) -> Truth:
    """Return the truth in a file.

    Args:
        path: An ``.npz`` with `labels` [x, y] and maybe `split`, where seeds disagree; or a table
            that `sweeper phase` exported as ``.parquet``: x, y, and the column `phase`.
    """
    split = None
    if path.suffix == ".npz":
        with np.load(path) as file:
            names = file["labels"]
            split = file.get("split")
    else:
        table = pq.read_table(path)
        columns = [table.column(k).to_pylist() for k in (0, 1)]
        axes = [sorted(set(column)) for column in columns]
        names = np.full([len(axis) for axis in axes], "", dtype=object)
        for x, y, phase in zip(*columns, table["phase"].to_pylist(), strict=True):
            names[axes[0].index(x), axes[1].index(y)] = str(phase)
        if (names == "").any():
            raise SystemExit(f"{path}: {(names == '').sum()} cells are missing.")
    labels = np.unique(names, return_inverse=True)[1].reshape(names.shape)
    return Truth(path.stem, labels, labels, np.zeros(names.shape, bool) if split is None else split)


def boundary(labels: Labels) -> NDArray[np.float64]:
    """Return the middles of the sides between cells with unlike labels, one per row, in cells."""
    rights = np.add(np.argwhere(labels[1:] != labels[:-1]), [0.5, 0])
    tops = np.add(np.argwhere(labels[:, 1:] != labels[:, :-1]), [0, 0.5])
    return np.concatenate([rights, tops])


def near(sides: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the share of `sides` that have one of `others` within one cell."""
    if not len(sides) or not len(others):
        return float(len(sides) == len(others))
    return float((cKDTree(others).query(sides)[0] < 1.001).mean())


@dataclass(frozen=True)
class Row:
    """How a method did.

    Attributes:
        truth: The dense grid.
        method: The method.
        cells: Cells looked at.
        share: The same, over the cells of the dense grid.
        found: Share of the true boundary that the believed one is near to.
        right: Share of the believed boundary that the true one is near to.
    """

    truth: str
    method: str
    cells: int
    share: float
    found: float
    right: float


def measure(truth: Truth) -> Iterator[Row]:
    """Yield the curves of all methods."""
    n, true = truth.labels.size, boundary(truth.labels)
    for method in METHODS:
        for name, cells, labels in method(truth, [ceil(s * n) for s in SHARES]):
            believed = boundary(labels)
            yield Row(
                truth.name, name, cells, cells / n, near(true, believed), near(believed, true)
            )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield lines: what each method knows with the cells of the mesh, and when it is good."""
    yield f"{'truth':28} {'method':18} {'cells':>6} {'share':>6} {'found':>6} {'right':>6}  good at"
    for truth in dict.fromkeys(row.truth for row in rows):
        mine = [row for row in rows if row.truth == truth]
        afforded = max(row.cells for row in mine if row.method == "mesh")
        for method in dict.fromkeys(row.method for row in mine):
            curve = [row for row in mine if row.method == method]
            row = max((r for r in curve if r.cells <= afforded), key=lambda r: r.cells)
            good = [r.share for r in curve if min(r.found, r.right) >= GOAL]
            yield (
                f"{truth:28} {method:18} {row.cells:6} {row.share:6.1%} {row.found:6.0%} "
                f"{row.right:6.0%}  {f'{min(good):.1%}' if good else '-'}"
            )


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the curves, a column for each truth."""
    truths = list(dict.fromkeys(row.truth for row in rows))
    figure, axes = plt.subplots(
        2, len(truths), figsize=(3.2 * len(truths), 5.6), sharex=True, sharey=True, squeeze=False
    )
    for column, truth in enumerate(truths):
        for name in dict.fromkeys(row.method for row in rows):
            curve = sorted(
                (r.share, r.found, r.right) for r in rows if (r.truth, r.method) == (truth, name)
            )
            shares, found, right = zip(*curve, strict=True)
            for panel, shown in zip(axes[:, column], (found, right), strict=True):
                panel.plot(100 * np.array(shares), shown, ".-", label=name)
                panel.axhline(GOAL, color="grey", linewidth=0.5)
        axes[0, column].set_title(truth, fontsize=9)
        axes[1, column].set_xlabel("cells, % of the dense grid")
    axes[0, 0].set_ylabel("true boundary found")
    axes[1, 0].set_ylabel("believed boundary right")
    axes[0, -1].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("truths", nargs="*", type=Path, help=".npz or .parquet; none: built in")
    parser.add_argument("-o", type=Path, default=Path("refinement.png"), help="PNG, CSV beside it")
    args = parser.parse_args()
    rows = []
    for truth in [read(path) for path in args.truths] or built_in():
        rows += list(measure(truth))
        print(f"{truth.name}: done", flush=True)
    print("\n".join(table(rows)))
    with args.o.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row.__dataclass_fields__)
        writer.writerows(vars(row).values() for row in rows)
    draw(rows, args.o.with_suffix(".png"))


if __name__ == "__main__":
    main()
