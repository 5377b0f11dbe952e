"""One trial of a sweep: its config, its results, its weights, and how to train it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.config.decoding import trials_of
from sweeper.config.fields import Config, Scalar
from sweeper.config.trial import Trial as Planned
from sweeper.errors import SweeperError, UsageError
from sweeper.report import rerun, weights
from sweeper.report.configs import config_of
from sweeper.report.logs import last_output
from sweeper.store import plan_index
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from sweeper.report.sweep import Sweep

RESULTS = (
    "status, error, steps, last_step, stop_reason, t1, t2, delay, censored, phase, wall_s, host, "
    "device, pack_id, attempt, git_commit"
)

SHOWN = 5
"""The most ids that an error lists."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial as the store had it when `Sweep.trial` was called.

    Attributes:
        id: The trial's id.
        cell_id: Id of its cell: the same config with any seed.
        seed: The seed.
        config: The config as nested dicts: ``config["optimizer"]["lr"]``.
        status: pending, running, generalized, censored, diverged or failed.
        error: The traceback of a failed trial; else None.
        steps: Optimizer steps taken.
        last_step: Last logged step; None before the first.
        stop_reason: generalized, horizon, diverged or failed; None while it hasn't ended.
        t1: Memorization step; None if it isn't reached.
        t2: Generalization step; None if it isn't reached.
        delay: t2 - t1 in optimizer steps; if `censored`, a number that the delay exceeds; None
            without t1, and for a diverged trial.
        censored: Whether `delay` is only a lower bound.
        phase: As in the view `delays`; None while it may change.
        wall_s: Seconds of training until the trial's end; None before it.
        host: Machine that trained it last; None before.
        device: Device that trained it last; None before.
        pack_id: Pack that trained it last; None before.
        attempt: Number of the pack's attempt; None before.
        git_commit: Commit of the code that trained it; None outside of a repository.
    """

    id: str
    cell_id: str
    seed: int
    config: Mapping[str, Any]
    status: str
    error: str | None
    steps: int
    last_step: int | None
    stop_reason: str | None
    t1: int | None
    t2: int | None
    delay: int | None
    censored: bool | None
    phase: str | None
    wall_s: float | None
    host: str | None
    device: str | None
    pack_id: str | None
    attempt: int | None
    git_commit: str | None
    _sweep: Sweep = field(repr=False, compare=False)
    _launch: Record = field(repr=False, compare=False)
    _planned: Planned = field(repr=False, compare=False)
    _config: type[Config] | None = field(repr=False, compare=False)

    @property
    def metrics(self) -> pa.Table:
        """The trial's rows of the view `metrics`, by step, as an Arrow table."""
        text = f"select * from metrics where trial_id = {sql.literal(self.id)} order by step"
        return self._sweep.sql(text, everything=True)

    @property
    def grid(self) -> dict[str, Any]:
        """The content of a grid file with this trial alone; `sweeper.launch` takes it."""
        ledger = self._sweep.ledger
        points = ledger.meta["points_per_decade"]
        return rerun.grid_of(ledger.name, self._planned, self._launch, points, self._config)

    @property
    def command(self) -> str:
        """A command line that trains this trial again, in a sweep of its own."""
        return rerun.command_of(self.grid, self._sweep.store, self._launch.get("code"))

    @property
    def output(self) -> str | None:
        """What the last attempt of its pack printed, if that was kept; else None."""
        return last_output(self._sweep.ledger.files, self.pack_id)

    @property
    def has_weights(self) -> bool:
        """Whether a checkpoint with its weights is kept."""
        return weights.kept(self._sweep.ledger, self)

    def weights(self) -> dict[str, Tensor]:
        """Return the trained weights: name to tensor, on the CPU.

        Of a trial that has ended these are its final weights; of one that hasn't, those of its last
        checkpoint. A model of `torch` has the names of its own state dict, an LSTM those of
        `torch.nn.LSTM`, a transformer ``blocks.0.attn.W_Q`` and the like. Matrices are
        ``outputs x inputs``. No code that is stored in the checkpoint is executed.

        Raises:
            UsageError: They weren't kept; the message says why, and what to do.
            StoreError: The checkpoint is missing or damaged.
        """
        return weights.weights(self._sweep.ledger, self._planned, self._launch, self)


def find(sweep: Sweep, prefix: str) -> Trial:
    """Return the trial of `sweep` whose id begins with `prefix`.

    Raises:
        UsageError: No trial's id does, or those of several trials do.
    """
    ledger = sweep.ledger
    text = (
        f"select trial_id, {RESULTS} from trials "
        "join (select * exclude (last_step) from delays) as d using (trial_id) "
        f"where starts_with(trial_id, {sql.literal(prefix)}) order by trial_id limit {SHOWN + 1}"
    )
    with open_views(ledger, everything=True) as views:
        rows = sql.query(views, text).to_pylist()
    exact = [row for row in rows if row["trial_id"] == prefix]
    if len(exact or rows) != 1:
        raise UsageError(_ambiguous(ledger, prefix, [row["trial_id"] for row in rows]))
    (row,) = exact or rows
    launch, plan = _plan(ledger, row.pop("trial_id"))
    config, planned = _decoded(launch, plan)
    return Trial(
        id=planned.id,
        cell_id=planned.cell_id,
        seed=planned.seed,
        config=_nested(planned.values),
        _sweep=sweep,
        _launch=launch,
        _planned=planned,
        _config=config,
        **row,
    )


def _ambiguous(ledger: Ledger, prefix: str, ids: list[str]) -> str:
    if not ids:
        return (
            f"{ledger.name}: no trial's id begins with {prefix!r}. List the ids with "
            f'`sweeper sql {ledger.name} "select trial_id from trials"`.'
        )
    listed = ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
    several = f"{ledger.name}: the ids of several trials begin with {prefix!r}"
    return f"{several}: {listed}. Add more digits."


def _plan(ledger: Ledger, trial_id: str) -> tuple[Record, pa.Table]:
    """Return the last launch that planned a trial, and the row of its plan."""
    for launch in reversed(ledger.state.launches.values()):
        row = plan_index.plan(ledger.files, launch["plan"]).rows([trial_id])
        if row.num_rows:
            return launch, row
    raise AssertionError("the views show planned trials only")


def _decoded(launch: Record, row: pa.Table) -> tuple[type[Config] | None, Planned]:
    """Return the config of a planned trial and the trial.

    If the config can't be imported here, it is None, and the trial has every field that is stored.
    """
    try:
        config = config_of(launch, row)
    except SweeperError:
        (values,) = row.to_pylist()
        trial_id, cell_id, seed = (values.pop(name) for name in ("trial_id", "cell_id", "seed"))
        set_ = {path: value for path, value in values.items() if value is not None}
        return None, Planned(trial_id, cell_id, seed, set_)
    (planned,) = trials_of(config, row)
    return config, planned


def _nested(values: Mapping[str, Scalar]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = list(value) if isinstance(value, tuple) else value
    return nested
