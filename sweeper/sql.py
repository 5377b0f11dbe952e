"""The interface to DuckDB: in-memory connections that read only the given files.

In DuckDB 2.0 the type of a statement is no sandbox (a CTE may hold a COPY), and allowed paths
may be written as well as read. So a user's statement must parse as pure queries all the way
down, and the connection is locked before it runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import duckdb
import duckdb.func
import pyarrow as pa

from sweeper.errors import StoreError, UsageError, nearest

Connection = duckdb.DuckDBPyConnection

_WRITES = re.compile(r"^(COPY|INSERT|UPDATE|DELETE|MERGE|CREATE|DROP|ALTER)")


class QueryError(UsageError):
    """DuckDB refused a query: a syntax error, an unknown column, a write."""

    @property
    def reason(self) -> str:
        """The message without the type of the error, which DuckDB writes in front."""
        return str(self).split("Error: ", 1)[-1]


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Raise an error about the content of the files in `where` as a `StoreError`.

    An error about a statement is a bug of ours there, and keeps its traceback.
    """
    try:
        yield
    except duckdb.Error as error:
        if type(error) is not duckdb.Error and not isinstance(error, _CONTENT):
            raise
        raise StoreError(f"{where}: damaged: a file is no table ({explain(error)}).") from None


_CONTENT = (
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.IOException,
    duckdb.OutOfRangeException,
    duckdb.SerializationException,
)


def connect(*, threads: int | None = None) -> Connection:
    """Return a connection to an empty database in memory."""
    settings: dict[str, Any] = {"python_enable_replacements": "false"}
    if threads is not None:
        settings["threads"] = str(threads)
    connection = duckdb.connect(":memory:", config=settings)
    connection.execute("set enable_progress_bar = false")
    return connection


