"""The cells of a sweep with the largest delay or amplification."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from sweeper import sql
from sweeper.analysis.diagrams.amplification import evaluate
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.views import open_views
from sweeper.config.decoding import trials_of
from sweeper.config.fields import Scalar, Values
from sweeper.config.messages import quoted
from sweeper.errors import UsageError
from sweeper.grid import document, overrides
from sweeper.grid.search_section import Objective, Search
from sweeper.grid.shape import check_shape
from sweeper.report.configs import config_of
from sweeper.space.space import neutral
from sweeper.store.ledger import Ledger


def best(
    ledger: Ledger, n: int, by: str | None, *, reference: Mapping[str, Scalar] | None
) -> pa.Table:
    """Return the best cells; see `sweeper.report.sweep.Sweep.best`."""
    if n < 1:
        raise UsageError(f"n = {n} must be at least 1.")
    search = _search(ledger)
    objective = search.objectives[0] if search is not None else Objective(value="delay")
    if by is not None and by != objective.value:
        objective = Objective(value=by)
    if reference is None and search is not None:
        reference = search.reference
    with open_views(ledger) as views:
        cells = sql.query(views, "select * from cells")
        pairs = {cell: cell for cell in cells["cell_id"].to_pylist()}
        if objective.needs_reference:
            pairs = _references(ledger, reference)
        evaluated = evaluate(views, pairs, [objective.value])
    values = evaluated["objective_0"].combine_chunks()
    order = "descending" if objective.direction == "maximize" else "ascending"
    ranked = pc.array_sort_indices(values, order=order, null_placement="at_end")
    ranked = ranked.slice(0, min(n, len(values) - values.null_count))
    rows = pc.index_in(
        evaluated["cell_id"].take(ranked), value_set=cells["cell_id"].combine_chunks()
    )
    chosen = cells.take(rows)
    if objective.value in chosen.column_names:
        return chosen
    return chosen.add_column(1, objective.value, values.take(ranked))


def _search(ledger: Ledger) -> Search | None:
    """Return the section `search` of the latest grid; None if it has none."""
    launch = ledger.state.launch
    if launch is None:
        return None
    parsed = document.parse(launch["grid"], f"the grid of {ledger.name}")
    file, _ = check_shape(overrides.apply(parsed, launch.get("overrides", ())))
    return None if file is None else file.search


def _references(ledger: Ledger, reference: Mapping[str, Scalar] | None) -> dict[str, str]:
    """Return cell to reference cell, for the cells whose reference cell the sweep has.

    Raises:
        UsageError: No cell has one.
    """
    shown = snapshot.launches(ledger, everything=False)
    table = snapshot.plan(ledger, shown)
    config = config_of(shown[-1], table)
    seen: dict[str, int] = {}
    for row, cell_id in enumerate(table["cell_id"].to_pylist()):
        seen.setdefault(cell_id, row)
    trials = trials_of(config, table.take(pa.array(seen.values(), pa.int64())))
    neutrals = {t.cell_id: reference or neutral(config, t.values) for t in trials}
    sides = {t.cell_id: _apart(t.values, neutrals[t.cell_id]) for t in trials}
    is_reference = {
        sides[t.cell_id]: t.cell_id
        for t in trials
        if all(t.values.get(path) == value for path, value in neutrals[t.cell_id].items())
        and neutrals[t.cell_id]
    }
    pairs = {cell: is_reference[rest] for cell, rest in sides.items() if rest in is_reference}
    if not pairs:
        asked = neutrals[trials[0].cell_id] if trials else {}
        said = ", ".join(f"{path} = {quoted(value)}" for path, value in asked.items())
        raise UsageError(
            f"{ledger.name}: no cell has a reference cell in the sweep"
            + (f" ({said}). " if said else ", and its config has no neutral value. ")
            + "Name the values of the reference, e.g. reference={'selection.tau': 0}."
        )
    return pairs


def _apart(values: Values, reference: Mapping[str, Scalar]) -> frozenset[tuple[str, Scalar]]:
    """Return the values in which a cell and its reference have to agree."""
    parts = tuple(p.removesuffix("name") for p in reference if p.endswith(".name"))
    return frozenset(
        (path, value)
        for path, value in values.items()
        if path not in reference and not (parts and path.startswith(parts))
    )
