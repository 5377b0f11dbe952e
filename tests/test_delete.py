"""Sweeps are deleted and renamed whole, never while a launch runs, and no worker brings one back."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeper.analysis.diagrams.provenance import Provenance
from sweeper.analysis.views.views import open_views
from sweeper.engine import housekeeping
from sweeper.errors import BusyError, StoreError, UsageError
from sweeper.store.files import Files
from sweeper.store.lease import driving, open_sweep, sweeps
from sweeper.store.ledger import Ledger
from sweeper.store.sink import Claim, Sink
from tests.buckets import Bucket, serving
from tests.commands import sweeper
from tests.stores import Made, Planned, curve, end
from tests.sweeps import assert_whole, ledger, rows, run, toy_grid

EXTENDED = """
name: toy
trainable: tests.toy
fixed: {steps: 10}
grid: {product: {task.rate: [0.01, 0.1, 0.5, 1.0], task.shift: [0, 1, 2]}}
"""


@pytest.fixture
def made(store: str) -> Made:
    """A sweep called demo with three trials in two packs, trained for 1.5 s each."""
    made = Made.at(store)
    launch = made.launch([Planned("a"), Planned("b", "d"), Planned("c")])
    pack = made.pack(["a", "b"])
    attempt = made.claim(pack, launch)
    both = [row for i in "ab" for row in curve(i, [0, 1], train_acc=[0.1, 1.0])]
    made.rows(pack, attempt, both, [end("a", "censored", 1), end("b", "censored", 1)], done=True)
    other = made.pack(["c"])
    made.rows(other, made.claim(other, launch), ends=[end("c", "censored", 1)], done=True)
    return made


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket that the URLs of this process's storage lead to."""
    with serving() as server:
        for name, value in {
            "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "here",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sweeper.store.lease.BEGIN_S", 0.1)
        monkeypatch.setattr("sweeper.store.lease.WATCH_S", 0.3)
        monkeypatch.setattr("sweeper.store.lease.LEASE_S", 0.1)
        yield server


URL = "s3://bucket/sweeps"


def in_bucket() -> Made:
    """Make the sweep demo in the bucket."""
    made = Made(Ledger.create(Files.at(f"{URL}/demo"), {"name": "demo", "points_per_decade": 50}))
    launch = made.launch([Planned("a")])
    made.claim(made.pack(["a"]), launch)
    return made


def size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def test_rm_says_what_it_frees_and_frees_it(store: str, made: Made) -> None:
    Made.at(store, "other").launch([Planned("a")])
    freed = size(f"{store}/demo")
    asked = sweeper("rm", "demo", "--store", store)
    assert (asked.returncode, asked.stderr) == (2, "error: demo: add --yes to delete it.\n")
    assert sweeps(store) == ["demo", "other"]
    done = sweeper("rm", "demo", "--store", store, "--yes")
    held = f"demo: 3 trials, 3.0 s of training, {freed / 1e3:.3g} kB in {store}/demo"
    assert (done.returncode, done.stdout) == (0, f"{held}\ndeleted demo\n")
    assert asked.stdout == f"{held}\n"
    assert [path.name for path in Path(store).iterdir()] == ["other"]
    again = sweeper("rm", "demo", "--store", store, "--yes")
    assert (again.returncode, again.stderr) == (
        2,
        f"error: no sweep 'demo' in {store}. There: other.\n",
    )


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["demo"]), ("y\n", [])])
def test_rm_asks_on_a_terminal(
    answer: str, left: list[str], store: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("sweeper.cli.housekeeping.sys", terminal)
    done = sweeper("rm", "demo", "--store", store, stdin=answer)
    assert done.returncode == (4 if left else 0)
    assert sweeps(store) == left


def test_a_damaged_sweep_can_be_deleted(store: str, made: Made) -> None:
    Path(store, "demo/log/000000000001.json").write_bytes(b"rot")
    done = sweeper("rm", "demo", "--store", store, "--yes")
    assert done.stdout.startswith("demo: results that can't be read, ")
    assert (done.returncode, sweeps(store)) == (0, [])


def test_rm_leaves_a_folder_that_is_no_sweep(store: str, made: Made) -> None:
    Path(store, "notes").mkdir()
    Path(store, "notes/log").mkdir()
    Path(store, "notes/log/mine.txt").write_text("mine")
    assert sweeper("rm", "notes", "--store", store, "--yes").returncode == 2
    assert Path(store, "notes/log/mine.txt").read_text() == "mine"


@pytest.mark.parametrize("words", [("rm", "demo", "--yes"), ("mv", "demo", "new")])
def test_a_sweep_that_a_launch_drives_stays(words: tuple[str, ...], store: str, made: Made) -> None:
    with driving(made.ledger, "l"):
        done = sweeper(*words, "--store", store)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {store}/demo: process {os.getpid()} on {socket.gethostname()} is launching this "
        "sweep. Wait for it, or stop it with `sweeper stop`.\n",
    )
    assert sweeps(store) == ["demo"]
    assert sweeper(*words, "--store", store).returncode == 0


