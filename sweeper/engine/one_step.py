"""One step of each of some trials, in a process of their own: can a user's own parts train?

``python -m sweeper.engine.one_step`` reads a description from standard input, as `error_of` writes
it. It takes a step of one trial after the other, and announces each by its number. It prints the
error of a trial that can't take a step, and exits with 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from sweeper import trainable
from sweeper.config import plugins
from sweeper.config.messages import described
from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.grid.grid import Grid
from sweeper.packing import Pack, Run, pack_id

TRIAL = "trial "
"""The beginning of the line that announces a trial."""

LIMIT_S = 120.0
"""The most seconds that a step may take, with the imports before it."""


def error_of(grid: Grid, trials: Sequence[Trial]) -> tuple[Trial, str] | None:
    """Return a trial that can't take a step, and why; None if all can, or take too long to tell.

    Args:
        grid: The grid.
        trials: Some of its trials.
    """
    names = {
        (part, str(trial.values.get(f"{part}.name", "")))
        for trial in trials
        for part in grid.config.parts
    }
    description = {
        "trainable": grid.file.trainable,
        "plugins": sorted(pair for pair in names if plugins.IMPORT_PATH.fullmatch(pair[1])),
        "trials": [(dict(trial.values), trial.seed) for trial in trials],
        "steps": grid.steps,
        "criteria": {task: c.model_dump() for task, c in grid.criteria.items()},
    }
    command = [sys.executable, "-m", "sweeper.engine.one_step"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(description),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if not done.returncode:
        return None
    numbers = [line for line in done.stdout.splitlines() if line.startswith(TRIAL)]
    guilty = trials[int(numbers[-1].removeprefix(TRIAL)) if numbers else 0]
    lines = [line for line in done.stdout.splitlines() if not line.startswith(TRIAL)]
    lines = lines or done.stderr.strip().splitlines()
    how = "" if done.returncode > 0 else f" (signal {-done.returncode})"
    return guilty, f"{lines[-1] if lines else 'the process ended'}{how}"


def main() -> int:
    """Take the step; return the exit code."""
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        module = trainable.load(asked["trainable"])
        names = [(part, name) for part, name in asked["plugins"]]
        config = plugins.with_plugins(module.Config, names)
        criteria = {task: Criterion(**fields) for task, fields in asked["criteria"].items()}
        run = Run(steps=asked["steps"], criteria=criteria)
        for number, (plain, seed) in enumerate(asked["trials"]):
            print(f"{TRIAL}{number}", flush=True)  # noqa: T201 - the answer
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
            trial = Trial.of(config, values, seed, trainable=asked["trainable"])
            module.probe(Pack(pack_id([trial.id]), (trial,), config, run))
    except (Exception, SystemExit) as error:  # whatever a user's code does
        print(described(error))  # noqa: T201 - the answer
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
