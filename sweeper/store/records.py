"""The bytes of a ledger's record.

A record is a line of JSON and a line with the SHA-256 of the first, so that a record whose bytes
changed is refused. A record of format 1 is the line of JSON alone.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from typing import Any

from sweeper.errors import DamagedRecordError, StoreError
from sweeper.store.files import Files

Record = dict[str, Any]


def encode(record: Record, version: int) -> bytes:
    """Return the bytes of `record` in a store of format `version`."""
    line = json_line(record)
    return line if version == 1 else line + b"\n" + _digest(line)


def decode(location: str, raw: bytes, version: int) -> Record:
    """Return the record that `encode` made `raw` of.

    Raises:
        StoreError: It is damaged; names `location`.
    """
    if version == 1:
        return json_object(location, raw)
    line, _, digest = raw.partition(b"\n")
    if digest != _digest(line):
        raise damage(location, f"{len(raw)} bytes that don't match their checksum")
    return json_object(location, line)


def json_line(record: Record) -> bytes:
    """Return `record` as one line of JSON."""
    return json.dumps(record, allow_nan=False, separators=(",", ":")).encode()


def json_object(location: str, raw: bytes) -> Record:
    """Return the JSON object in `raw`.

    Raises:
        StoreError: It holds none.
    """
    try:
        record = json.loads(raw)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise damage(location, f"{len(raw)} bytes that aren't a record")
    return record


def put(files: Files, path: str, content: bytes) -> bytes | None:
    """Create the record `path`; return None if it has our `content` afterwards, else its content.

    If the answer to a write is lost, the storage's client reports an error. If the client sends the
    request again, it reports that the file exists. The content decides.

    Raises:
        StoreError: The store can't be written.
    """
    try:
        if files.create(path, content):
            return None
        there = files.read(path)
        if there is None:
            raise StoreError(
                f"{files.location(path)}: exists and can't be read. Move it out of the sweep."
            )
        return None if there == content else there
    except StoreError as error:
        with suppress(StoreError):
            if files.read(path) == content:
                return None
        raise error


def damage(location: str, reason: str) -> DamagedRecordError:
    """Return the error that the record at `location` is damaged."""
    return DamagedRecordError(
        f"{location}: damaged: {reason}. Restore it from a backup, or run `sweeper "
        "doctor`; the files it names are "
        "untouched."
    )


def _digest(line: bytes) -> bytes:
    return sha256(line).hexdigest().encode()
