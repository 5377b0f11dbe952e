"""The sweeps of a store, and the lease that keeps a second driver away."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from sweeper.errors import BusyError, StoreError
from sweeper.store.files import Files
from sweeper.store.lease import LEASE, STALE_S, driving, is_fresh, open_sweep, read_lease, sweeps
from sweeper.store.ledger import Ledger
from tests.buckets import serving
from tests.stores import Made


def test_the_sweeps_of_a_store_are_its_folders_with_a_sweep_file(tmp_path: Path) -> None:
    for name in ("b", "a"):
        Made.at(tmp_path, name)
    (tmp_path / "notes").mkdir()
    assert sweeps(str(tmp_path)) == ["a", "b"]
    assert sweeps(f"file://{tmp_path}") == ["a", "b"]
    assert sweeps(str(tmp_path / "missing")) == []
    with pytest.raises(StoreError) as caught:
        open_sweep(str(tmp_path), "c")
    assert str(caught.value) == f"no sweep 'c' in {tmp_path}. There: a, b."


def test_a_mistyped_scheme_is_an_error_and_not_an_empty_store() -> None:
    with pytest.raises(StoreError) as caught:
        sweeps("s4://bucket/sweeps")
    assert str(caught.value) == (
        "store 's4://bucket/sweeps': Generic URL error: Unable to recognise URL "
        '"s4://bucket/sweeps". Use a folder of this machine, or a URL: s3://BUCKET/PREFIX, '
        "gs://BUCKET/PREFIX or az://CONTAINER/PREFIX."
    )


def begin(files: Files) -> Ledger:
    return Ledger.create(files, {"name": "x", "points_per_decade": 50})


def test_a_driver_holds_a_sweep_alone_and_its_lease_names_it(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    with driving(begin(files), "first") as lease:
        held = read_lease(files)
        assert held is not None
        assert (held["launch_id"], held["pid"]) == ("first", os.getpid())
        assert is_fresh(held)
        lease.hold("second")
        assert (read_lease(files) or {})["launch_id"] == "second"
        with pytest.raises(BusyError) as caught, driving(begin(files), "other"):
            pass
        assert str(caught.value) == (
            f"{tmp_path}: process {os.getpid()} on {socket.gethostname()} is launching this "
            "sweep. Wait for it, or stop it with `sweeper stop`."
        )
        assert (read_lease(files) or {})["launch_id"] == "second"
    assert read_lease(files) is None
    with driving(begin(files), "next"):
        assert (read_lease(files) or {})["launch_id"] == "next"


@pytest.mark.parametrize(
    ("host", "pid", "age_s", "fresh"),
    [
        ("elsewhere", 1, 0.0, True),
        ("elsewhere", 1, STALE_S + 1, False),
        ("", 0, 0.0, True),  # this process
        ("", 2**22 + 1, 0.0, False),
    ],
)
def test_a_lease_is_fresh_while_it_is_young_and_its_process_lives(
    host: str, pid: int, age_s: float, fresh: bool
) -> None:
    pid = pid or os.getpid()
    lease = {"host": host or socket.gethostname(), "pid": pid, "at": time.time() - age_s}
    assert is_fresh(lease) is fresh


@pytest.mark.parametrize(
    "content", [b"[1]", b"3", b'{"at": "x"}', b'{"launch_id": 1, "host": "h", "pid": 1, "at": 0}']
)
def test_a_file_with_other_content_is_no_lease(tmp_path: Path, content: bytes) -> None:
    files = Files.at(str(tmp_path))
    files.write(LEASE, content)
    assert read_lease(files) is None
    with driving(begin(files), "x"):
        assert (read_lease(files) or {})["launch_id"] == "x"


def test_a_torn_lease_is_none(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    files.write(LEASE, json.dumps({"host": "h"}).encode()[:-2])
    assert read_lease(files) is None
    assert not is_fresh(None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a second driver wait for 2 seconds, and the first renew its lease every 0.1."""
    monkeypatch.setattr("sweeper.store.lease.LEASE_S", 0.1)
    monkeypatch.setattr("sweeper.store.lease.WATCH_S", 2.0)
    monkeypatch.setattr("sweeper.store.lease.BEGIN_S", 0.5)


def test_of_drivers_that_begin_at_once_in_a_bucket_one_gets_in(quick: None) -> None:
    with serving() as bucket:
        begin(bucket.files())
        held: list[int] = []
        busy: list[str] = []
        over = threading.Barrier(4)

        def drive(number: int) -> None:
            over.wait()
            try:
                with driving(Ledger.open(bucket.files()), f"l{number}") as lease:
                    held.append(number)
                    while len(busy) < 3 and len(held) < 2:
                        time.sleep(0.05)
                    lease.hold(f"m{number}")
            except BusyError as error:
                busy.append(str(error))

        threads = [threading.Thread(target=drive, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(held) == 1
    assert len(busy) == 3


def test_a_bucket_whose_lease_is_renewed_is_busy_and_one_whose_driver_died_is_taken_over(
    quick: None,
) -> None:
    """The clocks of the two machines don't matter: the lease is dated an hour ahead."""
    with serving() as bucket:
        first = begin(bucket.files())
        busy = pytest.raises(BusyError, match=f"process {os.getpid()} on")
        with driving(first, "first"), busy, driving(Ledger.open(bucket.files()), "second"):
            pass
        lease = {"driver": first.driver, "host": "h", "pid": 1, "launch_id": "first"}
        bucket.files().write(LEASE, json.dumps({**lease, "at": time.time() + 3600}).encode())
        begun = time.monotonic()
        with driving(Ledger.open(bucket.files()), "third"):
            assert time.monotonic() - begun >= 2.0
            with pytest.raises(BusyError, match="another process has taken this sweep over"):
                first.append({"kind": "void", "pack_ids": []})


def test_a_driver_that_was_taken_over_leaves_the_lease_of_the_next_one(quick: None) -> None:
    with serving() as bucket:
        with driving(begin(bucket.files()), "first"):
            next_driver = Ledger.open(bucket.files())
            next_driver.take_over(next_driver.state.driver, at_once=True)
            theirs = {"driver": next_driver.driver, "launch_id": "next", "pid": 1, "host": "h"}
            bucket.files().write(LEASE, json.dumps({**theirs, "at": time.time()}).encode())
            time.sleep(0.5)
        assert (read_lease(bucket.files()) or {})["launch_id"] == "next"
