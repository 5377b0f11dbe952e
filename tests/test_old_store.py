"""A store written by an earlier version: it is read, launched again, grown, extended and refined.

`tests/fixtures/store_2026_11.tar.gz` holds the store, with its grid files, as commit f3c5afa left it:
`old_sparse` (sparse recovery; searched, its metrics compacted), `old_table` (modular arithmetic
under AdamW, with checkpoints of both moments) and `old_open` (stopped with packs that have begun and
packs that have not). Beside it stand the rows of all views as that commit read them, and as it
read them after the commands of `AFTER`, which it ran on a copy.
"""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sweeper.cli import app
from sweeper.store.files import Files
from sweeper.store.lease import join
from sweeper.store.ledger import Ledger
from tests import by_hand
from tests.sweeps import rows as trained
from tests.sweeps import run, toy_grid

STORED = Path(__file__).parent / "fixtures" / "store_2026_11.tar.gz"
SWEEPS = ("old_sparse", "old_table", "old_open")
VIEWS = ("trials", "metrics", "delays", "cells")
AFTER = (
    ("launch", "old_open.yaml", "steps=260000", "--inline", "--yes", "--quiet"),
    ("launch", "old_sparse.yaml", "seeds=3", "--inline", "--yes", "--quiet"),
    ("extend", "old_sparse", "--steps", "900", "--inline", "--quiet"),
    (
        *("refine", "old_sparse", "--x", "regularizer.strength", "--y", "selection.tau"),
        *("--budget", "6", "--inline", "--quiet"),
    ),
    ("launch", "old_table.yaml", "steps=500", "--inline", "--yes", "--quiet"),
)
OF_A_RUN = {
    "git_commit",
    "dirty",
    "versions",
    "host",
    "device",
    "pack_id",
    "pack_size",
    "attempt",
    "started_at",
    "wall_s",
}
"""Columns that say who trained a trial and when, not what came out."""
ROUNDING = {"old_sparse": 1e-9, "old_open": 1e-9, "old_table": 1e-3}
"""Part of the largest value of a column that may differ: machines round differently.

On the machine that wrote the expected rows all of them were equal bit for bit."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(STORED) as archive:
        archive.extractall(folder, filter="data")
    return folder


def command(folder: Path, *words: str) -> None:
    done = CliRunner().invoke(app, [*words, "--store", str(folder / "store")])
    assert done.exit_code == 0, done.output


def rows(folder: Path, sweep: str, view: str) -> pa.Table:
    out = folder / f"{sweep}-{view}.parquet"
    command(folder, "sql", sweep, f"select * from {view} order by all", "--all", "-o", str(out))
    return pq.read_table(out)


REDEFINED = {
    *("delay", "delay_low", "delay_high", "delay_bound", "t1", "t1_bound", "t2", "t2_bound"),
    *("phase", "agreement"),
}
"""Columns of `cells` that docs/cells.md defines anew; they follow from the old rows of `delays`."""


def cells_by_hand(folder: Path, sweep: str, moment: str) -> dict[str, by_hand.CellByHand]:
    """Return what the rules say of the trials that the earlier version read."""
    trials, delays = (
        pq.read_table(folder / "expected" / f"{moment}-{sweep}-{view}.parquet").to_pylist()
        for view in ("trials", "delays")
    )
    cells = {row["trial_id"]: (row["cell_id"], row["status"]) for row in trials}
    (criterion,) = rows(folder, sweep, "criteria").to_pylist()
    seeds: dict[str, list[by_hand.Outcome]] = defaultdict(list)
    for row in delays:
        cell_id, status = cells[row["trial_id"]]
        if row["last_step"] is not None and status != "failed":
            outcome = by_hand.Outcome(
                *(row["t1"], row["t2"], row["last_step"], row["t1_lower"], row["t2_lower"]),
                diverged=status == "diverged",
                over=status in ("generalized", "censored", "diverged"),
                gap=criterion["gap"],
            )
            seeds[cell_id].append(outcome)
    return {cell_id: by_hand.cell(outcomes) for cell_id, outcomes in seeds.items()}


def check_redefined(got: pa.Table, expected: dict[str, by_hand.CellByHand]) -> None:
    """Compare the cells' delays, bounds and phases with those by hand."""
    assert expected
    for row in got.to_pylist():
        cell = expected.get(row["cell_id"])
        if cell is None:
            assert (row["delay"], row["delay_bound"], row["phase"]) == (None, None, None)
            continue
        for name, value in (("delay", cell.delay), ("delay_bound", cell.bound)):
            assert row[name] == (None if value is None else pytest.approx(value, abs=1)), name
        assert row["phase"] == cell.phase
        assert row["agreement"] == (cell.agreement and pytest.approx(cell.agreement))


