"""`sweeper refine` on real diagrams beside their dense grids: is the boundary where it was?

For each grid file, whose two axes have 64 values each, the dense diagram is trained once. Then a
second store begins with 8 x 8 of its values and is refined with what is left of 12 % of the dense
grid's trials. Its boundary, painted from the cells that it has, is held against the dense one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interpolation import labels_at
from benchmarks.refinement import AFFORDED, BASE, boundary, lines, near
from sweeper import api
from sweeper.analysis.diagrams.phase import phase_diagram
from sweeper.analysis.views.views import open_views
from sweeper.grid.grid import Grid
from sweeper.grid.spacing import LinSpace, LogSpace
from sweeper.refine import diagram, refine
from sweeper.refine.mesh import Scale
from sweeper.store import lease


def dense(grid: Grid, where: str, x: str, y: str, inline: bool) -> tuple[list[Any], list[Any], Any]:
    """Train the whole grid; return both axes and the phases [x, y]."""
    assert api.launch(grid, where, inline=inline).exit_code == 0
    with open_views(lease.open_sweep(where, grid.name)) as views:
        whole = phase_diagram(views, x, y, value="phase")
    phases = np.full((len(whole.x.values), len(whole.y.values)), "", dtype=object)
    for (i, j), cell in whole.panel().items():
        phases[i, j] = cell.phase
    return list(whole.x.values), list(whole.y.values), phases


def coarse(grid: Grid, path: str) -> str:
    """Return the override that leaves `BASE` values of an axis, evenly placed."""
    (block,) = grid.file.blocks
    axis = block.product[path]
    if isinstance(axis, LogSpace):
        first, last, _ = axis.logspace
        return f"{path}={{logspace: [{first!r}, {last!r}, {BASE}]}}"
    if isinstance(axis, LinSpace):
        first, last, _ = axis.linspace
        return f"{path}={{linspace: [{first!r}, {last!r}, {BASE}]}}"
    values = sorted(grid.axis_values(path))  # type: ignore[type-var]
    return f"{path}=" + ",".join(str(values[i]) for i in lines(len(values)))


def place(scale: Scale, value: float) -> float:
    """Return where a value stands on the mesh, in positions that may lie in between."""
    positions = scale.lines(0)
    known = np.array([scale.value(p) for p in positions], dtype=float)
    if scale.log:
        return float(np.interp(np.log(value), np.log(known), positions))
    return float(np.interp(value, known, positions))


def refined(
    grid: Grid, path: Path, where: str, x: str, y: str, inline: bool, axes: tuple[Any, Any]
) -> tuple[int, Any, refine.Refined]:
    """Refine 8 x 8 cells; return all trials that it took and the phases on the dense lattice."""
    small = api.load_grid(path, [*grid.overrides, coarse(grid, x), coarse(grid, y)])
    assert api.launch(small, where, inline=inline).exit_code == 0
    budget = int(AFFORDED * grid.n_trials) - small.n_trials
    done = api.refine(where, grid.name, x=x, y=y, budget=budget, inline=inline)
    wanted = diagram.diagram(where, grid.name, x=x, y=y)
    (panel,) = diagram.panels(wanted, lease.open_sweep(where, grid.name))
    marks = {at: cell.mark for at, cell in panel.items() if cell.mark is not None}
    points = [(place(wanted.x, a), place(wanted.y, b)) for a in axes[0] for b in axes[1]]
    labels = np.array(labels_at(marks, points)).reshape(len(axes[0]), len(axes[1]))
    return small.n_trials + done.trials, labels, done


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("grids", nargs="+", type=Path)
    parser.add_argument("--store", default="sweeps-refined", help="Of the refined diagrams.")
    parser.add_argument("--dense", default="sweeps-dense", help="Store of the dense grids.")
    parser.add_argument("--seeds", type=int, help="Instead of the file's.")
    parser.add_argument("--inline", action="store_true")
    given = parser.parse_args()
    print(f"{'diagram':24} {'trials':>7} {'share':>6} {'found':>6} {'right':>6}  rounds, settled")
    for path in given.grids:
        grid = api.load_grid(path, [f"seeds={given.seeds}"] if given.seeds else [])
        x, y = grid.axes
        xs, ys, phases = dense(grid, given.dense, x, y, given.inline)
        trials, labels, done = refined(grid, path, given.store, x, y, given.inline, (xs, ys))
        names = sorted(set(phases.ravel()) | set(labels.ravel()))
        true, believed = (
            boundary(np.vectorize(names.index)(a).astype(np.int64)) for a in (phases, labels)
        )
        print(
            f"{grid.name:24} {trials:7} {trials / grid.n_trials:6.1%} {near(true, believed):6.1%} "
            f"{near(believed, true):6.1%}  {done.rounds}, {done.settled}",
            flush=True,
        )


if __name__ == "__main__":
    main()
