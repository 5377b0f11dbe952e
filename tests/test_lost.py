"""A driver whose Ray is lost says so and leaves; nodes that are lost use up no retry."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayTaskError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from sweeper.engine import watch
from sweeper.engine.failures import RETRIES, WORKERS, Retries, death_of
from sweeper.engine.tune import count_retries
from sweeper.engine.watch import Watch, end_leftovers, watched
from sweeper.errors import ClusterLostError, SweeperError
from tests.heads import OBJECT_STORE, head_without_room
from tests.sweeps import assert_whole, ledger, rows, run, toy_grid

LOST = " All committed results are safe. Launch again to go on."


def sleeping() -> psutil.Process:
    return psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_a_process_that_ended_is_lost() -> None:
    process = sleeping()
    followed = Watch("Ray on this machine", {"raylet": psutil.Process(process.pid)}, {})
    followed.check()
    process.kill()
    time.sleep(0.2)  # it is a zombie now
    with pytest.raises(ClusterLostError) as caught:
        followed.check()
    assert str(caught.value) == (
        f"Ray on this machine is lost: its raylet (process {process.pid}) has ended.{LOST}"
    )
    assert caught.value.exit_code == 5
    process.wait()


def test_a_server_is_lost_once_it_has_been_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ASK_S", 0.05)
    monkeypatch.setattr(watch, "SILENT_S", 0.5)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    followed = Watch("Ray at 'auto'", {}, {"head": ("127.0.0.1", port)})
    time.sleep(1)
    followed.check()
    server.close()
    followed.check()
    time.sleep(1)
    with pytest.raises(ClusterLostError) as caught:
        followed.check()
    followed.end()
    assert str(caught.value) == (
        f"Ray at 'auto' is lost: its head at 127.0.0.1:{port} doesn't answer.{LOST}"
    )


def test_work_that_waits_for_ever_ends_with_the_cluster() -> None:
    process = sleeping()
    followed = Watch("Ray", {"raylet": psutil.Process(process.pid)}, {})
    assert watched(followed, lambda x: x + 1, 1) == 2
    with pytest.raises(ZeroDivisionError):
        watched(followed, lambda: 1 / 0)
    begun = time.monotonic()
    process.kill()
    with pytest.raises(ClusterLostError):
        watched(followed, time.sleep, 600)
    with pytest.raises(ClusterLostError):
        watched(followed, lambda: 1 / 0)  # it failed because the cluster was lost
    assert time.monotonic() - begun < 5
    process.wait()


def test_what_was_started_is_ended_also_if_its_parent_has_ended_before() -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    parents = [psutil.Popen([sys.executable, "-c", code]) for _ in range(2)]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not all(parent.children() for parent in parents):
        time.sleep(0.05)
    children = [child for parent in parents for child in parent.children()]
    assert len(children) == 2
    followed = Watch("Ray", {"raylet": psutil.Process(parents[0].pid)}, {})
    followed.check()
    parents[0].kill()
    parents[0].wait()
    followed.end_family([psutil.Process(parents[1].pid)])
    parents[1].wait(timeout=10)
    psutil.wait_procs(children, timeout=10)
    assert not any(watch.alive(child) for child in children)


KILLED = """
import subprocess, sys, time
from pathlib import Path
import psutil
from sweeper.engine.watch import Watch, record_in

