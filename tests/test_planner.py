"""The plan of a launch equals that of a loop over trials, whatever the ledger went through."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.criterion import Criterion
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.planner import Counts, counts, plan_launch
from sweeper.engine.worker import run_inline
from sweeper.errors import UsageError
from sweeper.grid.grid import Grid
from sweeper.packing import pack_id
from sweeper.store import scan
from tests.stores import Made, curve, end
from tests.sweeps import ledger, rows, run, toy_grid

TRIALS = 6
HORIZON = 100
OPTIONS = ("task.shift=0", "seeds=2", f"steps={HORIZON}")


@dataclass(frozen=True)
class Past:
    """One pack of a ledger's past.

    Attributes:
        trials: Numbers of its trials.
        ends: Number of a trial to its status and steps, of those that ended.
        done: No work is left.
        saved: It has a checkpoint.
        fate: What happened to it afterwards: nothing, void, or a torn file of ends or of metrics.
        parent: The pack before it is its parent.
    """

    trials: tuple[int, ...]
    ends: dict[int, tuple[str, int]]
    done: bool
    saved: bool
    fate: str
    parent: bool


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    trials = draw(st.lists(st.integers(0, TRIALS - 1), min_size=1, max_size=6, unique=True))
    statuses = st.sampled_from(["generalized", "censored", "diverged", "failed"])
    ending = st.tuples(statuses, st.sampled_from([30, 50, 100, 150]))
    ends = draw(st.dictionaries(st.sampled_from(trials), ending))
    fates = st.sampled_from(["", "", "", "void", "ends", "metrics"])
    flag = st.booleans()
    return Past(tuple(trials), ends, draw(flag), draw(flag), draw(fates), draw(flag))


@contextmanager
def made(grid: Grid, past: list[Past], keep: str) -> Iterator[tuple[Made, list[str], list[str]]]:
    """Yield a store with this past, its trials and its packs."""
    ids = [trial.id for trial in grid.trials()]
    with tempfile.TemporaryDirectory() as where:
        book = Made.at(where, "toy")
        launch = {
            "kind": "launch",
            "launch_id": "l",
            "checkpoint": {"keep": keep},
            "criteria": {t: c.model_dump() for t, c in grid.criteria.items()},
        }
        book.ledger.append(launch)
        packs: list[str] = []
        for one in past:
            packs.append(book.pack([ids[i] for i in one.trials]))
            if one.parent and len(packs) > 1:
                book.ledger.state.packs[packs[-1]].parents = (packs[-2],)
            attempt = book.claim(packs[-1], "l")
            rows = [row for i in one.trials for row in curve(ids[i], [0], train_error=[1.0])]
            ends = [end(ids[i], status, 0, steps) for i, (status, steps) in one.ends.items()]
            checkpoint = (f"{packs[-1]}.pt", 50) if one.saved else None
            book.rows(packs[-1], attempt, rows, ends, done=one.done, checkpoint=checkpoint)
        gone = [p for p, one in zip(packs, past, strict=True) if one.fate == "void"]
        book.ledger.append({"kind": "void", "pack_ids": gone, "why": []})
        for pack, one in zip(packs, past, strict=True):
            state = book.ledger.state.packs[pack]
            for _, part in {"ends": state.ends, "metrics": state.parts}.get(one.fate, []):
                Path(book.ledger.files.location(part.path)).write_bytes(b"torn")
        yield book, ids, packs


def void_of(past: list[Past]) -> set[int]:
    """Return the packs that don't count any more because of a file, as a plain loop says."""
    void = {k for k, one in enumerate(past) if one.fate == "metrics"}
    void |= {k for k, one in enumerate(past) if one.fate == "ends" and one.ends}
    for k, one in enumerate(past):
        if k and one.parent and k - 1 in void:
            void.add(k)
    return {k for k in void if past[k].fate != "void"}


def last_ends(past: list[Past], void: set[int]) -> dict[int, tuple[str, int, int]]:
    """Return trial to status, steps and pack of its last end, as a plain loop says."""
    found: dict[int, tuple[str, int, int]] = {}
    for k, one in enumerate(past):
        if k in void or one.fate == "void":
            continue
        for trial, (status, steps) in one.ends.items():
            if trial not in found or steps >= found[trial][1]:
                found[trial] = (status, steps, k)
    return found


