"""Checks of the section `search`: its settings, then its space, then its suggestions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sweeper import sql
from sweeper.compile.diagnostics import Diagnostics, SearchDiagnostics
from sweeper.compile.fixed import Fixed
from sweeper.compile.space_checks import usable_space
from sweeper.compile.suggestion_checks import SuggestionChecks
from sweeper.config.diagnostic import Diagnostic, KeyPath, Kind
from sweeper.config.messages import quoted
from sweeper.errors import did_you_mean
from sweeper.grid.search_section import MEASURES
from sweeper.grid.subgrid import Subgrid


@dataclass(frozen=True, slots=True)
class Searched:
    """What the check of the section `search` yields.

    Attributes:
        applied: Paths that apply to some suggestion.
        leads: Names of the first part that suggestions can choose.
        unreported: Mistakes that stop a search, but not a launch of the grid.
    """

    applied: set[str] = field(default_factory=set)
    leads: tuple[str, ...] = ()
    unreported: list[Diagnostic] = field(default_factory=list)


def check_search(diagnostics: Diagnostics, fixed: Fixed, subgrids: Sequence[Subgrid]) -> Searched:
    """Check the section `search`.

    Where the command line changes the fields that the section is about, mistakes in it don't
    stop the grid: they are left in `Searched.unreported`, for a search alone.

    Args:
        diagnostics: Takes the mistakes.
        fixed: The values that all cells share.
        subgrids: The cells of the grid.
    """
    search = diagnostics.file.search
    if search is None:
        return Searched()
    section = SearchDiagnostics(diagnostics, search, fixed.values, fixed.places)
    _check_seeds(section)
    _check_objectives(section)
    _check_pruner(section)
    space = usable_space(section)
    suggestions = None if space is None else SuggestionChecks(section, space, subgrids)
    if suggestions is not None:
        suggestions.check()
    changed = any(
        place.override and node[:1] in (("fixed",), ("grid",), ("seeds",), ("exclude",))
        for node, place in diagnostics.document.places.items()
    )
    for diagnostic in () if changed else section.every:
        diagnostics.add(diagnostic)
    unreported = section.every if changed else []
    if suggestions is None:
        return Searched(unreported=unreported)
    return Searched(suggestions.applied, suggestions.leads, unreported)


def _check_seeds(section: SearchDiagnostics) -> None:
    """Check that no seed is listed twice, and that finalists get seeds that the search lacks."""
    search = section.search
    _check_twice(section, search.seeds, ("seeds",))
    if search.finalists is None:
        return
    seeds = search.finalists.seeds
    _check_twice(section, seeds, ("finalists", "seeds"))
    used = set(search.seed_list(section.grid.file.seed_list))
    for i, seed in enumerate(seeds if isinstance(seeds, list) else []):
        if seed in used:
            text = f"finalists.seeds has {seed}, on which the search chooses the finalists."
            remedy = "Use seeds that the search doesn't use."
            section.report(Kind.CONFLICT, text, remedy, "finalists", "seeds", i, value=seed)


def _check_twice(
    section: SearchDiagnostics, seeds: int | Sequence[int] | None, node: KeyPath
) -> None:
    listed = list(seeds) if isinstance(seeds, Sequence) else []
    for i, seed in enumerate(listed):
        if seed in listed[:i]:
            text = f"{'.'.join(map(str, node))} has {seed} twice."
            section.report(Kind.DUPLICATE, text, "Keep one.", *node, i, value=seed)


def _check_objectives(section: SearchDiagnostics) -> None:
    """Check that each objective is a known measure or an SQL expression."""
    given = section.search.objective
    for i, objective in enumerate(section.search.objectives):
        node: KeyPath = ("objective", i) if isinstance(given, list) else ("objective",)
        if not isinstance(given[i] if isinstance(given, list) else given, str):
            node = (*node, "value")
        text = objective.value
        if re.fullmatch(r"[A-Za-z_]\w*", text):
            if text not in MEASURES:
                remedy = did_you_mean(text, MEASURES)
                unknown = f"search.objective = {quoted(text)} is unknown."
                section.report(Kind.UNKNOWN, unknown, remedy, *node, value=text)
            continue
        try:
            sql.check_read_only(f"select ({text}\n) from cells")
        except sql.QueryError as error:
            reason = f"search.objective {quoted(text)}: {error.reason.rstrip('.')}."
            remedy = "Write an expression over the columns of cells, e.g. delay / t1."
            section.report(Kind.INVALID, reason, remedy, *node, value=text)


def _check_pruner(section: SearchDiagnostics) -> None:
    """Check that a pruner is accepted explicitly, and that there is one objective then."""
    pruner = section.search.pruner
    if pruner == "none":
        return
    if len(section.search.objectives) > 1:
        text = f"search.pruner = {pruner!r} takes one objective."
        section.report(Kind.CONFLICT, text, "Remove it.", "pruner", value=pruner)
    if not section.search.unsafe_for_grokking:
        section.report(
            Kind.CONFLICT,
            f"search.pruner = {pruner!r} ends late grokkers: before it groks, a trial looks like "
            "one that never will.",
            "Remove it, or accept this with unsafe_for_grokking: true.",
            "pruner",
            value=pruner,
        )
