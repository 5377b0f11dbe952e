"""`plan` says what `launch` would: also that trials fail, that they have no room, or no store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeper.engine.ray import Cluster
from sweeper.errors import ClusterError
from tests.commands import sweeper

RAISES = """
import torch
from sweeper.trainables.config import own

class Broken(own.Task):
    inputs: int = 2
    outputs: int = 2

    def examples(self, g):
        raise ZeroDivisionError("no examples")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Grids whose trials raise, are too large, or are good."""
    (tmp_path / "broken_task.py").write_text(RAISES)
    (tmp_path / "own.yaml").write_text(
        "name: g\nfixed: {task.name: 'broken_task:Broken', steps: 2}\n"
    )
    (tmp_path / "both.yaml").write_text(
        "name: g\nfixed: {steps: 2}\ngrid: {product: {task.name: ['broken_task:Broken', "
        "toy_addition]}}\n"
    )
    (tmp_path / "large.yaml").write_text(
        "name: g\nfixed: {task: {name: sparse_recovery, N: 100000000, n: 100000000}, steps: 2}\n"
    )
    (tmp_path / "good.yaml").write_text("name: g\nfixed: {task.name: sparse_recovery, steps: 2}\n")
    return tmp_path


def test_a_task_that_raises_is_one_line_of_the_plan(folder: Path) -> None:
    done = sweeper("plan", "own.yaml", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("1 trial: 0 done, 1 new, 0 failed; 1 pack on ")
    assert "about" not in done.stdout
    assert done.stderr == (
        f"a trial can't take a step: ZeroDivisionError: no examples ({folder}/broken_task.py:10)\n"
    )
    event = json.loads(sweeper("plan", "own.yaml", "--json", cwd=folder).stdout)
    assert event["seconds"] is None
    assert len(event["failures"]) == 1


def test_the_other_trials_are_timed(folder: Path) -> None:
    done = sweeper("plan", "both.yaml", cwd=folder)
    assert (done.returncode, done.stderr.count("can't take a step")) == (0, 1)
    assert ", at most about " in done.stdout


def test_a_trial_that_is_larger_than_the_machine_is_not_tried(folder: Path) -> None:
    done = sweeper("plan", "large.yaml", cwd=folder)
    assert done.returncode == 0
    assert done.stderr.startswith("a trial can't take a step: it needs ")
    assert " GB, and this machine has " in done.stderr


def test_a_pack_without_room_is_refused_as_launch_does(folder: Path) -> None:
    done = sweeper("plan", "good.yaml", "resources.cpu=4096", cwd=folder)
    with pytest.raises(ClusterError) as caught:
        Cluster("local").room(4096, 0)
    assert (done.returncode, done.stderr) == (5, f"error: {caught.value}\n")
    assert str(caught.value) == (
        "resources: cpu 4096, gpu 0: this machine has no room for one pack. Lower resources.cpu or "
        "resources.gpu."
    )


@pytest.mark.parametrize("command", [["plan"], ["launch", "--inline"]])
def test_a_store_that_is_a_file_is_refused(folder: Path, command: list[str]) -> None:
    (folder / "file").write_text("")
    for store in ("file", "file/below"):
        done = sweeper(*command, "good.yaml", "--store", str(folder / store), cwd=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: store {folder}/{store}: can't be created: {folder}/file is a file. Name a "
            "folder.\n"
        )
