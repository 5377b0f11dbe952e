"""Sweeps in a bucket that fails at random: every row once, equal to an undisturbed sweep.

With SWEEPER_FAULTS=1000 the test goes on until so many faults have happened.
"""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from tests.buckets import serving
from tests.sweeps import TOY, assert_whole, rows, run, toy_grid

FAULTS = int(os.environ.get("SWEEPER_FAULTS", "25"))
KINDS = ("503", "drop", "reset", "short")
"""Faults that take no time. Of all but the first, what was asked is done and the answer is lost."""


def befall(draw: random.Random) -> str:
    """Return the fault of a request: one in ten has one."""
    return draw.choice(KINDS) if draw.random() < 0.1 else ""


def test_a_sweep_in_a_bucket_that_fails_at_random_has_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.store.files.FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("sweeper.store.files.LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr("sweeper.store.lease.BEGIN_S", 0.1)
    monkeypatch.setattr("sweeper.store.lease.WATCH_S", 0.2)
    text = TOY.replace("shift: [0, 1]", "shift: [0, 1]\n    task.fate: [well, raises]")
    grid = toy_grid(tmp_path, "resources.pack=3", text=text)
    run(grid, str(tmp_path / "whole"))
    expected = rows(str(tmp_path / "whole"))
    with serving() as bucket:
        for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{bucket.server_port}")
        for name, value in (("ALLOW_HTTP", "true"), ("REGION", "here")):
            monkeypatch.setenv(f"AWS_{name}", value)
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"AWS_{name}", "x")
        seed = 0
        while sum(bucket.counts[kind] for kind in KINDS) < FAULTS:
            draw = random.Random(seed)
            store = f"s3://bucket/{seed}"
            seed += 1
            bucket.chance = partial(befall, draw)
            assert run(grid, store).counts.new == 0
            bucket.chance = str
            assert rows(store).equals(expected)
            assert_whole(store, grid)
        counts = dict(bucket.counts)
    print(f"{seed} sweeps, {counts}")
