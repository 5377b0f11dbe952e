"""A GPU that isn't there is said before anything starts, and nothing trains on the CPU instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sweeper import api
from sweeper.cli import app
from sweeper.engine.estimate import estimate
from sweeper.engine.ray import Cluster
from sweeper.engine.resources import check_gpu, local_gpus, local_workers
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.errors import ClusterError, UsageError
from tests.sweeps import ledger, run, toy_grid

HILLY = """
name: none
fixed:
  task: {name: sparse_recovery, n: 20, s: 2, N: 15}
  model: {depth: 1, sign_free: true}
  regularizer: {name: l1}
  optimizer: {lr: 0.1}
  steps: 20
grid:
  product:
    regularizer.strength: [1e-4, 1e-3, 1e-2]
    selection.tau: [0.0, 0.3, 0.5]
seeds: 1
resources: {gpu: 1}
search:
  n_trials: 1
  space:
    regularizer.strength: {loguniform: [1e-4, 1e-2]}
"""

MESSAGE = (
    "resources.gpu = 1: no GPU found on this machine. Set resources.gpu=0 to train on CPUs, or "
    "launch on a cluster that has GPUs: --address HOST:PORT. If this machine has a GPU, install a "
    "build of torch that supports it."
)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    path = tmp_path / "none.yaml"
    path.write_text(HILLY)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["plan"],
        ["plan", "--json"],
        ["launch"],
        ["launch", "--inline"],
        ["launch", "--yes", "--json"],
        ["search"],
        ["search", "--inline"],
    ],
    ids=" ".join,
)
def test_every_command_says_so_before_it_starts(
    words: list[str], grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", _fail)
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    command, *options = words
    done = CliRunner().invoke(app, [command, str(grid_file), *options, "--store", str(store)])
    assert done.exit_code == 2
    assert MESSAGE in " ".join(done.output.split())
    assert not store.exists()


@pytest.mark.parametrize("inline", [True, False])
def test_every_function_says_so_before_it_starts(
    inline: bool, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", _fail)
    store = str(tmp_path / "store")
    asks = api.load_grid(grid_file)
    api.launch(api.load_grid(grid_file, ["resources.gpu=0"]), store, inline=True)
    number = ledger(store, "none").number
    calls: dict[str, Callable[[], Any]] = {
        "launch": lambda: api.launch(asks, store, inline=inline),
        "search": lambda: api.search(asks, store, inline=inline),
    }
    for call in calls.values():
        with pytest.raises(UsageError) as caught:
            call()
        assert str(caught.value) == MESSAGE
    assert ledger(store, "none").number == number


@pytest.mark.parametrize("command", ["refine", "extend"])
def test_a_sweep_that_was_trained_on_gpus_isnt_continued_on_cpus(
    command: str, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    with monkeypatch.context() as patched:  # a machine with a GPU, which isn't used
        patched.setattr("sweeper.engine.driver.check_gpu", lambda grid: None)
        patched.setattr("sweeper.trainables.loop.device", lambda asked: "cpu")
        api.launch(api.load_grid(grid_file), store, inline=True)
    number = ledger(store, "none").number
    x, y = "regularizer.strength", "selection.tau"
    calls: dict[str, Callable[[], Any]] = {
        "extend": lambda: api.extend(store, "none", 40, inline=True),
        "refine": lambda: api.refine(store, "none", x=x, y=y, budget=4, inline=True),
    }
    with pytest.raises(UsageError) as caught:
        calls[command]()
    assert str(caught.value) == MESSAGE
    assert ledger(store, "none").number == number


def test_a_worker_without_a_gpu_trains_nothing(grid_file: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    tasks: list[PackTask] = []
    grid = api.load_grid(grid_file)
    run(grid, store, launcher=tasks.extend)
    assert {task.device for task in tasks} == {"cpu"}
    asking = [PackTask(**task.as_dict() | {"device": "cuda"}) for task in tasks]
    with pytest.raises(UsageError, match=r"^no GPU found on this machine by torch "):
        run_inline(asking)
    assert not any(pack.attempts for pack in ledger(store, "none").state.packs.values())


@pytest.mark.parametrize(
    ("count", "gpu", "cpu", "workers"),
    [(1, 1, 1, 1), (2, 1, 1, 2), (2, 0.5, 1, 4), (1, 0.1, 1, 8), (8, 1, 2, 4), (2, 2, 1, 1)],
)
def test_the_slots_of_a_plan_are_those_of_its_gpus(
    count: int,
    gpu: float,
    cpu: float,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sweeper.engine.resources.local_cpus", lambda: 8)
    monkeypatch.setattr("tests.toy.device_count", lambda asked: count, raising=False)
    grid = toy_grid(tmp_path, f"resources.gpu={gpu}", f"resources.cpu={cpu}")
    assert local_gpus(grid) == count
    assert local_workers(grid) == workers
    assert estimate(grid, str(tmp_path / "store")).workers == workers


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0), ("cuda", 1), ("cuda:1", 1)])
def test_a_trainable_that_counts_no_devices_has_the_one_it_names(
    device: str, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.toy.device", lambda asked: device)
    grid = toy_grid(tmp_path, "resources.gpu=1")
    assert local_gpus(grid) == gpus
    if gpus:
        check_gpu(grid)
    else:
        with pytest.raises(UsageError) as caught:
            check_gpu(grid)
        assert str(caught.value) == MESSAGE
    check_gpu(toy_grid(tmp_path))


@pytest.mark.parametrize(
    ("address", "nodes", "message"),
    [
        (
            "10.0.0.1:6379",
            [{"CPU": 8}, {"CPU": 8, "GPU": 0}],
            "resources.gpu = 0.5: no node of the cluster at '10.0.0.1:6379' has a GPU. Add a node "
            "with a GPU, or set resources.gpu=0 to train on CPUs.",
        ),
        (
            "local",
            [{"CPU": 8}],
            "resources.gpu = 0.5: Ray found no GPU on this machine, though torch did. Use --inline, "
            "or set resources.gpu=0 to train on CPUs.",
        ),
        (
            "auto",
            [{"GPU": 1}, {"CPU": 8}],
            "resources: cpu 1, gpu 0.5: no node of the cluster has room for one pack: 10.0.0.2 has "
            "0 CPUs and 1 GPU, 10.0.0.3 has 8 CPUs. Lower resources.cpu or resources.gpu, or add a "
            "node.",
        ),
        ("auto", [{"CPU": 8, "GPU": 1}], None),
    ],
)
def test_a_cluster_without_a_gpu_says_so(
    address: str,
    nodes: list[dict[str, float]],
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sweeper.engine.ray.Cluster._connect", lambda self: None)
    monkeypatch.setattr("sweeper.engine.ray.gcs_address", lambda: "10.0.0.1:6379")
    monkeypatch.setattr("sweeper.engine.ray.request_resources", lambda bundles: None)
    monkeypatch.setattr("ray.available_resources", dict)
    monkeypatch.setattr("sweeper.engine.cluster.WAIT_S", 0)
    alive = [
        {"Alive": True, "NodeManagerAddress": f"10.0.0.{i}", "Resources": node}
        for i, node in enumerate(nodes, 2)
    ]
    dead = {"Alive": False, "Resources": {"CPU": 8, "GPU": 8}}
    monkeypatch.setattr("ray.nodes", lambda: [*alive, dead])
    if message is None:
        assert Cluster(address).room(1, 0.5).now == 2
        return
    with pytest.raises(ClusterError) as caught:
        Cluster(address).room(1, 0.5)
    assert str(caught.value) == message


def _fail(*args: Any, **options: Any) -> None:
    raise AssertionError("Ray was started")
