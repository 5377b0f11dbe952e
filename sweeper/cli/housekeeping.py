"""The commands that delete and rename sweeps."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sweeper.cli.options import STORE, Name, StoreOption
from sweeper.cli.shell import out, readable_errors
from sweeper.errors import UsageError


def remove(
    name: Name,
    store: StoreOption = STORE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete a sweep with all its results. Refused while a launch of it runs."""
    from sweeper.engine import housekeeping

    with readable_errors():
        held = housekeeping.contents(store, name)
        out.print(held.sentence, markup=False)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError(f"{name}: add --yes to delete it.")
            if not typer.confirm("Delete it for good?"):
                raise typer.Exit(4)
        housekeeping.delete(store, name)
    out.print(f"deleted {name}", markup=False)


def rename(
    name: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="New name of the sweep.")],
    store: StoreOption = STORE,
) -> None:
    """Rename a sweep. Refused while a launch of it runs, or if the new name is taken."""
    from sweeper.engine import housekeeping

    with readable_errors():
        housekeeping.rename(store, name, new)
    out.print(f"{name} is called {new} now; launch its grid with name={new}", markup=False)


COMMANDS = {"rm": remove, "mv": rename}
