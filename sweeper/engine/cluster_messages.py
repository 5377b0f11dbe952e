"""The sentences about a cluster that a launch prints before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeper.config.messages import counted
from sweeper.engine.cluster import Node, Packs, amount
from sweeper.engine.resources import SHARED, mount_of
from sweeper.store.files import local_folder


def introduction(
    identity: str,
    alive: Sequence[Node],
    free: Mapping[str, float],
    types: Sequence[Node],
    wanted: Packs,
    store: str | None,
) -> list[str]:
    """Return whose cluster it is, which packs run where, and whether the store is unsafe there.

    Args:
        identity: The cluster's address and versions as text.
        alive: The nodes that are there.
        free: The resources of all nodes that no task uses now, by Ray's names.
        types: The types of worker nodes that the autoscaler can start.
        wanted: The packs of the launch.
        store: URI of the store; None if unknown.
    """
    sentences = [
        cluster_sentence(identity, alive, free, types),
        placement(alive, types, wanted),
        store_warning(store, alive) if store is not None else "",
    ]
    return [sentence for sentence in sentences if sentence]


def cluster_sentence(
    identity: str, alive: Sequence[Node], free: Mapping[str, float], types: Sequence[Node]
) -> str:
    """Return whose cluster it is, and what is free there, as a sentence.

    The arguments are those of `introduction`.
    """
    cpus, gpus = sum(node.cpus for node in alive), sum(node.gpus for node in alive)
    of_gpus = f" and {free.get('GPU', 0):g} of {amount(gpus, 'GPU')}" if gpus else ""
    text = (
        f"cluster {identity}: {counted(len(alive), 'node')}, {free.get('CPU', 0):g} of "
        f"{amount(cpus, 'CPU')}{of_gpus} free"
    )
    if types:
        text += ", may grow by " + ", ".join(f"{t.count} {t.name}" for t in types)
    return text


def placement(alive: Sequence[Node], types: Sequence[Node], wanted: Packs) -> str:
    """Return on which nodes the `wanted` packs run, as a sentence; "" if all nodes are alike.

    Equal nodes are named together. The head counts only if it runs packs.
    """
    kinds: dict[tuple[float, float], int] = {}
    for node in (*alive, *types):
        if not node.head or node.packs(wanted):
            kinds[node.cpus, node.gpus] = kinds.get((node.cpus, node.gpus), 0) + node.count
    if len(kinds) < 2:
        return ""
    shares = []
    for (cpus, gpus), n in sorted(kinds.items(), key=lambda kind: (-kind[0][1], -kind[0][0])):
        fits = Node("", cpus, gpus).packs(wanted)
        with_gpus = f" and {amount(gpus, 'GPU')}" if gpus else ""
        each = " each" if n > 1 else ""
        shares.append(
            f"{fits or 'none'} on {counted(n, 'node')} with {amount(cpus, 'CPU')}{with_gpus}{each}"
        )
    return f"packs of {wanted} at the same time per node: {', '.join(shares)}"


def store_warning(store: str, alive: Sequence[Node]) -> str:
    """Return a warning if the nodes of a cluster hardly share the `store`; "" otherwise.

    A folder is shared if its file system is one of a network.
    """
    folder = local_folder(store)
    if folder is None or len({node.name for node in alive}) < 2:
        return ""
    mount = mount_of(folder)
    kind = mount.fstype if mount else "unknown"
    if kind.startswith(SHARED):
        return ""
    return (
        f"warning: the store {folder} is a folder on a disk of this machine ({kind}), and the "
        f"cluster has {len(alive)} nodes. All nodes need the same store: give --store (or "
        "SWEEPER_STORE) a folder that they share, or a bucket such as s3://bucket/sweeps."
    )
