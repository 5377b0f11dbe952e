"""`make demo`: its table and its text fit a terminal of 80 columns, and its commands work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow as pa

from sweeper.report.query import render
from tests.commands import sweeper

MAKEFILE = Path(__file__).parent.parent / "Makefile"
DEMO = re.search(r"^demo: .*\n((?:\t.*\n)+)", MAKEFILE.read_text(), re.MULTILINE)
HEADINGS = "depth  strength  delay  comprehension  grokking  memorization  confusion  split"


def test_the_table_of_the_demo_fits_80_columns(store: str, tmp_path: Path) -> None:
    assert DEMO is not None
    lines = DEMO[1].splitlines()
    launch, query, phase = (shlex.split(line)[1:] for line in lines[:3])
    assert launch == ["launch", "grids/depth.yaml", "--yes"]
    small = ("steps=30", "seeds=1", "--inline", "--store", store)
    assert sweeper(*launch, *small, cwd=MAKEFILE.parent).returncode == 0
    table = sweeper(*query, "--store", store).stdout.splitlines()
    assert table[0] == HEADINGS
    assert len(table) == 1 + 3 * 7
    assert max(map(len, table)) < 80
    for row in table:
        assert len(row.rstrip()) == len(HEADINGS), "numbers are flush right"
    figure = str(tmp_path / "depth.png")
    assert phase[-2:] == ["-o", "$(CURDIR)/depth.png"]
    assert sweeper(*phase[:-1], figure, "--store", store).stdout == f"{figure}\n"
    texts = [line.removeprefix("\t@echo ").strip('"') for line in lines[3:]]
    assert len(texts) == 5
    assert max(map(len, texts)) <= 80


def test_counts_of_sql_are_flush_right_like_other_numbers() -> None:
    table = pa.table({"count": pa.array([7, 1234], pa.decimal128(38, 0)), "name": ["a", "b"]})
    assert render(table) == "count  name\n    7  a\n 1234  b\n"
