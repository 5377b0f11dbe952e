"""The room of a cluster and the memory of a pack there: from the nodes that run packs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.cluster import (
    Node,
    Packs,
    Room,
    autoscaler_config,
    room_on,
    wait_for_room,
    worker_types,
)
from sweeper.engine.cluster_messages import cluster_sentence, placement, store_warning
from sweeper.engine.driver import Runner
from sweeper.engine.planner import Plan, plan_launch
from sweeper.engine.resources import gpu_slots, local_memory, machine_memory
from sweeper.engine.worker import run_inline
from sweeper.errors import ClusterError
from tests.sweeps import rows, run, toy_grid

GIB = 2**30
GRIDS = Path(__file__).parents[1] / "grids"


def listed(
    address: str, cpus: float, gpus: float = 0, gib: float = 0, **resources: float
) -> dict[str, float]:
    """The resources of a node as Ray lists them: 30 % of its RAM are the object store's."""
    memory = {"memory": 0.7 * gib * GIB, "object_store_memory": 0.3 * gib * GIB}
    gpu = {"GPU": gpus} if gpus else {}
    return {"CPU": cpus, **gpu, **memory, f"node:{address}": 1.0, **resources}


def head(cpus: float, gib: float) -> Node:
    """The head node."""
    resources = listed("10.0.0.1", cpus, gib=gib, **{"node:__internal_head__": 1.0})
    return Node.of("10.0.0.1", resources)


def worker(address: str, cpus: float, gpus: float = 0, gib: float = 0, **kind: float) -> Node:
    """A worker node."""
    return Node.of(address, listed(address, cpus, gpus, gib, **kind))


