"""Clusters of Ray on this machine, whose nodes are processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.cluster_utils import Cluster

OBJECT_STORE = 80 << 20
"""Bytes of the object store of each node."""


@contextmanager
def head_without_room() -> Iterator[Cluster]:
    """Start a cluster whose only node, the head, has no room for packs."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()
