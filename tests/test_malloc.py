"""The C library is told once to keep freed memory, where there is a glibc."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sweeper.trainables.batch import malloc


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Note the parameters that are set, and set none."""
    seen: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda name, value: seen.append((name, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    malloc.keep_freed.cache_clear()
    yield seen
    malloc.keep_freed.cache_clear()


def test_freed_memory_is_kept(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    malloc.keep_freed()
    malloc.keep_freed()
    assert calls == [(-3, 32 << 20), (-1, 512 << 20)]  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def test_other_systems_are_left_as_they_are(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    malloc.keep_freed()
    assert not calls


def test_a_c_library_without_mallopt_is_left_as_it_is(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    malloc.keep_freed()
    assert not calls
