"""Compaction changes files, never rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.analysis.views.views import open_views
from sweeper.store import compaction, tables
from sweeper.store.compaction import compact, sweep_out
from sweeper.store.files import Files
from sweeper.store.lease import join
from tests.sweeps import assert_whole, ledger, rows, run, stopped_midway, toy_grid


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


@pytest.mark.parametrize("number", [1, 2])
def test_the_rows_of_a_compacted_pack_count_once_also_if_its_chain_is_damaged(
    tmp_path: Path, store: str, number: int
) -> None:
    grid = toy_grid(tmp_path, "resources.pack=3")
    run(grid, store)
    before = rows(store)
    assert compact(ledger(store), min_parts=1)
    pack = next(iter(ledger(store).state.packs))
    ledger(store).files.write(f"chains/{pack}/{number:09d}.json", b"")
    run(grid, store)
    assert rows(store).equals(before)
    assert_whole(store, grid)


def test_rows_of_trials_that_were_given_up_are_not_compacted(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are trained anew once a grid wants them again, and count once."""
    grid = toy_grid(tmp_path, "stop.after_generalization=false")
    launcher = stopped_midway(monkeypatch)
    assert run(grid, store, launcher=launcher, workers=1).counts.new == 12
    run(toy_grid(tmp_path, "seeds=1", "stop.after_generalization=false"), store)
    compact(ledger(store), min_parts=1)
    assert run(grid, store).counts.done == 12
    with open_views(ledger(store)) as views:
        counts = "count(*), count(distinct (trial_id, step)), count(distinct trial_id)"
        total, distinct, trials = views.sql(f"select {counts} from metrics").fetchall()[0]
    assert (total, trials) == (distinct, 12)
