"""The rules of the house that import-linter and ruff can't state. See ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sweeper
from tests.stores import Made, Planned

ROOT = Path(__file__).parents[1]
ROOMS = ("sweeper", "trainables", "analysis")
SHIPPED = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))
WRITTEN = sorted([*SHIPPED, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
MOST_LINES = 450
"""As the formatter writes them: a list that doesn't fit has one item per line."""
VAGUE = {"base", "common", "core", "helper", "helpers", "misc", "util", "utils"}
HEAVY = {"torch", "ray"}
LAZY = {
    "sweeper/__init__.py": r"__getattr__",
    "sweeper/cli/housekeeping.py": r".*",
    "sweeper/cli/reading.py": r".*",
    "sweeper/cli/shell.py": r".*",
    "sweeper/cli/training.py": r".*",
    "sweeper/cli/verifying.py": r".*",
    "sweeper/report/sweep.py": r"phase|curves",
    "sweeper/engine/tune.py": r"load_tune",
    "trainables/grokking.py": r"__getattr__",
}
"""File to the functions whose bodies may import: what keeps `sweeper --help` fast."""


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "sweeper" else ("sweeper", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def contract(name: str) -> list[str]:
    """The layers of a contract of pyproject.toml, from top to bottom."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    lines: list[str] = next(c["layers"] for c in settings["contracts"] if c["id"] == name)
    return lines


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    ending = "import sys; print('\\n', *{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_layers_are_few_enough_to_remember() -> None:
    assert len(contract("rooms")) <= 12


@pytest.mark.parametrize(
    ("name", "folder"),
    [("rooms", "sweeper"), ("analysis", "analysis"), ("trainables", "trainables")],
)
def test_every_room_has_its_layer(name: str, folder: str) -> None:
    listed = {room.strip() for line in contract(name) for room in re.split(r"[|:]", line)}
    rooms = {
        path.stem
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert rooms - {"__init__"} == listed


def test_help_loads_neither_torch_nor_ray() -> None:
    code = """
import sys
sys.argv = ["sweeper", "--help"]
try:
    from sweeper.cli import main
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not HEAVY & loaded(code)


def test_asking_a_sweep_loads_no_more_than_it_takes(tmp_path: Path) -> None:
    Made.at(tmp_path).launch([Planned("a")])
    code = f"""
import sys
sys.argv = ["sweeper", "sql", "demo", "select * from cells", "--store", {str(tmp_path)!r}]
try:
    from sweeper.cli import main
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not {*HEAVY, "matplotlib", "optuna", "pandas", "scipy"} & loaded(code)


def test_the_engine_and_the_analysis_load_neither_torch_nor_ray() -> None:
    light = [
        m
        for m in map(module, SHIPPED)
        if not m.startswith("sweeper.trainables")
        and m
        not in (
            "sweeper.engine.ray",
            "sweeper.engine.handshake",
            "sweeper.engine.node_check",
            "sweeper.api",
        )
    ]
    assert not HEAVY & loaded("\n".join(f"import {m}" for m in light))


def test_no_module_hides_a_function_of_the_package() -> None:
    assert not set(sweeper._API) & {path.stem for path in (ROOT / "sweeper").iterdir()}
    for name in sweeper._API:
        assert callable(getattr(sweeper, name))


def test_configs_of_trainables_load_no_torch() -> None:
    assert not HEAVY & loaded("from sweeper.trainables import grokking; grokking.Config")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_import_nothing(path: Path) -> None:
    allowed = LAZY.get(path.relative_to(ROOT).as_posix())
    found = [
        f"{path.name}:{statement.lineno} in {function.name}"
        for function in functions(ast.parse(path.read_text()))
        if allowed is None or not re.fullmatch(allowed, function.name)
        for statement in ast.walk(function)
        if isinstance(statement, ast.Import | ast.ImportFrom)
    ]
    assert not found


def test_a_module_is_named_after_its_noun() -> None:
    assert not [m for m in map(module, SHIPPED) if VAGUE & set(m.split("."))]


def test_no_file_outgrows_its_noun() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in WRITTEN}
    assert not {name: n for name, n in lengths.items() if n > MOST_LINES}
