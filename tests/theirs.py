"""Modules of a user's own that are called as folders of this repository."""

from __future__ import annotations

from pathlib import Path

NAMES = ("analysis", "trainables", "tests", "benchmarks")


def write_theirs(folder: Path, kind: str) -> None:
    """Write a module `mine`, a trainable, that needs the user's own modules of these names.

    Args:
        folder: Where to.
        kind: How they are written: module, package, or folder (a package without `__init__.py`).
    """
    toy = (Path(__file__).parent / "toy.py").read_text()
    head, _, rest = toy.partition("from __future__ import annotations\n")
    checks = ""
    for name in NAMES:
        path = folder / name
        if kind == "module":
            path.with_suffix(".py").write_text('WHOSE = "theirs"\n')
        else:
            path.mkdir()
            (path / "part.py").write_text('WHOSE = "theirs"\n')
        if kind == "package":
            (path / "__init__.py").write_text('WHOSE = "theirs"\n')
        part = f"import {name}" if kind != "folder" else f"import {name}, {name}.part"
        checks += f"{part}\n"
        if kind == "folder":
            checks += f"{name}.WHOSE = {name}.part.WHOSE\n"
        checks += f"assert {name}.WHOSE == 'theirs'\n"
    (folder / "mine.py").write_text(f"{head}from __future__ import annotations\n{checks}{rest}")