def config(types: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """The config of an autoscaler with these types of workers, as `ray up` leaves it."""
    first = {"resources": {"CPU": 0}, "max_workers": 0}
    return {
        "max_workers": workers,
        "head_node_type": "head",
        "available_node_types": {"head": first, **types},
    }


def test_a_node_is_read_from_its_resources() -> None:
    node = worker(
        "10.0.0.2", 8, 2, 32, **{"accelerator_type:A100": 1, "accelerator_type:A100-80G": 1}
    )
    assert node == Node("10.0.0.2", 8, 2, 32 * GIB, 80 * 10**9)
    assert worker("10.0.0.3", 8, 2, 32, **{"accelerator_type:A100": 1}).gpu_memory == 40 * 10**9
    assert worker("10.0.0.4", 8, 2, 32, **{"accelerator_type:Unheard-of": 1}).gpu_memory == 0
    assert head(0, 8) == Node("10.0.0.1", 0, 0, 8 * GIB, head=True)


@pytest.mark.parametrize(
    ("name", "size", "mistaken"), [("depth", 1024, 65), ("papers/l23_fig04", 16, 2)]
)
def test_a_small_head_does_not_shrink_packs(
    name: str, size: int, mistaken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 workers with 8 CPUs and 32 GB each, and a head of 8 GB: 256 packs at the same time."""
    grid = load_grid(GRIDS / f"{name}.yaml", ["seeds=10000"])
    nodes = [head(0, 8), *(worker(f"10.0.1.{i}", 8, gib=32) for i in range(32))]
    found = room_on(nodes, [], Packs(1))
    assert found == Room(256, 256, 4 * GIB)
    monkeypatch.setattr("sweeper.engine.resources.machine_memory", lambda: 8 * GIB)

    def largest(memory: int | None) -> int:
        plan = plan_launch(grid, None, workers=found.later, memory=memory)
        return max(int(t.num_rows) for t in plan.packs.values())

    assert largest(found.memory) == size
    assert largest(None) == mistaken


def test_packs_share_the_memory_of_the_node_where_they_run() -> None:
    """Not that of the whole cluster among all packs, nor that of nodes without room."""
    nodes = [head(0, 4), worker("a", 4, gib=32), worker("b", 64, gib=128), worker("c", 1, gib=1)]
    assert room_on(nodes, [], Packs(2)) == Room(34, 34, 4 * GIB)
    assert room_on(nodes, [], Packs(1)) == Room(69, 69, 1 * GIB)
    assert room_on(nodes, [], Packs(4)) == Room(17, 17, 8 * GIB)
    assert room_on(nodes, [], Packs(2, most=1)) == Room(34, 34, 32 * GIB)


def test_packs_on_gpus_share_the_memory_of_a_gpu() -> None:
    l4 = {"accelerator_type:L4": 1.0}
    nodes = [head(8, 8), worker("a", 16, 2, 64, **l4), worker("b", 2, 4, 64, **l4)]
    assert room_on(nodes, [], Packs(1, 0.25)) == Room(8 + 2, 8 + 2, 6 * 10**9)
    assert room_on(nodes, [], Packs(1, 0.4)) == Room(4 + 2, 4 + 2, 12 * 10**9)
    assert room_on(nodes, [], Packs(1, 1)) == Room(2 + 2, 2 + 2, 24 * 10**9)
    assert room_on(nodes, [], Packs(1, 2)) == Room(1 + 2, 1 + 2, 24 * 10**9)
    unknown = [worker("a", 16, 2, 64)]
    assert room_on(unknown, [], Packs(1, 0.25)) == Room(8, 8, 8 * GIB)


def test_a_node_of_unknown_memory_is_like_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.engine.cluster.machine_memory", lambda: 64 * GIB)
    bare = [worker("a", 8), worker("b", 4)]
    assert room_on(bare, [], Packs(1)) == Room(12, 12, 8 * GIB)
    assert room_on([*bare, worker("c", 4, gib=8)], [], Packs(1)) == Room(16, 16, 2 * GIB)
    assert room_on(bare, [], Packs(16)) == Room(0, 0, None)


GPU_NODE = {"resources": {"CPU": 8, "GPU": 1, "memory": 20 * GIB, "accelerator_type:L4": 1}}
CPU_NODE = {"resources": {"CPU": 16, "memory": 40 * GIB}}


@pytest.mark.parametrize(
    ("types", "limit", "packs", "expected"),
    [
        ({"gpu": {**GPU_NODE, "max_workers": 8}}, 8, Packs(2, 0.25), Room(0, 32, 6 * 10**9)),
        ({"gpu": {**GPU_NODE, "max_workers": 8}}, 3, Packs(2, 0.25), Room(0, 12, 6 * 10**9)),
        ({"gpu": GPU_NODE, "cpu": CPU_NODE}, 5, Packs(2, 0.25), Room(0, 20, 6 * 10**9)),
        (
            {"gpu": {**GPU_NODE, "max_workers": 2}, "cpu": {**CPU_NODE, "max_workers": 9}},
            10,
            Packs(2),
            Room(0, 2 * 4 + 8 * 8, 5 * GIB),
        ),
        ({"cpu": {**CPU_NODE, "max_workers": 4}}, 4, Packs(2, 0.25), Room(0, 0)),
        ({"local": {"resources": {}, "max_workers": 4}}, 4, Packs(1), Room(0, 0)),
        ({"none": {**CPU_NODE, "max_workers": 0}}, 4, Packs(1), Room(0, 0)),
    ],
)
def test_the_room_is_what_the_autoscaler_may_start(
    types: dict[str, Any], limit: int, packs: Packs, expected: Room
) -> None:
    alive = [head(0, 8)]
    assert room_on(alive, worker_types(config(types, limit), alive), packs) == expected


def test_workers_that_are_there_are_among_those_that_may_be() -> None:
    alive = [head(2, 8), worker("a", 16, gib=40)]
    types = config({"cpu": {**CPU_NODE, "max_workers": 4}}, 4)
    assert room_on(alive, worker_types(types, alive), Packs(1)) == Room(18, 66, 5 * GIB // 2)
    alive += [worker(f"b{i}", 16, gib=40) for i in range(9)]
    assert room_on(alive, worker_types(types, alive), Packs(1)) == Room(162, 162, 5 * GIB // 2)


def test_types_without_resources_are_like_the_workers_that_are_there() -> None:
    """`provider: local` has one type of workers, and `ray up` knows nothing of them."""
    alive = [head(0, 8), worker("a", 16, gib=32), worker("b", 8, gib=64)]
    types = config({"local.cluster.node": {"resources": {}, "max_workers": 4}}, 4)
    assert room_on(alive, worker_types(types, alive), Packs(1)) == Room(24, 32, 2 * GIB)


class Clock:
    """A clock that moves while somebody sleeps, and the nodes that are there at each second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, later: Mapping[int, Node]) -> None:
        self.now = 0.0
        self.later = later
        self.said: list[str] = []
        self.asked: list[Any] = []
        monkeypatch.setattr("sweeper.engine.cluster.time.monotonic", lambda: self.now)
        monkeypatch.setattr("sweeper.engine.cluster.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def nodes(self) -> list[dict[str, Any]]:
        joined = [node for at, node in self.later.items() if at <= self.now]
        return [
            {
                "Alive": True,
                "NodeManagerAddress": node.name,
                "Resources": listed(node.name, node.cpus, node.gpus, node.memory / GIB),
            }
            for node in [Node("10.0.0.1", 0), *joined]
        ]

    def wait(self, packs: Packs, autoscaler: Mapping[str, Any] | None = None) -> Room:
        return wait_for_room(
            "10.0.0.1:6379",
            packs,
            listed=self.nodes,
            autoscaler=autoscaler,
            demand=self.asked.append,
            say=self.said.append,
        )


def test_a_launch_waits_for_workers_that_come_after_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `ray up` brings them: 32 seconds later; and one without a GPU is of no use."""
    clock = Clock(monkeypatch, {20: worker("b", 64, gib=64), 32: worker("c", 8, 1, 32)})
    assert clock.wait(Packs(1, 0.25)) == Room(4, 4, 8 * GIB)
    assert 31 <= clock.now <= 33
    assert clock.said == [
        "waiting for room, at most 5 min: a pack needs 1 CPU and 0.25 GPU; 10.0.0.1 has 0 CPUs"
    ]
    assert clock.asked == [[{"CPU": 1, "GPU": 0.25}], []], "the autoscaler is asked for a node"


def test_a_launch_does_not_wait_for_nodes_that_its_packs_will_make_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, {})
    autoscaler = config({"cpu": {**CPU_NODE, "max_workers": 4}}, 4)
    assert clock.wait(Packs(1), autoscaler) == Room(0, 64, 5 * GIB // 2)
    assert (clock.now, clock.said, clock.asked) == (0, [], [])


def test_a_launch_waits_no_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    later = {i: worker(f"10.0.1.{i}", i % 7, gib=8) for i in range(9)}
    clock = Clock(monkeypatch, later)
    with pytest.raises(ClusterError) as caught:
        clock.wait(Packs(8))
    assert str(caught.value) == (
        "resources: cpu 8, gpu 0: no node of the cluster has room for one pack: 10.0.1.6 has 6 "
        "CPUs, 10.0.1.5 has 5 CPUs, 10.0.1.4 has 4 CPUs, and 7 smaller nodes. Lower resources.cpu "
        "or resources.gpu, or add a node."
    )
    assert clock.now == pytest.approx(300, abs=2)
    assert clock.asked == [[{"CPU": 8}], []]


def test_the_config_of_the_autoscaler_is_that_of_the_cluster_it_serves(tmp_path: Path) -> None:
    """Found by the command line of its process, as Ray starts it on the head."""
    file = tmp_path / "ray_bootstrap_config.json"
    kept = config({"cpu": CPU_NODE}, 4)
    file.write_text(json.dumps(kept))
    with other_process("--gcs-address=192.0.2.7:6379", f"--autoscaling-config={file}"):
        assert autoscaler_config("192.0.2.7:6379") == kept
        assert autoscaler_config("192.0.2.7:6380") is None
        file.write_text("available_node_types: [")
        assert autoscaler_config("192.0.2.7:6379") is None
        file.unlink()
        assert autoscaler_config("192.0.2.7:6379") is None


@contextmanager
def other_process(*words: str) -> Iterator[None]:
    """A process with these words on its command line."""
    code = "import sys; print('on', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(("gpu", "expected"), [("0", 8 * GIB), ("0.25", 3 * GIB), ("1", 12 * GIB)])
def test_packs_on_this_machine_share_its_memory(
    gpu: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.engine.resources.machine_memory", lambda: 64 * GIB)
    grid = toy_grid(tmp_path, f"resources.gpu={gpu}")
    assert local_memory(grid, 8) == 8 * GIB, "where the trainable doesn't tell a GPU's memory"
    monkeypatch.setattr("tests.toy.device_memory", lambda asked: 12 * GIB, raising=False)
    assert local_memory(grid, 8) == expected


def test_the_memory_of_a_container_is_that_of_its_control_group(tmp_path: Path) -> None:
    whole = psutil.virtual_memory().total
    cgroup, root = tmp_path / "cgroup", tmp_path / "limits"
    assert machine_memory(cgroup, root) == whole
    cgroup.write_text("5:cpu,cpuacct:/job\n4:memory:/slurm/job\n0::/new/job\n")
    assert machine_memory(cgroup, root) == whole
    for path, text in {
        "memory/slurm/memory.limit_in_bytes": "3000\n",
        "memory/slurm/job/memory.limit_in_bytes": "9223372036854771712\n",
        "new/memory.max": "max\n",
        "new/job/memory.max": "4000\n",
        "cpu,cpuacct/job/memory.limit_in_bytes": "17\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    assert machine_memory(cgroup, root) == 3000
    (root / "memory/slurm/memory.limit_in_bytes").unlink()
    assert machine_memory(cgroup, root) == 4000


@pytest.mark.parametrize(
    ("gpus", "each", "packs"), [(2, 0.4, 4), (2, 0.3, 6), (3, 2, 1), (2, 1, 2)]
)
def test_a_pack_is_on_one_gpu(gpus: int, each: float, packs: int) -> None:
    assert gpu_slots(gpus, each) == packs


def test_the_rows_are_the_same_whatever_the_memory_of_a_pack(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "seeds=9")
    run(grid, store)
    small = str(tmp_path / "small")
    for part in (
        toy_grid(tmp_path, "seeds=7"),
        grid,
    ):  # into a new store, then into one with trials
        packs: list[int] = []

        def note(plan: Plan, packs: list[int] = packs) -> None:
            packs.extend(t.num_rows for t in plan.packs.values())

        commands.launch(part, small, Runner(run_inline, 1, memory=64), announce=note)
        assert max(packs) == 4, "of 64 bytes, half is used, and a trial takes 8"
    assert rows(small).equals(rows(store))


def test_a_launch_says_whose_cluster_it_is() -> None:
    alive = [head(0, 8), worker("a", 8, 1, 32), worker("b", 8, 1, 32)]
    free = {"CPU": 12.0, "GPU": 0.75, "memory": 1.0}
    assert cluster_sentence("10.0.0.1:6379 (Ray 2.60.0, Python 3.12.3)", alive, free, []) == (
        "cluster 10.0.0.1:6379 (Ray 2.60.0, Python 3.12.3): 3 nodes, 12 of 16 CPUs and 0.75 of "
        "2 GPUs free"
    )
    types = worker_types(config({"cpu": {**CPU_NODE, "max_workers": 4}}, 4), alive)
    assert cluster_sentence("10.0.0.1:6379", [head(1, 8)], {}, types) == (
        "cluster 10.0.0.1:6379: 1 node, 0 of 1 CPU free, may grow by 4 cpu"
    )


def test_a_launch_says_which_nodes_run_its_packs() -> None:
    alive = [head(0, 8), *(worker(f"a{i}", 8, 1, 32) for i in range(3)), worker("b", 64, gib=32)]
    assert placement(alive, [], Packs(2, 0.25)) == (
        "packs of 2 CPUs and 0.25 GPU at the same time per node: 4 on 3 nodes with 8 CPUs and 1 "
        "GPU each, none on 1 node with 64 CPUs"
    )
    assert placement([*alive[1:], head(2, 8)], [], Packs(0.5)) == (
        "packs of 0.5 CPU at the same time per node: 16 on 3 nodes with 8 CPUs and 1 GPU each, "
        "128 on 1 node with 64 CPUs, 4 on 1 node with 2 CPUs"
    )
    assert placement(alive[:4], [], Packs(2, 0.25)) == "", "all workers are alike"
    types = worker_types(config({"cpu": {**CPU_NODE, "max_workers": 4}}, 4), alive)
    assert placement(alive[:4], types, Packs(8)) == (
        "packs of 8 CPUs at the same time per node: 1 on 3 nodes with 8 CPUs and 1 GPU each, 2 on "
        "4 nodes with 16 CPUs each"
    )


@pytest.mark.parametrize(
    ("mounts", "shared"),
    [
        ({"/": "ext4"}, "ext4"),
        ({"/": "nfs4", "{tmp}": "xfs"}, "xfs"),
        ({"/": "ext4", "{tmp}": "nfs4", "/elsewhere": "ext4"}, ""),
        ({"{tmp}": "lustre"}, ""),
        ({"/": "overlay", "{tmp}": "fuse.juicefs"}, ""),
        ({}, "unknown"),
    ],
)
def test_a_store_on_a_disk_of_one_node_is_warned_about(
    mounts: dict[str, str], shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [
        SimpleNamespace(mountpoint=at.format(tmp=tmp_path), fstype=kind)
        for at, kind in mounts.items()
    ]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: parts)
    nodes = [head(0, 8), worker("a", 8), worker("b", 8)]
    said = store_warning(str(tmp_path / "sweeps"), nodes)
    assert said == (
        f"warning: the store {tmp_path}/sweeps is a folder on a disk of this machine ({shared}), and "
        "the cluster has 3 nodes. All nodes need the same store: give --store (or SWEEPER_STORE) a "
        "folder that they share, or a bucket such as s3://bucket/sweeps."
        if shared
        else ""
    )
    assert store_warning(str(tmp_path / "sweeps"), nodes[:1]) == ""
    assert store_warning("s3://bucket/sweeps", nodes) == ""
