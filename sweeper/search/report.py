"""A search for the terminal: its progress, its finalists, the importance of its axes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeper.config.messages import STORE, counted, store_option
from sweeper.errors import redact
from sweeper.grid.document import STDIN
from sweeper.search.finalist import Finalist, SearchProgress, SearchResult


def progress_sentence(at: SearchProgress) -> str:
    """Return the progress as a sentence: "24 of 120 suggestions; best amplification 3.1: ..."."""
    text = f"{at.asked} of {counted(at.of, 'suggestion')}"
    if at.known:
        text += f", {counted(at.known, 'point')} known before"
    if at.best is None or at.best.evaluation.values is None:
        return f"{text}; no feasible result yet"
    if len(at.objectives) > 1:
        return f"{text}; {at.front} on the front"
    values = ", ".join(
        f"{name} {value:.4g}"
        for name, value in zip(at.objectives, at.best.evaluation.values, strict=True)
    )
    return f"{text}; best {values}: {spelt(at.best.params)}"


def spelt(params: Mapping[str, Any]) -> str:
    """Return a point as ``path=value`` pairs, shortened for reading."""
    return ", ".join(f"{path}={_short(value)}" for path, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def reproduce(
    result: SearchResult, grid: Path, changes: Sequence[str], name: str, store: str = STORE
) -> str | None:
    """Return the command that trains the best cell on the fresh seeds, in a sweep of its own."""
    if not result.finalists or not result.finalists[0].holds:
        return None
    seeds = "seeds=[" + ",".join(map(str, result.seeds)) + "]"
    kept = [change for change in changes if not change.startswith("name=")]
    overrides = [*kept, f"name={name}-best", *result.finalists[0].overrides, seeds]
    command = shlex.join(["sweeper", "launch", str(grid), *overrides]) + store_option(store)
    return f"{command} < GRID" if grid == STDIN else command


def result_view(result: SearchResult) -> Group:
    """Return the finalists and the importance of each axis."""
    parts: list[Any] = []
    if result.finalists:
        parts.append(Text(f"The leaders on {len(result.seeds)} fresh seeds:"))
        parts.append(_leaders(result))
        if not result.finalists[0].holds:
            parts.append(Text("None of them is confirmed. Search with more seeds per suggestion."))
    elif not result.left:
        parts.append(
            Text(
                "No finalists: no cell has a value for every objective. An objective that reads "
                "delays needs a cell and a reference that generalize on half of their seeds."
            )
        )
    if result.failed:
        parts.append(Text(f"{counted(result.failed, 'trial')} failed: see `sweeper status`"))
    if result.left:
        suggestions = counted(result.left, "suggestion")
        parts.append(Text(f"stopped: {suggestions} left; run the search again to continue"))
    if result.history.importance:
        shares = sorted(result.history.importance.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{path} {share:.0%}" for path, share in shares)
        parts.append(Text(f"Importance (PED-ANOVA): {listed}"))
    return Group(*parts)


def _leaders(result: SearchResult) -> Table:
    table = Table(box=None, pad_edge=False)
    paths = list(dict.fromkeys(path for f in result.finalists for path in f.params))
    for path in paths:
        table.add_column(Text(path), justify="right")
    for name, _ in result.history.objectives:
        table.add_column(Text(name), justify="right")
        table.add_column("when searched", justify="right")
    table.add_column("generalized", justify="right")
    for finalist in result.finalists:
        cells = [_short(finalist.params.get(path, "")) for path in paths]
        cells += _values(finalist)
        cells.append(f"{finalist.row['n_generalized']}/{finalist.row['n_seeds']}")
        table.add_row(*map(Text, cells))
    return table


def _values(finalist: Finalist) -> list[str]:
    cells: list[str] = []
    for index, (value, before) in enumerate(zip(finalist.values, finalist.searched, strict=True)):
        text = "not reached" if value is None else f"{value:.4g}"
        if index == 0 and finalist.interval is not None:
            low, high = finalist.interval
            ends = f"{0 if low is None else low:.4g}, {'inf' if high is None else f'{high:.4g}'}"
            text += f" [{ends}; {100 * (finalist.level or 0):.3g} %]"
        cells += [text, f"{before:.4g}"]
    return cells


def result_event(result: SearchResult) -> dict[str, Any]:
    """Return the result as the fields of a JSON event."""
    return {
        "event": "found",
        "objectives": [name for name, _ in result.history.objectives],
        "finalists": [
            {
                "params": dict(f.params),
                "values": list(f.values),
                "interval": f.interval and list(f.interval),
                "level": f.level,
                "searched": list(f.searched),
                "n_seeds": f.row["n_seeds"],
                "n_generalized": f.row["n_generalized"],
                "overrides": list(f.overrides),
            }
            for f in result.finalists
        ],
        "seeds": list(result.seeds),
        "importance": dict(result.history.importance or {}),
        "suggestions": len(result.history.suggestions),
        "trials": result.trials,
        "failed": result.failed,
        "left": result.left,
        "storage": redact(result.storage),
        "exit_code": result.exit_code,
    }
