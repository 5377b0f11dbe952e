"""Compaction changes files, never rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.store import compaction, tables
from sweeper.store.compaction import compact, sweep_out
from sweeper.store.files import Files
from sweeper.store.lease import join
from tests.sweeps import assert_whole, ledger, rows, run, toy_grid


def test_compacting_leaves_the_same_rows_in_one_file(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "resources.pack=1")
    run(grid, store)
    before = rows(store)
    assert compact(ledger(store), min_parts=1) == 12
    assert len(list(ledger(store).state.parts())) == 1
    assert rows(store).equals(before)
    assert_whole(store, grid)
    assert run(grid, store).counts.done == 12
    assert compact(ledger(store), min_parts=1) == 0


def test_what_is_measured_is_encoded_byte_by_byte_and_what_repeats_by_a_dictionary(
    tmp_path: Path,
) -> None:
    files = Files.at(str(tmp_path), create=True)
    n = 5000
    table = pa.table(
        {
            "trial_id": [f"t{k // 100}" for k in range(n)],
            "step": [k % 100 for k in range(n)],
            "train_loss": np.random.default_rng(0).random(n),
            "train_acc": np.arange(n) % 7 / 7,
            "nuclear": pa.nulls(n, pa.float64()),
        }
    )
    entry = tables.write_metrics(files, "a.parquet", table)
    chunks = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    split = {
        chunks.column(i).path_in_schema
        for i in range(5)
        if "BYTE_STREAM_SPLIT" in chunks.column(i).encodings
    }
    assert split == {"train_loss"}
    assert tables.read(files, entry).equals(table)


def test_a_compacted_file_is_bounded_and_sorted(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(toy_grid(tmp_path, "resources.pack=1"), store)
    before = rows(store)
    most = 3 * max(part.rows for part, _ in ledger(store).state.parts())
    monkeypatch.setattr(compaction, "MAX_ROWS", most)
    assert compact(ledger(store), min_parts=1) == 12
    book = ledger(store)
    assert len(book.state.compacted) >= 4
    assert all(part.rows <= most for part in book.state.compacted)
    for part in book.state.compacted:
        table = tables.read(book.files, part)
        assert table.equals(table.sort_by([("trial_id", "ascending"), ("step", "ascending")]))
    assert rows(store).equals(before)


def test_replaced_files_stay_for_a_grace_period(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "resources.pack=1"), store)
    compact(ledger(store), min_parts=1)
    folder = Path(join(store, "toy")) / "metrics"
    assert sweep_out(ledger(store)) == 0
    assert len(list(folder.glob("*.parquet"))) == 13
    assert sweep_out(ledger(store), grace_s=-1) == 12
    assert len(list(folder.glob("*.parquet"))) == 1


def test_packs_at_work_or_with_failures_are_left_alone(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=well,raises", "task.rate=1.0", "resources.pack=1")
    run(grid, store)
    before = rows(store)
    assert compact(ledger(store), min_parts=1) == 4
    assert rows(store).equals(before)


def test_a_damaged_compacted_file_is_trained_again(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "resources.pack=1")
    run(grid, store)
    expected = rows(store)
    compact(ledger(store), min_parts=1)
    (part,) = ledger(store).state.compacted
    (Path(join(store, "toy")) / part.path).write_bytes(b"torn")
    assert run(grid, store).counts.done == 12
    assert rows(store).equals(expected)


def test_trials_of_compacted_packs_go_on_with_more_steps(tmp_path: Path, store: str) -> None:
    short, long = (
        toy_grid(tmp_path, f"steps={n}", "stop.after_generalization=false") for n in (90, 200)
    )
    run(short, store)
    compact(ledger(store), min_parts=1)
    run(long, store)
    reference = str(tmp_path / "reference")
    run(long, reference)
    assert rows(store).equals(rows(reference))
