"""Asks every node of a cluster whether it can train the packs of a launch; the question to Ray.

`sweeper.engine.preflight` answers it on the node.
"""

from __future__ import annotations

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeper.engine.cluster import Node, Packs
from sweeper.engine.failures import death_of
from sweeper.engine.preflight import failed, lacks
from sweeper.engine.provenance import versions
from sweeper.engine.task import PackTask

PREFLIGHT_S = 60.0
"""The most seconds to wait for the nodes to say whether they can train."""

GPU_SLICE = 0.001
"""The part of a GPU that the check of a node takes: it also fits beside other work."""


def ask_nodes(task: PackTask, wanted: Packs) -> list[tuple[str, list[str] | None]]:
    """Return the address of each node with room, and what it lacks; None if it is silent."""
    nodes = [one for one in ray.nodes() if one["Alive"]]
    nodes = [one for one in nodes if Node.of("", one["Resources"]).packs(wanted)]
    gpus = GPU_SLICE if wanted.gpu else 0
    remote = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0, max_calls=1)(lacks)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        reference = remote.options(scheduling_strategy=there).remote(task, versions())
        asked[reference] = node["NodeManagerAddress"]
    if not asked:
        return []
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PREFLIGHT_S)
    found: list[tuple[str, list[str] | None]] = [(asked[one], None) for one in silent]
    for reference in done:
        address = asked[reference]
        try:
            found.append((address, ray.get(reference)))
        except RayError as error:
            if death_of(error) != "node":
                found.append((address, [failed(error)]))
    return found
