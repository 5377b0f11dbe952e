"""Each node is asked before the first pack whether it can train, and the answer is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from ray.exceptions import RayTaskError

from sweeper.engine.preflight import failed, lacks, raise_lacks
from sweeper.engine.provenance import versions
from sweeper.engine.task import PackTask
from sweeper.errors import ClusterError
from tests.heads import OBJECT_STORE, head_without_room
from tests.sweeps import ledger, run, toy_grid


@pytest.fixture
def task(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> PackTask:
    monkeypatch.setattr("sys.path", list(sys.path))
    run(toy_grid(tmp_path), store)
    launch = ledger(store).state.launch
    assert launch is not None
    return PackTask(f"{store}/toy", launch["launch_id"], "p")


def test_a_node_like_the_drivers_lacks_nothing(task: PackTask) -> None:
    assert lacks(task, versions()) == []


def test_a_node_with_other_versions_says_which(task: PackTask) -> None:
    have = versions()
    python = have["python"].rpartition(".")[0]
    wanted = have | {"python": "3.99.1", "torch": "0.1+cu1", "numpy": "0.1"}
    torch = have["torch"].partition("+")[0]
    assert lacks(task, wanted) == [
        f"Python {python} instead of 3.99",
        f"torch {torch} instead of 0.1",
    ]
    other_build = have | {"torch": f"{torch}+cu999", "python": f"{python}.99"}
    assert lacks(task, other_build) == []


def test_a_node_without_the_store_says_so(task: PackTask, tmp_path: Path, store: str) -> None:
    away = PackTask(str(tmp_path / "away"), task.launch_id, "p")
    assert lacks(away, versions()) == [
        f"the store can't be read: store {tmp_path}/away: no such folder."
    ]
    assert lacks(PackTask(task.sweep, "another", "p"), versions()) == [
        f"{store}/toy is another folder, which doesn't hold this launch"
    ]


def test_a_node_without_the_module_or_the_gpu_says_so(
    task: PackTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tests.toy", None)
    (reason,) = lacks(task, versions())
    assert reason.startswith("trainable 'tests.toy' can't be imported: ")
    monkeypatch.undo()
    from sweeper.errors import UsageError
    from tests import toy

    def none(asked: str) -> str:
        raise UsageError(f"no GPU found, {asked} asked")

    monkeypatch.setattr(toy, "device", none)
    cuda = PackTask(task.sweep, task.launch_id, "p", device="cuda")
    assert lacks(cuda, versions()) == ["no GPU found, cuda asked"]


def test_nodes_that_lack_the_same_are_named_together() -> None:
    module = "trainable 'mine' can't be imported: No module named 'mine'.\nInstall it."
    with pytest.raises(ClusterError) as caught:
        raise_lacks(
            [
                ("10.0.0.1", []),
                *((f"10.0.0.{k}", [module]) for k in range(2, 7)),
                ("10.0.0.7", ["torch 1 instead of 2", "the store can't be read: no"]),
            ]
        )
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "6 of 7 nodes can't train. 10.0.0.2, 10.0.0.3, 10.0.0.4 and 2 more: trainable 'mine' can't "
        "be imported: No module named 'mine'. Install it. 10.0.0.7: torch 1 instead of 2; the "
        "store can't be read: no. Nothing was trained: mend the nodes and launch again."
    )
    raise_lacks([("10.0.0.1", [])])


def test_a_node_without_sweeper_says_so() -> None:
    trace = "Traceback ...\nModuleNotFoundError: No module named 'sweeper'\n  at x"
    error = RayTaskError("lacks", trace, RuntimeError("x"), pid=1, ip="x")
    assert failed(error) == "sweeper can't be imported: No module named 'sweeper'"
    assert failed(ValueError("a\nb")) == "b"


LACKING = """
import os

if "LACKING" in os.environ:
    raise ImportError("No module named 'dataset'")
from tests.toy import *
from tests.toy import Config, train
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without room for packs, a good node, and one where the module can't be imported."""
    with head_without_room() as made:
        for variables in ({}, {"LACKING": "1"}):
            made.add_node(num_cpus=2, env_vars=variables, object_store_memory=OBJECT_STORE)
        made.wait_for_nodes()
        yield made


@pytest.mark.long
def test_a_node_that_cannot_train_is_named_before_the_first_pack(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "lacking.py").write_text(LACKING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    cluster = request.getfixturevalue("cluster")  # its nodes inherit PYTHONPATH
    toy_grid(tmp_path)
    command = (sys.executable, "-m", "sweeper.cli", "launch", str(tmp_path / "toy.yaml"), "--quiet")
    words = ("trainable=lacking", "--store", store, "--address", cluster.address)
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    address = cluster.head_node.node_ip_address
    assert (done.returncode, done.stdout, done.stderr) == (
        5,
        "",
        f"error: 1 of 2 nodes can't train. {address}: trainable 'lacking' can't be imported: "
        "No module named 'dataset'. Install it, or add its folder to PYTHONPATH. Nothing was "
        "trained: mend the node and launch again.\n",
    )
    assert not any(pack.attempts for pack in ledger(store).state.packs.values())
