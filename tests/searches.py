"""What the tests of searches build on: grid files with a section search, and what came of them."""

from __future__ import annotations

import copy
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.compile.loading import load_grid
from sweeper.engine.driver import inline
from sweeper.grid.grid import Grid
from sweeper.search import study
from sweeper.search.finalist import SearchResult
from sweeper.search.search import _definition
from sweeper.search.search import search as search_grid
from sweeper.search.study import Study
from sweeper.space.space import Space
from sweeper.store.packs import pack_rows
from tests import sweeps

NAME = "hill"


@event.listens_for(Engine, "connect")
def _hurry(connection: Any, _record: object) -> None:
    """Don't wait for the disk: what was committed outlives the process, if not the machine."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")


HILL: dict[str, Any] = {
    "name": NAME,
    "trainable": "tests.searchable",
    "fixed": {"steps": 3000},
    "grid": {"product": {"task.k": [1]}},
    "seeds": 3,
    "search": {
        "objective": "delay",
        "n_trials": 20,
        "batch": 5,
        "space": {"task.x": {"uniform": [0, 1]}, "task.y": {"loguniform": [1e-4, 1]}},
        "finalists": {"top": 2, "seeds": 2},
    },
}
"""Highest at `tests.searchable.BEST`; a fifth of the space never generalizes."""

BENT = {
    "fixed": {"steps": 3000, "twist.name": "bent"},
    "search.objective": "amplification",
    "search.space": {"task.x": {"uniform": [0, 1]}, "twist.angle": {"uniform": [0, 1]}},
}
"""Changes of `HILL`: cells are compared with those without an angle."""


def write(folder: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """Write `HILL` with changes by dotted path (of the file's own sections) as a grid file."""
    content = copy.deepcopy(HILL)
    for path, value in (changes or {}).items():
        section, _, key = path.partition(".")
        if key:
            content.setdefault(section, {})[key] = value
        else:
            content[section] = value
    file = folder / "hill.yaml"
    file.write_text(json.dumps(content, indent=1))
    return file


def grid_of(folder: Path, changes: Mapping[str, Any] | None = None, *overrides: str) -> Grid:
    """Return the grid of `HILL` with changes."""
    return load_grid(write(folder, changes), overrides)


def search(grid: Grid, store: str, **options: Any) -> SearchResult:
    """Search in this process."""
    return search_grid(grid, store, inline(grid), **options)


def study_of(grid: Grid, store: str, storage: str | None = None) -> Study:
    """Open the study of a search that was begun."""
    url = storage or f"sqlite:///{Path(store) / grid.name / 'search.db'}"
    space = Space.of(grid)
    about = {"sweep": sweeps.ledger(store, grid.name).meta["uid"], "definition": {}}
    about["definition"] = _definition(space, grid)
    return study.open_study(url, grid.name, space, space.search, about)


def ask(store: str, text: str, name: str = NAME, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a query over the views of the sweep."""
    with open_views(sweeps.ledger(store, name), **options) as views:
        rows: list[dict[str, Any]] = sql.query(views, text).to_pylist()
        return rows


def attempts(store: str, name: str = NAME) -> Counter[str]:
    """Return how many packs each trial was ever put in, by the ledger."""
    book = sweeps.ledger(store, name)
    rows = pack_rows(book, list(book.state.packs))
    return Counter(rows["trial_id"].to_pylist())


def observed(study: Study) -> list[tuple[dict[str, Any], tuple[float, ...] | None, float]]:
    """Return the observations of a study: parameters, values, violation."""
    return [
        (dict(o.params), o.evaluation.values, o.evaluation.violation) for o in study.observations()
    ]
