"""Grid files with a section `search`, their spaces, and suggestions of them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from sweeper.compile.compile import read_grid
from sweeper.grid.document import parse
from sweeper.grid.grid import Grid
from sweeper.grid.overrides import apply
from sweeper.space.dimension import Choice, Dimension
from sweeper.space.space import Point, Space
from tests.test_gridfile import load

ROOT = Path(__file__).parent.parent

SPARSE = """
name: sparse
fixed: {task: {name: sparse_recovery}, steps: 100, optimizer.lr: 1.0e-1}
grid:
  product: {model.depth: [1, 2, 3], task.N: [20], regularizer.strength: [1]}
  zip:
    - {task.n: [50, 60], task.s: [2, 3]}
search:
  space:
    task.snr: {categorical: [null, 10]}
    selection.tau: {uniform: [0, 1]}
    model.init_scale: {uniform: [0.1, 0.75], step: 0.1, when: {model.depth: [1, 2]}}
    regularizer.strength: {loguniform: [1.0e-5, 1.0e-3], when: {regularizer.name: [l1, l2_sq]}}
    regularizer.name: {categorical: [l1, l2_sq, none]}
"""

MODULAR = """
name: modular
fixed: {task: {name: modular_arithmetic}, steps: 100}
grid:
  product: {optimizer.betas: [[0.9, 0.98], [0.9, 0.95]], dtype: [float32, float64]}
  zip:
    - {regularizer.name: [l1, none, l2_sq], regularizer.strength: [0.1, 1, 0.2],
       model.init_scale: [1.0e-6, 1, 2]}
search:
  space:
    task.p: {int: [5, 23], step: 2}
    model.width: {int: [16, 128], log: true}
    selection.name: {categorical: [square, strip]}
    selection.k: {int: [1, 3]}
    optimizer.weight_decay: {int: [0, 3]}
exclude: [model.width = 20 and task.p = 5]
criterion: {modular_arithmetic: {metric: loss, train: 0.1, test: 0.2}}
"""

TASKS = """
name: tasks
fixed: {steps: 10}
search:
  objective: t2
  space:
    task.name: {categorical: [sparse_recovery, modular_arithmetic]}
    task.p: {categorical: [5, 7]}
    selection.tau: {uniform: [0, 1]}
    optimizer.batch: {categorical: [null, 8], when: {task.name: modular_arithmetic}}
"""

ONLY = """
name: only
fixed: {task.name: sparse_recovery, steps: 10, regularizer: {name: l1}}
search:
  space: {regularizer.strength: {loguniform: [0.1, 1]}}
  reference: {regularizer.strength: 0}
"""

FILES = {"sparse": SPARSE, "modular": MODULAR, "tasks": TASKS, "only": ONLY}


def space_of(text: str) -> Space:
    return Space.of(read_grid(parse(text, "g.yaml"), load))


SPACES = {name: space_of(text) for name, text in FILES.items()}


def edited(text: str, *overrides: str) -> Grid:
    return read_grid(apply(parse(text, "g.yaml"), overrides), load)


def values_of(dimension: Dimension) -> st.SearchStrategy[Choice]:
    if dimension.kind == "categorical":
        return st.sampled_from(dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.step is not None:
        return st.sampled_from(list(dimension.values()))
    if dimension.kind == "int":
        return st.integers(int(dimension.low), int(dimension.high))
    return st.floats(dimension.low, dimension.high)


@st.composite
def suggestions(draw: st.DrawFn) -> tuple[str, dict[str, Choice]]:
    name = draw(st.sampled_from(list(SPACES)))
    params: dict[str, Choice] = {}
    for dimension in SPACES[name].dimensions:
        if SPACES[name].asks(dimension, params):
            params[dimension.name] = draw(values_of(dimension))
    return name, params


def point(space: Space, **params: Choice) -> Point:
    found = space.point({key.replace("__", "."): value for key, value in params.items()})
    assert isinstance(found, Point), found.reason
    return found
