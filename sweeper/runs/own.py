"""Users' scripts and functions as trainables, and the description that a sweep stores of them.

A grid file names one under `trainable`: a script (``./train.py``), a command line
(``python -m my_lab.train``) or a function (``my_lab.train:train``). Its fields are read before
anything starts: a script is run up to `sweeper.init`, a function declares them by the type of its
first parameter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, cast

from pydantic import Field as PydanticField
from pydantic import create_model

from sweeper.config.fields import BATCHED
from sweeper.config.fields import Config as AnyConfig
from sweeper.errors import UsageError
from sweeper.runs import function, process, script, travel
from sweeper.runs.fields import Field

DECLARE_S = 120.0
"""The most seconds that a script may take up to `sweeper.init`."""

TYPES: Mapping[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "vector": tuple[float, ...],
}


class Config(AnyConfig):
    """The config of a user's own training, without its fields."""

    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "": {"metric": "acc", "train": 0.99, "test": 0.99}
    }


def config_of(code: Mapping[str, Any]) -> type[AnyConfig]:
    """Return the config of a user's training.

    Args:
        code: Its description.
    """
    fields: dict[str, Any] = {}
    for plain in code["fields"]:
        field = Field.of(plain)
        kind = TYPES[field.kind] if field.choices is None else Literal[field.choices]
        if field.optional:
            kind = Union[kind, None]  # noqa: UP007 - made at run time
        checks = [PydanticField(**cast("dict[str, Any]", field.bounds))] if field.bounds else []
        fields[field.name] = (
            Annotated[(kind, *checks, BATCHED)],
            ... if field.required else field.default,
        )
    made = cast("type[AnyConfig]", create_model("Config", __base__=Config, **fields))
    made.code = code
    return made


def load(name: str, code: Mapping[str, Any] | None, folder: Path | None) -> Any:
    """Return the trainable of a user's script, command or function.

    Args:
        name: Its name in the grid file.
        code: Its description, if the sweep has stored one.
        folder: The folder of the grid file; None for the working folder.

    Raises:
        UsageError: It can't be run or understood.
    """
    function_ = ":" in name and " " not in name
    if code is None and function_:
        code = _function(name)
    elif code is None:
        place = (folder or Path.cwd()).resolve()
        path = place / name
        code = _script(name, place, path.stat().st_mtime_ns if path.is_file() else 0)
    return (function.FunctionTrainable if function_ else script.ScriptTrainable)(
        code, config_of(code)
    )


@cache
def _script(name: str, folder: Path, changed: int) -> Mapping[str, Any]:  # noqa: ARG001
    """Return the description of a script or a command: run it up to `sweeper.init`.

    Args:
        name: The script or the command.
        folder: The folder of the grid file.
        changed: The time of the script's last change: it is run again after another one.
    """
    single = " " not in name
    path = folder / name
    if single and not path.is_file():
        raise UsageError(
            f"trainable {name!r}: there is no file {path}. A path is relative to the grid file."
        )
    if single and b"sweeper" not in path.read_bytes():
        raise UsageError(
            f"trainable {name!r} doesn't call sweeper.init. Add `run = sweeper.init(lr=1e-3, ...)` "
            "with the fields of its config, and run.log(step, train_loss=..., ...) in its loop."
        )
    command = process.python(name, folder)
    where = Path.cwd()
    try:
        with process.Process(command, where) as running:
            found = process.answers(running, ["declare"], DECLARE_S)
            status, tail = running.status() if "late" not in found else 0, running.tail()
    except OSError as error:
        raise UsageError(f"trainable {name!r} can't be started: {error}.") from None
    if "refused" in found:
        raise UsageError(f"trainable {name!r}: {found['refused'][0]}")
    if "declared" not in found:
        raise UsageError(f"trainable {name!r} {_why(found, status, tail)}")
    fields, filled, root, files = found["declared"]
    more = {"command": command, "cwd": str(where)}
    return _description("script", name, fields, filled, root, files, **more)


def _why(found: Mapping[str, Any], status: int, tail: str) -> str:
    """Return the reason why a script didn't declare its config."""
    if "late" in found:
        return (
            f"took more than {DECLARE_S:g} s without calling sweeper.init. Call it before the "
            "expensive work, e.g. right after the imports."
        )
    if status:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        return f"ended with {how} before it called sweeper.init. Its last output:\n{tail}"
    return "ended without calling sweeper.init. Add `run = sweeper.init(lr=1e-3, ...)`."


def _function(name: str) -> Mapping[str, Any]:
    """Return the description of a function: import it and read its first parameter."""
    declaration, path = function.declaration_of(name)
    fields = [field.as_dict() for field in declaration.fields]
    root = function.root_of(name, path)
    files = function.own_files(path, root)
    return _description("function", name, fields, list(declaration.filled), str(root), files)


def _description(
    kind: str,
    name: str,
    fields: list[Any],
    filled: list[str],
    folder: str,
    files: list[str],
    **more: Any,
) -> Mapping[str, Any]:
    """Return what a sweep stores of a user's code: plain values.

    Its keys: ``kind``, ``name``, ``fields``, ``filled`` (the names of the fields that the grid
    fills in), ``folder`` and ``files`` (path in that folder to
    SHA-256), ``sha256`` (of all files' names and contents), and for a script ``command`` and
    ``cwd``.
    """
    hashes = {
        os.path.relpath(path, folder): travel.digest(Path(path).read_bytes()) for path in files
    }
    text = "".join(f"{path}\0{digest}\n" for path, digest in hashes.items())
    return {
        "kind": kind,
        "name": name,
        "fields": fields,
        "filled": filled,
        "folder": folder,
        "files": hashes,
        "sha256": travel.digest(text.encode()),
        "python": sys.executable,
        **more,
    }