def compare(got: pa.Table, expected: pa.Table, rounding: float) -> None:
    """Compare what came out of every trial; new columns may stand beside the old ones."""
    assert set(expected.column_names) <= set(got.column_names)
    changed = REDEFINED if "n_seeds" in expected.column_names else set()
    kept = [n for n in expected.column_names if n not in OF_A_RUN | changed]
    keys = [(n, "ascending") for n in ("trial_id", "cell_id", "step") if n in kept]
    got, expected = got.select(kept).sort_by(keys), expected.select(kept).sort_by(keys)
    assert got.num_rows == expected.num_rows
    for name in kept:
        a, b = got[name].combine_chunks(), expected[name].combine_chunks()
        if not rounding or not pa.types.is_floating(b.type):
            assert a.equals(b), name
        else:
            assert a.is_null().equals(b.is_null()), name
            off = pc.max(pc.abs(pc.subtract(a, b))).as_py() or 0.0
            assert off <= rounding * (pc.max(pc.abs(b)).as_py() or 0.0), name


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("sweep", SWEEPS)
def test_an_old_store_is_read_as_it_was(unpacked: Path, sweep: str, view: str) -> None:
    expected = pq.read_table(unpacked / "expected" / f"read-{sweep}-{view}.parquet")
    got = rows(unpacked, sweep, view)
    compare(got, expected, rounding=0.0)
    if view == "cells":
        check_redefined(got, cells_by_hand(unpacked, sweep, "read"))


@pytest.fixture(scope="module")
def carried_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("after")
    with tarfile.open(STORED) as archive:
        archive.extractall(folder, filter="data")
    for words in AFTER:
        paths = (str(folder / "store" / w) if w.endswith(".yaml") else w for w in words)
        command(folder, *paths)
    return folder


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("sweep", SWEEPS)
def test_an_old_store_is_carried_on_to_the_same_rows(
    carried_on: Path, sweep: str, view: str
) -> None:
    expected = pq.read_table(carried_on / "expected" / f"after-{sweep}-{view}.parquet")
    got = rows(carried_on, sweep, view)
    compare(got, expected, ROUNDING[sweep])
    if view == "cells":
        check_redefined(got, cells_by_hand(carried_on, sweep, "after"))


def test_a_store_of_format_2_is_read_and_carried_on_to_the_same_rows(tmp_path: Path) -> None:
    """Commit f6ee68c wrote it: splits, a retry, a damaged file, a compaction, a longer horizon.

    Its last launch was cut off after one of its packs.
    """
    with tarfile.open(STORED.with_name("store_format_2.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    store = str(tmp_path / "store")
    assert trained(store).equals(pq.read_table(tmp_path / "read.parquet"))
    settings = ("steps=250", "seeds=3", "checkpoint.keep=all", "resources.pack=5")
    text = (tmp_path / "toy.yaml").read_text()
    grid = toy_grid(tmp_path, *settings, "stop.after_generalization=false", text=text)
    run(grid, store)
    assert trained(store).equals(pq.read_table(tmp_path / "after.parquet"))
    kinds = {record["kind"] for record in chained(store)}
    assert kinds == {"claim", "rows", "split"}
    again = Ledger.open(Files.at(join(store, "toy")))
    assert again.meta["format"] == 2


def chained(store: str) -> list[dict[str, Any]]:
    """Return the records of all chains of the toy's sweep."""
    files = Files.at(join(store, "toy"))
    raws = files.read_many(files.paths("chains"))
    return [json.loads((raw or b"").partition(b"\n")[0]) for raw in raws]
