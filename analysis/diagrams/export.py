"""Tables as files of other programs can hold them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute

from sweeper.errors import UsageError


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write a result into; it replaces the one at `path` once it is whole.

    If writing fails, the file that was there before stays. A device or a pipe is written directly.

    Raises:
        UsageError: It can't be written.
    """
    target = path.resolve()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        try:
            with aside.open("wb") as file:
                yield file
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"{path}: can't be written: {reason}. Name a file in a folder that you may write to."
        ) from None


def flat(table: pa.Table) -> pa.Table:
    """Return `table` as CSV can hold it: structs as dotted columns, lists and maps as JSON."""
    while any(pa.types.is_struct(f.type) for f in table.schema):
        table = table.flatten()
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_binary(field.type):
            texts = [v and v.decode(errors="backslashreplace") for v in column.to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_temporal(field.type) and not _is_pythonic(column):
            texts = [None if v is None else str(v) for v in values_of(column)]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_nested(field.type) or pa.types.is_interval(field.type):
            values = [plain(value, field.type) for value in values_of(column)]
            texts = [None if v is None else json.dumps(v, default=str) for v in values]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of `table` as Python values; see `values_of`."""
    columns = [values_of(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of `column`; times beyond those of Python as text, e.g. "infinity"."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in column]


def _is_pythonic(column: pa.ChunkedArray) -> bool:
    """Return whether Python has all times of `column`."""
    if pa.types.is_interval(column.type):
        return True
    try:
        pa.compute.min_max(column).as_py()
    except (OverflowError, ValueError):
        return False
    return True


def _value(scalar: pa.Scalar) -> Any:
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _value(scalar[field.name]) for field in kind}
    if pa.types.is_map(kind):
        return [(_value(item["key"]), _value(item["value"])) for item in scalar.values]
    if pa.types.is_nested(kind) and hasattr(scalar, "values"):
        return [_value(item) for item in scalar.values]
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        day = pa.types.is_date32(kind)
        if abs(scalar.value) >= (1 << (31 if day else 63)) - 1:
            return "infinity" if scalar.value > 0 else "-infinity"
        return str(np.datetime64(scalar.value, "D" if day else kind.unit))


def plain(value: Any, kind: pa.DataType) -> Any:
    """Return a value of the type `kind` as JSON knows it: maps as objects, NaN and inf as null."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if pa.types.is_map(kind):
        return {str(key): plain(item, kind.item_type) for key, item in value}
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list):
        inner = kind.value_type if hasattr(kind, "value_type") else pa.null()
        return [plain(item, inner) for item in value]
    return value
