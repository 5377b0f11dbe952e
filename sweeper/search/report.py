"""What a search found, for the terminal: the leaders on fresh seeds, the axes that matter."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeper.search.finalist import Finalist, Found, Progressed


def progressed_sentence(at: Progressed) -> str:
    """Return where a search stands: "24 of 120 suggestions; best amplification 3.1: ..."."""
    text = f"{at.asked} of {at.of} suggestions"
    if at.known:
        text += f", {at.known} points known before"
    if at.best is None or at.best.verdict.values is None:
        return f"{text}; no result yet that may win"
    if len(at.objectives) > 1:
        return f"{text}; {at.front} on the front"
    values = ", ".join(
        f"{name} {value:.4g}"
        for name, value in zip(at.objectives, at.best.verdict.values, strict=True)
    )
    return f"{text}; best {values}: {spelt(at.best.params)}"


def spelt(params: Mapping[str, Any]) -> str:
    """Return a point as ``path=value`` pairs, shortened for reading."""
    return ", ".join(f"{path}={_short(value)}" for path, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def reproduce(found: Found, grid: Path, changes: Sequence[str], name: str) -> str | None:
    """Return the command that trains the best cell on the fresh seeds, in a sweep of its own."""
    if not found.finalists or not found.finalists[0].holds:
        return None
    seeds = "seeds=[" + ",".join(map(str, found.seeds)) + "]"
    words = [*changes, f"name={name}-best", *found.finalists[0].overrides, seeds]
    return shlex.join(["sweeper", "launch", str(grid), *words])


def found_view(found: Found) -> Group:
    """Return the leaders and the importance of each axis."""
    parts: list[Any] = []
    if found.finalists:
        parts.append(Text(f"The leaders on {len(found.seeds)} fresh seeds:"))
        parts.append(_leaders(found))
        if not found.finalists[0].holds:
            parts.append(Text("None of them holds up. Search with more seeds a suggestion."))
    elif not found.left:
        parts.append(
            Text(
                "Nothing to choose from: of no cell all objectives are known. Where they speak of "
                "delays, a cell and its reference must generalize on half of their seeds."
            )
        )
    if found.failed:
        parts.append(Text(f"{found.failed} trials failed: see `sweeper status`"))
    if found.left:
        parts.append(Text(f"stopped: {found.left} suggestions left; search again to go on"))
    if found.history.importance:
        shares = sorted(found.history.importance.items(), key=lambda item: -item[1])
        words = ", ".join(f"{path} {share:.0%}" for path, share in shares)
        parts.append(Text(f"What matters (PED-ANOVA): {words}"))
    return Group(*parts)


def _leaders(found: Found) -> Table:
    table = Table(box=None, pad_edge=False)
    paths = list(dict.fromkeys(path for f in found.finalists for path in f.params))
    for path in paths:
        table.add_column(path, justify="right")
    for name, _ in found.history.objectives:
        table.add_column(name, justify="right")
        table.add_column("when searched", justify="right")
    table.add_column("generalized", justify="right")
    for finalist in found.finalists:
        cells = [_short(finalist.params.get(path, "")) for path in paths]
        cells += _values(finalist)
        cells.append(f"{finalist.row['n_generalized']}/{finalist.row['n_seeds']}")
        table.add_row(*cells)
    return table


def _values(finalist: Finalist) -> list[str]:
    cells: list[str] = []
    for index, (value, before) in enumerate(zip(finalist.values, finalist.searched, strict=True)):
        text = "not reached" if value is None else f"{value:.4g}"
        if index == 0 and finalist.interval is not None:
            low, high = finalist.interval
            text += (
                f" [{0 if low is None else low:.4g}, {'inf' if high is None else f'{high:.4g}'}]"
            )
        cells += [text, f"{before:.4g}"]
    return cells


def found_event(found: Found) -> dict[str, Any]:
    """Return what was found as the fields of a JSON event."""
    return {
        "event": "found",
        "objectives": [name for name, _ in found.history.objectives],
        "finalists": [
            {
                "params": dict(f.params),
                "values": list(f.values),
                "interval": f.interval and list(f.interval),
                "searched": list(f.searched),
                "n_seeds": f.row["n_seeds"],
                "n_generalized": f.row["n_generalized"],
                "overrides": list(f.overrides),
            }
            for f in found.finalists
        ],
        "seeds": list(found.seeds),
        "importance": dict(found.history.importance or {}),
        "suggestions": len(found.history.suggestions),
        "trials": found.trials,
        "failed": found.failed,
        "left": found.left,
        "storage": found.storage,
        "exit_code": found.exit_code,
    }
