"""The command line: each command parses its arguments, calls one function, and prints.

The functions of commands import heavy libraries themselves, so that `sweeper --help` is instant.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer

from sweeper import __version__
from sweeper.cli import housekeeping, reading, training, verifying
from sweeper.cli.options import expanded
from sweeper.errors import redact

GARBAGE = (50_000, 20, 20)
"""Thresholds of garbage collection: imports make many objects and hardly any garbage."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Grids of thousands of small training runs, as phase diagrams of grokking delay.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sweeper {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


for panel, kind in (
    ("Commands that train", training),
    ("Commands that read", reading),
    ("Commands that tidy up", housekeeping),
    ("The papers' laws", verifying),
):
    for name, command in kind.COMMANDS.items():
        app.command(name, rich_help_panel=panel)(expanded(command))


def main() -> None:
    """Run the command line. Exit with code 2 if the user has made a mistake on it."""
    # A user's own trainable is in the working folder. The folder comes last in the path: a user's
    # folder `analysis` must not hide our package. Ray's workers use the same path.
    sys.path.append(str(Path.cwd()))
    gc.set_threshold(*GARBAGE)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a HOME it can't write
    sys.excepthook = _show_bug
    try:
        app()
    except SystemExit as end:
        if "ray" in sys.modules and isinstance(end.code, int):
            _leave(end.code)
        raise


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without secrets."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def _leave(code: int) -> None:
    """End this process at once: Python's own exit takes half a second after Ray was imported."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
