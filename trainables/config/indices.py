"""Files of indices: which pairs of a table are for training.

A file is text with one whole number per line, counted from 0. Blank lines and everything after
``#`` are ignored, and so is the order of the lines. A config names a file together with the digest
of its indices, ``PATH#DIGEST``, so that a changed file makes new trials. A path without a digest
gets that of the file's present indices.

A relative path is relative to the folder that a command is started in. Workers read the file too:
on a cluster it has to be at the same path on every node.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

PINNED = re.compile(r"(?P<path>.+)#(?P<digest>[0-9a-f]{16})")
"""A file and its digest."""


def pinned(file: str) -> str:
    """Return `file` with its digest; a file that has a digest is not read.

    Raises:
        ValueError: The file cannot be read, or a line is no index, or an index occurs twice.
    """
    return file if PINNED.fullmatch(file) else f"{file}#{_digest(_read(file))}"


@lru_cache(maxsize=64)
def indices(file: str) -> tuple[int, ...]:
    """Return the indices of a file with a digest, ascending.

    Raises:
        ValueError: As `pinned`, or the file has other indices than its digest says.
    """
    match = PINNED.fullmatch(file)
    if match is None:
        raise ValueError(f"{file!r} has no digest")
    numbers = _read(match["path"])
    if _digest(numbers) != match["digest"]:
        raise ValueError(f"{match['path']} has changed: its digest is {_digest(numbers)}")
    return numbers


def unchanged(file: str) -> bool:
    """Return whether a file with a digest is there and has the indices of that digest."""
    try:
        indices(file)
    except ValueError:
        return False
    return True


def _digest(numbers: tuple[int, ...]) -> str:
    return blake2b(",".join(map(str, numbers)).encode(), digest_size=8).hexdigest()


def _read(path: str) -> tuple[int, ...]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise ValueError(f"cannot be read: {why}. Name a file with one index per line") from error
    place: dict[int, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not re.fullmatch(r"[0-9]{1,9}", word):
            raise ValueError(f"has {word[:20]!r} in line {number}, where an index from 0 must be")
        index = int(word)
        if index in place:
            raise ValueError(f"has {index} in line {place[index]} and in line {number}. Keep one")
        place[index] = number
    if not place:
        raise ValueError("has no index. Name a file with one index per line")
    return tuple(sorted(place))
