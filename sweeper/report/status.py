"""What a user asks of a store: how far a sweep is, and tables.

Each function opens the views on a snapshot of the ledger, so the answer is one consistent
moment, also while the sweep runs.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sweeper import sql as door
from sweeper.analysis.diagrams.export import flat, plain, writing
from sweeper.analysis.views.views import open_views
from sweeper.errors import SweeperError, UsageError
from sweeper.store import lease as store
from sweeper.store.ledger import Ledger, Record
from sweeper.store.schema import ENDED

MAX_ROWS = 1000
"""Rows that a table in the terminal shows."""

MAX_FAILURES = 5
"""Different tracebacks that `status` shows."""

FORMATS = ("table", "csv", "json", "parquet")


@dataclass(frozen=True, slots=True)
class Status:
    """How far a sweep is.

    Attributes:
        name: The sweep.
        counts: Status to number of trials of the latest grid.
        driver: Who is at work on it, as "process 7 on host"; None for nobody.
        rate: Trials that ended a second, since the latest launch began; None if none has.
        eta_s: Seconds until the rest has ended at that rate; None if unknown or nobody works.
        failures: (number of trials, one of them, traceback) of each way to fail.
        steps: Horizon.
        launched_at: Unix time at which the latest launch began.
    """

    name: str
    counts: dict[str, int]
    driver: str | None
    rate: float | None
    eta_s: float | None
    failures: list[tuple[int, str, str]]
    steps: int
    launched_at: float

    @property
    def trials(self) -> int:
        """All trials."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """Trials that ended in some way."""
        return sum(self.counts.get(status, 0) for status in ENDED)

    @property
    def settled(self) -> bool:
        """Whether nothing will change: all ended, or nobody is at work."""
        return self.driver is None or self.ended == self.trials

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return {**asdict(self), "trials": self.trials, "ended": self.ended}


def status(where: str, name: str) -> Status:
    """Return how far the sweep `name` in the store `where` is."""
    ledger = store.open_sweep(where, name)
    launch = _launch(ledger)
    with open_views(ledger) as views:
        rows = door.query(
            views, "select status, count(*) as n from trials group by status"
        ).to_pylist()
        failed = door.query(
            views,
            "select count(*) as n, min(trial_id) as trial_id, error from trials "
            f"where status = 'failed' group by error order by n desc, error limit {MAX_FAILURES}",
        ).to_pylist()
        ended = door.query(
            views,
            f"select count(*) as n from trials where status in {ENDED} "
            f"and epoch(started_at) + wall_s >= {launch['at']}",
        ).to_pylist()[0]["n"]
    counts = {row["status"]: row["n"] for row in rows}
    lease = store.read_lease(ledger.files)
    alive = store.is_fresh(lease)
    rate = ended / max(1e-9, time.time() - launch["at"]) if alive and ended else None
    left = sum(n for s, n in counts.items() if s not in ENDED)
    return Status(
        name=name,
        counts=counts,
        driver=f"process {lease['pid']} on {lease['host']}" if alive and lease else None,
        rate=rate,
        eta_s=left / rate if rate else None,
        failures=[(row["n"], row["trial_id"], row["error"] or "") for row in failed],
        steps=launch["steps"],
        launched_at=launch["at"],
    )


def _launch(ledger: Ledger) -> Record:
    launch = ledger.state.launch
    if launch is None:
        raise UsageError(f"{ledger.meta['name']}: nothing was launched yet.")
    return launch


def status_view(all_of: list[Status]) -> Group:
    """Return the picture of `status` for the terminal."""
    parts: list[Any] = [status_table(all_of)]
    for one in all_of:
        for n, trial_id, error in one.failures:
            more = f" and {n - 1} others" if n > 1 else ""
            parts.append(Text(f"\n{one.name}: trial {trial_id}{more} failed", style="bold red"))
            parts.append(Text(error))
        if one.failures:
            parts.append(Text(f"mend the cause, then: sweeper retry {one.name}"))
    return Group(*parts)


def status_table(all_of: list[Status]) -> Table:
    """Return one row a sweep: trials by what became of them, rate, time left."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "sweep",
        "trials",
        "ended",
        *ENDED,
        "running",
        "pending",
        "rate",
        "left",
        "driver",
    ):
        table.add_column(heading, justify="left" if heading in ("sweep", "driver") else "right")
    for one in all_of:
        counts = [str(one.counts.get(s, 0)) for s in (*ENDED, "running", "pending")]
        rate = f"{one.rate:.3g}/s" if one.rate else ""
        left = f"{one.eta_s:.0f} s" if one.eta_s is not None else ""
        table.add_row(
            one.name, str(one.trials), str(one.ended), *counts, rate, left, one.driver or ""
        )
    return table


