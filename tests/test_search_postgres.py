"""Studies in PostgreSQL: shared by sweeps, lost and found again."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.compile.loading import load_grid
from sweeper.engine.driver import Runner
from sweeper.engine.worker import run_inline
from sweeper.errors import StorageError, UsageError
from sweeper.search.search import search as search_grid
from tests import killed
from tests.postgres import Server, install
from tests.searches import BENT, attempts, grid_of, observed, search, study_of, write
from tests.sweeps import ledger, rows

pytestmark = [pytest.mark.long, pytest.mark.root]

SMALL = {
    **BENT,
    "search.n_trials": 8,
    "search.batch": 4,
    "seeds": 2,
    "search.finalists": {"top": 1, "seeds": 1},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that runs."""
    pytest.importorskip("psycopg")
    refusal = install()
    if refusal is not None:
        pytest.skip(refusal)
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        made = Server.made(Path(folder))
        made.start()
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def url(server: Server, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return server.database(f"db{abs(hash(tmp_path))}")


def test_a_search_suggests_the_same_in_postgresql_as_in_a_file(
    url: str, tmp_path: Path, store: str
) -> None:
    grid = grid_of(tmp_path, SMALL)
    there = search(grid, store, storage=url)
    here = search(grid, str(tmp_path / "here"))
    assert there.history == here.history
    assert there.finalists == here.finalists
    assert there.storage == url
    assert not (Path(store) / "hill" / "search.db").exists()


def test_a_killed_search_goes_on_in_postgresql(url: str, tmp_path: Path, store: str) -> None:
    file, whole = write(tmp_path, SMALL), str(tmp_path / "whole")
    grid = load_grid(file, [])
    search(grid, whole)
    for moment in (25, 31, 37, 44):
        assert killed.run(file, store, moment, url) == -signal.SIGKILL
    assert killed.run(file, store, None, url) == 0
    study = study_of(grid, store, url)
    assert study.pending() == []
    assert observed(study) == observed(study_of(grid, whole))
    assert rows(store, "hill").equals(rows(whole, "hill"))
    assert attempts(store) == attempts(whole)


def test_sweeps_of_one_name_in_different_stores_share_no_study(
    url: str, tmp_path: Path, store: str
) -> None:
    grid = grid_of(tmp_path, SMALL)
    search(grid, store, storage=url)
    with pytest.raises(UsageError) as caught:
        search(grid, str(tmp_path / "other"), storage=url)
    assert str(caught.value) == (
        f"{url.replace('secret', '***')}: the study 'hill' there belongs to another sweep. "
        "Give this one another name (name=...), or use another storage."
    )


def test_a_server_that_stops_midway_is_one_line_and_the_search_goes_on_once_it_is_back(
    server: Server, url: str, tmp_path: Path, store: str
) -> None:
    grid, whole = grid_of(tmp_path, SMALL), str(tmp_path / "whole")
    search(grid, whole)
    packs = iter(range(100))

    def stopping(tasks: Any) -> None:
        run_inline(tasks)
        if next(packs) == 1:
            server.stop()

    with pytest.raises(StorageError) as caught:
        search_grid(grid, store, Runner(stopping, 1), storage=url)
    message = str(caught.value)
    assert caught.value.exit_code == 5
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{url.replace('secret', '***')}: ")
    assert "secret" not in message
    with pytest.raises(StorageError, match="Check that the database is up"):
        search(grid, store, storage=url)
    server.start()
    result = search(grid, store, storage=url)
    assert result.exit_code == 0
    assert observed(study_of(grid, store, url)) == observed(study_of(grid, whole))
    assert attempts(store) == attempts(whole)
    assert not any(pack.open for pack in ledger(store, "hill").state.packs.values())
    assert rows(store, "hill").equals(rows(whole, "hill"))


def test_an_unreachable_server_makes_no_store(tmp_path: Path, store: str) -> None:
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/none"
    with pytest.raises(StorageError) as caught:
        search(grid_of(tmp_path, SMALL), store, storage=url)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not os.path.exists(store)  # noqa: PTH110
