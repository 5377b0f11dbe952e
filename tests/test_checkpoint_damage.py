"""Checkpoints that can't be read: named, and what would go on from them is trained again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.engine import commands
from sweeper.engine.planner import plan_launch
from sweeper.engine.task import PackTask
from sweeper.store.files import Files
from sweeper.store.sink import Claim
from tests.sweeps import assert_whole, ledger, rows, run, toy_grid

LONG = ("stop.after_generalization=false", "task.shift=0")


@pytest.mark.parametrize("how", ["missing", "torn"])
def test_what_would_go_on_from_a_damaged_checkpoint_is_trained_again(
    tmp_path: Path, store: str, how: str
) -> None:
    run(toy_grid(tmp_path, "steps=90", *LONG), store, workers=1)
    longer = toy_grid(tmp_path, "steps=250", *LONG)
    reference = str(tmp_path / "reference")
    run(longer, reference)
    book = ledger(store)
    damaged, *_ = (p for p in book.state.packs.values() if p.checkpoint)
    assert damaged.checkpoint is not None
    path = Path(book.files.location(damaged.checkpoint["path"]))
    path.unlink() if how == "missing" else path.write_bytes(b"torn")
    same = toy_grid(tmp_path, "steps=90", *LONG)
    assert plan_launch(same, book, workers=2).damage == [], "nobody needs it"
    plan = plan_launch(longer, book, workers=2)
    assert plan.void == [damaged.id]
    assert path.name in plan.damage[0]
    run(longer, store)
    assert rows(store).equals(rows(reference))
    assert plan_launch(longer, ledger(store), workers=2).n_packs == 0


def test_an_open_pack_that_would_begin_at_a_damaged_checkpoint_is_made_anew(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, "steps=90", *LONG), store, workers=1)
    longer = toy_grid(tmp_path, "steps=250", *LONG)
    reference = str(tmp_path / "reference")
    run(longer, reference)
    run(longer, store, workers=1, launcher=lambda tasks: None)  # listed, and never begun
    book = ledger(store)
    (first,) = (p for p in book.state.packs.values() if p.checkpoint)
    assert first.checkpoint is not None
    Path(book.files.location(first.checkpoint["path"])).unlink()
    assert set(plan_launch(longer, book, workers=1).void) == set(book.state.packs)
    run(longer, store)
    assert rows(store).equals(rows(reference))


def test_an_open_pack_whose_checkpoint_is_damaged_begins_anew(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.shift=0", "checkpoint.every_s=0.000001")
    reference = str(tmp_path / "reference")
    run(grid, reference, workers=1)

    def die(tasks: Sequence[PackTask]) -> None:
        commands.request_stop(ledger(store).files, tasks[0].launch_id)

    run(grid, store, workers=1, launcher=die)
    book = ledger(store)
    (pack,) = book.state.packs.values()
    claim = Claim.take(book, pack.id, next(iter(book.state.launches)), {})
    book.files.write("checkpoints/torn.pt", b"torn")
    entry = {"path": "checkpoints/torn.pt", "size": 9, "sha256": "0" * 64, "step": 7, "attempt": 1}
    claim.commit({"kind": "rows", "checkpoint": entry})
    assert plan_launch(grid, ledger(store), workers=1).void == [pack.id]
    run(grid, store, workers=1)
    assert rows(store).equals(rows(reference))
    assert_whole(store, grid)


def test_damaged_checkpoints_cost_one_reading_of_the_store(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(toy_grid(tmp_path, "steps=90", *LONG), store)
    longer = toy_grid(tmp_path, "steps=250", *LONG)
    book = ledger(store)
    first, *others = (p for p in book.state.packs.values() if p.checkpoint)
    assert others, "their checkpoints are read once, too"
    assert first.checkpoint is not None
    Path(book.files.location(first.checkpoint["path"])).unlink()
    read: Counter[str] = Counter()
    original = Files.read

    def counted(self: Files, path: str) -> bytes | None:
        read[path] += 1
        return original(self, path)

    monkeypatch.setattr(Files, "read", counted)
    plan_launch(longer, book, workers=2)
    metrics = {path: n for path, n in read.items() if path.startswith(("metrics/", "checkpoints/"))}
    assert set(metrics.values()) == {1}
    assert first.checkpoint["path"] in metrics
