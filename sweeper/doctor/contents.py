"""The files that the records of a sweep name: there, whole, and with the content they should have.

Each file of metrics and ends is read once; its rows are handed on to the checks of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from sweeper.doctor.findings import REPAIR, Finding, Severity
from sweeper.errors import StoreError
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.scan import ENDED
from sweeper.store.schema import METRICS
from sweeper.store.state import PackState, Part
from sweeper.store.visible import planned_hash


@dataclass(slots=True)
class Contents:
    """The files of the packs that count.

    Attributes:
        listings: Pack to its rows in the listing of packs.
        ends: Path to content of each intact file of ends.
        findings: What is wrong.
        bytes: Size of all files that were read.
        files: Number of them.
    """

    listings: dict[str, pa.Table] = field(default_factory=dict)
    ends: dict[str, pa.Table] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    bytes: int = 0
    files: int = 0

    @property
    def damaged(self) -> set[str]:
        """The packs with a damaged file."""
        return {pack for finding in self.findings for pack in finding.packs}


def listed(ledger: Ledger) -> Contents:
    """Check the plans of the sweep, and the files that list its packs."""
    found = Contents()
    _check_plans(ledger, found)
    _check_listings(ledger, found, [pack for pack in ledger.state.ordered if not pack.void])
    return found


def check(
    ledger: Ledger, found: Contents, take: Callable[[pa.Table, str | None, Part], None]
) -> None:
    """Check all other files of the packs that count; add to `found`.

    Args:
        ledger: The sweep's ledger.
        found: The result of `listed`.
        take: Called with the rows that count of each intact file of metrics: with their pack (None
            for a compacted file), and the file.
    """
    alive = [pack for pack in ledger.state.ordered if not pack.void]
    for pack in alive:
        mine = frozenset({pack.id})
        valid = {part.path: cutoff for part, cutoff in ledger.state.valid(pack)}
        for _, part in pack.parts:
            rows = _table(ledger, found, part, "step", mine)
            if rows is not None and part.path in valid:
                take(tables.upto(rows, valid[part.path]), pack.id, part)
        for _, part in pack.ends:
            ended = _table(ledger, found, part, "last_step", mine)
            if ended is not None:
                found.ends[part.path] = ended.select(list(ENDED))
        _check_checkpoint(ledger, found, pack)
    for part in ledger.state.compacted:
        owners = frozenset(ledger.state.compacted_by[part.path])
        rows = _table(ledger, found, part, "step", owners)
        if rows is not None:
            take(rows, None, part)
    _check_starts(ledger, found, alive)


def _check_plans(ledger: Ledger, found: Contents) -> None:
    """Check the last plan of each set of trials: a launch writes a damaged one again."""
    latest: dict[str, Record] = {}
    launches = ledger.state.launches
    for launch in launches.values():
        latest[planned_hash(launch["plan"])] = launch["plan"]
    last = ledger.state.launch or {}
    shown = {planned_hash(launches[i]["plan"]) for i in last.get("beside", ())}
    if last:
        shown.add(planned_hash(last["plan"]))
    for trials, entry in latest.items():
        raw = ledger.files.read(entry["path"])
        message = tables.wrong(ledger.files, raw, entry["path"], entry.get("size"), entry["sha256"])
        if message is None:
            found.files += 1
            found.bytes += len(raw or b"")
            message = _table_in(ledger, entry["path"], raw or b"", {})[1]
        if message is not None:
            severity: Severity = "error" if trials in shown else "warning"
            _add(found, ledger, severity, entry["path"], message, tables.REWRITTEN)


def _check_listings(ledger: Ledger, found: Contents, alive: list[PackState]) -> None:
    by_path: dict[str, list[PackState]] = {}
    for pack in alive:
        by_path.setdefault(pack.path, []).append(pack)
    for path, packs in by_path.items():
        ids = frozenset(pack.id for pack in packs)
        raw = ledger.files.read(path)
        message = tables.wrong(ledger.files, raw, path, None, ledger.state.files[path])
        table = None
        if message is None:
            found.files += 1
            found.bytes += len(raw or b"")
            table, message = _table_in(ledger, path, raw or b"", {})
        if table is None:
            _add(found, ledger, "error", path, message or "", REPAIR, ids)
            continue
        rows_of = _by_pack(table)
        for pack in packs:
            rows = rows_of.get(pack.id, table.slice(0, 0))
            found.listings[pack.id] = rows
            if rows.num_rows != pack.size:
                message = f"lists {rows.num_rows} trials of pack {pack.id} instead of {pack.size}."
                _add(found, ledger, "error", path, message, REPAIR, frozenset({pack.id}))


def _by_pack(table: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each pack."""
    table = table.sort_by("pack_id")
    runs = pc.run_end_encode(table["pack_id"].combine_chunks())
    stops = runs.run_ends.to_pylist()
    starts = [0, *stops]
    return {
        pack: table.slice(start, stop - start)
        for pack, start, stop in zip(runs.values.to_pylist(), starts, stops, strict=False)
    }


