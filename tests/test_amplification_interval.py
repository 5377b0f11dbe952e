"""The bootstrap of an amplification, beside one by hand."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sweeper.analysis.diagrams.amplification import evaluate, interval
from sweeper.analysis.views.views import open_views
from tests.by_hand import median
from tests.test_amplification import LATE, Seed, make, well

CELL = [well(10, 1000), well(2, 500), well(20, 200), Seed(10, None), well(100, 500)]
REFERENCE = [well(10, 50), well(10, 20), well(10, 100), well(20, 20), well(2, 50)]


def by_hand(cell: dict[int, Seed], reference: dict[int, Seed], draws: int) -> list[float]:
    """Ratios over resampled seeds, common ones drawn together; unreached: inf or 0."""
    rng = np.random.default_rng(1)
    common = sorted(cell.keys() & reference.keys())
    apart = [sorted(a.keys() - b.keys()) for a, b in ((cell, reference), (reference, cell))]

    def value(side: dict[int, Seed], seeds: Sequence[int]) -> float | None:
        outcomes = [side[s].outcome for s in seeds]
        return median([o.counted for o in outcomes], [o.least for o in outcomes])[0]

    ratios = []
    for _ in range(draws):
        both = [*rng.choice(common, len(common))] if common else []
        mine = [*both, *(rng.choice(apart[0], len(apart[0])) if apart[0] else [])]
        other = [*both, *(rng.choice(apart[1], len(apart[1])) if apart[1] else [])]
        top, bottom = value(cell, mine), value(reference, other)
        ratios.append(math.inf if top is None else 0.0 if bottom is None else top / bottom)
    return sorted(ratios)


@pytest.mark.parametrize("shift", [0, 2, 5])
def test_the_interval_is_that_of_a_bootstrap_by_hand(tmp_path: Path, shift: int) -> None:
    numbers = {"cell": range(5), "ref": range(shift, shift + 5)}
    made = make(tmp_path, {"cell": CELL, "ref": REFERENCE}, numbers)
    with open_views(made.ledger) as connection:
        found = interval(connection, "cell", "ref", level=0.8)
        assert found == interval(connection, "cell", "ref", level=0.8)
        ((point,),) = [evaluate(connection, {"cell": "ref"})["amplification"].to_pylist()]
    cell, reference = (
        dict(zip(numbers[k], v, strict=True)) for k, v in {"cell": CELL, "ref": REFERENCE}.items()
    )
    ratios = by_hand(cell, reference, 3000)
    low, high = found
    assert low is not None
    assert high is not None
    assert low <= point <= high
    for end_, share in ((low, 0.1), (high, 0.9)):  # its place in the distribution by hand
        below, upto = bisect_left(ratios, end_) / 3000, bisect_right(ratios, end_) / 3000
        assert below - 0.03 <= share <= upto + 0.03


def test_seeds_of_both_cells_are_drawn_together(tmp_path: Path) -> None:
    slow = [well(0, t) for t in (10, 20, 50, 100, 200, 500, 1000)]
    cells = {"a": slow, "b": slow, "c": slow}
    apart = {"c": range(10, 17)}
    with open_views(make(tmp_path, cells, apart).ledger) as connection:
        assert interval(connection, "a", "b") == (1, 1)
        low, high = interval(connection, "a", "c")
    assert low is not None
    assert high is not None
    assert low < 1 < high


def test_the_resolution_makes_no_resample_a_known_one(tmp_path: Path) -> None:
    cells = {"late": LATE * 4, "known": [well(0, 10), well(0, 20)]}
    with open_views(make(tmp_path, cells).ledger) as connection:
        assert interval(connection, "late", "known")[1] is None


def test_an_end_is_open_where_medians_arent_reached_too_often(tmp_path: Path) -> None:
    half = [well(0, 100), well(0, 200), Seed(0, None), Seed(0, None)]
    known = [well(0, 10), well(0, 20), well(0, 50), well(0, 50)]
    cells = {"half": half, "known": known, "never": [Seed(None, None)] * 4, "one": known[:1]}
    with open_views(make(tmp_path, cells).ledger) as connection:
        low, high = interval(connection, "half", "known")
        assert (low is not None, high) == (True, None)
        low, high = interval(connection, "known", "half")
        assert (low, high is not None) == (None, True)
        for cell, reference in (("never", "known"), ("known", "never"), ("one", "one")):
            assert interval(connection, cell, reference) == (None, None)
        assert None not in interval(connection, "known", "one")
