"""Errors and records hold no secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.engine.provenance import provenance
from sweeper.errors import redact
from tests.commands import sweeper


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:a:b@h:5/db", "postgresql+psycopg://me:***@h:5/db"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("s3://b/p?X-Amz-Signature=abc&x=1", "s3://b/p?X-Amz-Signature=***&x=1"),
        ("az://c/p?sv=2&sig=abc%3D", "az://c/p?sv=2&sig=***"),
        ("AWS_SECRET_ACCESS_KEY=abc launch", "AWS_SECRET_ACCESS_KEY=*** launch"),
        ("token='abc'", "token='***'"),
        ("password='a b' x", "password='***' x"),
        ("postgresql://me:p@ss/w@host/db", "postgresql://me:***@host/db"),
        ("AccountName=a;AccountKey=ab==;Suffix=x", "AccountName=a;AccountKey=***;Suffix=x"),
        (
            "?X-Amz-Credential=A%2F1&X-Amz-Security-Token=a",
            "?X-Amz-Credential=***&X-Amz-Security-Token=***",
        ),
        ("?password=a&x=1", "?password=***&x=1"),
        ("?next=x%3Fpassword%3Dabc", "?next=x%3Fpassword%3D***"),
        ("PGPASSWORD=a pwd=b apikey=c", "PGPASSWORD=*** pwd=*** apikey=***"),
        ('{"api_key": "a", "x": "b"}', '{"api_key": "***", "x": "b"}'),
        ("{'password': 'a b'}", "{'password': '***'}"),
        ("Authorization: Bearer abc.d", "Authorization: Bearer ***"),
        ("msig=3 key=4 monkey=5", "msig=3 key=4 monkey=5"),
        ("unexpected token: x", "unexpected token: x"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        (
            "regularizer.strength=1e-3 sigma=2 design=x",
            "regularizer.strength=1e-3 sigma=2 design=x",
        ),
        ("12:30 me@host", "12:30 me@host"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_launch_records_its_command_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweeper", "--storage", "postgresql://me:s3cret@host/db"])
    provenance.cache_clear()
    try:
        assert provenance()["command"] == "sweeper --storage postgresql://me:***@host/db"
    finally:
        provenance.cache_clear()


def test_an_error_is_shown_without_the_password() -> None:
    done = sweeper("ls", "--store", "ftp://me:s3cret@host/x")
    assert done.returncode != 0
    assert "s3cret" not in done.stdout + done.stderr
    assert "ftp://me:***@host/x" in done.stderr


def test_a_traceback_is_shown_without_the_password(tmp_path: Path) -> None:
    code = """
import sys
from sweeper import cli
def fail():
    raise ValueError("postgresql://me:s3cret@host/db")
cli.app = fail
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ValueError: postgresql://me:***@host/db\n")
    assert "s3cret" not in done.stderr


def test_a_home_that_cannot_be_written_prints_nothing(tmp_path: Path) -> None:
    code = "from sweeper import cli; cli.app = lambda: None; cli.main(); import matplotlib as m; m.get_cachedir()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": "/proc/nowhere", "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
