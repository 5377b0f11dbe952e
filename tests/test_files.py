"""The folder of files: what the storage refuses is an error of ours, whichever method asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from obstore.exceptions import GenericError

from sweeper.engine import worker
from sweeper.errors import StoreError
from sweeper.packing import Pack, Run
from sweeper.store.checkpoint import Checkpoints
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from sweeper.store.sink import Claim, Sink
from tests.buckets import SILENCE_S, Bucket, serving
from tests.sweeps import toy_grid
from tests.toy import Config

CALLS: dict[str, Callable[[Files], Any]] = {
    "read": lambda files: files.read("a"),
    "read_many": lambda files: files.read_many(["a", "a"]),
    "size": lambda files: files.size("a"),
    "write": lambda files: files.write("a", b"x"),
    "create": lambda files: files.create("a", b"x"),
    "paths": lambda files: files.paths("log"),
    "folders": lambda files: files.folders(),
    "delete": lambda files: files.delete("a"),
}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving() as bucket:
        yield bucket


@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_that_is_unavailable_is_a_store_error(bucket: Bucket, call: str) -> None:
    bucket.down = True
    with pytest.raises(StoreError, match=r"^s3://bucket/sweep.*503 Service Unavailable"):
        CALLS[call](bucket.files())


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        *[(call, fault) for call in CALLS for fault in ("503", "silent", "drop", "reset")],
        *[(call, "short") for call in ("read", "read_many", "paths", "folders", "delete")],
    ],
)
def test_a_bucket_that_fails_for_a_moment_is_asked_again(
    bucket: Bucket, call: str, fault: str
) -> None:
    bucket.content["sweep/a" if call != "create" else "other"] = b"here"
    bucket.content["sweep/log/1"] = b"here"
    bucket.faults = [fault, fault]
    result = CALLS[call](bucket.files(retry_s=30, timeout_s=SILENCE_S / 3))
    assert bucket.faults == []
    done = call != "create" or fault in ("503", "silent")  # else: its own file, see `create`
    results = {"read": b"here", "read_many": [b"here", b"here"], "size": 4, "create": done}
    assert result == (results | {"paths": ["log/1"], "folders": ["log"]}).get(call)
    content = {"write": b"x", "create": b"x", "delete": None}.get(call, b"here")
    assert bucket.content.get("sweep/a") == content


@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_that_goes_on_failing_is_an_error_in_time(bucket: Bucket, call: str) -> None:
    bucket.down = True
    begun = time.monotonic()
    with pytest.raises(
        StoreError,
        match=r"503 Service Unavailable \(tried again for 1.5 s\). Check the bucket, the network and",
    ):
        CALLS[call](bucket.files(retry_s=1.5))
    assert 1.5 <= time.monotonic() - begun < 10


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "403 Forbidden.*. Check the bucket, the network and the credentials: AWS_"),
        (404, "s3://bucket/sweep[a-z/]*: the bucket doesn't exist. Create it, or correct its name"),
    ],
)
def test_a_bucket_that_refuses_is_an_error_at_once(
    bucket: Bucket, call: str, status: int, message: str
) -> None:
    bucket.status = status
    if (call, status) == ("size", 404):  # the answer to HEAD has no text
        assert CALLS[call](bucket.files(retry_s=30)) is None
        return
    begun = time.monotonic()
    with pytest.raises(StoreError, match=message):
        CALLS[call](bucket.files(retry_s=30))
    assert time.monotonic() - begun < 10


def test_a_store_in_a_bucket_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "here")
    files = Files.at("s3://bucket/sweep")
    assert files.retry_s == 60
    assert files.backend.retry_config["retry_timeout"] == timedelta(seconds=5)


@pytest.mark.parametrize("call", ["paths", "folders", "delete"])
@pytest.mark.parametrize("error", [TimeoutError("timed out"), OSError(5, "Input/output error")])
def test_an_error_of_the_operating_system_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: OSError
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    (tmp_path / "log").mkdir()
    for name in ("scandir", "listdir", "unlink"):
        monkeypatch.setattr(f"os.{name}", fail)
    with pytest.raises(StoreError) as caught:
        CALLS[call](Files.at(str(tmp_path)))
    where = {"paths": f"{tmp_path}/log", "folders": str(tmp_path), "delete": f"{tmp_path}/a"}[call]
    assert str(caught.value) == f"{where}: {error.strerror or error}"


def test_listings_leave_out_what_is_no_file_or_folder_of_a_store(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    (tmp_path / "sweep.json").write_bytes(b"")
    for name in ("log/b", "log/a", "log/in/c", "log/.nfs1", "log/a#12", "other"):
        files.write(name, b"")
    for folder in (tmp_path, tmp_path / "log"):
        (folder / "nowhere").symlink_to("gone")
        (folder / "loop").symlink_to("loop")
        (folder / os.fsdecode(b"no\xfftext")).write_bytes(b"")
        (folder / os.fsdecode(b"folder\xff")).mkdir()
        os.mkfifo(folder / "pipe")
    assert files.paths("log") == ["log/.nfs1", "log/a", "log/b", "log/in/c"]
    assert files.paths("log", after="log/a") == ["log/b", "log/in/c"]
    assert files.folders() == ["log"]


def test_a_name_that_the_file_system_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    name = "x" * 300  # longer than a file's name may be
    files = Files.at(str(tmp_path))
    for call in (files.read, files.size, files.delete):
        with pytest.raises(StoreError, match="File name too long"):
            call(name)
    assert files.read("file/a") is None
    assert files.size("file/a") is None


def test_what_is_missing_is_no_error(tmp_path: Path, bucket: Bucket) -> None:
    for files in (Files.at(str(tmp_path)), bucket.files()):
        assert files.read("a") is None
        assert files.size("a") is None
        assert files.paths("nowhere") == []
        assert files.folders() == []
    Files.at(str(tmp_path)).delete("a")


def test_many_files_are_read_in_their_order(tmp_path: Path, bucket: Bucket) -> None:
    (tmp_path / "sweep.json").write_bytes(b"")
    names = [f"log/{i}" for i in range(300)]
    for files in (Files.at(str(tmp_path)), bucket.files()):
        for name in names[1::2]:
            files.write(name, name.encode(), durable=False)
        contents = files.read_many([*reversed(names), names[1]])
        whole = [name.encode() if i % 2 else None for i, name in enumerate(names)]
        assert contents == [*reversed(whole), whole[1]]
        assert files.read_many([]) == []


def test_a_bucket_is_asked_for_128_files_at_a_time(bucket: Bucket) -> None:
    bucket.delay = 0.2
    assert bucket.files().read_many([f"log/{i}" for i in range(200)]) == [None] * 200
    assert 64 <= bucket.busiest <= 128


def claimed(files: Files, trials: list[str]) -> Claim:
    ledger = Ledger.create(files, {"name": "x", "points_per_decade": 50})
    packs = [{"id": "a", "size": len(trials)}]
    ledger.append({"kind": "packs", "packs": packs, "path": "packs/a.parquet", "sha256": ""})
    return Claim.take(ledger, "a", "l", {})


class Trainable:
    """Trains until the sink's thread has failed; `wraps` hides the error in one of its own.

    `wraps` is "from" with the error as its cause, "instead" without, and "" for the error itself.
    """

    def __init__(self, bucket: Bucket, *, wraps: str) -> None:
        self.bucket = bucket
        self.wraps = wraps

    def train(self, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
        self.bucket.down = True
        try:
            for step in range(10_000):
                sink.write(step, pack.trial_ids, train_loss=np.zeros(len(pack.trials)))
                sink._thread.join(0.01)
        except Exception as error:
            self.bucket.down = False  # a split would succeed now
            if self.wraps:
                cause = error if self.wraps == "from" else None
                raise RuntimeError("training failed") from cause
            raise


@pytest.mark.parametrize("wraps", ["", "from", "instead"])
def test_a_storage_error_in_the_thread_of_a_sink_is_never_a_fault_of_the_pack(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, wraps: str
) -> None:
    monkeypatch.setattr("sweeper.store.sink.FLUSH_S", 0.04)
    grid = toy_grid(tmp_path)
    trials = tuple(t for t in grid.trials() if t.values["task.shift"] == 0)
    run = Run(steps=10, criteria={})
    pack = Pack("a", trials, Config, run)
    claim = claimed(bucket.files(), pack.trial_ids)
    before = set(bucket.content)
    with Sink(claim) as sink:
        checkpoints = Checkpoints(
            sink, every_s=60, keep="none", resume=None, starts={}, trial_ids=pack.trial_ids
        )
        with pytest.raises(StoreError, match="503 Service Unavailable"):
            worker._train(Trainable(bucket, wraps=wraps), pack, sink, checkpoints)
    assert set(bucket.content) == before, "no split, no end"
    claim.ledger.refresh()
    assert not claim.ledger.state.packs["a"].ends
    assert claim.ledger.state.packs["a"].split_at is None


class Recovering:
    """Handles a storage error that is none of the sweep's, and fails by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def train(self, pack: Pack[Any], sink: Sink, checkpoints: Checkpoints) -> None:
        try:
            Files.at(str(self.folder / "cache"))
        except StoreError:
            raise ValueError("a mistake in the trainable")  # noqa: B904 - its context


