"""Files in a sweep's folder that no record needs, and files of other programs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sweeper.config.messages import counted
from sweeper.doctor.findings import Finding, some
from sweeper.store import chain, snapshots
from sweeper.store.disk import ASIDE
from sweeper.store.files import Entry
from sweeper.store.lease import LEASE, LOCK, STALE_S, is_fresh, read_lease
from sweeper.store.ledger import DAMAGED, DIGITS, META, Ledger
from sweeper.store.sink import STOP

OLD_S = 86400.0
"""Age in seconds from which on a file that no record names can't be one that is about to be."""

_OURS = re.compile(r"(metrics|ends|packs|plans)/[\w-]+\.parquet|checkpoints/[\w-]+\.pt|.*#\d+")
"""Matches the files that records may name, and those that are being written."""

_KEPT = re.compile(
    rf"{META}|{LEASE}|{LOCK}|search\.db.*|{STOP}/.*|output/[\w-]+\.txt|code/\w+\.py|log/\d{{{DIGITS}}}\.json"
    rf"|{chain.FOLDER}/[^/]+/\d{{{chain.DIGITS}}}\.json|{snapshots.FOLDER}/[\w-]+\.parquet"
)


@dataclass(frozen=True, slots=True)
class Litter:
    """Files that are of no use.

    Attributes:
        old: Those older than a day: they can be deleted.
        fresh: Those that a running launch may be about to name.
        spared: Those that a lost record may have named.
        foreign: Files of other programs.
        aside: Damaged files that were moved aside.
    """

    old: tuple[Entry, ...]
    fresh: tuple[Entry, ...]
    spared: tuple[Entry, ...]
    foreign: tuple[Entry, ...]
    aside: tuple[Entry, ...]


def sweep(ledger: Ledger, *, spare: bool) -> Litter:
    """Sort the files of a sweep.

    Args:
        ledger: The ledger, with the chains of all packs, also of the void ones.
        spare: Whether a record is lost, which may have named files; they stay. A record is also
            lost if a chain belongs to a pack that no record lists.
    """
    files = ledger.files
    entries = files.entries()
    ledger.refresh()  # what was committed while the files were listed is named by now
    named = _named(ledger)
    spare = spare or not chain.begun(files) <= ledger.state.packs.keys()
    limit = time.time() - OLD_S
    sorted_: dict[str, list[Entry]] = {
        kind: [] for kind in ("old", "fresh", "spared", "foreign", "aside")
    }
    for entry in entries:
        if entry.path.startswith(f"{DAMAGED}/"):
            sorted_["aside"].append(entry)
        elif entry.path in named:
            continue
        elif _OURS.fullmatch(entry.path):
            written = spare and ASIDE.search(entry.path) is None
            age = "old" if entry.modified < limit else "fresh"
            sorted_["spared" if written else age].append(entry)
        elif not _KEPT.fullmatch(entry.path):
            sorted_["foreign"].append(entry)
    return Litter(**{kind: tuple(listed) for kind, listed in sorted_.items()})


def _named(ledger: Ledger) -> set[str]:
    """Return the files that the records name, and that may be read again."""
    state = ledger.state
    named = set(state.files) | set(state.starts) | {path for _, path in state.replaced}
    named |= {launch["plan"]["path"] for launch in state.launches.values()}
    named |= {part.path for part in state.compacted}
    for pack in state.packs.values():
        named |= {part.path for _, part in (*pack.parts, *pack.ends)}
        if pack.checkpoint is not None:
            named.add(pack.checkpoint["path"])
    return named


def findings(ledger: Ledger, litter: Litter) -> Iterator[Finding]:
    """Yield what lies in the folder beside the files that count."""
    where = ledger.files.uri
    for entries, text, remedy in (
        (litter.old, "that no record needs, older than a day", "--repair deletes them."),
        (litter.fresh, "that no record needs, younger than a day", ""),
        (litter.spared, "that no record names; a lost one may have", "Nothing deletes them."),
        (litter.foreign, "of other programs", "Nothing reads them."),
        (litter.aside, f"moved aside to {DAMAGED}/ earlier", "Delete them if you don't need them."),
    ):
        if entries:
            size = sum(entry.size for entry in entries)
            names = some(entry.path for entry in entries)
            n = counted(len(entries), "file")
            yield Finding("note", "files", where, f"{n} {text}: {size} bytes: {names}.", remedy)
    lease = read_lease(ledger.files)
    if lease is None and ledger.files.size(LEASE) is not None:
        yield Finding("note", "lease", ledger.files.location(LEASE), "can't be read.", LEASE_REMEDY)
    elif lease is not None and not is_fresh(lease):
        yield Finding(
            "note",
            "lease",
            ledger.files.location(LEASE),
            f"of process {lease.get('pid', '?')} on {lease.get('host', '?')}, which ended without "
            f"removing it more than {STALE_S:g} s ago, or was killed.",
            LEASE_REMEDY,
        )


LEASE_REMEDY = "It hinders nobody; the next launch replaces it."
