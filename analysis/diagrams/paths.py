"""Errors about dotted names, which list the paths that vary in this sweep, not all fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeper import sql
from sweeper.errors import UsageError, nearest


def check_path(
    connection: sql.Connection, place: str, name: str, paths: Mapping[str, str], noun: str = "axis"
) -> None:
    """Check that `name` is a path of the config.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        place: Where the name is, e.g. ``x``.
        name: The dotted name.
        paths: The dotted names there are, each with its SQL.
        noun: The kind of name that is wanted.

    Raises:
        UsageError: It isn't one. The message has the name that is probably meant, or all names
            that vary.
    """
    if name not in paths:
        raise unknown(place, name, list(paths), sql.varying(connection, paths), noun)


def unknown(
    place: str, name: str, known: Sequence[str], varying: Sequence[str], noun: str = "axis"
) -> UsageError:
    """Return the error that `name` isn't one of `known`; arguments as in `check_path`."""
    near = nearest(name, known, varying)
    remedy = choices(varying) if near is None else f"Did you mean {near!r}?"
    if name == "seed":
        remedy = f"Each cell stands for all of its seeds. {choices(varying)}"
    return UsageError(f"{place}: no {noun} {name!r}. {remedy}")


def choices(varying: Sequence[str]) -> str:
    """Return the axes to choose from, as a sentence."""
    return f"Axes that vary: {', '.join(varying)}." if varying else "No axis varies."
