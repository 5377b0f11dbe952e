"""SQL queries over the views of a sweep: printed, written to a file, or typed at a prompt.

Each query opens the views on a snapshot of the ledger. Its result is therefore consistent, also
while the sweep runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper.analysis.diagrams.export import flat, plain, rows_of, writing
from sweeper.analysis.views.views import open_views
from sweeper.config.messages import counted
from sweeper.errors import SweeperError, UsageError
from sweeper.sql import check_read_only, query
from sweeper.store.lease import open_sweep
from sweeper.store.ledger import Ledger

MAX_ROWS = 1000
"""The most rows of a table in the terminal."""

FORMATS = ("table", "csv", "json", "parquet")


def sql(
    where: str,
    name: str,
    text: str,
    *,
    output: Path | None = None,
    form: str | None = None,
    everything: bool = False,
    timeout_s: float | None = None,
) -> str | None:
    """Print or write the result of a read-only query over the views of a sweep.

    Returns:
        The number of rows and the file that was written, as a sentence; None if it was printed.

    Args:
        where: URI of the store.
        name: Name of the sweep.
        text: One SQL statement that only reads.
        output: The file to write; None prints the result.
        form: One of `FORMATS`; None takes the format from the suffix of `output`, or a table.
        everything: Query every trial in the store instead of the latest grid's.
        timeout_s: Seconds after which the query is ended; None for no limit.

    Raises:
        UsageError: The format is unknown or contradicts the suffix, the query is wrong or took too
            long, or the file can't be written.
    """
    form = _form(output, form)
    with open_views(open_sweep(where, name), everything=everything) as views:
        check_read_only(text, views)
        result = query(views, text, timeout_s=timeout_s)
    write(result, output, form)
    return None if output is None else f"{counted(result.num_rows, 'row')} written to {output}"


def _form(output: Path | None, form: str | None) -> str:
    """Return the format to write, given by `form` or by the suffix of `output`."""
    listed = ", ".join(FORMATS)
    if form is not None and form not in FORMATS:
        raise UsageError(f"format {form!r} is unknown. Choose one of: {listed}.")
    if output is None:
        if form == "parquet":
            raise UsageError("parquet can't be printed. Name a file with -o.")
        return form or "table"
    suffix = output.suffix.removeprefix(".").lower()
    if suffix in FORMATS:
        if form not in (None, suffix):
            raise UsageError(
                f"{output}: the suffix names the format {suffix}, but --format is {form}. "
                "Remove one of them."
            )
        return suffix
    if form is None:
        raise UsageError(
            f"{output}: the suffix names no format. Add --format with one of: {listed}."
        )
    return form


def write(result: pa.Table, output: Path | None, form: str) -> None:
    """Write a result as table, csv, json (one object per line) or parquet, or print it."""
    if form == "parquet" and output is not None:
        with writing(output) as file:
            _write(pq.write_table, result, file, form)
        return
    if form == "csv":
        sink = pa.BufferOutputStream()
        _write(pa_csv.write_csv, flat(result), sink, form)
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


def _write(write: Callable[[pa.Table, Any], None], table: pa.Table, sink: Any, form: str) -> None:
    """Write a table to `sink` by a function of Arrow.

    Raises:
        UsageError: The format can't hold a column; names it.
    """
    try:
        write(table, sink)
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0]
        for field in table.schema:
            try:
                write(table.select([field.name]), pa.BufferOutputStream())
            except pa.ArrowException as refusal:
                reason = f"the column {field.name!r}: {str(refusal).strip().splitlines()[0]}"
                break
        raise UsageError(
            f"{form} can't hold {reason.rstrip('.')}. Cast it in the query, e.g. ::varchar, or "
            "write json."
        ) from None


def _json_lines(result: pa.Table) -> str:
    kinds = {field.name: field.type for field in result.schema}
    rows = ({k: plain(v, kinds[k]) for k, v in row.items()} for row in rows_of(result))
    return "".join(f"{json.dumps(row, default=str, allow_nan=False)}\n" for row in rows)


def render(result: pa.Table) -> str:
    """Return `result` as text for the terminal, with the number of rows that are left out."""
    table = Table(box=None, pad_edge=False)
    for column in result.schema:
        kind = column.type
        number = (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        )
        table.add_column(Text(column.name), justify="right" if number else "left", no_wrap=True)
    for row in rows_of(result.slice(0, MAX_ROWS)):
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(width=10_000, highlight=False)
    with console.capture() as capture:
        console.print(table, soft_wrap=True)
    text = "\n".join(line.rstrip() for line in capture.get().split("\n"))
    left = result.num_rows - MAX_ROWS
    if left <= 0:
        return text
    return f"{text}... and {counted(left, 'more row')}: write them to a file with -o FILE\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return " ".join(f"{k}={_cell(v)}" for k, v in value.items() if v is not None)
    return str(value)


def prompt(
    where: str, name: str, *, everything: bool = False, timeout_s: float | None = None
) -> None:
    """Read queries line by line until the end of input, and print their results.

    A query may span lines. It ends with a semicolon or an empty line, and sees the store as it is
    at that moment. Each is ended after `timeout_s` seconds.
    """
    ledger = open_sweep(where, name)
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
            _answer(
                ledger,
                "".join(pending).strip().rstrip(";"),
                everything=everything,
                timeout_s=timeout_s,
            )
            pending = []
        if not line:
            return


def _answer(ledger: Ledger, text: str, *, everything: bool, timeout_s: float | None) -> None:
    if not text:
        return
    try:
        ledger.refresh()
        with open_views(ledger, everything=everything) as views:
            check_read_only(text, views)
            sys.stdout.write(render(query(views, text, timeout_s=timeout_s)))
    except SweeperError as error:
        sys.stdout.write(f"error: {error}\n")