def test_a_storage_error_that_a_trainable_handled_is_not_blamed_for_its_failure(
    tmp_path: Path,
) -> None:
    trials = tuple(t for t in toy_grid(tmp_path).trials() if t.values["task.shift"] == 0)
    pack = Pack("a", trials[:1], Config, Run(steps=10, criteria={}))
    claim = claimed(Files.at(str(tmp_path / "store"), create=True), pack.trial_ids)
    with Sink(claim) as sink:
        checkpoints = Checkpoints(
            sink, every_s=60, keep="none", resume=None, starts={}, trial_ids=pack.trial_ids
        )
        assert worker._train(Recovering(tmp_path), pack, sink, checkpoints) == []
    assert sink.ended == {trials[0].id: "failed"}
    (error,) = ended_trials(claim.ledger)["error"].to_pylist()
    assert error.endswith("ValueError: a mistake in the trainable")


def test_a_sink_that_failed_writes_nothing_afterwards(bucket: Bucket) -> None:
    with Sink(claimed(bucket.files(), ["t"])) as sink:
        sink.write(0, ["t"], train_loss=[1.0])
        bucket.down = True
        with pytest.raises(StoreError):
            sink.flush()
        bucket.down = False
        before = dict(bucket.content)
        with pytest.raises(StoreError, match="503"):
            sink.flush()
        with pytest.raises(StoreError, match="503"):
            sink.write(1, ["t"], train_loss=[1.0])
        assert bucket.content == before


