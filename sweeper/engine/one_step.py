"""One step of a trial in a process of its own, to learn whether a user's own parts can train.

``python -m sweeper.engine.one_step`` reads a description from standard input, as `described` writes
it. It prints the error of a trial that can't take a step, and exits with 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from sweeper import trainable
from sweeper.config import plugins
from sweeper.config.messages import described
from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.grid.grid import Grid
from sweeper.packing import Pack, Run, pack_id

LIMIT_S = 120.0
"""The most seconds that a step may take, with the imports before it."""


def error_of(grid: Grid, trial: Trial) -> str | None:
    """Return why a trial can't take a step; None if it can, or takes too long to tell.

    Args:
        grid: The grid.
        trial: One of its trials.
    """
    description = {
        "trainable": grid.file.trainable,
        "plugins": [
            (part, name)
            for part in grid.config.parts
            if plugins.IMPORT_PATH.fullmatch(name := str(trial.values.get(f"{part}.name", "")))
        ],
        "values": dict(trial.values),
        "seed": trial.seed,
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
    lines = (done.stdout or done.stderr).strip().splitlines()
    how = "" if done.returncode > 0 else f" (signal {-done.returncode})"
    return f"{lines[-1] if lines else 'the process ended'}{how}"


def main() -> int:
    """Take the step; return the exit code."""
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        module = trainable.load(asked["trainable"])
        names = [(part, name) for part, name in asked["plugins"]]
        config = plugins.with_plugins(module.Config, names)
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in asked["values"].items()}
        trial = Trial.of(config, values, asked["seed"], trainable=asked["trainable"])
        criteria = {task: Criterion(**fields) for task, fields in asked["criteria"].items()}
        run = Run(steps=asked["steps"], criteria=criteria)
        module.probe(Pack(pack_id([trial.id]), (trial,), config, run))
    except (Exception, SystemExit) as error:  # whatever a user's code does
        print(described(error))  # noqa: T201 - the answer
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
