"""A fitted law in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from sweeper.analysis.diagrams.phase import Axis
from sweeper.analysis.fit.fit import Collapse, Estimate, Fit, Group


def fit_table(fit: Fit) -> Lines:
    """Return `fit` as a table, one line a fitted number, with its notes below."""
    table = Table(title=fit.law.text, title_justify="left", box=None, pad_edge=False)
    if fit.by:
        table.add_column(fit.by, style="bold")
    for heading in ("trials", "censored", "seeds"):
        table.add_column(heading, justify="right")
    for heading in ("", "claimed", "fitted", f"{100 * fit.level:g} % interval"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    values = Axis.of(fit.by, [g.value for g in fit.groups]) if fit.by else None
    notes = []
    for group in fit.groups:
        label = values.label(group.value) if values else ""
        sample = group.sample
        counts = (str(n) for n in (sample.size, sample.n_censored, sample.n_seeds))
        head = [*([label] if values else []), *counts]
        for cells in _lines(fit, group):
            table.add_row(*map(Text, (*head, *cells)))
            head = [""] * len(head)
        table.add_section()
        prefix = f"{fit.by} = {label}: " if values else ""
        notes += [prefix + note for note in group.notes]
    if fit.left_out:
        listed = ", ".join(f"{n} {reason}" for reason, n in fit.left_out.items())
        notes.insert(0, f"left out: {listed}.")
    return Lines(table, *(Text(note) for note in notes))


def _lines(fit: Fit, group: Group) -> Iterator[tuple[str, str, str, str]]:
    yield _line(f"k in {fit.law.time} = C * law^k", group.slope)
    for path, estimate in group.exponents.items():
        yield _line(f"exponent of {path}", estimate)
    yield _line("C where k = 1", group.prefactor)
    if group.free_prefactor is not None:
        yield _line("C where k is free", Estimate(None, group.free_prefactor))
    yield _line(f"scatter: sigma of ln {fit.law.time}", Estimate(None, group.sigma))
    yield "collapse: cells agree to", "1x", *_collapse(group.collapse)


def _line(what: str, estimate: Estimate) -> tuple[str, str, str, str]:
    claimed = "" if estimate.claimed is None else f"{estimate.claimed:g}"
    value = "-" if estimate.value is None else _number(estimate.value)
    ends, note = estimate.between(_number), estimate.note or "-"
    noted = f"{ends} ({note})" if estimate.note else ends
    return what, claimed, value, noted if ends else note


def _number(value: float) -> str:
    return f"{value:#.4g}".removesuffix(".")


def _collapse(collapse: Collapse) -> tuple[str, str]:
    if collapse.spread is None:
        return "-", f"{collapse.cells} cells, none reached"
    sign = ">= " if collapse.at_least else ""
    bounded = f", {collapse.bounded} only bounded" if collapse.bounded else ""
    return (
        f"{sign}{collapse.spread:.3g}x",
        f"{collapse.cells} cells{bounded}; without the law {collapse.before:.3g}x",
    )
