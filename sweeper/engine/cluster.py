"""The nodes of a cluster: how many packs they run at the same time, and the memory of each pack.

The input is plain values: the nodes as Ray lists them, and the config of its autoscaler. This
module doesn't import Ray. The room of a cluster is that of the nodes it can grow to: packs that
wait make the autoscaler start nodes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from sweeper.config.messages import counted
from sweeper.engine.resources import gpu_slots, machine_memory, slots
from sweeper.errors import ClusterError

GPU_GB = {
    "A10G": 24,
    "A100": 40,
    "A100-40G": 40,
    "A100-80G": 80,
    "B200": 180,
    "B300": 270,
    "GB200": 180,
    "GB300": 270,
    "H20": 96,
    "H100": 80,
    "H200": 141,
    "K80": 12,
    "L4": 24,
    "L40S": 48,
    "P4": 8,
    "P100": 12,
    "RTX-PRO-6000": 96,
    "T4": 16,
    "V100": 16,
}
"""Ray's name of a GPU to its memory in GB, the smallest one if it is sold with several."""

ACCELERATOR = "accelerator_type:"
"""Begins the name of the resource that tells a node's GPU."""

CONFIG = "--autoscaling-config="
"""The autoscaler's option that names the file of its config."""

WAIT_S = 300.0
"""The most seconds to wait for a node with room."""

POLL_S = 1.0
"""Seconds between two looks at the nodes while waiting for one."""

NAMED = 3
"""The most nodes that a message names."""

HEAD = "node:__internal_head__"
"""The resource that only the head has."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster, or a type of nodes that the autoscaler can start.

    Attributes:
        name: Address of the node, or name of the type.
        cpus: Number of CPUs that Ray gives to tasks.
        gpus: Number of GPUs.
        memory: Bytes of RAM; 0 if unknown.
        gpu_memory: Bytes of each GPU; 0 if unknown.
        head: Whether it is the head node.
        count: Number of such nodes: more than 1 only for a type.
    """

    name: str
    cpus: float
    gpus: float = 0.0
    memory: int = 0
    gpu_memory: int = 0
    head: bool = False
    count: int = 1

    @classmethod
    def of(cls, name: str, resources: Mapping[str, float], *, count: int = 1) -> Node:
        """Return the node with these `resources`, by the names that Ray gives them.

        Ray keeps a part of the RAM for its store of objects. Sweeps hardly use it, so both parts
        count.
        """
        kinds = [key.removeprefix(ACCELERATOR) for key in resources if key.startswith(ACCELERATOR)]
        sizes = [GPU_GB[kind] for kind in kinds if kind in GPU_GB]
        return cls(
            name,
            resources.get("CPU", 0),
            resources.get("GPU", 0),
            int(resources.get("memory", 0) + resources.get("object_store_memory", 0)),
            max(sizes, default=0) * 10**9,  # A100 and A100-80G: the second one tells more
            HEAD in resources,
            count,
        )

    def packs(self, wanted: Packs) -> int:
        """Return the number of `wanted` packs that run at the same time on one such node."""
        by_cpu = slots(self.cpus, wanted.cpu)
        return min(by_cpu, gpu_slots(self.gpus, wanted.gpu)) if wanted.gpu else by_cpu

    def pack_memory(self, wanted: Packs) -> int:
        """Return the bytes that each of the `wanted` packs on such a node may use; 0 if unknown.

        The packs of a node share its RAM, or those of a GPU the GPU's memory.
        """
        beside = min(self.packs(wanted), wanted.most or self.packs(wanted))
        if wanted.gpu and self.gpu_memory:
            return self.gpu_memory // max(1, min(beside, slots(1, wanted.gpu)))
        return self.memory // max(1, beside)

    def __str__(self) -> str:
        """Return the node as text, e.g. "10.0.0.2 has 8 CPUs and 1 GPU"."""
        gpus = f" and {amount(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{self.name} has {amount(self.cpus, 'CPU')}{gpus}"


def amount(n: float, noun: str) -> str:
    """Return e.g. "1 CPU", "0.25 GPU", "8 CPUs"."""
    return f"{n:g} {noun}" if 0 < n <= 1 else f"{n:g} {noun}s"


@dataclass(frozen=True, slots=True)
class Packs:
    """The packs of a launch, as a cluster sees them.

    Attributes:
        cpu: CPUs of each pack.
        gpu: GPUs of each pack; 0 if they train on CPUs.
        most: The most packs at the same time; None for no limit.
    """

    cpu: float
    gpu: float = 0.0
    most: int | None = None

    def __str__(self) -> str:
        """Return the resources of one pack as text, e.g. "1 CPU and 0.25 GPU"."""
        gpus = f" and {amount(self.gpu, 'GPU')}" if self.gpu else ""
        return f"{amount(self.cpu, 'CPU')}{gpus}"


@dataclass(frozen=True, slots=True)
class Room:
    """The room of a cluster for the packs of a launch.

    Attributes:
        now: Number of packs that run at the same time on the nodes that are there.
        later: The same once the autoscaler has started all the nodes that it may start.
        memory: Bytes that one pack may use wherever it runs; None for a share of this machine's.
    """

    now: int
    later: int
    memory: int | None = None