@pytest.mark.parametrize(
    ("uri", "reason", "message"),
    [
        (
            "s3://bucket/a",
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1s",
            "no credentials were found. Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_REGION, or run `sweeper` on a machine of that cloud.",
        ),
        (
            "s3a://bucket/a",
            "Generic S3 error: HTTP error: error sending request",
            "Generic S3 error: HTTP error: error sending request. Check the bucket, the network "
            "and the credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION.",
        ),
        (
            "gs://bucket/a",
            "403 Forbidden",
            "403 Forbidden. Check the bucket, the network and the credentials: "
            "GOOGLE_APPLICATION_CREDENTIALS.",
        ),
        (
            "abfs://container/a",
            "403 Forbidden",
            "403 Forbidden. Check the bucket, the network and the credentials: "
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY.",
        ),
        (
            "https://account.blob.core.windows.net/a",
            "403 Forbidden",
            "403 Forbidden. Check the bucket, the network and the credentials: the environment "
            "variables of this storage.",
        ),
    ],
)
@pytest.mark.parametrize("call", [*CALLS])
def test_an_error_of_a_bucket_names_what_to_check(
    uri: str, reason: str, message: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise GenericError(reason)

    for name in ("get", "head", "put", "list", "list_with_delimiter", "delete"):
        monkeypatch.setattr(f"obstore.{name}", fail)
    with pytest.raises(StoreError) as caught:
        CALLS[call](Files(uri, None, retry_s=0))
    below = {"paths": "/log", "folders": ""}.get(call, "/a")
    assert str(caught.value) == f"{uri}{below}: {message}"
