"""The figures of a sweep, drawn from a snapshot of its ledger."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from sweeper.analysis.diagrams.curves import Curves, learning_curves
from sweeper.analysis.diagrams.history import History
from sweeper.analysis.diagrams.phase import Axis, PhaseDiagram, phase_diagram
from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.fit.fit import Fit, fit_law
from sweeper.analysis.fit.law import Law
from sweeper.analysis.plot import check_suffix, curves_image, draw_fit, draw_search, phase_image
from sweeper.analysis.terminal.fit_table import fit_table
from sweeper.analysis.terminal.table import phase_table
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.views import open_views
from sweeper.report.figure import TABLES, Figure
from sweeper.store.lease import open_sweep
from sweeper.store.ledger import Ledger

__all__ = [
    "check_suffix",
    "curves",
    "curves_figure",
    "fit",
    "fit_table",
    "phase",
    "phase_figure",
    "search",
]


def phase(
    where: str,
    name: str,
    *,
    x: str,
    y: str,
    value: str = "delay",
    facet: str | None = None,
    condition: str | None = None,
    output: Path | None = None,
) -> Path | None:
    """Draw or write the phase diagram of a sweep; return the file, or None for the terminal.

    Args:
        where: URI of the store.
        name: Name of the sweep.
        x: Path of an axis.
        y: Path of another axis.
        value: delay, t1, t2, phase, an aggregate of a metric, e.g. ``min(test_loss)``, or a column
            or expression of `cells`.
        facet: Path of the axis with one diagram per value.
        condition: SQL condition on the cells to show.
        output: A file: png, svg, csv or parquet by its suffix. None prints a table.
    """
    if output is not None and output.suffix not in TABLES:
        check_suffix(output)
    ledger = open_sweep(where, name)
    figure = phase_figure(ledger, x=x, y=y, value=value, facet=facet, condition=condition)
    if output is None:
        Console(highlight=False).print(phase_table(figure.data))
    else:
        figure.save(output)
    return output


def phase_figure(
    ledger: Ledger,
    *,
    x: str,
    y: str,
    value: str = "delay",
    facet: str | None = None,
    condition: str | None = None,
) -> Figure[PhaseDiagram]:
    """Return the phase diagram of a sweep; arguments as in `phase`."""
    with open_views(ledger) as views:
        diagram = phase_diagram(views, x, y, value=value, facet=facet, where=condition)
        provenance = Provenance.of(ledger, views)
    drawn = _on_mesh(diagram, ledger)
    return Figure(
        diagram, provenance, partial(phase_image, drawn, provenance), export=diagram.export
    )


def curves_figure(ledger: Ledger, *, condition: str | None = None) -> Figure[Curves]:
    """Return the learning curves of the trials that meet the SQL `condition`."""
    with open_views(ledger) as views:
        chosen = learning_curves(views, where=condition)
        provenance = Provenance.of(ledger, views)
    return Figure(chosen, provenance, partial(curves_image, chosen, provenance))


def _on_mesh(diagram: PhaseDiagram, ledger: Ledger) -> PhaseDiagram:
    """Return `diagram` with the grid's own lines, if the launches shown include a refinement."""
    shown = snapshot.launches(ledger, everything=False)
    if not any(record.get("adds") == "refine" for record in shown):
        return diagram
    plan = snapshot.plan(ledger, [record for record in shown if not record.get("adds")])

    def ruled(axis: Axis) -> Axis:
        if axis.categorical or axis.name not in plan.column_names:
            return axis
        own = Axis.of(axis.name, plan[axis.name].drop_null().to_pylist())
        return replace(axis, lines=own.values if len(own.values) > 1 else ())

    return replace(diagram, x=ruled(diagram.x), y=ruled(diagram.y), refined=True)


def curves(where: str, name: str, *, condition: str | None, output: Path) -> Path:
    """Draw the learning curves of the trials that meet the SQL `condition`; return the file."""
    check_suffix(output)
    curves_figure(open_sweep(where, name), condition=condition).save(output)
    return output


def fit(
    where: str,
    name: str,
    law: str,
    *,
    condition: str | None = None,
    by: str | None = None,
    level: float = 0.95,
    output: Path | None = None,
) -> Fit:
    """Return a law fitted to the times of a sweep, and draw it if `output` is given.

    Args:
        where: URI of the store.
        name: Name of the sweep.
        law: E.g. ``t2 ~ 1/(optimizer.lr*regularizer.strength)``, see `sweeper.analysis.fit.law`.
        condition: SQL condition on the trials.
        by: Path of the field per whose value the law is fitted.
        level: Confidence level of the intervals.
        output: png or svg by its suffix.
    """
    parsed = Law.parse(law)
    if output is not None:
        check_suffix(output)
    ledger = open_sweep(where, name)
    with open_views(ledger) as views:
        fitted = fit_law(views, parsed, where=condition, by=by, level=level)
        if output is not None:
            draw_fit(fitted, output, Provenance.of(ledger, views))
    return fitted


def search(where: str, name: str, history: History, output: Path) -> Path:
    """Draw the history of a search, its slices and the importance of its axes."""
    ledger = open_sweep(where, name)
    with open_views(ledger) as views:
        draw_search(history, output, Provenance.of(ledger, views))
    return output