agent = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Watch("Ray", {"raylet": psutil.Process(agent.pid)}, {}, record_in(Path(sys.argv[1]))).check()
time.sleep(600)
"""


def test_what_a_killed_driver_has_left_behind_is_ended_by_the_next(tmp_path: Path) -> None:
    driver = psutil.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    deadline = time.monotonic() + 30
    while not (records := list(tmp_path.glob("*.json"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    (agent,) = driver.children()
    end_leftovers(tmp_path)  # the driver is alive
    assert watch.alive(agent)
    assert records[0].exists()
    driver.kill()
    driver.wait()
    assert watch.alive(agent)
    stranger = sleeping()
    (tmp_path / "sweeper-1.json").write_text(f"[[{driver.pid}, 1.5], [{stranger.pid}, 1.5]]")
    (tmp_path / "sweeper-2.json").write_text("{")
    end_leftovers(tmp_path)
    psutil.wait_procs([agent], timeout=10)
    assert not watch.alive(agent)
    assert watch.alive(stranger), "another process has its number now"
    assert [path.name for path in tmp_path.iterdir()] == ["sweeper-2.json"]
    stranger.kill()
    stranger.wait()


def actor_died(text: str) -> ActorDiedError:
    return ActorDiedError(ActorDiedErrorContext(error_message=text, actor_id=b"0" * 16))


TASK_ERROR = RayTaskError("_train_pack", "trace", ValueError("no"), pid=1, ip="x")
NODE = actor_died("The actor died because its node has died. Node Id: 12.")
WORKER = actor_died("The actor is dead because its worker process has died.")


@pytest.mark.parametrize(
    ("error", "died"),
    [
        (NODE, "node"),
        (NodeDiedError("gone"), "node"),
        (ActorUnavailableError("away", b"0" * 16), "node"),
        (TaskUnschedulableError("its node is gone"), "node"),
        (WORKER, "worker"),
        (WorkerCrashedError(), "worker"),
        (OutOfMemoryError("full"), "worker"),
        (TASK_ERROR, None),
        (ActorDiedError(TASK_ERROR), None),
        (ValueError("no"), None),
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_error_of_ray_says_what_has_died(error: Exception, died: str | None) -> None:
    assert death_of(error) == died


def test_a_node_that_dies_uses_up_no_retry_and_a_worker_only_after_many() -> None:
    retries = Retries()
    assert [retries.used("a", NODE) for _ in range(1000)] == [0] * 1000
    assert [retries.used("a", TASK_ERROR) for _ in range(4)] == [1, 2, 3, 4]
    assert retries.used("a", NODE) == 4
    assert retries.used("b", NODE) == 0
    assert [retries.used("c", WORKER) for _ in range(WORKERS + 1)] == [0] * WORKERS + [RETRIES + 1]


def test_the_count_of_tune_is_corrected() -> None:
    """Tune retries a trial while its count, which it has just raised by one, is at most RETRIES."""
    retries = Retries()
    metadata = SimpleNamespace(num_failures=0)
    counted: list[int] = []

    def dies(error: Exception) -> int:
        metadata.num_failures += 1
        trial: Any = SimpleNamespace(
            config={"task": {"pack_id": "a"}},
            run_metadata=metadata,
            get_pickled_error=lambda: error,
        )
        count_retries(retries, trial)
        counted.append(metadata.num_failures)
        return counted[-1]

    assert [dies(NODE) for _ in range(10)] == [0] * 10
    assert [dies(TASK_ERROR) for _ in range(3)] == [1, 2, 3]
    assert dies(NODE) == RETRIES


OPTIONS = (
    "task.shift=0",
    "seeds=1",
    "task.pause=0.1",
    "steps=90",
    "checkpoint.every_s=0.5",
    "stop.after_generalization=false",
    "resources.pack=2",
)


def launching(tmp_path: Path, store: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "sweeper.cli", "launch", str(tmp_path / "toy.yaml")),
            *(*OPTIONS, "--store", store, "--quiet", *words),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_claim(store: str) -> None:
    """Wait until a worker has a pack."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(SweeperError):
            if any(pack.attempts for pack in ledger(store).state.packs.values()):
                return
        time.sleep(0.05)
    raise AssertionError("no claim")


