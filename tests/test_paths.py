"""The name of a folder is a name: no store has other numbers because of where it lies."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.api import query
from sweeper.errors import StoreError
from sweeper.store.compaction import compact
from sweeper.store.files import Files, local_folder
from sweeper.store.lease import join
from tests.sweeps import ledger, rows, run, toy_grid

HIVE = ["step=10", "trial_id=x", "train_acc=1", "pack_id=0", "a=1/b=2", "year=2026/step=3"]
GLOBS = ["a[1]", "a?b", "a*b", "**", "[!a]", "{x,y}", "[", "]", "a\\b", "a\\*b", "[[]"]
SIGNS = ["it's", '"q"', "sp ace", "ünï", "-rf", "%41", "a%20b", "a#b", "a;b", "a:b", "s3:", "$HOME"]
NAMES = [*HIVE, *GLOBS, *SIGNS, "~", ".hidden", "a\nb", "..."]

VIEWS = {
    "trials": "select * exclude (started_at) from trials order by trial_id",
    "metrics": "select * from metrics order by all",
    "delays": "select * from delays order by trial_id",
    "cells": "select * from cells order by all",
    "sums": "select count(t2), sum(delay), sum(t2) from delays",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a folder with a plain name."""
    folder = tmp_path_factory.mktemp("plain")
    run(toy_grid(folder), str(folder / "store"))
    return folder / "store"


@pytest.fixture(scope="module")
def expected(plain: Path) -> dict[str, pa.Table]:
    return asked(plain)


def asked(store: Path | str) -> dict[str, pa.Table]:
    with open_views(ledger(str(store))) as views:
        return {view: sql.query(views, text) for view, text in VIEWS.items()}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders whose stores have other numbers, and that patterns in `NAMES` match."""
    folder = tmp_path_factory.mktemp("street")
    run(toy_grid(folder, "task.rate=0.2"), str(folder / "a1" / "store"))
    for name in ("axb", "x", "y", "b"):
        shutil.copytree(folder / "a1", folder / name)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_folders_name_changes_no_number(
    name: str, street: Path, plain: Path, expected: dict[str, pa.Table]
) -> None:
    shutil.copytree(plain, street / name / "store")
    assert asked(street / name / "store") == expected


@pytest.mark.parametrize("name", ["step=10", "a\\[1]", "%41 ü"])
def test_a_sweep_in_a_folder_of_any_name_has_the_same_rows(
    name: str, tmp_path: Path, plain: Path, expected: dict[str, pa.Table]
) -> None:
    made = str(tmp_path / name / "made")
    run(toy_grid(tmp_path), made)
    compact(ledger(made))
    for where in (made, f"{made}/", (tmp_path / name / "made").as_uri()):
        known = asked(where)
        assert {**known, "trials": None} == {**expected, "trials": None}  # they have other packs
    assert rows(made) == rows(str(plain))


@pytest.mark.parametrize("name", ["a[1]", "plain"])
def test_the_views_read_the_files_of_the_ledger_and_no_others(name: str, tmp_path: Path) -> None:
    store = tmp_path / name / "store"
    run(toy_grid(tmp_path), str(store))
    (tmp_path / "a1").mkdir()
    part = next(part for part, _ in ledger(str(store)).state.parts())
    shutil.copy(store / "toy" / part.path, tmp_path / "a1" / "x.parquet")
    with open_views(ledger(str(store))) as views:
        for path in (tmp_path / "toy.yaml", tmp_path / "a1" / "x.parquet"):
            with pytest.raises(sql.QueryError, match="Permission Error"):
                sql.query(views, f"select * from read_text({sql.literal(str(path))})")


def readers(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and fault of each call of a reader that leaves open what a path or a text means."""
    source = path.read_text()
    if path.suffix == ".sql":
        yield from ((1, "names a file") for _ in re.findall(SCANS, source))
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(SCANS, node.value) and path != Path("sweeper/sql.py"):
                yield node.lineno, "names a file: use sweeper.sql.parquet"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rsplit(".", 1)[-1]
            missing = {*STATED.get(called, ())} - {k.arg for k in node.keywords}
            if missing:
                yield node.lineno, f"{called} without {', '.join(sorted(missing))}"
            if called == "ParquetFile" and "BufferReader" not in ast.unparse(node.args[0]):
                yield node.lineno, "ParquetFile of a path: read its bytes"


