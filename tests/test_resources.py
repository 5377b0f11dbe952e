"""How many packs fit: a quotient of decimal fractions is never one short."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from sweeper.engine.resources import local_cpus, local_workers, slots
from tests.sweeps import toy_grid


@pytest.mark.parametrize("per_pack", ["1/10", "2/10", "3/10", "7/10", "1/3", "1", "3/2", "5"])
def test_slots_are_those_of_exact_arithmetic(per_pack: str) -> None:
    exact = Fraction(per_pack)
    for available in (*range(257), 4096, 10**6):
        assert slots(available, float(exact)) == available // exact


@pytest.mark.parametrize("per_pack", ["1/10", "2/10", "3/10", "7/10", "1/3"])
def test_slots_of_a_sum_of_fractions_are_whole(per_pack: str) -> None:
    each = float(Fraction(per_pack))
    for n in range(1, 100):
        assert slots(sum([each] * n), each) == n


def test_what_almost_fits_does_not() -> None:
    assert slots(0.999, 1) == 0
    assert slots(2.99, 0.3) == 9


@pytest.mark.parametrize("cpu", ["0.1", "0.2", "0.3", "0.7"])
def test_a_local_launch_has_a_worker_per_slot(tmp_path: Path, cpu: str) -> None:
    expected = max(1, local_cpus() // Fraction(cpu))
    assert local_workers(toy_grid(tmp_path, f"resources.cpu={cpu}")) == expected


def test_a_system_without_affinity_has_all_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert local_cpus() == 3
    monkeypatch.delattr("os.sched_getaffinity")  # macOS
    assert local_cpus() == 7
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert local_cpus() == 1
