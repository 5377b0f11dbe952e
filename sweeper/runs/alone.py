"""A script that is run by hand: its config is its defaults and what the command line sets."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.runs.fields import FILLED, Declaration, Field, filled_by
from sweeper.runs.run import Run, Settings, Status


def begin(declaration: Declaration, arguments: Sequence[str] | None = None) -> Run:
    """Return the run of a script that no sweep has started.

    Args:
        declaration: The declared config.
        arguments: The command line; None for that of the process.
    """
    if declaration.parser is not None:
        config = declaration.parser.parse_args(arguments)
        return _run(config, {n: getattr(config, n) for n in declaration.filled})
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in declaration.fields:
        _add(parser, field)
    filled = {filled_by(name): name for name in declaration.filled}
    for key, kind in (("seed", int), ("steps", int), ("device", str)):
        name = filled.get(key, key)
        default = declaration.filled.get(name, 0 if key == "seed" else None)
        parser.add_argument(f"--{name}", type=kind, default=default, help=" ")
    named = vars(parser.parse_args(arguments))
    given = {name: named.pop(name) for name in [filled.get(key, key) for key in FILLED]}
    values = {filled_by(name): value for name, value in given.items()}
    return _run(declaration.build(named, {k: v for k, v in values.items() if k}), given)


def _run(config: Any, filled: Mapping[str, Any]) -> Run:
    """Return the run of a config; `filled` are the values of its fields that a sweep fills in."""
    values = {filled_by(name): value for name, value in filled.items()}
    settings = Settings(
        values.get("seed") or 0,
        values.get("steps"),
        device=values.get("device") or _device(),
        after_generalization=False,
        diverged=False,
    )
    return Run(config, settings, Last(), swept=False)


def _device() -> str:
    """Return the device that torch finds, if the script has imported it."""
    torch: Any = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def _add(parser: argparse.ArgumentParser, field: Field) -> None:
    """Add the option of a field to a command line."""
    names = [f"--{field.name}"]
    if "_" in field.name:
        names.append(f"--{field.name.replace('_', '-')}")
    options: dict[str, Any] = {"required": field.required, "default": field.default}
    if field.kind == "bool":
        parser.add_argument(*names, action=argparse.BooleanOptionalAction, **options)
        return
    kinds: dict[str, Any] = {"int": int, "float": float, "str": str, "vector": float}
    options |= {"type": kinds[field.kind], "choices": field.choices}
    if field.kind == "vector":
        options["nargs"] = "+"
    parser.add_argument(*names, dest=field.name, help=" ", **options)


class Last:
    """Prints the last row as the script ends: a script prints what it wants in between."""

    def __init__(self) -> None:
        self._row: tuple[int, Mapping[str, float]] | None = None
        self._process = os.getpid()

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Remember the row."""
        if self._row is None:
            atexit.register(self._print)
        self._row = step, values

    def _print(self) -> None:
        if self._row is not None and os.getpid() == self._process:
            step, values = self._row
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"step {step}  {shown}", file=sys.stderr)  # noqa: T201 - the script runs by hand

    def save(self, step: int, payload: bytes) -> None:
        """Save nothing."""

    def over(self, status: Status, step: int) -> None:
        """Go on: a script that is run by hand trains to its end."""

    def loop(self, *, whole: bool) -> None:
        """Take no note."""

    def stopping(self) -> bool:
        """Return False: nothing stops it."""
        return False

    def checked(self, seconds_per_step: float | None, metrics: list[str], *, saves: bool) -> None:
        """Take nothing: it is no check."""
