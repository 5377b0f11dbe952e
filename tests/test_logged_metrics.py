"""A criterion can only ask for what its task logs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.compile.loading import load_grid
from sweeper.errors import ConfigError
from sweeper.store.schema import metric_names
from sweeper.trainables.config import GrokkingConfig
from tests.sweeps import run

OWN = """
import torch
from sweeper.trainables.config import own

class Accuracy(own.Task):
    inputs: int = 2
    outputs: int = 2

    def examples(self, g):
        return torch.randn(8, 2, generator=g), torch.arange(8) % 2

class Error(Accuracy):
    loss = "mse"
    criterion = {"metric": "error", "train": 0.1, "test": 0.1}

    def examples(self, g):
        return torch.randn(8, 2, generator=g), torch.randn(8, 2, generator=g)
"""


def logged(folder: Path, text: str) -> set[str]:
    """Return the metrics M with values in ``train_M`` and ``test_M`` after two steps."""
    path = folder / "g.yaml"
    path.write_text(text)
    run(load_grid(path), str(folder / "sweeps"))
    files = (folder / "sweeps" / "g" / "metrics").glob("*.parquet")
    table = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    has = {name for name in table.column_names if table[name].null_count < table.num_rows}
    return {m for m in metric_names() if {f"train_{m}", f"test_{m}"} <= has}


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=pytest.mark.long if task == "imdb" else ())  # it takes a minute
        for task in GrokkingConfig.parts["task"]
    ],
)
def test_a_task_logs_the_metrics_that_it_says(task: str, tmp_path: Path) -> None:
    text = f"name: g\nfixed: {{task.name: {task}, steps: 2}}\n"
    assert logged(tmp_path, text) == set(GrokkingConfig.logged_metrics[task])


@pytest.mark.parametrize(
    ("task", "metrics", "lacks"),
    [("Accuracy", {"loss", "acc"}, "error"), ("Error", {"loss", "error"}, "acc")],
)
def test_a_users_task_logs_what_follows_from_its_loss(
    task: str, metrics: set[str], lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = f"name: g\nfixed: {{task.name: 'my_tasks:{task}', steps: 2}}\n"
    assert logged(tmp_path, text) == metrics
    (tmp_path / "bad.yaml").write_text(
        f"{text}criterion: {{metric: {lacks}, train: .5, test: .5}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_grid(tmp_path / "bad.yaml")
    has = "loss, acc" if task == "Accuracy" else "loss, error"
    assert caught.value.problems == [
        f"{tmp_path}/bad.yaml:3:21: criterion.metric = '{lacks}': the task my_tasks:{task} has no "
        f"such metric. It has: {has}."
    ]
