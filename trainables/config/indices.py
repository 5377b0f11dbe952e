"""Files of indices: which pairs of a table are for training.

Text with one whole number a line, counted from 0; blank lines and what follows ``#`` are left out.
What a file says is a set: its order doesn't count. A config names a file together with its digest,
``PATH#DIGEST``: the digest is what makes a trial another one when the file is changed. Who writes
a path alone gets the digest of what the file says at that moment.

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
    """Return `file` with its digest; one that has a digest isn't read.

    Raises:
        ValueError: It can't be read, or has a line that isn't an index, or an index twice.
    """
    return file if PINNED.fullmatch(file) else f"{file}#{_digest(_read(file))}"


@lru_cache(maxsize=64)
def indices(file: str) -> tuple[int, ...]:
    """Return the indices of a file with a digest, ascending.

    Raises:
        ValueError: As `pinned`, or the file doesn't say what it said.
    """
    match = PINNED.fullmatch(file)
    if match is None:
        raise ValueError(f"{file!r} has no digest")
    numbers = _read(match["path"])
    if _digest(numbers) != match["digest"]:
        raise ValueError(f"{match['path']} isn't what it was: its digest is {_digest(numbers)}")
    return numbers


def unchanged(file: str) -> bool:
    """Return whether a file with a digest is there and says what it said."""
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
        raise ValueError(f"can't be read: {why}. Name a file with one index a line") from error
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
        raise ValueError("has no index. Name a file with one index a line")
    return tuple(sorted(place))