def test_a_fresh_lease_of_another_machine_is_a_driver(store: str, made: Made) -> None:
    made.lease("launch-1")
    with pytest.raises(BusyError):
        housekeeping.delete(store, "demo")
    with pytest.raises(BusyError):
        housekeeping.rename(store, "demo", "new")
    made.lease("launch-1", age_s=40)
    housekeeping.delete(store, "demo")


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_killed_rm_leaves_the_whole_sweep_or_one_that_nobody_sees(
    place: str, store: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        target = "sweeper.store.disk.rename_folder" if place == "before" else "shutil.rmtree"
        patch.setattr(target, killed)
        with pytest.raises(KeyboardInterrupt):
            housekeeping.delete(store, "demo")
    assert sweeps(store) == (["demo"] if place == "before" else [])
    if place == "after":
        (left,) = Path(store).iterdir()
        assert housekeeping.contents(store, "demo").leftover
        held = f"demo: an interrupted deletion has left {size(str(left)) / 1e3:.3g} kB"
        assert sweeper("rm", "demo", "--store", store).stdout == f"{held}\n"
        Made.at(store).launch([Planned("a")])  # the name is free at once
        assert sweeps(store) == ["demo"]
        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", killed)
            for _ in ("the new sweep", "what is left of both"):
                with pytest.raises(KeyboardInterrupt):
                    housekeeping.delete(store, "demo")
        assert sweeps(store) == []
    housekeeping.delete(store, "demo")
    assert not [*Path(store).iterdir()]


def test_a_worker_that_outlives_its_sweep_brings_nothing_back(store: str, made: Made) -> None:
    launch = made.launch([Planned("c", "e")])
    pack = made.pack(["c"])
    claim = Claim.take(open_sweep(store, "demo"), pack, launch, {})
    with Sink(claim) as sink:
        sink.write(0, ["c"], train_acc=[0.5])
        sink.flush()
        housekeeping.delete(store, "demo")
        sink.write(1, ["c"], train_acc=[0.5])
        with pytest.raises(StoreError, match="it was deleted or moved"):
            sink.flush(done=True)
    assert not [*Path(store).iterdir()]


def test_a_worker_ends_soon_after_its_sweep_was_deleted(store: str, made: Made) -> None:
    launch = made.launch([Planned("c", "e")])
    pack = made.pack(["c"])
    claim = Claim.take(open_sweep(store, "demo"), pack, launch, {})
    with Sink(claim, flush_s=0.2) as sink:
        housekeeping.delete(store, "demo")
        sink.write(0, ["c"], train_acc=[0.5])
        with pytest.raises(StoreError, match="the sweep was deleted or moved"):  # noqa: PT012
            for _ in range(100):
                time.sleep(0.1)
                sink.check()
    assert not [*Path(store).iterdir()]


def test_a_sweep_in_a_bucket_is_deleted_with_its_mark_first_and_its_log_last(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bucket()
    bucket.content["sweeps/demonstration/sweep.json"] = b"{}"
    order: list[str] = []
    delete, delete_many = Files.delete, Files.delete_many

    def noted(files: Files, path: str) -> None:
        order.append(path)
        delete(files, path)

    def many_noted(files: Files, paths: list[str]) -> None:
        order.extend(paths)
        delete_many(files, paths)

    monkeypatch.setattr(Files, "delete", noted)
    monkeypatch.setattr(Files, "delete_many", many_noted)
    housekeeping.delete(URL, "demo")
    assert order[0] == "sweep.json"
    assert order[-1] == "log/000000000001.json"
    log = [path for path in order if path.startswith("log/")]
    assert order[-len(log) :] == sorted(log, reverse=True)
    assert [*bucket.content] == ["sweeps/demonstration/sweep.json"]


def test_rm_finishes_a_deletion_in_a_bucket_that_was_killed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bucket()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Files, "delete_many", killed)
        with pytest.raises(KeyboardInterrupt):
            housekeeping.delete(URL, "demo")
    assert sweeps(URL) == []
    assert bucket.content
    launched = sweeper("launch", "-", "--store", URL, "--inline", stdin="name: demo\n" + GRID)
    assert launched.returncode == 2, launched
    assert "If the sweep was being deleted, finish that with `sweeper rm`." in launched.stderr
    done = sweeper("rm", "demo", "--store", URL, "--yes")
    assert (done.returncode, bucket.content) == (0, {}), done
    assert done.stdout.startswith("demo: an interrupted deletion has left ")


GRID = "fixed: {task: {name: sparse_recovery, n: 6, s: 1, N: 4}, steps: 3}\n"


def test_files_that_are_not_those_of_a_sweep_stay_in_the_bucket(bucket: Bucket) -> None:
    bucket.content["sweeps/demo/thesis.tex"] = b"mine"
    bucket.content["sweeps/demo/log/x.json"] = b"mine"
    with pytest.raises(StoreError, match="no sweep 'demo'"):
        housekeeping.delete(URL, "demo")
    assert len(bucket.content) == 2


def test_an_empty_name_deletes_nothing(bucket: Bucket) -> None:
    made = Made(Ledger.create(Files.at(f"{URL}/log"), {"name": "log", "points_per_decade": 50}))
    made.launch([Planned("a")])
    before = dict(bucket.content)
    for name in ("", "..", "../sweeps"):
        with pytest.raises(StoreError, match="no sweep "):
            housekeeping.delete(URL, name)
    assert bucket.content == before


def test_what_late_workers_write_into_a_bucket_goes_with_the_rest(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bucket()
    delete_many = Files.delete_many
    late = iter(["sweeps/demo/metrics/late.parquet", "sweeps/demo/chains/p/000000002.json"])

    def deleting(files: Files, paths: list[str]) -> None:
        delete_many(files, paths)
        if (path := next(late, None)) is not None:
            bucket.content[path] = b"late"

    monkeypatch.setattr(Files, "delete_many", deleting)
    housekeeping.delete(URL, "demo")
    assert bucket.content == {}


def test_a_worker_that_outlives_its_sweep_in_a_bucket_leaves_litter_at_most(bucket: Bucket) -> None:
    made = in_bucket()
    launch = made.launch([Planned("c", "e")])
    pack = made.pack(["c"])
    claim = Claim.take(open_sweep(URL, "demo"), pack, launch, {})
    with Sink(claim, flush_s=0.2) as sink:
        housekeeping.delete(URL, "demo")
        sink.write(0, ["c"], train_acc=[0.5])
        sink.flush()  # it has not missed sweep.json yet
        sink.write(1, ["c"], train_acc=[0.5])
        with pytest.raises(StoreError, match="the sweep was deleted or moved"):  # noqa: PT012
            for _ in range(100):
                time.sleep(0.1)
                sink.check()
    assert bucket.content
    assert sweeps(URL) == []
    housekeeping.delete(URL, "demo")
    assert bucket.content == {}


def test_a_launch_in_a_bucket_keeps_its_sweep(bucket: Bucket) -> None:
    made = in_bucket()
    with driving(made.ledger, "l"), pytest.raises(BusyError):
        housekeeping.delete(URL, "demo")
    assert sweeps(URL) == ["demo"]


def test_a_bucket_renames_nothing_and_says_how_to(bucket: Bucket) -> None:
    in_bucket()
    with pytest.raises(UsageError) as caught:
        housekeeping.rename(URL, "demo", "new")
    assert str(caught.value) == (
        "s3://bucket/sweeps/demo: a bucket can't rename a folder. Copy it with a tool of the "
        "bucket, e.g. `aws s3 cp --recursive s3://bucket/sweeps/demo s3://bucket/sweeps/new`, and "
        "delete the old one with `sweeper rm demo`. The copy is a sweep called new."
    )
    for key in [*bucket.content]:  # as the tool does
        bucket.content[key.replace("/demo/", "/new/")] = bucket.content[key]
    housekeeping.delete(URL, "demo")
    assert sweeps(URL) == ["new"]
    with open_views(open_sweep(URL, "new")) as views:
        assert Provenance.of(open_sweep(URL, "new"), views).sweep == "new"


def test_a_renamed_sweep_has_everything_it_had(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    before = rows(store)
    done = sweeper("mv", "toy", "tin", "--store", store)
    said = "toy is called tin now; launch its grid with name=tin\n"
    assert (done.returncode, done.stdout) == (0, said)
    assert sweeps(store) == ["tin"]
    assert rows(store, "tin").equals(before)
    with open_views(book := ledger(store, "tin")) as views:
        assert Provenance.of(book, views).sweep == "tin"
    assert '"name": "tin"' in Path(store, "tin/sweep.json").read_text().replace('":"', '": "')
    again = run(grid.named("tin"), store)
    assert (again.counts.done, again.counts.new) == (12, 0)


def test_a_renamed_sweep_can_be_extended_and_refined(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, text=EXTENDED)
    run(grid, store)
    housekeeping.rename(store, "toy", "tin")
    words = ("extend", "tin", "--steps", "20", "--store", store, "--inline", "--quiet")
    assert sweeper(*words).returncode == 0
    assert sweeps(store) == ["tin"]
    assert_whole(store, toy_grid(tmp_path, "steps=20", text=EXTENDED), "tin")
    axes = ("--x", "task.rate", "--y", "task.shift", "--budget", "2")
    done = sweeper("refine", "tin", *axes, "--store", store, "--inline", "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout.splitlines()[-1])["trials"] == 2
    assert sweeps(store) == ["tin"]
    assert ledger(store, "tin").state.launch is not None


def test_a_store_of_an_earlier_format_keeps_its_rows_under_a_new_name(
    tmp_path: Path, store: str
) -> None:
    made = Made.at(store)  # its sweep.json has no uid: the name stands in for it
    launch = made.launch([Planned("a")])
    pack = made.pack(["a"])
    made.rows(pack, made.claim(pack, launch), curve("a", [0], train_acc=[0.1]))
    assert len(rows(store, "demo")) == 1
    housekeeping.rename(store, "demo", "new")
    assert len(rows(store, "new")) == 1


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            "a/b",
            "'a/b' can't be the name of a sweep. Use letters, digits, dots, hyphens and "
            "underscores, at most 64; the first one is a letter or a digit.",
        ),
        ("other", "{store}/other: exists already. Choose another name, or delete it first."),
        ("demo", "{store}/demo: exists already. Choose another name, or delete it first."),
        ("notes", "{store}/notes: exists already. Choose another name, or delete it first."),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(
    new: str, message: str, store: str, made: Made
) -> None:
    Made.at(store, "other")
    Path(store, "notes").mkdir()
    done = sweeper("mv", "demo", new, "--store", store)
    expected = message.format(store=store)
    assert (done.returncode, done.stderr) == (2, f"error: {expected}\n")
    assert sweeps(store) == ["demo", "other"]


def test_a_kill_between_both_steps_of_a_rename_changes_nothing(
    store: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sweeper.store.disk.rename_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            housekeeping.rename(store, "demo", "new")
    assert sweeps(store) == ["demo"]
    assert open_sweep(store, "demo").name == "demo"
    assert len(rows(store, "demo")) == 4
    housekeeping.rename(store, "demo", "new")
    assert len(rows(store, "new")) == 4


def test_a_linked_sweep_is_deleted_where_it_lies(tmp_path: Path, store: str, made: Made) -> None:
    shutil.move(f"{store}/demo", tmp_path / "large")
    Path(store, "demo").symlink_to(tmp_path / "large")
    assert sweeps(store) == ["demo"]
    housekeeping.delete(store, "demo")
    assert not [*Path(store).iterdir()]
    assert not (tmp_path / "large").exists()


def test_what_failed_to_be_deleted_is_said(
    store: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", f"{path}/log")

    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(StoreError, match=r"/log: can't be deleted: Permission denied\. Correct"):
        housekeeping.delete(store, "demo")
    assert sweeps(store) == []  # no reader sees it any more
