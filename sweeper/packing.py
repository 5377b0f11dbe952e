"""Packs: trials fused into one batched computation.

A pack is the unit of launching, checkpointing and retry. Its trials have equal static fields;
trials that share their data stand side by side. Which trials make which pack is a function of
the trials, their sizes and the settings alone, never of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from sweeper.config.fields import Config, Scalar, Values, build, marks
from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.store.schema import logged_steps

C = TypeVar("C", bound=Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How far trials are trained and how they are watched: no part of their identity.

    Attributes:
        steps: Horizon in optimizer steps.
        points_per_decade: Density of the logged steps.
        criteria: Task name to the criterion of its trials; "" where there are no tasks.
        after_generalization: Stop a trial at the first logged step at which it has both
            memorized and generalized.
        diverged: Stop a trial at the first logged step at which a metric isn't finite.
        device: Torch's name of the device, e.g. "cpu" or "cuda".
        threads: Threads of one pack on a CPU.
        metrics: What to log beside the cheap metrics: names out of the config's `on_request`.
            What doesn't apply to a task adds no column.
    """

    steps: int
    points_per_decade: int = 50
    criteria: Mapping[str, Criterion]
    after_generalization: bool = True
    diverged: bool = True
    device: str = "cpu"
    threads: int = 1
    metrics: tuple[str, ...] = ()

    def logged_steps(self) -> tuple[int, ...]:
        """Return the steps at which metrics are logged, ascending, from 0."""
        return logged_steps(self.points_per_decade, self.steps)


@dataclass(frozen=True, slots=True)
class Pack(Generic[C]):
    """One or more trials with equal static fields, in a fixed order.

    Attributes:
        id: Hash of the trials' ids in order.
        trials: The trials.
        config_type: The trainable's config.
        run: How far they are trained.
    """

    id: str
    trials: tuple[Trial, ...]
    config_type: type[C]
    run: Run

    def __post_init__(self) -> None:
        """Check the one property every fused loop relies on."""
        if not self.trials or not self._alike():
            raise ValueError("a pack holds trials with one and the same static key")

    def _alike(self) -> bool:
        """Whether all trials have the static key of the first one."""
        first = self.trials[0].values
        if any(trial.values.keys() != first.keys() for trial in self.trials):
            return len({static_key(self.config_type, t.values) for t in self.trials}) == 1
        mark = marks(self.config_type)
        static = [path for path in first if mark.get(path) is None]
        key = [first[path] for path in static]
        return all([trial.values[path] for path in static] == key for trial in self.trials)

    @property
    def config(self) -> C:
        """A typed config whose static fields hold for every trial of the pack."""
        return cast("C", build(self.config_type, self.trials[0].values))

    def column(self, path: str) -> list[Any]:
        """Return the value at `path` of every trial, in pack order."""
        return [trial.values[path] for trial in self.trials]

    @property
    def trial_ids(self) -> list[str]:
        """The ids of the trials, in pack order."""
        return [trial.id for trial in self.trials]

    @property
    def criterion(self) -> Criterion:
        """The criterion of the pack's task."""
        task = self.trials[0].values.get("task.name", "")
        return self.run.criteria[str(task)]


def pack_id(trial_ids: Sequence[str], *, salt: str = "") -> str:
    """Return the id of a pack: 16 hexadecimal digits.

    Args:
        trial_ids: The pack's trials in order.
        salt: Tells apart packs of the same trials, e.g. one that carries them on.
    """
    return blake2b("\n".join([salt, *trial_ids]).encode(), digest_size=8).hexdigest()


def static_key(config: type[Config], values: Values) -> tuple[tuple[str, Scalar], ...]:
    """Return the values that are equal for all trials of a pack."""
    mark = marks(config)
    return tuple(sorted((p, v) for p, v in values.items() if mark.get(p) is None))


def data_key(config: type[Config], trial: Trial) -> tuple[Any, ...]:
    """Return the values that trials with shared data have in common: seed and drawn fields."""
    mark = marks(config)
    drawn = ((p, v) for p, v in trial.values.items() if (m := mark.get(p)) is not None and m.draws)
    return (trial.seed, *sorted(drawn, key=lambda item: item[0]))


def codes(column: pa.ChunkedArray) -> NDArray[np.int64] | None:
    """Return small integers that are equal where the values of `column` are; nulls are equal.

    None where all values are.
    """
    if column.null_count == len(column):
        return None
    encoded = column.combine_chunks()
    if pa.types.is_list(encoded.type):
        encoded = pa.array([repr(v) for v in encoded.to_pylist()])
    encoded = encoded.dictionary_encode(null_encoding="encode")
    if len(encoded.dictionary) == 1:
        return None
    return cast("NDArray[np.int64]", encoded.indices.to_numpy().astype(np.int64))


def groups(columns: Iterable[NDArray[np.int64] | None], n: int) -> NDArray[np.int64]:
    """Return for each of `n` rows the number of its group of equal codes, by first appearance."""
    combined = np.zeros(n, dtype=np.int64)
    several = [column for column in columns if column is not None]
    for column in several:  # renumbered after each column, so that the product can't overflow
        combined = combined * (int(column.max(initial=0)) + 1) + column
        combined = np.unique(combined, return_inverse=True)[1].astype(np.int64)
    if not several:
        return combined
    _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def static_groups(config: type[Config], table: pa.Table) -> NDArray[np.int64]:
    """Return for each trial of `table` the number of its static group."""
    mark = marks(config)
    paths = [p for p in table.column_names if "." in p or p in config.model_fields]
    return groups((codes(table[p]) for p in paths if mark.get(p) is None), table.num_rows)


def pack_order(
    config: type[Config], table: pa.Table, group: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return the trials of one static group sorted so that those with shared data are neighbours.

    Sorted by seed and drawn fields, then by the other batched fields, then by id, so that the
    order doesn't depend on how the grid was written down. If `group` gives a number per
    trial, trials with equal numbers are neighbours, in ascending order of the numbers.
    """
    mark = marks(config)
    batched = [p for p in table.column_names if (m := mark.get(p)) is not None and not m.draws]
    drawn = [p for p in table.column_names if (m := mark.get(p)) is not None and m.draws]
    keys = {} if group is None else {"": pa.array(group)}
    for path in ("seed", *sorted(drawn), *sorted(batched), "trial_id"):
        if _several(column := table[path]):
            keys[path] = column.combine_chunks()
    if not keys:
        return np.arange(table.num_rows)
    order = [(path, "ascending") for path in keys]
    indices = pa.compute.sort_indices(pa.record_batch(keys), sort_keys=order)
    return cast("NDArray[np.int64]", indices.to_numpy().astype(np.int64))


def _several(column: pa.ChunkedArray) -> bool:
    """Whether the values of `column` may differ: others decide no order."""
    if column.null_count:
        return bool(column.null_count < len(column))
    extent = pa.compute.min_max(column).as_py()
    return bool(extent["min"] != extent["max"])


def auto_size(n: int, *, workers: int, per_trial: int, budget: int, most: int) -> int:
    """Return the pack size `auto` for `n` trials of one static group.

    As large as the trainable finds useful (`most`) and memory allows, but small enough that
    every worker gets a pack; a multiple of 8 where there are that many.

    Args:
        n: Trials of the group, at least 1.
        workers: Packs that can run at the same time.
        per_trial: Bytes one trial needs.
        budget: Bytes one worker has.
        most: Pack size beyond which the trainable gains nothing.
    """
    fits = max(1, budget // max(1, per_trial))
    share = -(-n // max(1, workers))
    size = max(1, min(n, most, fits, share))
    return size if size < 8 else min(fits, size + (-size) % 8)
