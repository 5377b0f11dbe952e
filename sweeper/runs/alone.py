"""A script that is run by hand: its config is its defaults and what the command line sets."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.runs.fields import Declaration, Field
from sweeper.runs.run import Run, Settings, Status

PRINT_S = 0.5
"""The least time in seconds between two printed rows."""


def begin(declaration: Declaration, arguments: Sequence[str] | None = None) -> Run:
    """Return the run of a script that no sweep has started.

    Args:
        declaration: The declared config.
        arguments: The command line; None for that of the process.
    """
    if declaration.parser is not None:
        config = declaration.parser.parse_args(arguments)
        named = vars(config)
        return _run(config, int(named.get("seed") or 0), named.get("steps"))
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in declaration.fields:
        _add(parser, field)
    parser.add_argument("--seed", type=int, default=declaration.filled.get("seed", 0))
    parser.add_argument("--steps", type=int, default=declaration.filled.get("steps"))
    named = vars(parser.parse_args(arguments))
    seed, steps = named.pop("seed"), named.pop("steps")
    return _run(declaration.build(named, seed=seed, steps=steps), seed, steps)


def _run(config: Any, seed: int, steps: int | None) -> Run:
    settings = Settings(seed, steps, device=_device(), after_generalization=False, diverged=False)
    return Run(config, settings, Printer(), swept=False)


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


class Printer:
    """Prints the rows: the first, and then at most one in `PRINT_S` seconds."""

    def __init__(self) -> None:
        self._printed = 0.0

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Print the row if the last one is old enough."""
        now = time.monotonic()
        if now - self._printed >= PRINT_S:
            self._printed = now
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"step {step}  {shown}", flush=True)  # noqa: T201 - the script runs by hand

    def save(self, step: int, payload: bytes) -> None:
        """Save nothing."""

    def over(self, status: Status, step: int) -> None:
        """Go on: a script that is run by hand trains to its end."""

    def stopping(self) -> bool:
        """Return False: nothing stops it."""
        return False

    def checked(self, seconds_per_step: float | None, metrics: list[str], *, saves: bool) -> None:
        """Take nothing: it is no check."""