@settings(deadline=None, max_examples=100)
@given(
    st.lists(pasts(), min_size=1, max_size=6),
    st.sampled_from(["all", "all", "censored", "none"]),
    st.booleans(),
)
def test_the_plan_is_what_a_loop_over_trials_says(past: list[Past], keep: str, stops: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stop = f"stop.after_generalization={str(stops).lower()}"
        grid = toy_grid(Path(folder), *OPTIONS, stop)
    with made(grid, past, keep) as (book, ids, packs):
        void = void_of(past)
        ends = last_ends(past, void)
        counting = [k for k, one in enumerate(past) if k not in void and one.fate != "void"]
        opened = [k for k in counting if not past[k].done]
        in_open = {i for k in opened for i in past[k].trials}
        short = {
            i
            for i, (status, steps, _) in ends.items()
            if steps < HORIZON and (status == "censored" or (status == "generalized" and not stops))
        }
        failed = {i for i, found in ends.items() if found[0] == "failed"}
        new = {i for i in range(TRIALS) if i not in ends} | short
        lost = [
            i
            for i in range(TRIALS)
            if i in short - in_open
            and (
                not past[ends[i][2]].saved
                or keep == "none"
                or (keep == "censored" and ends[i][0] != "censored")
            )
        ]
        if lost:
            with pytest.raises(
                UsageError,
                match=f"trial {ids[lost[0]]} has to continue from step {ends[lost[0]][1]},",
            ):
                plan_launch(grid, book.ledger, workers=2)
            return
        found = plan_launch(grid, book.ledger, workers=2)
        expected = Counts(TRIALS, TRIALS - len(new) - len(failed), len(new), len(failed))
        assert found.counts == expected
        assert found.void == sorted(packs[k] for k in void)
        assert found.restored == [packs[k] for k in opened if new & set(past[k].trials)]
        listed = [row for table in found.packs.values() for row in table.to_pylist()]
        assert sorted(row["trial_id"] for row in listed) == sorted(ids[i] for i in new - in_open)
        starts = {row["trial_id"]: row["start"] for row in listed}
        assert starts == {
            ids[i]: f"{packs[ends[i][2]]}.pt" if i in short else None for i in new - in_open
        }
        for name, table in found.packs.items():
            begun = {
                ends[i][1] if i in short else -1
                for i in map(ids.index, table["trial_id"].to_pylist())
            }
            assert len(begun) == 1, "a pack goes on from one step"
            parents = {
                packs[ends[ids.index(i)][2]]
                for i in table["trial_id"].to_pylist()
                if ids.index(i) in short
            }
            assert found.parents[name] == sorted(parents)
        if not any(one.fate == "metrics" for one in past):
            assert counts(grid, book.ledger, found.table) == expected


levels = st.sampled_from([0.05, 0.2, 0.5, 1.0, None])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 5), levels, levels), max_size=5), max_size=5),
    st.lists(st.sampled_from([0.1, 0.3]), min_size=4, max_size=4),
    st.integers(1, 8),
)
def test_a_trial_has_reached_its_thresholds_where_some_row_of_it_does(
    files: list[list[tuple[int, float | None, float | None]]], asked: list[float], batch: int
) -> None:
    """The rows of six trials, in several files; of four of them the thresholds are asked for."""
    criteria = [Criterion(metric="error", train=x, test=x) for x in asked]
    with tempfile.TemporaryDirectory() as where, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BATCH", batch)
        book = Made.at(where, "toy")
        for number, rows in enumerate(files):
            table = [
                {"trial_id": f"t{i}", "step": s, "train_error": a, "test_error": b}
                for s, (i, a, b) in enumerate(rows)
            ]
            pack = book.pack([f"t{i}" for i in range(6)])
            book.rows(pack, book.claim(pack, f"l{number}"), table)
        ids = pa.chunked_array([[f"t{i}" for i in range(4)]])
        found = scan.reached(book.ledger, ids, criteria, np.arange(4)).tolist()
    below = [
        [
            any(
                r[0] == i and (x := r[side]) is not None and x <= asked[i] for f in files for r in f
            )
            for side in (1, 2)
        ]
        for i in range(4)
    ]
    assert found == [all(sides) for sides in below]


def test_a_new_pack_lists_its_trials_in_order(tmp_path: Path) -> None:
    plan = plan_launch(toy_grid(tmp_path, *OPTIONS), None, workers=3)
    assert [table.num_rows for table in plan.packs.values()] == [2, 2, 2]
    for name, table in plan.packs.items():
        assert table["pack_id"].unique().to_pylist() == [name]
        assert table["position"].to_pylist() == [0, 1]
        assert name == pack_id(table["trial_id"].to_pylist())


def test_a_torn_end_of_the_log_is_announced_and_its_trials_are_trained_again(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    before = rows(store)
    log = Path(store, "toy", "log")
    last = max(log.iterdir())
    size = last.stat().st_size
    os.truncate(last, size // 2)
    book = ledger(store)
    plan = plan_launch(grid, book, workers=2)
    assert plan.damage == [
        f"{last}: damaged, and no whole record follows. It counts as absent, and a launch moves "
        "it to damaged/."
    ]
    assert plan.counts.new > 0
    announced: list[str] = []
    commands.launch(
        grid, store, Runner(run_inline, 2), announce=lambda plan: announced.extend(plan.damage)
    )
    assert announced == [
        f"{last}: damaged, and no whole record followed. It counts as absent, and was moved to "
        "damaged/."
    ]
    assert rows(store).equals(before)
    assert [p.name for p in Path(store, "toy", "damaged").iterdir()] == [last.name]
    assert plan_launch(grid, ledger(store), workers=2).damage == []
