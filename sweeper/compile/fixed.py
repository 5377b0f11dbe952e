"""The values that all cells share: the section `fixed` by dotted path, the horizon, the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.compile.diagnostics import Diagnostics
from sweeper.config.diagnostic import KeyPath, Kind, Place
from sweeper.config.messages import quoted
from sweeper.grid.spacing import AXIS_KINDS

MAX_STEPS = 2**53
"""The horizon is below this number: floats represent all smaller whole numbers."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The readable part of the section `fixed`.

    Attributes:
        values: Dotted path to raw value, without the horizon.
        places: The place of each of them, and that of the horizon.
        steps: The horizon in optimizer steps; 1 where it is refused.
    """

    values: Mapping[str, Any]
    places: Mapping[str, Place]
    steps: int


def read_fixed(diagnostics: Diagnostics) -> Fixed:
    """Return the section `fixed`, nested or dotted; report every value that can't stand there."""
    document = diagnostics.document
    values: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for path, node, value in _leaves(diagnostics.file.fixed, ("fixed",)):
        place = document.place(*node)
        if _spaced(value):
            diagnostics.unreadable.add(path)
            remedy = f"Move it to grid: {{product: {{{path}: ...}}}}."
            text = f"{path} = {quoted(value)} is an axis."
            diagnostics.report(Kind.MISPLACED, place, path, text, remedy, value=value)
        elif path in diagnostics.config.parts:
            diagnostics.unreadable.add(path)
            remedy = f"Write {path}: {{name: {value}}}." if value is not None else ""
            text = f"{path} = {quoted(value)} must be a mapping."
            diagnostics.report(Kind.INVALID, place, path, text, remedy, value=value)
        elif path in values:
            place = document.place(*node, key=True)
            text = f"{path} is set in fixed already, at {places[path]}."
            diagnostics.report(Kind.DUPLICATE, place, path, text, "Keep one.", value=value)
        else:
            values[path], places[path] = value, place
    steps = _steps(diagnostics, values.pop("steps", None), places.get("steps"))
    _check_seeds(diagnostics)
    return Fixed(values, places, steps)


def _leaves(node: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[str, KeyPath, Any]]:
    """Yield the values below a node of `fixed`: dotted path, node, value."""
    for key, value in node.items():
        here = (*path, key)
        if isinstance(value, dict) and not _spaced(value):
            yield from _leaves(value, here)
        else:
            yield ".".join(map(str, here[1:])), here, value


def _spaced(value: Any) -> bool:
    """Return whether `value` is written as a logspace, linspace or range."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in AXIS_KINDS


def _steps(diagnostics: Diagnostics, steps: Any, place: Place | None) -> int:
    """Return the horizon, 1 where it is refused."""
    if place is None:
        groups = (group for b in diagnostics.file.blocks for group in (b.product, *b.zip))
        elsewhere = any("steps" in group for group in groups)
        elsewhere = elsewhere or ("steps",) in diagnostics.refused  # it is one level too high
        if not (elsewhere or diagnostics.incomplete or "steps" in diagnostics.unreadable):
            diagnostics.report(
                Kind.MISSING,
                diagnostics.document.place("fixed", key=True),
                "fixed.steps",
                "fixed.steps is missing: the horizon in optimizer steps.",
                "Add it.",
            )
        return 1
    whole = isinstance(steps, float) and steps.is_integer()
    if isinstance(steps, bool) or not (isinstance(steps, int) or whole):
        remedy = "must be a whole number."
    elif not 1 <= steps < MAX_STEPS:
        remedy = "must be at least 1, and below 2^53."
    else:
        return int(steps)
    text = f"steps = {quoted(steps)}"
    diagnostics.report(Kind.INVALID, place, "fixed.steps", text, remedy, value=steps)
    return 1


def _check_seeds(diagnostics: Diagnostics) -> None:
    """Report every seed that the list `seeds` has twice."""
    seeds = diagnostics.file.seeds
    listed = seeds if isinstance(seeds, list) else []
    seen: set[int] = set()
    for index, seed in enumerate(listed):
        if seed in seen:
            place = diagnostics.document.place("seeds", index)
            text = f"seeds has {seed} twice."
            diagnostics.report(Kind.DUPLICATE, place, "seeds", text, "Keep one.", value=seed)
        seen.add(seed)
