"""Trials decoded from the rows of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sweeper.config.fields import Config, chosen_leaves, defaults
from sweeper.config.trial import Trial


def trials_of(config: type[Config], plan: pa.Table) -> list[Trial]:
    """Return the trials of rows of a plan, each with exactly the fields that apply to it.

    Fields that were added after the plan was written have their defaults.
    """
    names = [plan[f"{part}.name"].to_pylist() for part in config.parts]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, choices in enumerate(zip(*names, strict=True) if names else [()] * plan.num_rows):
        groups.setdefault(choices, []).append(row)
    if len(groups) == 1:
        return list(_alike(config, next(iter(groups)), plan))
    trials: dict[int, Trial] = {}
    for choices, rows in groups.items():
        alike = _alike(config, choices, plan.take(pa.array(rows)))
        trials |= zip(rows, alike, strict=True)
    return [trials[row] for row in range(plan.num_rows)]


def _alike(config: type[Config], choices: tuple[str, ...], plan: pa.Table) -> Iterator[Trial]:
    """Yield the trials of the rows of a plan that make the same choices for the parts."""
    names = {f"{part}.name": name for part, name in zip(config.parts, choices, strict=True)}
    paths = [*names, *chosen_leaves(config, names)]
    older = [p for p in paths if p in plan.column_names]
    younger = [p for p in paths if p not in plan.column_names]
    usual = defaults(config, names) if younger else {}
    new = {p: usual[p] for p in younger}
    columns = [_values(plan[p]) for p in ("trial_id", "cell_id", "seed", *older)]
    for trial_id, cell_id, seed, *values in zip(*columns, strict=True):
        yield Trial(trial_id, cell_id, seed, dict(zip(older, values, strict=True)) | new)


def _values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if not pa.types.is_list(column.type):
        return values
    return [None if v is None else tuple(v) for v in values]
