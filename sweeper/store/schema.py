"""The schema of a store: its format version, its logged steps, its column types.

The schema is append-only: a column keeps its type, and a new format needs a new version and a
migration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from sweeper.steps import LOG_VERSION as LOG_VERSION
from sweeper.steps import logged_steps as logged_steps

FORMAT = 3
"""Version of the store's layout; a store with a newer version is refused."""

METRICS: dict[str, pa.DataType] = {
    "trial_id": pa.string(),
    "step": pa.int64(),
    "train_loss": pa.float64(),
    "test_loss": pa.float64(),
    "train_acc": pa.float64(),
    "test_acc": pa.float64(),
    "train_error": pa.float64(),
    "test_error": pa.float64(),
    "l1": pa.float64(),
    "l2": pa.float64(),
    "nuclear": pa.float64(),
}
"""Columns of every metrics part; a task may add float64 columns after them."""


def metric_names(added: Sequence[str] = ()) -> list[str]:
    """Return each metric M with columns ``train_M`` and ``test_M``, then those of the task."""
    train = [name.removeprefix("train_") for name in METRICS if name.startswith("train_")]
    return [*(m for m in train if f"test_{m}" in METRICS), *added]


ENDS: dict[str, pa.DataType] = {
    "trial_id": pa.string(),
    "status": pa.string(),
    "last_step": pa.int64(),
    "steps": pa.int64(),
    "error": pa.string(),
    "wall_s": pa.float64(),
}
"""Columns of a file of ends, one row per trial that ended: its status (`ENDED`), its last logged
step, the steps it was trained for, its error, the seconds from its pack's claim to its end."""

ENDED = ("generalized", "censored", "diverged", "failed")
"""The statuses of a trial that ended; values may be added, never removed."""

KINDS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "vector": pa.list_(pa.float64()),
}
"""Column type of a config field by its kind."""


def empty(columns: dict[str, pa.DataType]) -> pa.Table:
    """Return a table of `columns` without rows."""
    return pa.schema(list(columns.items())).empty_table()


def finite_or_null(values: Any) -> pa.Array:
    """Return `values` as float64; NaN and infinities become null."""
    array = pa.array(values, type=pa.float64(), from_pandas=True)
    return pa.compute.if_else(pa.compute.is_finite(array), array, pa.scalar(None, pa.float64()))
