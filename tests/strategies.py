"""Hypothesis strategies: flat configs and grid files of every family."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sweeper.compile.compile import compile_grid
from sweeper.config.fields import Scalar
from sweeper.config.resolve import broken, resolve
from sweeper.grid.document import parse
from sweeper.grid.grid import Grid
from sweeper.grid.shape import validate
from sweeper.trainables.config import GrokkingConfig

TRAINABLE = "trainables.grokking"

Flat = dict[str, Scalar]

STRENGTHS = (0.0, 1e-5, 1e-3, 0.1)


def _given(fields: dict[str, Any]) -> st.SearchStrategy[Flat]:
    """Return mappings of some of the `fields`, in any order."""
    chosen = st.fixed_dictionaries({}, optional={p: st.sampled_from(v) for p, v in fields.items()})
    return chosen.flatmap(lambda given: st.permutations(list(given.items())).map(dict))


SPARSE = _given(
    {
        "task.n": (20, 50, 100),
        "task.s": (1, 5, 7),
        "task.N": (10, 30),
        "task.snr": (None, 10.0),
        "task.signal": ("gaussian", "rademacher"),
        "task.data_seed": (None, 7),
        "model.depth": (1, 2, 3),
        "model.init_scale": (1e-6, 1e-2),
        "model.sign_free": (True, False),
        "optimizer.lr": (0.1, 1.0, 0.01),
        "selection.tau": (0.0, 0.2, 0.5),
        "dtype": ("float32", "float64"),
    }
).map(lambda given: {"task.name": "sparse_recovery", **given})

MODULAR = _given(
    {
        "task.p": (5, 23),
        "task.operation": ("add", "div"),
        "model.width": (16, 128),
        "model.depth": (1, 2),
        "optimizer.lr": (0.01, 0.001),
        "optimizer.weight_decay": (0.0, 1.0),
        "optimizer.betas": ((0.9, 0.98), (0.9, 0.95)),
        "selection.fraction": (0.3, 0.6),
        "optimizer.batch": (None, 64),
        "dtype": ("float32", "float64"),
    }
).map(lambda given: {"task.name": "modular_arithmetic", **given})

MATRIX = _given(
    {
        "task.n1": (8, 10),
        "task.n2": (9, 12),
        "task.rank": (1, 2, 3),
        "task.N": (40, 60),
        "task.data_seed": (None, 7),
        "model.depth": (2, 3),
        "model.width": (None, 4),
        "model.init_scale": (1e-6, 1.0),
        "optimizer.lr": (0.1, 1.0, 0.01),
        "selection.tau": (0.0, 0.2, 0.5),
        "dtype": ("float32", "float64"),
    }
).map(lambda given: {"task.name": "matrix_completion", **given})


@st.composite
def regularized(draw: st.DrawFn, configs: st.SearchStrategy[Flat]) -> Flat:
    """Add a regularizer, or none."""
    given = dict(draw(configs))
    name = draw(st.sampled_from([None, "none", "l1", "l2_sq"]))
    if name is not None:
        given["regularizer.name"] = name
    if name in ("l1", "l2_sq"):
        given["regularizer.strength"] = draw(st.sampled_from(STRENGTHS))
    return given


GIVEN: st.SearchStrategy[Flat] = st.one_of(
    regularized(SPARSE), regularized(MODULAR), regularized(MATRIX)
)
"""Configs as a file gives them: without the defaults."""


def values_of(given: Flat) -> Flat:
    """Return the resolved config of what a file gives."""
    resolved = resolve(GrokkingConfig, given)
    assert not resolved.problems, resolved.problems
    assert not list(broken(GrokkingConfig, resolved.values))
    return resolved.values


def grid_of(text: str) -> Grid:
    """Return the grid of a file's text."""
    document = parse(text, "g.yaml")
    return compile_grid(document, validate(document), GrokkingConfig)


AXES: dict[str, tuple[str, ...]] = {
    "model.depth": ("1", "2", "3"),
    "task.N": ("20", "30", "40"),
    "task.s": ("2", "5"),
    "optimizer.lr": ("0.1", "1.0", "0.01"),
    "regularizer.name": ("none", "l1", "l2_sq"),
    "regularizer.strength": ("0.1", "0.001"),
    "selection.tau": ("0", "0.25", "0.5"),
    "model.init_scale": ("1.0e-6", "0.01"),
}


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, list[str]]:
    """Return the axes of one block: path to spelt values, perhaps with repetitions."""
    paths = draw(st.lists(st.sampled_from(list(AXES)), max_size=4, unique=True))
    if "regularizer.strength" in paths and "regularizer.name" not in paths:
        paths.append("regularizer.name")
    found = {
        path: draw(st.lists(st.sampled_from(AXES[path]), min_size=1, max_size=3)) for path in paths
    }
    if "regularizer.strength" in found:  # it has to apply somewhere, and no name may miss it
        found["regularizer.name"] = [*found["regularizer.name"], "l1"]
    elif "regularizer.name" in found:
        found["regularizer.strength"] = ["0.1"]
        found["regularizer.name"].append("l1")
    return found


def grid_text(
    blocks: list[dict[str, list[str]]], *, seeds: str = "2", exclude: str | None = None
) -> str:
    """Return the file of a union of products of sparse recovery."""
    lines = ["name: g", "fixed: {task: {name: sparse_recovery}, steps: 100}", f"seeds: {seeds}"]
    if exclude is not None:
        lines.append(f'exclude: "{exclude}"')
    lines.append("grid:")
    for block in blocks:
        axes = ", ".join(f"{path}: [{', '.join(values)}]" for path, values in block.items())
        lines.append(f"  - product: {{{axes}}}")
    return "\n".join(lines) + "\n"


GRIDS = st.lists(blocks(), min_size=1, max_size=3)
