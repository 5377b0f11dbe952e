"""A stored trial as a grid of its own, and the command that trains it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper import trainable
from sweeper.config.fields import Config, Scalar, is_import_path
from sweeper.config.messages import store_option
from sweeper.config.trial import Trial, left_out
from sweeper.criterion import Criterion
from sweeper.grid.gridfile import Log, Resources, Stop
from sweeper.store.files import local_folder
from sweeper.store.records import Record

LONGEST = 55
"""The most characters of a sweep's name in the name of a trial's own grid."""


def grid_of(
    sweep: str, trial: Trial, launch: Record, points_per_decade: int, config: type[Config] | None
) -> dict[str, Any]:
    """Return the content of a grid file that has this trial alone, with the same id.

    Its name is that of the sweep with the first digits of the id, so its launch trains the trial
    even in the same store.

    Args:
        sweep: Name of the sweep.
        trial: The trial.
        launch: The launch that planned it.
        points_per_decade: Of the store.
        config: The config of its trainable; None if that can't be imported here. Then every field
            has a value, also where that is the default.
    """
    usual = {} if config is None else left_out(config, trial.values)
    fixed = {
        path: _plain(value)
        for path, value in trial.values.items()
        if value is not None and (path not in usual or usual[path] != value)
    }
    grid: dict[str, Any] = {"name": f"{sweep[:LONGEST]}-{trial.id[:8]}"}
    if launch["trainable"] != trainable.DEFAULT:
        grid["trainable"] = launch["trainable"]
    grid |= {"fixed": {**fixed, "steps": launch["steps"]}, "seeds": [trial.seed]}
    criterion = launch["criteria"].get(str(trial.values.get("task.name", "")))
    if criterion is not None and Criterion(**criterion) != _usual_criterion(trial, config):
        grid["criterion"] = Criterion(**criterion).model_dump(exclude_defaults=True)
    log = Log(points_per_decade=points_per_decade, metrics=launch.get("metrics", []))
    kept = {name: launch.get("resources", {}).get(name) for name in ("cpu", "gpu", "timeout")}
    resources = Resources(**{name: value for name, value in kept.items() if value is not None})
    for name, section in {
        "stop": Stop(**launch["stop"]),
        "log": log,
        "resources": resources,
    }.items():
        if changed := section.model_dump(exclude_defaults=True):
            grid[name] = changed
    return grid


def _usual_criterion(trial: Trial, config: type[Config] | None) -> Criterion | None:
    """Return the criterion of a trial's task by default; None if it is unknown."""
    task = str(trial.values.get("task.name", ""))
    usual = None if config is None else config.criteria.get(task)
    return None if usual is None else Criterion(**usual)


def command_of(grid: dict[str, Any], store: str, code: Mapping[str, Any] | None = None) -> str:
    """Return the command line that launches `grid` in the store `store`.

    Args:
        grid: The content of a grid file.
        store: URI of the store.
        code: The description of a user's code; the path of a script is relative to a folder.
    """
    place = ""
    if code is not None and code["name"].endswith(".py") and " " not in code["name"]:
        script = Path(code["command"][1])
        folder = Path(*script.parts[: len(script.parts) - len(Path(code["name"]).parts)])
        if folder != Path.cwd():
            place = f"cd {shlex.quote(str(folder))} && "
            store = str(local_folder(store) or store)
    values = grid["fixed"].values()
    trusted = "trainable" not in grid and not any(map(is_import_path, values))
    text = shlex.quote(json.dumps(grid, ensure_ascii=False))
    trust = "" if trusted else " --trust"
    return f"{place}printf '%s' {text} | sweeper launch -{trust}{store_option(store)}"


def _plain(value: Scalar) -> Any:
    return list(value) if isinstance(value, tuple) else value
