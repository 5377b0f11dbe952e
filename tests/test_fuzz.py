"""Whatever a user gives: it works, or it is an error of ours. Nothing else may be raised.

``SWEEPER_FUZZ`` is the number of cases of each kind and ``SWEEPER_FUZZ_SEED`` the first seed, so
that a million cases can be run by hand::

    SWEEPER_FUZZ=1000000 pytest tests/test_fuzz.py -k grid
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from sweeper import sql, trainable
from sweeper.compile.compile import read_grid
from sweeper.engine import commands
from sweeper.engine.planner import plan_launch
from sweeper.engine.progress import plan_sentence
from sweeper.errors import SweeperError
from sweeper.grid import document, overrides
from sweeper.grid.exclusion import mask
from sweeper.report import query
from sweeper.report.status import status_view, statuses
from sweeper.store import tables
from tests.commands import sweeper
from tests.sweeps import run, toy_grid

CASES = int(os.environ.get("SWEEPER_FUZZ", "150"))
FIRST = int(os.environ.get("SWEEPER_FUZZ_SEED", "0"))
GRIDS = Path(__file__).parent.parent / "grids"

SOURCES = [
    "smoke.yaml",
    "phase_depth_N.yaml",
    "phase_modular.yaml",
    "phase_teacher.yaml",
    "boundary_depth.yaml",
    "selection.yaml",
    "rules.yaml",
]

TOY = """
name: toy
trainable: tests.toy
fixed: {steps: 100, task.fate: well}
grid:
  - product: {task.rate: [0.1, 0.5], task.shift: {range: [0, 4, 2]}}
  - zip: {task.size: [1, 2], task.rate: {logspace: [0.1, 1, 2]}}
exclude: ["task.rate > .4 and task.shift = 2"]
seeds: 2
criteria: {toy: {metric: error, train: 0.1, test: 0.1}}
resources: {cpu: 1, pack: 2}
checkpoint: {every: 5}
stop: {after_generalization: true}
log: {points_per_decade: 20}
search:
  space: {task.rate: {low: 0.1, high: 1.0, log: true}}
  objective: delay
  trials: 4
"""

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e-300, 1e308, math.inf, -math.inf, math.nan),
    *(10**8, 10**15, 2**63, -(2**63), 10**40, "", " ", "x", "no", "1e5", "1_000", "inf", "null"),
    *("a b", "é", "\x00", "\u202e", "'", '"', "\\", "/", "..", "../x", "a" * 300, "select 1"),
    *("task.rate > 1", "a.b.c", "task.", ".", "*", "seed", "random", "auto", "tests.toy", "os"),
    *("json:loads", "nowhere:f", "error", "acc", "train_loss", "2001-01-01", "-- x", "${x}"),
    *([], {}, [None], [1], [1, "a"], [[1]], {"a": 1}, {"linspace": [0, 1, 5]}, {"linspace": 5}),
    *({"logspace": [0.1, 10, 3]}, {"logspace": [0, 1, 2]}, {"range": [0, 10**9]}, {"range": [1]}),
    *({"zip": {"task.rate": [1]}}, {"product": {}}, {"low": 0, "high": 1}, {"choices": [1, 2]}),
]
"""Values that a file may hold at any place."""


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside of `value`."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield (*path, key)
        yield from nodes(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at `path`."""
    for key in path:
        value = value[key]
    return value


def mutate(value: Any, keys: list[str], rng: random.Random) -> Any:
    """Return a copy of a file's content with one change."""
    value = copy.deepcopy(value)
    paths = list(nodes(value))
    if not paths:
        return {rng.choice(keys): rng.choice(ODD)}
    *above, last = rng.choice(paths)
    parent = at(value, tuple(above))
    kind = rng.randrange(7)
    if kind == 0:
        del parent[last]
    elif kind == 1:
        parent[last] = copy.deepcopy(rng.choice(ODD))
    elif kind == 2:
        parent[last] = copy.deepcopy(at(value, rng.choice(paths)))
    elif kind == 3 and isinstance(parent, dict):
        parent[rng.choice(keys)] = copy.deepcopy(rng.choice(ODD))
    elif kind == 4 and isinstance(parent, dict):
        parent[rng.choice(keys)] = parent.pop(last)
    elif kind == 5:
        parent[last] = [parent[last], copy.deepcopy(rng.choice(ODD))]
    else:
        parent[last] = {rng.choice(keys): parent[last]}
    return value


def tear(text: str, rng: random.Random) -> str:
    """Return `text` with a small damage."""
    start = rng.randrange(len(text) + 1)
    end = min(len(text), start + rng.randrange(4))
    pieces = [
        "",
        " ",
        "\n",
        ":",
        "? ",
        "- ",
        "[",
        "}",
        "&a ",
        "*a",
        "!x ",
        "\t",
        "'",
        "|",
        "%",
        "#",
    ]
    pieces += ["? product:\n", "\x85", "<<: ", "\ufeff", "0", "é", "---\n", "..."]
    return text[:start] + rng.choice(pieces) + text[end:]