SCANS = r"\b(read_parquet|parquet_scan|read_csv|read_csv_auto|read_json|read_json_auto|read_ndjson|read_text|read_blob|glob)\s*\("
STATED = {
    "read_table": {"partitioning"},
    "dataset": {"partitioning", "format"},
    "read_csv": {"read_options", "parse_options", "convert_options"},
    "read_json": {"parse_options"},
    "read_parquet": {"partitioning"},
}
"""What a reader takes from a path or guesses from the content unless it is told."""


def test_every_reader_states_what_it_would_guess() -> None:
    files = [
        path
        for room in ("sweeper", "analysis", "trainables")
        for suffix in ("py", "sql")
        for path in Path(room).rglob(f"*.{suffix}")
    ]
    assert len(files) > 100
    assert [f"{path}:{line}: {fault}" for path in files for line, fault in readers(path)] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pq.read_table(path)", "read_table without partitioning"),
        ("ds.dataset(path, format='parquet')", "dataset without partitioning"),
        ("pq.ParquetFile(path)", "ParquetFile of a path: read its bytes"),
        ("csv.read_csv(f)", "read_csv without convert_options, parse_options, read_options"),
        ("f'from read_parquet([{paths}])'", "names a file: use sweeper.sql.parquet"),
    ],
)
def test_a_reader_that_guesses_is_found(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(text)
    assert [fault for _, fault in readers(tmp_path / "module.py")] == [fault]


def test_the_one_reader_of_sql_states_all_options() -> None:
    assert sql.parquet(["/a=1/b'c.parquet"]) == (
        "read_parquet(['/a=1/b''c.parquet'], hive_partitioning = false, "
        "union_by_name = false, filename = false)"
    )


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("/tmp/x/new", "/tmp/x/new"),
        ("/tmp/x/new/", "/tmp/x/new"),
        ("/", "/"),
        ("file:///tmp/x/new", "/tmp/x/new"),
        ("file:///tmp/x/new/", "/tmp/x/new"),
        ("file:/tmp/x/new", "/tmp/x/new"),
        ("FILE://localhost/tmp/x", "/tmp/x"),
        ("file:///tmp/a%20b%25", "/tmp/a b%"),
        ("file:///tmp/a?b#c", "/tmp/a?b#c"),
        ("/tmp/a%20b", "/tmp/a%20b"),
        ("~/sweeps", "/home/me/sweeps"),
        ("~", "/home/me"),
        ("sub/~", "HERE/sub/~"),
        ("./~/x", "HERE/~/x"),
        ("a:b/c", "HERE/a:b/c"),
        ("-x", "HERE/-x"),
        (".", "HERE"),
    ],
)
def test_what_the_name_of_a_store_means(
    uri: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    meant = folder.replace("HERE", str(tmp_path))
    assert local_folder(uri) == Path(meant)
    assert join(uri, "toy") == f"{meant.rstrip('/')}/toy"


FILE_URL = (
    "a file URL holds the whole path of a folder of this machine. Write file:///FOLDER, or the "
    "folder alone."
)
KINDS = (
    "Use a folder of this machine, or a URL: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
    "az://CONTAINER/PREFIX."
)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("", "store '': the name is empty. Write a folder, e.g. --store sweeps."),
        ("file://", f"store 'file://': {FILE_URL}"),
        ("file:x", f"store 'file:x': {FILE_URL}"),
        ("file://host/x", f"store 'file://host/x': {FILE_URL}"),
        ("s3:/b/x", "store 's3:/b/x': a URL has two slashes. Write s3://b/x."),
        (
            "~no-such-user/x",
            "store '~no-such-user/x': '~no-such-user' means a home folder that this machine "
            "doesn't have. Write ./~no-such-user/x for a folder of that name.",
        ),
        (
            "http://h/x",
            f"store 'http://h/x': http isn't a storage that a store can be kept in. {KINDS}",
        ),
        (
            "hdfs://h/x",
            "store 'hdfs://h/x': Generic URL error: Unable to recognise URL \"hdfs://h/x\". "
            f"{KINDS}",
        ),
    ],
)
def test_a_store_that_cant_be_is_said_with_a_remedy(uri: str, text: str) -> None:
    with pytest.raises(StoreError) as caught:
        Files.at(uri)
    assert str(caught.value) == text


@pytest.mark.parametrize("where", ["file", "home"])
def test_a_launch_begins_a_sweep_in_a_folder_by_any_of_its_names(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, pa.Table]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    uri = (tmp_path / "new store").as_uri() if where == "file" else "~/new store"
    run(toy_grid(tmp_path), uri)
    assert query(uri, "toy", VIEWS["delays"]) == expected["delays"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new store", "toy.yaml"]