def wait_for_checkpoint(store: str, number: int = 1, claims: int = 0) -> None:
    """Wait until packs have saved a checkpoint, in more than `claims` attempts together."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            packs = ledger(store).state.packs.values()
        except SweeperError:
            packs = {}.values()
        saved = sum(pack.checkpoint is not None for pack in packs)
        if saved >= number and sum(len(pack.attempts) for pack in packs) > claims:
            return
        time.sleep(0.1)
    raise AssertionError("no checkpoint")


def assert_goes_on(tmp_path: Path, store: str) -> None:
    """Assert that a launch in this process resumes, and ends with the undisturbed rows."""
    grid = toy_grid(tmp_path, *OPTIONS)
    assert run(grid, store, workers=2).exit_code == 0
    reference = str(tmp_path / "reference")
    run(grid, reference)
    assert rows(store).equals(rows(reference))
    assert_whole(store, grid)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "role"), [("raylet", "raylet"), ("gcs_server", "control service")]
)
def test_a_launch_whose_local_ray_is_lost_leaves_at_once_and_goes_on(
    name: str, role: str, tmp_path: Path, store: str
) -> None:
    toy_grid(tmp_path)
    process = launching(tmp_path, store)
    wait_for_checkpoint(store)
    family = psutil.Process(process.pid).children(recursive=True)
    (lost,) = (child for child in family if child.name() == name)
    lost.kill()
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 15
    said = f"Ray on this machine is lost: its {role} (process {lost.pid}) has ended."
    assert (process.returncode, out, err) == (5, "", f"error: {said}{LOST}\n")
    gone, _ = psutil.wait_procs(family, timeout=20)
    assert len(gone) == len([child for child in family if not watch.alive(child)]) == len(family)
    assert_goes_on(tmp_path, store)
    assert any(a.resumed_at > 0 for p in ledger(store).state.packs.values() for a in p.attempts)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without room for packs."""
    with head_without_room() as made:
        yield made


@pytest.mark.long
def test_a_launch_whose_head_is_lost_leaves_and_goes_on(
    cluster: Cluster, tmp_path: Path, store: str
) -> None:
    toy_grid(tmp_path)
    cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE)
    cluster.wait_for_nodes()
    address = cluster.address
    process = launching(tmp_path, store, "--address", address)
    wait_for_checkpoint(store)
    cluster.head_node.kill_gcs_server()
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 15
    said = f"Ray at {address!r} is lost: its head at {address} doesn't answer."
    assert (process.returncode, out, err) == (5, "", f"error: {said}{LOST}\n")
    assert_goes_on(tmp_path, store)


@pytest.mark.long
def test_a_pack_outlives_more_nodes_than_it_has_retries(
    cluster: Cluster, tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path, *OPTIONS)
    add: Callable[[], Any] = lambda: cluster.add_node(  # noqa: E731
        num_cpus=1, object_store_memory=OBJECT_STORE
    )
    node = add()
    cluster.wait_for_nodes()
    process = launching(tmp_path, store, "--address", cluster.address, "task.pause=0.3")
    for lost in range(RETRIES + 2):
        wait_for_checkpoint(store, claims=lost)
        after = add()
        cluster.remove_node(node, allow_graceful=False)
        node = after
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert max(len(p.attempts) for p in ledger(store).state.packs.values()) > 1
    assert_goes_on_is_done(tmp_path, store, grid.n_cells)


def assert_goes_on_is_done(tmp_path: Path, store: str, cells: int) -> None:
    """Assert that nothing is left to train."""
    outcome = run(toy_grid(tmp_path, *OPTIONS, "task.pause=0.3"), store)
    assert (outcome.counts.done, outcome.counts.new, outcome.counts.failed) == (cells, 0, 0)


def test_the_second_signal_ends_a_launch_at_once_whichever_it_is(
    tmp_path: Path, store: str
) -> None:
    toy_grid(tmp_path)
    process = launching(tmp_path, store, "task.pause=60", "--inline")
    wait_for_claim(store)
    for number in (signal.SIGHUP, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.5)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 143
    assert err == (
        "stopping: packs save a checkpoint and end. Send the signal again to kill them.\n"
        "killed: all committed results are safe\n"
    )
