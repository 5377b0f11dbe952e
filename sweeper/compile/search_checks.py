"""Checks of the section `search`: its settings here, its space and its suggestions beside."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper import sql
from sweeper.compile.diagnostics import Report
from sweeper.compile.space_checks import Findings, usable
from sweeper.compile.suggestion_checks import SuggestionChecks, axis_place
from sweeper.config.messages import show
from sweeper.errors import did_you_mean
from sweeper.grid.document import Path_
from sweeper.grid.search_section import MAX_CHOICES, MEASURES
from sweeper.grid.subgrid import Slab
from sweeper.space.dimension import axes
from sweeper.space.space import Space


def searched(report: Report) -> set[str]:
    """Return the paths that the search gives, readable or not."""
    space = report.file.search.space if report.file.search is not None else {}
    return {*space, *Findings(report).unread}


def check(
    report: Report, fixed: Mapping[str, Any], places: Mapping[str, str], slabs: Sequence[Slab]
) -> Findings:
    """Check the section `search` and report its mistakes.

    Where the command line changes what the section is about, its mistakes are no mistakes of
    the grid: they are left in `Findings.problems` for those who want to search.

    Args:
        report: Takes the mistakes.
        fixed: Values under `fixed` by dotted path, without the horizon.
        places: Where each of them stands.
        slabs: The cells of the grid.
    """
    found = Findings(report, fixed, places)
    if report.file.search is None:
        return found
    _seeds(found)
    _objectives(found)
    _pruner(found)
    space = _space(found)
    if space is not None:
        SuggestionChecks(found, space, slabs).check()
    changed = any(
        report.is_override(place) and key[:1] in (("fixed",), ("grid",), ("seeds",), ("exclude",))
        for key, place in report.document.places.items()
    )
    if not changed:
        for place, message in found.problems:
            report.add(place, message)
        found.problems.clear()
    return found


def _space(found: Findings) -> Space | None:
    """Return the space of what is usable; None where it can't be told."""
    report = found.report
    fit = usable(found)
    unnamed = [p for group in axes(report.file, found.search.space) for p, _ in group]
    if len(report.file.blocks) > 1 and unnamed:
        place = report.document.place("grid")
        found.problems.append(
            (
                place,
                f"search takes axes from one block, and search.space doesn't name "
                f"{' and '.join(unnamed)}. Add to it what is missing, or leave one block.",
            )
        )
        return None
    if _too_long(found):
        return None
    search = found.search.model_copy(update={"space": fit})
    space = Space.build(
        report.file.model_copy(update={"search": search}), report.config, dict(found.fixed)
    )
    if not space.dimensions:
        refused = found.unread or ("search", "space") in report.refused
        if not (refused or found.problems or report.problems):
            found.add(
                "search has nothing to search: its space is empty, and no axis of the grid has "
                "several values. Add e.g. space: {selection.tau: {uniform: [0, 1]}}.",
                "space",
            )
        return None
    return space


def _too_long(found: Findings) -> bool:
    """Return whether an axis that the space doesn't name has too many values; report it."""
    before = len(found.problems)
    for group in axes(found.report.file, found.search.space):
        path, values = group[0]
        if len(values) > MAX_CHOICES:
            found.problems.append(
                (
                    axis_place(found.report, path),
                    f"{path} has {len(values):,} values; a search takes at most {MAX_CHOICES:,} of "
                    "an axis. Give it a range in search.space.",
                )
            )
    return len(found.problems) > before


def _seeds(found: Findings) -> None:
    """Check that no seed is listed twice, nor judges finalists that it chose."""
    search = found.search
    _twice(found, search.seeds, ("seeds",))
    if search.finalists is None:
        return
    seeds = search.finalists.seeds
    _twice(found, seeds, ("finalists", "seeds"))
    used = set(search.seed_list(found.report.file.seed_list))
    for i, seed in enumerate(seeds if isinstance(seeds, list) else []):
        if seed in used:
            found.add(
                f"finalists.seeds has {seed}, which helps to choose the finalists. "
                "Take seeds that the search doesn't.",
                "finalists",
                "seeds",
                i,
            )


def _twice(found: Findings, seeds: int | Sequence[int] | None, where: Path_) -> None:
    listed = list(seeds) if isinstance(seeds, Sequence) else []
    for i, seed in enumerate(listed):
        if seed in listed[:i]:
            found.add(f"{'.'.join(map(str, where))} has {seed} twice. Keep one.", *where, i)


def _objectives(found: Findings) -> None:
    """Check that each objective is a known measure, or at least SQL."""
    given = found.search.objective
    for i, objective in enumerate(found.search.objectives):
        where: Path_ = ("objective", i) if isinstance(given, list) else ("objective",)
        if not isinstance(given[i] if isinstance(given, list) else given, str):
            where = (*where, "value")
        text = objective.value
        if re.fullmatch(r"[A-Za-z_]\w*", text):
            if text not in MEASURES:
                remedy = did_you_mean(text, MEASURES)
                found.add(f"search.objective = {show(text)} is unknown. {remedy}", *where)
            continue
        try:
            sql.check_read_only(f"select ({text}\n) from cells")
        except sql.QueryError as error:
            reason = str(error).split("Error: ", 1)[-1].rstrip(".")
            remedy = "Write an expression over the columns of cells, e.g. delay / t1."
            found.add(f"search.objective {show(text)}: {reason}. {remedy}", *where)


def _pruner(found: Findings) -> None:
    """Check that nobody gets a pruner who hasn't asked for it."""
    pruner = found.search.pruner
    if pruner == "none":
        return
    if len(found.search.objectives) > 1:
        found.add(f"search.pruner = {pruner!r} takes one objective. Remove it.", "pruner")
    if not found.search.unsafe_for_grokking:
        found.add(
            f"search.pruner = {pruner!r} kills late grokkers: until it groks, a trial looks like "
            "one that never will. Remove it, or accept that by unsafe_for_grokking: true.",
            "pruner",
        )
