"""A csv file of made-up reviews: no package and no network is needed."""

from __future__ import annotations

import atexit
import csv
from functools import cache
from pathlib import Path
from random import Random
from shutil import rmtree
from tempfile import mkdtemp

PRAISE = ("great", "wonderful", "loved", "brilliant", "moving")
BLAME = ("awful", "boring", "hated", "dull", "waste")
OTHER = (
    "film",
    "plot",
    "actor",
    "scene",
    "music",
    "story",
    "camera",
    "ending",
    "train",
    "night",
    "script",
    "star",
)


def written(file: Path, rows: list[tuple[str, str]], names: tuple[str, str]) -> Path:
    """Write texts and labels under the names of their columns."""
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows([names, *rows])
    return file


@cache
def reviews_csv() -> str:
    """Return the path of 60 reviews, half of each label; gone when the process is."""
    folder = Path(mkdtemp())
    atexit.register(rmtree, folder, ignore_errors=True)
    random = Random(0)
    rows = []
    for i in range(60):
        mood = PRAISE if i % 2 else BLAME
        chosen = random.choices(OTHER, k=random.randint(1, 8)) + random.choices(mood, k=2)
        random.shuffle(chosen)
        rows.append((f"The {' '.join(chosen)}!<br />It is {i}.", str(i % 2)))
    return str(written(folder / "reviews.csv", rows, ("text", "label")))


def texts(**more: object) -> dict[str, object]:
    """Return the values of a small LSTM on those reviews."""
    return {
        "task.name": "imdb",
        "task.path": reviews_csv(),
        "task.N": 20,
        "task.N_test": 12,
        "task.words": 15,
        "task.length": 6,
        "model.d": 8,
        "model.width": 8,
        "optimizer.batch": 8,
        "optimizer.lr": 1e-2,
    } | more
