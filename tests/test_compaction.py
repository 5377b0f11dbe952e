"""Compaction changes files, never rows."""

from __future__ import annotations

from pathlib import Path

from sweeper.compaction import compact, sweep_out
from sweeper.store import join
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
