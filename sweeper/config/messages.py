"""The wording of messages: quoted values, the requirements of fields, errors of foreign code."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from traceback import extract_tb
from typing import Any

from pydantic_core import ErrorDetails

from sweeper.errors import redact

STORE = "sweeps"
"""The store without --store and SWEEPER_STORE: a folder in the working folder."""

SHOWN = 60
"""The most characters of a value that a message quotes."""

_REQUIREMENTS: Mapping[str, str] = {
    "bool_type": "must be true or false.",
    "dict_type": "must be a mapping, key: value.",
    "finite_number": "isn't finite. Write a finite number.",
    "float_type": "must be a number.",
    "int_from_float": "must be a whole number.",
    "int_type": "must be a whole number.",
    "list_type": "must be a list.",
    "literal_error": "must be {expected}.",
    "model_type": "must be a mapping, key: value.",
    "none_required": "must be null.",
    "string_too_short": "is empty. Write some text.",
    "string_type": "must be text.",
    "greater_than": "must be above {gt}.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than": "must be below {lt}.",
    "less_than_equal": "must be at most {le}.",
    "tuple_type": "must be a list.",
}


def quoted(value: object) -> str:
    """Return `value` as messages show it: text in quotes, everything else as in YAML."""
    return _cut(_yaml(value))


def duration(seconds: float) -> str:
    """Return a duration in the unit that a person would choose."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 trial``, ``2 trials`` and so on."""
    return f"{n} {noun if n == 1 else plural or f'{noun}s'}"


def _yaml(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(v) for v in value[:SHOWN]) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_yaml(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def requirement(error: ErrorDetails) -> str:
    """Return the requirement behind an error of pydantic; it completes "lr = -1.0 ..."."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("too_short", "too_long"):
        return _length(kind, context)
    if kind == "missing":
        return "has too few values."
    if kind == "value_error":
        return f"{context['error']}."
    if kind in _REQUIREMENTS:
        return _REQUIREMENTS[kind].format(**{k: _number(v) for k, v in context.items()})
    return error["msg"].removeprefix("Input ").rstrip(".") + "."


def _length(kind: str, context: Mapping[str, Any]) -> str:
    bound = context["min_length" if kind == "too_short" else "max_length"]
    if kind == "too_short" and bound == 1:
        return "needs at least one value."
    return f"has too {'few' if kind == 'too_short' else 'many'} values: it takes {bound}."


def _number(value: Any) -> Any:
    """Return a bound, as an int where it is a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def described(error: BaseException) -> str:
    """Return the type of an error, its message, and the line that raised it."""
    message, place = str(error), ""
    if isinstance(error, SyntaxError):
        message, place = error.msg, f"{error.filename}:{error.lineno}" if error.filename else ""
    else:
        frames = [f for f in extract_tb(error.__traceback__) if not f.filename.startswith("<")]
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
    text = ": ".join(part for part in (type(error).__name__, " ".join(message.split())) if part)
    return f"{text} ({place})" if place else text


def store_option(store: str) -> str:
    """Return what a command that is printed for the user needs to find `store`: `` --store ...``.

    Nothing if it would be found without.
    """
    usual = os.environ.get("SWEEPER_STORE") or STORE
    return "" if store == usual else f" --store {shlex.quote(redact(store))}"
