"""A YAML file as plain values, each with its place in the file.

YAML 1.2: ``1e-3`` is a float, ``no`` is a string, a duplicate key is an error. Aliases, tags,
merge keys, deep nesting and huge files are refused before they are expanded. A grid file does not
need them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from sweeper.config.diagnostic import KeyPath, Place
from sweeper.errors import ConfigError

STDIN = Path("-")
"""The path that stands for standard input."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 200_000


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        source: The name that messages use: that of the file, or of an override.
        value: Plain dicts, lists and scalars.
        places: Path of a node to the place of its value.
        keys: Path of a node to the place of its key.
    """

    source: str
    value: Any
    places: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Return the place of the node at `path`, or of the nearest one above it."""
        for end in range(len(path), -1, -1):
            tables = (self.keys, self.places) if key else (self.places, self.keys)
            for table in tables:
                if path[:end] in table:
                    return table[path[:end]]
        return Place(self.source)


def read(path: Path) -> Document:
    """Return the document in the file at `path`.

    Raises:
        ConfigError: There is no such file, or it is no valid YAML; with line and column.
    """
    return parse(read_text(path), source_of(path))


def source_of(path: Path) -> str:
    """Return the name of a file in messages: its path, or "stdin" for ``-``."""
    return "stdin" if path == STDIN else str(path)


def read_text(path: Path) -> str:
    """Return the text of the file at `path`, or of standard input for ``-``.

    Raises:
        ConfigError: There is no such file, it is too large, or it isn't UTF-8.
    """
    source = source_of(path)
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise ConfigError(f"{path}: {size} bytes. A grid file has at most {MAX_BYTES}.")
            raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"{source}: too long. A grid file has at most {MAX_BYTES} bytes.")
        if path == STDIN and not raw.strip():
            raise ConfigError("stdin: empty. Pipe a grid file into it: cat GRID | sweeper plan -")
        return raw.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Grids live in grids/*.yaml.") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder. Name one of the grid files in it.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not UTF-8 text ({error.reason}). Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}.") from None


def parse(text: str, source: str) -> Document:
    """Return the document in `text`. Errors name it `source`."""
    try:
        for problem in _unsafe(text, source):
            raise ConfigError(problem)
        loaded = _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise ConfigError(f"{where}: {_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply. At most {MAX_DEPTH} levels.") from None
    except (YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source}:1:1: not YAML: {reason}. Check its syntax.") from None
    document = Document(source, None)
    value = _plain(loaded, (), document)
    return Document(source, value, document.places, document.keys)


def parse_value(text: str, source: str) -> Any:
    """Return the plain value of a piece of YAML such as the right side of an override."""
    return parse(text, source).value


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = False
    return yaml


def _reason(error: MarkedYAMLError) -> str:
    problem = " ".join((error.problem or "not YAML").split())
    if isinstance(error, DuplicateKeyError):
        key = problem.split('"')[1] if '"' in problem else "?"
        return f"key {key!r} is set twice. Keep one of the two."
    return f"not YAML: {problem}. Check brackets, quotes and indentation here."


def _unsafe(text: str, source: str) -> Iterator[str]:
    """Yield a message for each YAML construct that a grid file may not contain."""
    nodes = 0
    open_: list[int | None] = []  # nodes of each enclosing mapping so far; None for a list
    for event in _yaml().parse(text):
        mark = event.start_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        if isinstance(event, AliasEvent):
            yield f"{where}: alias *{event.anchor}. Aliases aren't allowed: write the value out."
        if isinstance(event, NodeEvent):
            nodes += 1
            inside = open_[-1] if open_ else None
            if inside is not None:
                open_[-1] = inside + 1
                if inside % 2 == 0 and _merges(event):
                    yield f"{where}: merge key <<. Merge keys aren't allowed: write the keys out."
                if inside % 2 == 0 and isinstance(event, CollectionStartEvent):
                    yield f"{where}: a list or mapping as a key. Write a name as the key."
            if nodes > MAX_NODES:
                yield f"{where}: more than {MAX_NODES} values. Use linspace, logspace or range."
            tag = getattr(event, "tag", None)
            if tag:
                yield f"{where}: tag {tag}. Tags aren't allowed: write the plain value."
        if isinstance(event, CollectionStartEvent):
            open_.append(0 if isinstance(event, MappingStartEvent) else None)
            if len(open_) > MAX_DEPTH:
                yield f"{where}: nested too deeply. At most {MAX_DEPTH} levels."
        elif isinstance(event, CollectionEndEvent):
            open_.pop()


def _merges(key: NodeEvent) -> bool:
    return isinstance(key, ScalarEvent) and key.value == "<<" and key.implicit[0]


def _plain(node: Any, path: KeyPath, document: Document) -> Any:
    """Return `node` as plain Python values; record the place of each in `document`."""
    if isinstance(node, CommentedMap):
        document.places.setdefault(path, _at(document, (node.lc.line, node.lc.col)))
        for key in node:
            inner = (*path, _text(key, _at(document, node.lc.key(key))))
            if inner in document.keys:
                place = _at(document, node.lc.key(key))
                raise ConfigError(f"{place}: key {str(key)!r} is set twice. Keep one of the two.")
            document.keys[inner] = _at(document, node.lc.key(key))
            document.places[inner] = _at(document, node.lc.value(key))
        return {str(key): _plain(node[key], (*path, str(key)), document) for key in node}
    if isinstance(node, CommentedSeq):
        document.places.setdefault(path, _at(document, (node.lc.line, node.lc.col)))
        for index in range(len(node)):
            document.places[(*path, index)] = _at(document, node.lc.item(index))
        return [_plain(item, (*path, i), document) for i, item in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    return _text(node, document.place(*path))  # YAML 1.2 has no dates: a date is text


def _text(value: Any, place: Place) -> str:
    """Return a key or a value as text.

    Raises:
        ConfigError: It has half of a surrogate pair, which no file can hold.
    """
    text = str(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{place}: {text!r} isn't Unicode text. Write the character itself.")
    return text


def _at(document: Document, place: tuple[int, int]) -> Place:
    return Place(document.source, place[0] + 1, place[1] + 1)
