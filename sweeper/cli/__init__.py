"""The commands: parse, call one function, print.

Heavy libraries are imported in the bodies of the commands, so that `sweeper --help` is instant.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sweeper import __version__
from sweeper.cli import reading, training, verifying
from sweeper.cli.options import expanded

GARBAGE = (50_000, 20, 20)
"""Thresholds of the garbage collection: imports make many objects and hardly any garbage."""

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
    ("The papers' laws", verifying),
):
    for name, command in kind.COMMANDS.items():
        app.command(name, rich_help_panel=panel)(expanded(command))


def main() -> None:
    """Run the command line; a mistake on it is exit code 2."""
    # A trainable of the user's own lives in the working folder. Behind everything else: a folder
    # of theirs that is called analysis must not hide ours. Ray's workers take over the path.
    sys.path.append(str(Path.cwd()))
    gc.set_threshold(*GARBAGE)
    try:
        app()
    except SystemExit as end:
        if "ray" in sys.modules and isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End this process at once: to take apart all that Ray has imported takes half a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
