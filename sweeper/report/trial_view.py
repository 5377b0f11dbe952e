"""One trial as text for the terminal: config, results, learning curve, error, command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from sweeper import sql
from sweeper.config.messages import counted, duration, store_option
from sweeper.errors import UsageError
from sweeper.report.query import render
from sweeper.report.sweep import Sweep
from sweeper.report.trial import Trial
from sweeper.store.lease import sweeps

ROWS = 12
"""The most rows of the learning curve, evenly over its logged steps."""

COLUMNS = 6
"""The most metrics of the learning curve."""


def find(store: str, name: str, trial_id: str | None) -> tuple[Sweep, Trial]:
    """Return a trial and its sweep; with `name` alone that is the id, which any sweep may have.

    Raises:
        UsageError: No trial's id begins so, or those of several trials do.
        StoreError: There is no such sweep, or it can't be read.
    """
    if trial_id is not None:
        sweep = Sweep(store, name)
        return sweep, sweep.trial(trial_id)
    found = []
    if name in (known := sweeps(store)):
        raise UsageError(
            f"{name}: a sweep. Add the id of one of its trials, listed by "
            f'`sweeper sql {name} "select trial_id from trials"{store_option(store)}`.'
        )
    for one in known:
        sweep = Sweep(store, one)
        ids = sweep.sql(
            f"select trial_id from trials where starts_with(trial_id, {sql.literal(name)})",
            everything=True,
        )
        found += [(sweep, each) for each in ids["trial_id"].to_pylist()]
    if len(found) == 1:
        ((sweep, full),) = found
        return sweep, sweep.trial(full)
    if not found:
        raise UsageError(f"{name}: no trial's id begins so in any sweep of {store}.")
    places = ", ".join(f"{sweep.name} {full}" for sweep, full in found[:5])
    raise UsageError(
        f"{name}: several trials' ids begin so: {places}. Name the sweep and the trial."
    )


def lines(sweep: Sweep, trial: Trial) -> Iterator[str]:
    """Yield the lines of a trial."""
    yield f"trial {trial.id} of {sweep.name}, seed {trial.seed}: {_ended(trial)}"
    if trial.t1 is not None or trial.t2 is not None:
        yield _times(trial)
    if trial.host is not None:
        wall = f" in {duration(trial.wall_s)}" if trial.wall_s is not None else ""
        commit = f", commit {trial.git_commit[:7]}" if trial.git_commit else ""
        yield f"trained{wall} on {trial.host} ({trial.device}){commit}"
    yield "\nconfig"
    yield from (f"  {path}: {json.dumps(v, ensure_ascii=False)}" for path, v in _flat(trial.config))
    if curve := _curve(trial.metrics):
        yield f"\n{curve.rstrip()}"
    if trial.error is not None:
        yield f"\n{trial.error.rstrip()}"
    if trial.has_weights:
        yield f'\nweights: {sweep!r}.trial("{trial.id[:8]}").weights()'
    yield f"\ntrain it again: {trial.command}"


def _ended(trial: Trial) -> str:
    if trial.stop_reason is None:
        return f"{trial.status}, {counted(trial.steps, 'step')} so far"
    return f"{trial.status} after {counted(trial.steps, 'step')}"


def _times(trial: Trial) -> str:
    t1, t2 = ("not reached" if t is None else str(t) for t in (trial.t1, trial.t2))
    delay = "none" if trial.delay is None else f"{'> ' if trial.censored else ''}{trial.delay}"
    phase = f" ({trial.phase})" if trial.phase else ""
    return f"t1 {t1}, t2 {t2}, delay {delay}{phase}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _curve(metrics: pa.Table) -> str:
    """Return some rows of a learning curve; nothing without any."""
    if not metrics.num_rows:
        return ""
    logged = [c for c in metrics.column_names[2:] if metrics[c].null_count < metrics.num_rows]
    first = [c for c in logged if c.startswith(("train_", "test_"))]
    names = [*first, *(c for c in logged if c not in first)][:COLUMNS]
    at = np.unique(np.linspace(0, metrics.num_rows - 1, ROWS).round().astype(np.int64))
    return render(metrics.select(["step", *names]).take(pa.array(at)))


def event(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    """Return a trial as the fields of a JSON object."""
    plain = {f.name: getattr(trial, f.name) for f in fields(trial) if not f.name.startswith("_")}
    return {
        "name": sweep.name,
        **plain,
        "has_weights": trial.has_weights,
        "grid": trial.grid,
        "command": trial.command,
    }


def log_lines(trial: Trial) -> Iterator[str]:
    """Yield the error of a trial and what its pack printed."""
    output = trial.output
    if output:
        yield output.rstrip("\n")
    if trial.error is not None:
        yield trial.error.rstrip("\n")
    if not output and trial.error is None:
        yield f"trial {trial.id}: {trial.status}, without an error; no output is kept"
