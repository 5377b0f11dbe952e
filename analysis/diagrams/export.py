"""Tables as files of other programs can hold them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

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
        if pa.types.is_nested(field.type) or pa.types.is_interval(field.type):
            values = [plain(value, field.type) for value in table.column(index).to_pylist()]
            texts = [None if v is None else json.dumps(v, default=str) for v in values]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


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
