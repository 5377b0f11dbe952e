"""The progress of a launch as the ledger tells it: trial-steps, of new, continued and split packs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.engine import commands
from sweeper.engine.commands import request_stop
from sweeper.engine.driver import Launched, Progress, Runner
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.grid.grid import Grid
from sweeper.refine import extend
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from tests.sweeps import run, toy_grid

NEVER = "criterion={metric: error, train: 1.0e-9, test: 1.0e-9}"


def sizes(p: Progress) -> tuple[int, ...]:
    """Return the numbers that are shown."""
    return p.trials, p.ended, p.failed, p.packs, p.packs_over, p.running, p.steps, p.of_steps


def launched(grid: Grid, store: str, launcher: Any = run_inline) -> Launched:
    """Launch `grid` and return the launch."""
    seen: list[Launched] = []
    commands.launch(grid, store, Runner(launcher, 2), started=seen.append)
    return seen[0]


def looked(one: Launched) -> tuple[int, ...]:
    """Return the progress, read by another ledger."""
    return sizes(one.progress(Ledger.open(one.ledger.files)))


def test_an_ended_trial_has_all_of_its_steps_behind_it(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "resources.pack=3")
    nothing = launched(grid, store, lambda _: None)
    assert looked(nothing) == (12, 0, 0, 4, 0, 0, 0, 1200)
    first = launched(grid, store, lambda tasks: run_inline(tasks[:1]))
    assert looked(first) == (12, 3, 0, 4, 1, 0, 300, 1200)
    rest = launched(grid, store)
    assert looked(rest) == (9, 9, 0, 3, 3, 0, 900, 900)
    assert looked(launched(grid, store)) == (0, 0, 0, 0, 0, 0, 0, 0)


def test_a_continued_pack_counts_from_its_checkpoint(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = iter(range(1000))

    def stopped(tasks: Sequence[PackTask]) -> None:
        def pause(_: float) -> None:
            if next(pauses) == 39:
                request_stop(Files.at(tasks[0].sweep), tasks[0].launch_id)
                sleep(1.0)  # the sink looks every half a second

        monkeypatch.setattr("tests.toy.time", SimpleNamespace(sleep=pause))
        run_inline(tasks)

    grid = toy_grid(tmp_path, NEVER)
    first = launched(grid, store, stopped)
    (pack, *_) = Ledger.open(first.ledger.files).state.packs.values()
    assert pack.checkpoint is not None
    step = pack.checkpoint["step"]
    assert looked(first)[6:] == (pack.last_step * pack.size, 1200)
    assert step - 3 <= pack.last_step <= step == 40
    again = launched(grid, store, lambda _: None)
    assert looked(again) == (12, 0, 0, 2, 0, 0, 0, 6 * 60 + 6 * 100)
    fewer = launched(toy_grid(tmp_path, NEVER, "task.rate=0.5"), store, lambda _: None)
    assert looked(fewer) == (4, 0, 0, 2, 0, 0, 0, 2 * 60 + 2 * 100)


def test_extended_trials_count_from_where_they_ended(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, NEVER), store)
    seen: list[Launched] = []
    wanted = extend.extension(store, "toy", 250)
    extend.extend(wanted, store, Runner(lambda _: None, 2), started=seen.append)
    assert looked(seen[0])[6:] == (0, 12 * 150)
    extend.extend(wanted, store, Runner(run_inline, 2), started=seen.append)
    assert looked(seen[1])[6:] == (12 * 150, 12 * 150)


def test_a_pack_that_was_split_is_over_with_its_parts(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "task.fate=well,raises", "task.shift=0", "seeds=1")
    one = launched(grid, store)
    after = one.progress(Ledger.open(one.ledger.files))
    assert sizes(after) == (6, 6, 3, len(one.tasks), len(one.tasks), 0, 600, 600)
    assert len(after.each) > len(one.tasks)


def test_a_look_reads_nothing_but_new_records(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = launched(toy_grid(tmp_path, "resources.pack=1"), store)
    reader = Ledger.open(one.ledger.files)
    read: list[str] = []
    whole = Files.read

    def recorded(files: Files, path: str) -> bytes | None:
        read.append(path)
        return whole(files, path)

    monkeypatch.setattr(Files, "read", recorded)
    one.progress(reader)
    assert read == [f"log/{reader.number + 1:012d}.json"]


def test_launches_are_shown_together(tmp_path: Path, store: str) -> None:
    grids = [toy_grid(tmp_path), toy_grid(tmp_path, "name=other", "resources.pack=4")]
    both = [launched(grid, store, lambda tasks: run_inline(tasks[:1])) for grid in grids]
    each = [one.progress(Ledger.open(one.ledger.files)) for one in both]
    assert sizes(Progress.total(each)) == tuple(
        a + b for a, b in zip(*map(sizes, each), strict=True)
    )
