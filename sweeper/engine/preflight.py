"""The check of every node before the first pack: can it train the packs of a launch?

A node that lacks the user's module or the store would fail one pack after the other. `lacks` runs
on each node, and `raise_lacks` names in one line the nodes and what they lack.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from sweeper import trainable
from sweeper.config.messages import counted
from sweeper.engine.provenance import versions
from sweeper.engine.task import PackTask
from sweeper.engine.trainer import put_packages_first
from sweeper.errors import ClusterError, SweeperError, redact
from sweeper.store.files import Files, local_folder
from sweeper.store.ledger import Ledger

COMPARED = ("sweeper", "torch")
"""Packages whose versions must be those of the driver."""

NAMED = 3
"""The most nodes that a message names per reason."""

_MISSING = re.compile(r"No module named '[\w.]+'")


def lacks(task: PackTask, wanted: Mapping[str, str]) -> list[str]:
    """Return the reasons why this node can't train the pack of `task`; none if it can.

    Args:
        task: A pack of the launch.
        wanted: The versions of Python and of the packages where the driver runs.
    """
    put_packages_first()
    return [*_versions(wanted), *_store_and_trainable(task)]


def _versions(wanted: Mapping[str, str]) -> list[str]:
    here = versions()
    python, theirs = (v["python"].rpartition(".")[0] for v in (here, wanted))
    reasons = [f"Python {python} instead of {theirs}"] if python != theirs else []
    for package in COMPARED:
        if package in wanted:
            asked = wanted[package].partition("+")[0]  # "+cpu" and "+cu128" name builds
            have = here.get(package, "").partition("+")[0]
            if have != asked:
                have_text = f"{package} {have}" if have else f"no {package}"
                reasons.append(f"{have_text} instead of {asked}")
    return reasons


def _store_and_trainable(task: PackTask) -> list[str]:
    try:
        ledger = Ledger.open(Files.at(task.sweep), chains=False)
    except SweeperError as error:
        return [f"the store can't be read: {error}"]
    launch = ledger.state.launches.get(task.launch_id)
    if launch is None:
        return [f"{task.sweep} is another folder, which doesn't hold this launch"]
    root = local_folder(task.sweep)
    writable = root is None or os.access(root, os.W_OK)
    reasons = [] if writable else [f"{task.sweep} can't be written"]
    try:
        trainable.load(launch["trainable"], launch.get("code")).device(task.device)
    except SweeperError as error:
        reasons.append(str(error))
    return reasons


def failed(error: BaseException) -> str:
    """Return the reason if the check itself failed on a node."""
    missing = _MISSING.search(str(error))
    text = str(error).strip().splitlines() or [type(error).__name__]
    return f"sweeper can't be imported: {missing[0]}" if missing else text[-1].strip()


def raise_lacks(found: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raise one error that says which nodes lack what; do nothing if none lacks anything.

    Args:
        found: The address of each node, and what it lacks.

    Raises:
        ClusterError: A node lacks something.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for address, reasons in found:
        if reasons:
            texts = tuple(" ".join(reason.split()).rstrip(".") for reason in reasons)
            groups.setdefault(texts, []).append(address)
    if not groups:
        return
    parts = []
    for texts, addresses in groups.items():
        more = f" and {len(addresses) - NAMED} more" if len(addresses) > NAMED else ""
        parts.append(f"{', '.join(addresses[:NAMED])}{more}: {'; '.join(texts)}")
    n = sum(map(len, groups.values()))
    nodes = f"{n} of {counted(len(found), 'node')}"
    raise ClusterError(
        f"{nodes} can't train. {redact('. '.join(parts))}. Nothing was trained: mend the "
        f"{'node' if n == 1 else 'nodes'} and launch again."
    )