@pytest.fixture(scope="module")
def files() -> list[Any]:
    """The content of valid files."""
    texts = [(GRIDS / name).read_text() for name in SOURCES]
    return [document.parse(text, "grid").value for text in [*texts, TOY]]


def grid_case(files: list[Any], rng: random.Random) -> tuple[str, list[str]]:
    """Return the text of a file, and overrides."""
    value = rng.choice(files)
    words = [str(p[-1]) for file in files for p in nodes(file)]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        value = mutate(value, words, rng) if isinstance(value, dict) else value
    text = json.dumps(value, indent=rng.choice([None, 1]), ensure_ascii=False)
    if rng.random() < 0.3:
        text = tear(text, rng)
    changes = []
    while rng.random() < 0.3:
        odd = rng.choice(ODD)
        changes.append(f"{rng.choice(words)}={odd if isinstance(odd, str) else json.dumps(odd)}")
    return text, changes


def test_a_mutated_grid_is_valid_or_an_error_of_ours(files: list[Any]) -> None:
    def case(rng: random.Random) -> None:
        text, changes = grid_case(files, rng)
        parsed = overrides.apply(document.parse(text, "grid.yaml"), changes)
        grid = read_grid(parsed, lambda name: trainable.load(name).Config, text)
        if 0 < grid.n_trials < 500:
            plan_sentence(grid, plan_launch(grid, None, workers=2))

    attack(case)


def attack(case: Callable[[random.Random], Any], cases: int = CASES) -> None:
    """Run a case for each seed; it may raise an error of ours."""
    for seed in range(FIRST, FIRST + cases):
        try:
            case(random.Random(seed))
            words = []
        except SweeperError as error:
            words = str(error).split() or ["INTERNAL"]
        except Exception as error:
            raise AssertionError(f"SWEEPER_FUZZ_SEED={seed} SWEEPER_FUZZ=1: {error!r}") from error
        assert not _INTERNAL & set(words), f"SWEEPER_FUZZ_SEED={seed}: {' '.join(words)}"


_INTERNAL = {"INTERNAL", "Traceback", "<class", "NoneType"}
"""Words that a message for users doesn't have."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two sweeps, one with failures."""
    folder = tmp_path_factory.mktemp("fuzz")
    run(toy_grid(folder, "resources.pack=3"), str(folder / "sweeps"))
    run(
        toy_grid(folder, "name=b", "task.fate=well,raises,diverges", "task.shift=0"),
        str(folder / "sweeps"),
    )
    return str(folder / "sweeps")


ATOMS = [
    *("1", "0", "-1", "1.5", "1e400", "null", "''", "'x'", "true", "trial_id", "seed", "cell_id"),
    *("task", "task.rate", "task.N", "delay", "t1", "error", "nothing", '"a b"', "*", "count(*)"),
    *("'-infinity'::timestamp", "'infinity'::date", "'a'::blob", "'101'::bit", "1::bignum", "{}"),
    *("union_value(a := 1)", "interval 1 month", "interval 3 day", "[1, null]", "{'a': 1}", "[]"),
    *("map {1: 'a'}", "uuid()", "'12:00:00+01'::timetz", "1::decimal(38, 9)", "'{}'::json"),
    *("1::uhugeint", "1::variant", "'POINT(1 2)'::geometry", "'5000000-01-01'::date", "now()"),
    *("'2020-01-01'::timestamp_ns", "'-infinity'::timestamp_s", "[{'a': ['infinity'::date]}]"),
    *(
        "'nan'::float",
        "chr(0)",
        "'\\x1b[31m'",
        "'[red]x[/red]'",
        "'\udcff'",
        "?",
        "$1",
        "columns(*)",
    ),
    *(
        "error('x')",
        "getenv('HOME')",
        "(select 1)",
        "row(1, 2)",
        "array_value(1, 2)",
        "current_date",
    ),
]
SHAPES = [
    *("select {0}", "select {0} as x, {1} as y", "select {0} from {2}", "from {2} where {0}"),
    *(
        "select {0}, count(*) from {2} group by {0}",
        "select {0} over () from {2}",
        "{0}",
        "{0};{1}",
    ),
    *("select {0} + {1}", "select {0} from {2} order by {1}", "with a as (select {0} as x) from a"),
    *("select {0} from {2} union all select {1}", "select cast({0} as {3})", "explain select {0}"),
    *("select list({0}) from {2}", "select ({0})[1]", "describe select {0}", "summarize {2}"),
    *(
        "pivot {2} on {0} using count(*)",
        "select {0} from {2} limit {1}",
        "select struct_pack(a := {0})",
    ),
    *("select {{'a': {0}}}", "select [{0}]", "select map {{'k': {0}}}", "copy {2} to '/tmp/x'"),
    *(
        "insert into {2} values ({0})",
        "values ({0}), ({1})",
        "select {0} from read_csv('/etc/passwd')",
    ),
    *("attach '/tmp/x'", "set threads = {0}", "prepare a as select {0}", "call pragma_version()"),
]
VIEWS = [
    "trials",
    "metrics",
    "delays",
    "cells",
    "nothing",
    "(select 1 as seed)",
    "delays_at('acc', 0.1, 0.1)",
]
TYPES = [
    "int",
    "varchar",
    "double",
    "timestamp",
    "blob",
    "bit",
    "bignum",
    "date[]",
    "struct(a int)",
]