def _table(
    ledger: Ledger, found: Contents, part: Part, steps: str, packs: frozenset[str]
) -> pa.Table | None:
    """Return the rows of a file, or None if it is damaged; add what is wrong to `found`."""
    raw, message = tables.proven(ledger.files, part)
    table: pa.Table | None = None
    if message is None:
        found.files += 1
        found.bytes += len(raw)
        table, message = _table_in(ledger, part.path, raw, METRICS)
    if table is not None and (wrong := _unlike(table, part, steps)) is not None:
        table, message = None, f"{wrong}, unlike its record."
    if message is not None:
        _add(found, ledger, "error", part.path, message, REPAIR, packs)
    return table


def _table_in(
    ledger: Ledger, path: str, raw: bytes, kinds: dict[str, pa.DataType]
) -> tuple[pa.Table | None, str | None]:
    """Return the table in a file's bytes, or a message if it isn't what files there hold.

    Args:
        ledger: The sweep's ledger.
        path: The file.
        raw: Its content.
        kinds: Column to type, of columns that the file may lack.
    """
    try:
        with tables.decoding(ledger.files, path):
            table = tables.shaped(path, tables.table(raw))
    except StoreError as error:
        return None, str(error).removesuffix(tables.REMEDY).removesuffix(tables.REWRITTEN).strip()
    for column in table.schema:
        if column.name in kinds and column.type != kinds[column.name]:
            return None, f"damaged: its column {column.name} is of type {column.type}."
    return table, None


def _unlike(table: pa.Table, part: Part, steps: str) -> str | None:
    """Return what of a file's rows differs from its record; None if nothing does."""
    if table.num_rows != part.rows:
        return f"has {table.num_rows} rows instead of {part.rows}"
    if not table.num_rows:
        return None
    extent = pc.min_max(table[steps]).as_py()
    if (extent["min"], extent["max"]) != (part.min_step, part.max_step):
        return (
            f"has steps {extent['min']} to {extent['max']} instead of {part.min_step} to "
            f"{part.max_step}"
        )
    return None


def _check_checkpoint(ledger: Ledger, found: Contents, pack: PackState) -> None:
    saved = pack.checkpoint
    if saved is None:
        return
    message = tables.corrupt(ledger.files, saved)
    if message is None:
        found.files += 1
        found.bytes += saved.get("size", 0)
        return
    ledger.follow([pack.id])
    if pack.checkpoint is not saved:  # a running pack has replaced it meanwhile
        _check_checkpoint(ledger, found, pack)
    elif pack.open:
        _add(found, ledger, "error", saved["path"], message, REPAIR, frozenset({pack.id}))
    else:
        remedy = "Its pack has ended: only a launch of more steps trains its trials again."
        _add(found, ledger, "warning", saved["path"], message, remedy)


def _check_starts(ledger: Ledger, found: Contents, alive: list[PackState]) -> None:
    """Check the checkpoints of other packs that open packs begin at."""
    for pack in alive:
        if not pack.open or pack.checkpoint is not None or pack.id not in found.listings:
            continue
        wanted = found.listings[pack.id]["start"].drop_null().unique().to_pylist()
        known = {entry["path"]: entry for entry in ledger.state.checkpoints(wanted)}
        for path in wanted:
            if path not in known:
                message = f"pack {pack.id} begins at this checkpoint, which no record names."
            elif (damage := tables.corrupt(ledger.files, known[path])) is not None:
                message = f"{damage} Pack {pack.id} begins at it."
            else:
                continue
            _add(found, ledger, "error", path, message, REPAIR, frozenset({pack.id}))


def _add(
    found: Contents,
    ledger: Ledger,
    severity: Severity,
    path: str,
    message: str,
    remedy: str,
    packs: frozenset[str] = frozenset(),
) -> None:
    where = ledger.files.location(path)
    text = message.removeprefix(f"{where}: ")
    found.findings.append(Finding(severity, "files", where, text, remedy, packs))


def starts(ledger: Ledger, contents: Contents) -> Iterator[tuple[int, str, str, int | None]]:
    """Yield (place of the pack, pack, trial, start step) of every listed trial that counts.

    The start step is -1 for a trial that begins from scratch, and None if it isn't known.
    """
    alive = [pack for pack in ledger.state.ordered if not pack.void]
    paths = {
        path
        for listing in contents.listings.values()
        if listing["start"].null_count < listing.num_rows
        for path in listing["start"].drop_null().unique().to_pylist()
    }
    steps = {entry["path"]: entry["step"] for entry in ledger.state.checkpoints(paths)}
    for place, pack in enumerate(alive):
        listing = contents.listings.get(pack.id)
        if listing is None:
            continue
        ids, begins = listing["trial_id"].to_pylist(), listing["start"].to_pylist()
        for trial_id, start in zip(ids, begins, strict=True):
            yield place, pack.id, trial_id, -1 if start is None else steps.get(start)
