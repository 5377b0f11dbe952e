"""The names `trainables.*` and `analysis.*`, for code that doesn't say `sweeper.` before them.

The top-level folders `trainables/` and `analysis/` are the sub-packages `sweeper.trainables` and
`sweeper.analysis`, so that a module of a user's with one of these names never meets ours. A grid
file's ``trainable: trainables.grokking`` and an import of `trainables.config.own` still work where
nothing else has that name: both names then stand for the same module object.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

ROOTS = ("trainables", "analysis")
"""Top-level folders that are sub-packages of `sweeper`."""


def install() -> None:
    """Let `trainables` and `analysis` be found, behind everything else of those names."""
    sys.meta_path.insert(0, _Submodules())
    sys.meta_path.append(_Roots())


def redirect(name: str) -> None:
    """Put the sub-package of `sweeper` in place of the folder that is imported as `name`.

    Python puts the working folder on its path, so a checkout's folder can be imported by its own
    name. Without this, its modules would be loaded twice, with two classes of each name.
    """
    if name in ROOTS:
        sys.modules[name] = import_module(f"sweeper.{name}")


class _Loader:
    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make a module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = import_module(f"sweeper.{name}")


class _Roots:
    """Finds `trainables` and `analysis` where no other finder does."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, _Loader()) if name in ROOTS else None  # type: ignore[arg-type]


class _Submodules:
    """Finds the submodules of `trainables` and `analysis` where these names are ours."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, dot, _ = name.partition(".")
        if not dot or root not in ROOTS:
            return None
        if sys.modules.get(root) is not sys.modules.get(f"sweeper.{root}"):
            return None
        return ModuleSpec(name, _Loader())  # type: ignore[arg-type]