def query_case(rng: random.Random) -> str:
    """Return a statement."""
    text = rng.choice(SHAPES).format(
        rng.choice(ATOMS), rng.choice(ATOMS), rng.choice(VIEWS), rng.choice(TYPES)
    )
    return tear(text, rng) if rng.random() < 0.2 else text


def test_a_statement_is_answered_or_an_error_of_ours(store: str, tmp_path: Path) -> None:
    def case(rng: random.Random) -> None:
        text = query_case(rng)
        form = rng.choice(query.FORMATS)
        output = tmp_path / "out" if form == "parquet" or rng.random() < 0.3 else None
        with redirect_stdout(io.StringIO()):
            query.sql(store, rng.choice(["toy", "b"]), text, output=output, form=form, timeout_s=20)

    attack(case, max(1, CASES // 4))


def test_a_condition_holds_or_is_an_error_of_ours() -> None:
    connection = sql.connect(threads=1)

    def case(rng: random.Random) -> None:
        text = query_case(rng).removeprefix("select ")
        sql.where_clause(connection, text)
        mask(text, sql.query(connection, "select 1 as a, 'x' as b"))

    attack(case, max(1, CASES // 4))


WORDS = [
    *("plan", "ls", "status", "sql", "phase", "curves", "fit", "stop", "retry", "schema", "verify"),
    *(
        "toy",
        "b",
        "nothing",
        "",
        " ",
        "-",
        "--",
        "-o",
        "--x",
        "--y",
        "--value",
        "--where",
        "--store",
    ),
    *("task.rate", "task.shift", "delay", "t1 ~ 1/task.rate", "t2 ~", "count(*)", "phase", "seed"),
    *("--by", "--level", "0.5", "2", "nan", "--json", "--format", "csv", "png", "--timeout", "-1"),
    *("x.png", "x.svg", "x.csv", "x.parquet", "/dev/null", "nowhere/x.csv", "select 1", "--facet"),
    *(
        "name=x",
        "seeds=0",
        "a=b=c",
        "=",
        "task.rate=",
        "\udcff",
        "é",
        "[red]",
        "--help",
        "toy.yaml",
    ),
    *("where", "seed = 0", "seed = 0 --", "1; select 2", "'", "trainable=os", "fixed.steps=1e400"),
]


def test_a_command_line_is_done_or_an_error_of_ours(store: str, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(TOY.split("search:")[0])
    shapes: list[list[str]] = [
        ["sql", "toy", "select 1 as x"],
        ["phase", "toy", "--x", "task.rate", "--y", "task.shift"],
        ["curves", "toy", "-o", "x.png"],
        ["fit", "toy", "--law", "t1 ~ 1/task.rate"],
        ["plan", "toy.yaml"],
        ["status", "toy"],
        ["ls"],
        ["retry", "nothing"],
        ["stop", "b"],
    ]

    def case(rng: random.Random) -> None:
        words = list(rng.choice(shapes))
        for _ in range(rng.choice([1, 1, 2, 3])):
            place = rng.randrange(len(words) + 1)
            if rng.random() < 0.5:
                words.insert(place, rng.choice(WORDS))
            elif words[1:]:
                words[rng.randrange(1, len(words))] = rng.choice(WORDS)
        done = sweeper(*words, cwd=tmp_path, SWEEPER_STORE=store)
        assert done.returncode in (0, 2), (words, done.stderr)
        assert "Traceback" not in done.stderr, words

    attack(case, max(1, CASES // 10))


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Return a Parquet file with some bytes changed, in its footer most of the time."""
    footer = int.from_bytes(raw[-8:-4], "little") + 8
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        start = len(raw) - footer if rng.random() < 0.8 else 0
        changed[rng.randrange(start, len(raw))] = rng.randrange(256)
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def test_a_damaged_file_whose_checksum_is_right_is_an_error_of_ours(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "wrong", lambda *_: None)  # as if the ledger had its checksum
    files = sorted(Path(store, "toy").rglob("*.parquet"))
    grid = toy_grid(tmp_path, "resources.pack=3")

    def case(rng: random.Random) -> None:
        path = rng.choice(files)
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        try:
            status_view(statuses(store, ["toy"]))
            for view in ("trials", "metrics", "cells"):
                with suppress(SweeperError), redirect_stdout(io.StringIO()):
                    query.sql(store, "toy", f"select * from {view}", form="json")
            plan_launch(grid, commands.peek(f"{store}/toy"), workers=2)
        finally:
            path.write_bytes(whole)

    attack(case, max(1, CASES // 30))
