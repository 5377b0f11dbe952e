"""Where a study lives: what is said when that can't be reached, and who else may look."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from sweeper.errors import StorageError
from sweeper.search.storage import at_file, checked, database
from tests.searches import grid_of, search

REMEDY = (
    "Check that the database is up and may be written, and its URL: sqlite:///FILE or "
    "postgresql+psycopg://USER@HOST/NAME."
)
FEW = {"search.n_trials": 4, "search.batch": 2, "seeds": 1, "search.finalists": None}


def test_a_damaged_study_is_made_anew_from_what_was_trained(tmp_path: Path, store: str) -> None:
    grid = grid_of(tmp_path, FEW)
    before = search(grid, store)
    file = Path(store) / grid.name / "search.db"
    file.write_bytes(b"no database at all " * 100)
    with pytest.raises(StorageError) as caught:
        search(grid, store)
    assert str(caught.value) == (
        f"sqlite:///{file}: damaged: file is not a database. Move the file away and search again: "
        "the study is made again from the trained trials."
    )
    file.unlink()
    again = search(grid, store)
    cells = {s.cell_id for s in before.history.suggestions}
    assert cells <= {s.cell_id for s in again.history.suggestions}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "sqlite:////nowhere/at/all.db",
            "sqlite:////nowhere/at/all.db: unable to open database file. ",
        ),
        (
            "sqlite:///file:{file}?mode=ro&uri=true",
            "sqlite:///file:{file}?mode=ro&uri=true: unable to open database file. ",
        ),
        (
            "redis://me:secret@host/1",
            "redis://me:***@host/1: Can't load plugin: sqlalchemy.dialects:redis. ",
        ),
        (
            "mysql+nodriver://me:secret@host/x",
            "mysql+nodriver://me:***@host/x: Can't load plugin: sqlalchemy.dialects:mysql.nodriver. ",
        ),
    ],
)
def test_a_database_that_cant_be_reached_is_one_line_without_a_password(
    url: str, message: str, tmp_path: Path, store: str
) -> None:
    names = {"file": tmp_path / "none.db"}
    with pytest.raises(StorageError) as caught:
        search(grid_of(tmp_path, FEW), store, storage=url.format(**names))
    assert str(caught.value) == message.format(**names) + REMEDY
    assert caught.value.exit_code == 5
    assert not Path(store).exists()


NOT_A_URL = "not the URL of a database. Write {}, or postgresql+psycopg://USER@HOST/NAME."
IN_MEMORY = (
    "a database in memory, which ends with this command. Name a file: sqlite:///FILE, or "
    "sqlite:////FOLDER/FILE with the whole path."
)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("me:secret@host", f"the study's storage: {NOT_A_URL.format('sqlite:///FILE')}"),
        (
            "postgresql+psycopg://me:secret@host:port/x",
            f"the study's storage: {NOT_A_URL.format('sqlite:///FILE')}",
        ),
        ("", f"storage '': {NOT_A_URL.format('sqlite:///FILE')}"),
        ("x.db", f"storage 'x.db': {NOT_A_URL.format('sqlite:///x.db')}"),
        ("~/x.db", f"storage '~/x.db': {NOT_A_URL.format('sqlite:///~/x.db')}"),
        ("sqlite://", f"sqlite://: {IN_MEMORY}"),
        ("sqlite:///", f"sqlite:///: {IN_MEMORY}"),
        ("sqlite:///:memory:", f"sqlite:///:memory:: {IN_MEMORY}"),
    ],
)
def test_a_storage_that_keeps_no_study_is_refused(
    storage: str, message: str, tmp_path: Path, store: str
) -> None:
    with pytest.raises(StorageError) as caught:
        search(grid_of(tmp_path, FEW), store, storage=storage)
    assert str(caught.value) == message
    assert not Path(store).exists()


@pytest.mark.parametrize(
    "name", ["step=10", "a?b", "a#b", "a%20b", "a{b}", "a@b:c", "ü b", "a&b=c", "it's", "plain"]
)
def test_the_file_of_a_study_is_where_its_name_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    url = at_file(tmp_path / name / "search.db")
    assert checked(url) == url
    database(url).engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["search.db"]


def test_a_tilde_in_a_storage_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert checked("sqlite:///~/a b.db?mode=rw") == "sqlite:////home/me/a b.db?mode=rw"
    assert checked("sqlite:///sub/~x.db") == "sqlite:///sub/~x.db"


def test_a_missing_driver_is_named(tmp_path: Path, store: str) -> None:
    with pytest.raises(StorageError) as caught:
        search(grid_of(tmp_path, FEW), store, storage="mysql+aiomysql://me:secret@host/x")
    text = str(caught.value)
    assert text.startswith("mysql+aiomysql://me:***@host/x: Failed to import DB access module")
    assert text.endswith(REMEDY)
    assert len(text.splitlines()) == 1


def test_a_study_that_may_not_be_written_is_said_in_one_line(tmp_path: Path, store: str) -> None:
    grid = grid_of(tmp_path, FEW)
    search(grid, store)
    file = Path(store) / "hill" / "search.db"
    url = f"sqlite:///file:{file}?mode=ro&uri=true"
    more = grid_of(tmp_path, {**FEW, "search.n_trials": 6})
    with pytest.raises(StorageError) as caught:
        search(more, store, storage=url)
    assert str(caught.value) == f"{url}: attempt to write a readonly database. {REMEDY}"


def test_a_store_that_is_no_folder_needs_a_database_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        search(grid_of(tmp_path, FEW), "memory:///sweeps")
    assert str(caught.value) == (
        "memory:///sweeps: not a folder of this machine, so the study needs a database of its "
        "own. Set --storage or OPTUNA_STORAGE to its URL: postgresql+psycopg://USER@HOST/NAME."
    )


@pytest.mark.long
def test_a_dashboard_shows_the_study_while_a_search_goes_on(tmp_path: Path, store: str) -> None:
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("optuna-dashboard isn't installed")
    result = search(grid_of(tmp_path, FEW), store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [program, "--host", "127.0.0.1", "--port", str(port), result.storage]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        studies = _fetch(process, f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert [s["study_name"] for s in studies] == ["hill"]
        url = f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}"
        assert len(_fetch(process, url)["trials"]) == 4
        seen = []
        more = grid_of(tmp_path, {**FEW, "search.n_trials": 8})
        result = search(more, store, say=lambda _: seen.append(len(_fetch(process, url)["trials"])))
        assert result.exit_code == 0
        assert len(seen) == 2
        assert all(4 <= n <= 8 for n in seen)  # it remembers what it read, for some seconds
        deadline = time.monotonic() + 60
        while len(trials := _fetch(process, url)["trials"]) < 8 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert [t["state"] for t in trials] == ["Complete"] * 8
    finally:
        process.terminate()
        process.wait(timeout=30)


def _fetch(process: subprocess.Popen[bytes], url: str) -> dict[str, list[dict[str, object]]]:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=30) as answer:
                content: dict[str, list[dict[str, object]]] = json.load(answer)
                return content
        except URLError:
            time.sleep(0.2)
    raise AssertionError(f"{url} doesn't answer, dashboard {process.poll()}, {os.getpid()}")
