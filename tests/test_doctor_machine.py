"""The machine's part of `sweeper doctor`: each thing that is unsafe or slow takes one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from sweeper.doctor import machine
from sweeper.doctor.findings import Finding
from sweeper.store.files import Files


def lines(findings: Iterable[Finding]) -> list[str]:
    """Return severity and message of each finding."""
    return [f"{one.severity}: {one.message}" for one in findings]


def test_a_file_system_says_who_sees_it_and_if_it_lasts() -> None:
    assert lines(machine.file_system("s", "ext4", "rw")) == [
        "note: on ext4, which other machines don't see."
    ]
    assert lines(machine.file_system("s", "tmpfs", "rw")) == [
        "warning: on tmpfs: it is in memory, and gone when the machine stops."
    ]
    assert lines(machine.file_system("s", "nfs4", "rw,nolock")) == [
        "note: on nfs4, a network file system: nodes of a cluster can share it.",
        "warning: locks don't reach other machines: two could launch the same sweep.",
    ]
    assert lines(machine.file_system("s", "ext4", "rw,nobarrier"))[1:] == [
        "warning: mounted with nobarrier: a power cut may lose files that were synced."
    ]


def test_a_full_disk_and_one_without_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LEAST_BYTES", 1 << 60)
    monkeypatch.setattr("os.access", lambda *_: False)
    _, full, forbidden = lines(machine.disk(tmp_path / "new" / "store"))
    assert full.startswith("warning: only ")
    assert full.endswith(" are free.")
    assert forbidden == "error: can't be written."


def test_clocks_that_differ() -> None:
    assert lines(machine.clock(100.0, 101.0, "s")) == []
    assert lines(machine.clock(100.0, 160.0, "s")) == ["warning: its clock is 60 s behind."]
    assert lines(machine.clock(160.0, 100.0, "s")) == ["warning: its clock is 60 s ahead."]


def test_versions_outside_of_the_range() -> None:
    wanted = ["numpy>=1000", "no-such-package", "rich", "obstore; extra == 'x'"]
    old, missing, listed = lines(machine.versions(wanted))
    assert old.startswith("warning: version ")
    assert old.endswith(" isn't in the range >=1000.")
    assert missing == "error: isn't installed."
    assert listed.startswith("note: Python 3.")


def test_locks_that_hold_and_locks_that_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(machine.locks(tmp_path, "s")) == []
    monkeypatch.setattr(machine, "_LOCK", "")
    (line,) = lines(machine.locks(tmp_path, "s"))
    assert line.startswith("error: two processes can hold the same lock")


def test_little_memory() -> None:
    assert lines(machine.memory(1 << 34, 1 << 33)) == []
    assert lines(machine.memory(1 << 29, 1 << 33)) == ["warning: only 512 MiB of memory are left."]


def test_a_long_folder_for_temporary_files(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    (line,) = lines(machine.temporary(long))
    assert line.endswith(f"characters long: Ray's sockets allow {machine.LONGEST_TEMP}.")
    assert lines(machine.temporary(Path("/tmp"))) == []
    assert lines(machine.temporary(Path("/nowhere"))) == ["error: can't be written."]


def test_a_token_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert lines(machine.token(path)) == []
    path.write_text("secret")
    path.chmod(0o600)
    assert lines(machine.token(path)) == []
    path.chmod(0o640)
    assert lines(machine.token(path)) == [
        "warning: other users can read it, and use your clusters with it."
    ]


def test_a_storage_is_measured_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = lines(machine.storage(str(tmp_path)))
    assert line.startswith(("note: a durable write takes ", "warning: a durable write takes "))
    monkeypatch.setattr(machine, "SLOW_S", 0.0)
    (line,) = lines(machine.storage(str(tmp_path)))
    assert line.startswith("warning: a durable write takes ")
    monkeypatch.setattr(Files, "create", lambda *_: True)
    assert lines(machine.storage(str(tmp_path)))[0].startswith(
        "error: can't create a file only if it is absent"
    )
    assert list(tmp_path.iterdir()) == []