def sql(
    where: str,
    name: str,
    query: str,
    *,
    output: Path | None = None,
    form: str | None = None,
    everything: bool = False,
) -> None:
    """Print or write the result of a read-only `query` over the views of a sweep.

    Args:
        where: URI of the store.
        name: The sweep.
        query: One statement that reads.
        output: Where to; None for the terminal.
        form: One of `FORMATS`; None goes by the suffix of `output`, or is a table.
        everything: Every trial ever run instead of the latest grid.

    Raises:
        UsageError: The format is unknown or contradicts the suffix, or the file can't be written.
    """
    form = _form(output, form)
    with open_views(store.open_sweep(where, name), everything=everything) as views:
        door.check_read_only(query, views)
        result = door.query(views, query)
    write(result, output, form)


def _form(output: Path | None, form: str | None) -> str:
    """Return the format to write, which the suffix of `output` and `form` agree on."""
    listed = ", ".join(FORMATS)
    if form is not None and form not in FORMATS:
        raise UsageError(f"format {form!r} is unknown. One of: {listed}.")
    if output is None:
        if form == "parquet":
            raise UsageError("parquet isn't for the terminal. Name a file with -o.")
        return form or "table"
    suffix = output.suffix.removeprefix(".").lower()
    if suffix in FORMATS:
        if form not in (None, suffix):
            raise UsageError(f"{output}: the suffix says {suffix}, --format says {form}. Drop one.")
        return suffix
    if form is None:
        raise UsageError(f"{output}: the suffix names no format. Add --format, one of: {listed}.")
    return form


def write(result: pa.Table, output: Path | None, form: str) -> None:
    """Write a result as table, csv, json (an object a line) or parquet; None is the terminal."""
    if form == "parquet" and output is not None:
        with writing(output) as file:
            pq.write_table(result, file)
        return
    if form == "csv":
        sink = pa.BufferOutputStream()
        pa_csv.write_csv(flat(result), sink)
        text = sink.getvalue().to_pybytes().decode()
    elif form == "json":
        text = _json_lines(result)
    else:
        text = render(result)
    if output is None:
        sys.stdout.write(text)
    else:
        with writing(output) as file:
            file.write(text.encode())


def _json_lines(result: pa.Table) -> str:
    kinds = {field.name: field.type for field in result.schema}
    rows = ({k: plain(v, kinds[k]) for k, v in row.items()} for row in result.to_pylist())
    return "".join(f"{json.dumps(row, default=str, allow_nan=False)}\n" for row in rows)


def render(result: pa.Table) -> str:
    """Return `result` as text for the terminal; says how many rows it leaves out."""
    table = Table(box=None, pad_edge=False)
    for column in result.schema:
        number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        table.add_column(column.name, justify="right" if number else "left", no_wrap=True)
    for row in result.slice(0, MAX_ROWS).to_pylist():
        table.add_row(*(_cell(value) for value in row.values()))
    console = Console(width=10_000, highlight=False)
    with console.capture() as capture:
        console.print(table, soft_wrap=True)
    text = "\n".join(line.rstrip() for line in capture.get().split("\n"))
    left = result.num_rows - MAX_ROWS
    return text + (f"... and {left} rows more: write them with -o FILE\n" if left > 0 else "")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return " ".join(f"{k}={_cell(v)}" for k, v in value.items() if v is not None)
    return str(value)


def prompt(where: str, name: str, *, everything: bool = False) -> None:
    """Read queries line by line until the end of input, and print their results.

    A query may span lines; it ends with a semicolon or an empty line. Each one sees the store
    as it is then.
    """
    ledger = store.open_sweep(where, name)
    interactive = sys.stdin.isatty()
    if interactive:
        sys.stdout.write(f"{name}: views trials, metrics, delays, cells; end a query with ;\n")
    pending: list[str] = []
    while True:
        if interactive:
            sys.stdout.write("sql> " if not pending else "...> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if line.strip():
            pending.append(line)
        if pending and (not line.strip() or line.rstrip().endswith(";")):
            _answer(ledger, "".join(pending).strip().rstrip(";"), everything=everything)
            pending = []
        if not line:
            return


def _answer(ledger: Ledger, query: str, *, everything: bool) -> None:
    if not query:
        return
    try:
        ledger.refresh()
        with open_views(ledger, everything=everything) as views:
            door.check_read_only(query, views)
            sys.stdout.write(render(door.query(views, query)))
    except SweeperError as error:
        sys.stdout.write(f"error: {error}\n")
