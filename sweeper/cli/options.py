"""The arguments and options that several commands share, each declared once.

An alias is the type of one parameter. `Training` is a group of options: a command that trains has
one parameter of this type, and `expanded` replaces it by the options.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

STORE = "sweeps"
"""`sweeper.config.messages.STORE`, whose import takes 0.2 s."""

GridFile = Annotated[
    Path, typer.Argument(metavar="GRID", help="Path of the grid file; - is standard input.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Values that replace those of the file, e.g. seeds=3. A list makes an axis: "
        "task.N=30,40.",
    ),
]
Trust = Annotated[
    bool | None,
    typer.Option(
        "--trust/--safe",
        help="Import the modules that GRID names, or refuse them. By default they are imported, "
        "except for a grid from standard input.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the sweep.")]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="SWEEPER_STORE", help="Folder or URI of the store.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
Everything = Annotated[
    bool, typer.Option("--all", help="Query every trial in the store, not only the latest grid's.")
]


@dataclass(frozen=True, slots=True)
class Training:
    """The options of every command that trains.

    Attributes:
        address: ``local``, ``auto`` or ``host:port``.
        store: Folder or URI of the store.
        max_concurrent: The most packs at the same time; None for no limit.
        max_failures: Stop after this many failed trials; None for no limit.
        inline: Train in this process, without Ray.
        as_json: Print one JSON object per line.
        quiet: Print errors only.
    """

    address: Annotated[
        str,
        typer.Option(
            envvar=["SWEEPER_ADDRESS", "RAY_ADDRESS"],
            help="Where Ray runs: local (this machine), auto or HOST:PORT (a running cluster).",
        ),
    ] = "local"
    store: StoreOption = STORE
    max_concurrent: Annotated[
        int | None, typer.Option(min=1, help="Train at most this many packs at the same time.")
    ] = None
    max_failures: Annotated[
        int | None, typer.Option(min=1, help="Stop once this many trials have failed.")
    ] = None
    inline: Annotated[
        bool, typer.Option("--inline", help="Train in this process, without Ray.")
    ] = False
    as_json: JsonOption = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False

    @property
    def silent(self) -> bool:
        """Whether no text is printed, only JSON or errors."""
        return self.as_json or self.quiet


def expanded(command: Callable[..., None], *, without: tuple[str, ...] = ()) -> Callable[..., None]:
    """Return `command` with one option per field of `Training` in place of its parameter.

    Args:
        command: A function with keyword parameters; one of type `Training` is replaced. A
            function without such a parameter is returned as it is.
        without: Fields of `Training` that the command doesn't offer; they keep their defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    group = [name for name, hint in hints.items() if hint is Training]
    if not group:
        return command
    options = [field for field in fields(Training) if field.name not in without]
    types = get_type_hints(Training, include_extras=True)

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        training = Training(**{field.name: given.pop(field.name) for field in options})
        command(**given, **{group[0]: training})

    own = [p for p in inspect.signature(command).parameters.values() if p.name not in group]
    parameters = [
        *(p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in own),
        *(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=types[field.name],
            )
            for field in options
        ),
    ]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__annotations__ = {p.name: p.annotation for p in parameters}
    del typed.__wrapped__
    return typed