def alive_nodes(listed: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the nodes that are alive, of those that Ray has `listed`."""
    return [
        Node.of(node.get("NodeManagerAddress", ""), node["Resources"])
        for node in listed
        if node["Alive"]
    ]


def room_on(alive: Sequence[Node], types: Sequence[Node], wanted: Packs) -> Room:
    """Return the room for the `wanted` packs.

    Args:
        alive: The nodes that are there.
        types: The types of worker nodes that the autoscaler can start, with their numbers.
        wanted: The packs.
    """
    now = sum(node.packs(wanted) for node in alive)
    workers = sum(node.packs(wanted) for node in alive if not node.head)
    grown = sum(node.packs(wanted) * node.count for node in types)
    fits = [node for node in (*alive, *types) if node.packs(wanted)]
    memory = min((node.pack_memory(wanted) for node in fits if node.memory), default=None)
    if memory is None and fits:
        most = max(node.packs(wanted) for node in fits)
        memory = machine_memory() // min(most, wanted.most or most)
    return Room(now, now - workers + max(workers, grown), memory)


def wait_for_room(
    address: str,
    wanted: Packs,
    *,
    listed: Callable[[], Sequence[Mapping[str, Any]]],
    autoscaler: Mapping[str, Any] | None = None,
    demand: Callable[[Sequence[Mapping[str, float]]], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    wait_s: float | None = None,
) -> Room:
    """Return the room for the `wanted` packs; wait for worker nodes while there is none.

    The workers of a cluster come after its head: seconds to minutes later. If the limits of the
    autoscaler are known and a node type has room, nothing is waited for: the packs will wait in
    Ray's queue, which makes the autoscaler start nodes.

    Args:
        address: The cluster's address, for messages.
        wanted: The packs.
        listed: Returns the nodes of the cluster as Ray lists them now.
        autoscaler: The config of the cluster's autoscaler; None if unknown.
        demand: Asks the autoscaler, if there is one, for nodes with room for these resources.
        say: Called with a message, once, before a wait.
        wait_s: The most seconds to wait; None for `WAIT_S`.

    Raises:
        ClusterError: No node had room after that time.
    """
    limit = WAIT_S if wait_s is None else wait_s
    until = time.monotonic() + limit
    asked = False
    while True:
        alive = alive_nodes(listed())
        types = worker_types(autoscaler, alive) if autoscaler else []
        found = room_on(alive, types, wanted)
        if found.later or time.monotonic() >= until:
            break
        if not asked:
            asked = True
            say(
                f"waiting for room, at most {limit / 60:g} min: a pack needs {wanted}; "
                f"{_described(alive)}"
            )
            demand([{"CPU": wanted.cpu, "GPU": wanted.gpu} if wanted.gpu else {"CPU": wanted.cpu}])
        time.sleep(POLL_S)
    if asked:
        demand([])  # from now on the packs themselves ask
    if not found.later:
        raise ClusterError(no_room(address, alive, wanted))
    return found


def no_room(address: str, alive: Sequence[Node], wanted: Packs) -> str:
    """Return the error that no node of a cluster has room for one of the `wanted` packs."""
    if wanted.gpu and not any(node.gpus for node in alive):
        return (
            f"resources.gpu = {wanted.gpu:g}: no node of the cluster at {address!r} has a GPU. "
            "Add a node with a GPU, or set resources.gpu=0 to train on CPUs."
        )
    return (
        f"resources: cpu {wanted.cpu:g}, gpu {wanted.gpu:g}: no node of the cluster has room for "
        f"one pack: {_described(alive)}. Lower resources.cpu or resources.gpu, or add a node."
    )


def _described(alive: Sequence[Node]) -> str:
    """Return the nodes as text; of many only the largest ones."""
    order = sorted(alive, key=lambda node: (-node.gpus, -node.cpus, node.name))
    others = f", and {counted(len(alive) - NAMED, 'smaller node')}" if len(alive) > NAMED else ""
    return ", ".join(map(str, order[:NAMED])) + others or "the cluster has no node"


def autoscaler_config(gcs_address: str) -> dict[str, Any] | None:
    """Return the config of the autoscaler of the cluster at `gcs_address`; None if unknown.

    The autoscaler is a process on the head. Its command line names the cluster and the file with
    its config, which `ray up` writes as JSON. So this works where the launch runs on the head.
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        files = [w.removeprefix(CONFIG) for w in words if w.startswith(CONFIG)]
        if files and f"--gcs-address={gcs_address}" in words:
            try:
                config = json.loads(Path(files[-1]).expanduser().read_text())
            except (OSError, ValueError):
                return None
            return config if isinstance(config, dict) else None
    return None


def worker_types(config: Mapping[str, Any], alive: Sequence[Node]) -> list[Node]:
    """Return the types of worker nodes that an autoscaler with this `config` can start.

    The workers of `provider: local` have a type without resources. It counts as one with those of
    the smallest worker node that is alive, and is left out while there is none. The limit on the
    number of all workers leaves out the smallest types first.

    Args:
        config: The cluster's config as Ray keeps it, with `available_node_types`.
        alive: The nodes that are there.
    """
    left = int(config.get("max_workers", 0))
    like = min((n for n in alive if not n.head), key=lambda n: (n.gpus, n.cpus), default=None)
    types = []
    for name, kind in config.get("available_node_types", {}).items():
        count = int(kind.get("max_workers", left))
        resources = kind.get("resources") or {}
        if name == config.get("head_node_type") or count < 1:
            continue
        if resources:
            types.append(Node.of(name, resources, count=count))
        elif like is not None:
            types.append(replace(like, name=name, count=count))
    limited = []
    for node in sorted(types, key=lambda n: (-n.gpus, -n.cpus)):
        count = min(node.count, left)
        left -= count
        if count:
            limited.append(replace(node, count=count))
    return limited