def lock(connection: Connection, readable: Sequence[str]) -> None:
    """From now on `connection` reads no file but `readable`, and its settings stay."""
    paths = ", ".join(literal(path) for path in readable)
    connection.execute(f"set allowed_paths = [{paths}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def parquet(paths: Sequence[str]) -> str:
    """Return the SQL table of the rows in the Parquet files at `paths`, see `can_name`.

    Without these options, DuckDB takes a folder ``step=10`` for a column `step` with the value 10,
    which replaces the column of the file.
    """
    listed = ", ".join(map(literal, paths))
    return (
        f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false, "
        "filename = false)"
    )


def can_name(path: str) -> bool:
    """Return whether DuckDB takes `path` for a name: it takes ``run[1]`` for a pattern."""
    return not re.search(r"[*?\[]", path)


def add_function(
    connection: Connection,
    name: str,
    function: Callable[..., pa.Array],
    *,
    takes: str,
    returns: str,
) -> None:
    """Let SQL on `connection` call `function` as `name`.

    Args:
        connection: Not locked yet.
        name: What SQL calls it.
        function: Maps an Arrow array of arguments to the array of results; never sees null.
        takes: SQL type of its one argument.
        returns: SQL type of its result.
    """
    connection.create_function(name, function, [takes], returns, type=duckdb.func.ARROW)


def literal(text: str) -> str:
    """Return `text` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def check_read_only(query: str, connection: Connection | None = None) -> None:
    """Check that `query` is one statement that only reads.

    Args:
        query: The statement; it isn't run.
        connection: What parses it; None for one of its own, which takes some 20 ms to open.

    Raises:
        QueryError: It isn't, or it doesn't parse.
    """
    check_text(query)
    with nullcontext(connection) if connection is not None else connect(threads=1) as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise QueryError(explain(error)) from None
        if len(statements) != 1:
            raise QueryError(f"{len(statements)} statements. Write exactly one.")
        kind = statements[0].type
        if kind == duckdb.StatementType.EXPLAIN:
            query = re.sub(r"(?is)^\s*explain(\s+analyze)?\s", "", query, count=1)
        ((text,),) = parser.execute("select json_serialize_sql(?)", [query]).fetchall()
    tree = json.loads(text)
    if tree.get("error"):
        raise QueryError("only queries are allowed: select, from, with, describe, summarize.")
    for node in nodes(tree):
        if _WRITES.match(str(node.get("type", ""))):
            raise QueryError(
                "the store is read-only here: the query contains a statement that writes."
            )


def check_text(text: str) -> None:
    """Check that `text` is Unicode: an argument of a command may hold any bytes.

    Raises:
        QueryError: It isn't.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QueryError(f"{text!r}: not UTF-8 text.") from None


def where_clause(connection: Connection, condition: str | None) -> str:
    """Return the clause `where` for a condition of a user, empty without one.

    Raises:
        QueryError: The condition doesn't parse.
    """
    if not condition:
        return ""
    check_text(condition)
    clause = f" where ({condition}\n)"  # a comment at its end would hide the bracket
    try:
        connection.extract_statements("select 1" + clause)
    except duckdb.Error:
        raise QueryError(
            f"where {condition!r}: not a condition in SQL. Write one like 'seed = 0'."
        ) from None
    return clause


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a syntax tree, in no particular order."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def explain(error: Exception) -> str:
    """Return the part of DuckDB's message that a user can act on, on one line."""
    head = str(error).split("\n\nLINE ")[0].split("\n\nStack Trace")[0]
    return " ".join(head.split())


def query(
    connection: Connection,
    text: str,
    parameters: Sequence[Any] = (),
    *,
    timeout_s: float | None = None,
) -> pa.Table:
    """Return the result of `text` as an Arrow table.

    Args:
        connection: What runs it.
        text: The query.
        parameters: The values of its question marks.
        timeout_s: Seconds after which it is ended; None for no limit.

    Raises:
        QueryError: DuckDB's message, on one line; or the time is over.
    """

    def run() -> pa.Table:
        if parameters:
            return connection.execute(text, list(parameters)).to_arrow_table()
        return _read(connection, text)

    try:
        return _interruptible(connection, run, timeout_s)
    except duckdb.Error as error:
        raise QueryError(_with_name(connection, text, explain(error))) from None


def _interruptible(
    connection: Connection, run: Callable[[], pa.Table], timeout_s: float | None
) -> pa.Table:
    """Return `run()`, which Ctrl-C and the time limit end.

    It runs in a thread of its own: DuckDB doesn't return to Python before a result is complete, so
    that Python wouldn't handle a signal before.

    Raises:
        QueryError: The time is over.
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            if running in wait([running], timeout_s).done:
                return running.result()
            raise QueryError(f"the query was ended after {timeout_s:g} s, its time limit.")
        finally:
            while not running.done():  # it may not have begun yet
                connection.interrupt()
                wait([running], 0.05)


_UNKNOWN = re.compile(r'(?:Referenced (?:column|table)|Could not find key) "([^"]+)"')
"""Matches DuckDB's message about a name that a query has and its relations lack."""


def _with_name(connection: Connection, text: str, message: str) -> str:
    """Return DuckDB's `message` about the query `text`, with the name that is probably meant."""
    unknown = _UNKNOWN.search(message)
    view = re.search(r"\bfrom\s+(trials|cells|delays|metrics)\b", text)
    if unknown is None or view is None:
        return message
    name, joined = unknown[1], view[1] in ("delays", "metrics")
    if "Referenced table" in message:  # the first part of a dotted name
        dotted = re.search(rf"\b{re.escape(name)}\.([\w.]+)", text)
        name = dotted[0] if dotted else name
    with suppress(duckdb.Error, QueryError):
        view_of = "trials" if joined and "." in name else view[1]
        known = paths(connection, view_of)
        near = nearest(name, list(known), varying(connection, known, view_of))
        if near is not None:
            head = message.split(" Candidate")[0].rstrip("!.")
            if view_of == view[1]:
                return f"{head}. Did you mean {near}?"
            return f"{head}. {near} is in trials: {view[0]} join trials using (trial_id)."
    return message


def paths(connection: Connection, view: str) -> dict[str, str]:
    """Return the dotted names in a view, each with its SQL: columns, and fields of structs."""
    schema = _read(connection, f"select * from {view} limit 0").schema
    return {
        ".".join(path): ".".join(map(identifier, path))
        for field in schema
        for path in _leaves(field)
    }


def _leaves(field: pa.Field) -> list[tuple[str, ...]]:
    if not pa.types.is_struct(field.type):
        return [(field.name,)]
    return [(field.name, *rest) for child in field.type for rest in _leaves(child)]


def varying(connection: Connection, known: Mapping[str, str], view: str = "trials") -> list[str]:
    """Return the names of `known`, as `paths` returns them, that have several values in a view."""
    if not known:
        return []
    counts = [
        f"count(distinct {text}) + max(({text} is null)::int) as n{i}"
        for i, text in enumerate(known.values())
    ]
    (row,) = _read(connection, f"select {', '.join(counts)} from {view}").to_pylist()
    return [name for name, n in zip(known, row.values(), strict=True) if n is not None and n > 1]


def _read(connection: Connection, text: str) -> pa.Table:
    relation = connection.sql(exact(connection, text))
    if any(str(kind) in _AS_TEXT for kind in relation.types):
        relation = relation.project(
            ", ".join(
                f"#{i}{'::varchar' if str(kind) in _AS_TEXT else ''} as {identifier(name)}"
                for i, (name, kind) in enumerate(
                    zip(relation.columns, relation.types, strict=True), start=1
                )
            )
        )
    return _plain(relation.to_arrow_table())


_AS_TEXT = {"BIGNUM", "BIT", "GEOMETRY", "TIME WITH TIME ZONE", "UHUGEINT", "VARIANT"}
"""Types that Arrow lacks. DuckDB would hand over their bytes, or a wrong number."""


TWIN = "\ue000"
"""Ends the name of a field that another one's differs from in case only. DuckDB folds the case of
names, everywhere and down to its scans, so that ``task.N`` would read ``task.n``."""


def distinct(names: Sequence[str]) -> list[str]:
    """Return `names` such that no two are equal when folded: twins get `TWIN` at their end.

    The one that is in lower case keeps its name.
    """
    folded = [name.casefold() for name in names]
    return [
        name + TWIN if folded.count(fold) > 1 and name != fold else name
        for name, fold in zip(names, folded, strict=True)
    ]


def exact(connection: Connection, text: str) -> str:
    """Return `text` with the fields of the structs of `trials` looked up by exact spelling.

    Raises:
        QueryError: A field that has a twin is asked for in brackets.
    """
    twins = _twins(connection)
    if not twins:
        return text
    ((raw,),) = connection.sql(f"select json_serialize_sql({literal(text)})").fetchall()
    edits: list[tuple[int, int, str]] = []
    for node in nodes(json.loads(raw)):
        _refuse_brackets(node, twins)
        outputs = {id(x) for x in node.get("select_list") or []}
        for child in _columns(node):
            names = [str(name) for name in child["column_names"]]
            found = _spelled(names, twins)
            if found is not None:
                start = int(child["query_location"])
                end = start + int(child["query_location_length"])
                named = id(child) in outputs and not child.get("alias")
                suffix = f" as {identifier(names[-1])}" if named else ""
                edits.append((start, end, ".".join(map(identifier, found)) + suffix))
    content = text.encode()
    for start, end, new in sorted(edits, reverse=True):
        content = content[:start] + new.encode() + content[end:]
    return content.decode()


def _twins(connection: Connection) -> dict[str, set[str]]:
    """Return the fields of structs of `trials` that end with `TWIN`: struct to plain names."""
    try:
        schema = connection.sql("select * from trials limit 0").to_arrow_table().schema
    except duckdb.CatalogException:
        return {}
    found: dict[str, set[str]] = {}
    for column in schema:
        if pa.types.is_struct(column.type):
            names = {f.name.removesuffix(TWIN) for f in column.type if f.name.endswith(TWIN)}
            if names:
                found[column.name] = names
    return found


def _columns(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the column references directly below `node`."""
    for value in node.values():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, dict) and child.get("class") == "COLUMN_REF":
                yield child


def _spelled(names: list[str], twins: dict[str, set[str]]) -> list[str] | None:
    """Return the reference `names` to the field of that very spelling; None if it stands so."""
    for at, name in enumerate(names[:-1]):
        if names[at + 1] in twins.get(name, ()):
            return [*names[: at + 1], names[at + 1] + TWIN, *names[at + 2 :]]
    return None


def _refuse_brackets(node: dict[str, Any], twins: dict[str, set[str]]) -> None:
    asked = "ARRAY_EXTRACT" in str(node.get("type")) or "_extract" in str(node.get("function_name"))
    for child in nodes(node) if asked else ():
        name = str(child.get("column_names", [""])[-1])
        if name in twins:
            fields = ", ".join(sorted(twins[name]))
            raise QueryError(
                f"{name}[...]: the case of {fields} would be lost. Write {name}.FIELD instead."
            )


def _plain(table: pa.Table) -> pa.Table:
    """Return `table` without `TWIN` in any name."""
    if TWIN not in str(table.schema):
        return table
    schema = pa.schema([_plain_field(field) for field in table.schema])
    columns = [
        _renamed(column.combine_chunks(), field.type) if pa.types.is_struct(field.type) else column
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _plain_field(field: pa.Field) -> pa.Field:
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_plain_field(child) for child in kind])
    return pa.field(field.name.removesuffix(TWIN), kind)


def _renamed(array: pa.Array, kind: pa.StructType) -> pa.Array:
    children = [
        _renamed(child, f.type) if pa.types.is_struct(f.type) else child
        for child, f in zip(array.flatten(), kind, strict=True)
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
