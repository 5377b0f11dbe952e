"""What a worker looks up of a launch: the rows of its own trials, whatever the others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.engine.worker import run_inline
from sweeper.errors import StoreError
from sweeper.store import plan_index, tables
from sweeper.store.files import Files
from sweeper.store.lease import join
from sweeper.store.ledger import Ledger
from sweeper.store.packs import pack_table
from sweeper.store.plan_index import Index, Listing, PlanIndex
from tests.sweeps import ledger, rows, run, toy_grid

texts = st.one_of(st.text("ab", max_size=3), st.text("0123456789abcdef", min_size=4, max_size=4))


@given(st.lists(texts, unique=True), st.lists(texts), st.integers(0, 3))
def test_an_index_finds_what_a_dict_finds(have: list[str], asked: list[str], cut: int) -> None:
    column = pa.chunked_array([pa.array(["x" * 4, *have], pa.string()).slice(1)]).slice(cut)
    where = {text: row for row, text in enumerate(have[cut:])}
    assert Index(column).find(asked).tolist() == [where[t] for t in asked if t in where]


values: dict[str, st.SearchStrategy[Any]] = {
    "task.name": st.sampled_from(["a", "b"]),
    "task.n": st.sampled_from([None, 1, 2]),
    "task.rate": st.sampled_from([0.0, 0.1, None]),
    "task.flag": st.sampled_from([True, False, None]),
    "optimizer.betas": st.sampled_from([[0.9, 0.98], [], None]),
    "task.note": st.sampled_from(["long" * 20, "", None]),
}
kinds = {
    "task.name": pa.string(),
    "task.n": pa.int64(),
    "task.rate": pa.float64(),
    "task.flag": pa.bool_(),
    "optimizer.betas": pa.list_(pa.float64()),
    "task.note": pa.string(),
}


@given(st.lists(st.fixed_dictionaries(values), max_size=6), st.data())
def test_a_plan_gives_the_rows_that_were_written(planned: list[Any], data: st.DataObject) -> None:
    n = len(planned)
    table = pa.table(
        {
            "trial_id": pa.array([f"t{i}" for i in range(n)], pa.string()),
            "cell_id": pa.array([f"c{i // 2}" for i in range(n)], pa.string()),
            "seed": pa.array(range(n), pa.int64()),
            **{p: pa.array([row[p] for row in planned], kind) for p, kind in kinds.items()},
        }
    )
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, row_group_size=2)
    chosen = data.draw(st.lists(st.integers(0, n + 1), unique=True))
    rows = PlanIndex(sink.getvalue().to_pybytes()).rows([f"t{i}" for i in chosen])
    assert rows.equals(table.take(pa.array([i for i in chosen if i < n], pa.int64())))


def one_pack(pack: str, trials: list[str]) -> pa.Table:
    """Return the listing of one pack whose trials begin from scratch."""
    ids = pa.array(trials, pa.string())
    return pack_table([pack], [len(trials)], ids, pa.nulls(len(trials), pa.string()))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("xyz", max_size=2)), max_size=9))
def test_a_listing_gives_each_pack_its_trials_in_order(entries: list[tuple[str, str]]) -> None:
    """Also where the packs of a file are mixed."""
    packs: dict[str, list[str]] = {}
    table = one_pack("", [])
    for pack, trial in entries:
        position = len(packs.setdefault(pack, []))
        one = one_pack(pack, [trial]).set_column(1, "position", pa.array([position]))
        table = pa.concat_tables([table, one])
        packs[pack].append(trial)
    rows = Listing(table)
    for pack in "abc":
        mine = rows.rows(pack)
        assert mine["trial_id"].to_pylist() == packs.get(pack, [])
        assert mine.equals(one_pack(pack, packs.get(pack, [])))


def test_a_damaged_plan_is_said(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    entry = tables.write(files, "plan.parquet", toy_grid(tmp_path).table(), steps=None)
    files.write("plan.parquet", b"torn")
    with pytest.raises(StoreError, match=r"plan\.parquet: damaged: its checksum"):
        plan_index.plan(files, entry)


def test_a_process_reads_what_its_packs_share_once(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the time of a launch would grow with the square of its packs."""
    grid = toy_grid(tmp_path, "resources.pack=1", "seeds=4")
    read = Files.read
    seen: list[str] = []

    def watch(self: Files, path: str) -> bytes | None:
        seen.append(path)
        return read(self, path)

    def launcher(tasks: Any) -> None:
        monkeypatch.setattr(Files, "read", watch)
        run_inline(tasks)
        monkeypatch.setattr(Files, "read", read)

    run(grid, store, launcher=launcher)
    folders = np.array([path.split("/")[0] for path in seen])
    assert ((folders == "packs").sum(), (folders == "plans").sum()) == (1, 1)
    assert (folders == "log").sum() < 24 * 8, "each record once, and what isn't there yet"


def test_a_worker_that_waits_notices_that_another_sweep_stands_in_the_folder(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    expected = rows(store)
    old = ledger(store)
    Path(join(store, "toy")).rename(tmp_path / "aside")
    assert not old.is_current()
    run(grid, store)
    assert rows(store).equals(expected)
    assert ledger(store).is_current()
    assert not old.is_current()


def test_a_ledger_whose_log_was_put_back_is_not_current(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path), store)
    book = Ledger.open(Files.at(join(store, "toy")))
    last = Path(join(store, "toy"), "log", f"{book.number:012d}.json")
    content = last.read_bytes()
    last.unlink()
    assert not book.is_current()
    last.write_bytes(content)
    assert book.is_current()
