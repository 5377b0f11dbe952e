"""What a grid wants, minus what the store has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.engine import commands
from sweeper.engine.driver import Runner
from sweeper.engine.planner import Counts, Plan, plan_launch
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.errors import BusyError, StoreError, UsageError
from sweeper.store.compaction import compact
from sweeper.store.files import Files
from sweeper.store.lease import driving, is_fresh, join
from sweeper.store.ledger import Ledger
from sweeper.store.outcomes import ended_trials
from tests.sweeps import assert_whole, ledger, rows, run, statuses, toy_grid

LONG = ("stop.after_generalization=false", "task.shift=0")


def test_more_steps_carry_every_trial_on_as_if_asked_for_from_the_start(
    tmp_path: Path, store: str
) -> None:
    long = toy_grid(tmp_path, "steps=250", *LONG)
    reference = str(tmp_path / "reference")
    run(long, reference)
    run(toy_grid(tmp_path, "steps=90", *LONG), store)
    outcome = run(long, store)
    assert outcome.counts.done == 6
    assert rows(store).equals(rows(reference))
    assert_whole(store, long)


def test_fewer_steps_than_were_trained_are_done(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "steps=90", *LONG), store)
    number = ledger(store).state.packs
    assert run(toy_grid(tmp_path, "steps=50", *LONG), store).counts.done == 6
    assert ledger(store).state.packs.keys() == number.keys()


def test_trials_that_generalized_need_no_longer_horizon(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "steps=100", "task.shift=0"), store)
    generalized = {i for i, s in statuses(store).items() if s == "generalized"}
    censored = {i for i, s in statuses(store).items() if s == "censored"}
    assert generalized
    assert censored
    longer = toy_grid(tmp_path, "steps=1000", "task.shift=0")
    plan = plan_launch(longer, ledger(store), workers=2)
    assert plan.counts.new == len(censored)
    listed = {i for t in plan.packs.values() for i in t["trial_id"].to_pylist()}
    assert listed == censored
    run(longer, store)
    assert set(statuses(store).values()) == {"generalized"}
    assert_whole(store, longer)


def test_a_stricter_criterion_carries_on_the_trials_that_need_it(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, "steps=1000", "task.shift=0"), store)
    assert set(statuses(store).values()) == {"generalized"}
    strict = toy_grid(
        tmp_path, "steps=1000", "task.shift=0", "criterion={metric: error, train: 0.1, test: 0.02}"
    )
    plan = plan_launch(strict, ledger(store), workers=2)
    assert plan.counts.new == 6
    reference = str(tmp_path / "reference")
    run(strict, reference)
    run(strict, store)
    assert rows(store).equals(rows(reference))
    looser = toy_grid(
        tmp_path, "steps=1000", "task.shift=0", "criterion={metric: error, train: 0.5, test: 0.5}"
    )
    assert plan_launch(looser, ledger(store), workers=2).counts.new == 0


def test_trials_whose_final_checkpoint_was_not_kept_cannot_go_on(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, "steps=90", "checkpoint.keep=none", *LONG), store)
    before = ledger(store).number
    with pytest.raises(
        UsageError, match=r"its final checkpoint wasn't kept \(checkpoint.keep: none\)"
    ):
        run(toy_grid(tmp_path, "steps=250", *LONG), store)
    assert ledger(store).number == before


def test_another_density_of_logged_steps_is_refused(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path), store)
    with pytest.raises(UsageError) as caught:
        run(toy_grid(tmp_path, "log.points_per_decade=10"), store)
    assert str(caught.value) == (
        "log.points_per_decade = 10, but the sweep 'toy' is logged with 50. "
        "It is fixed per sweep: write 50, or choose another name."
    )


def test_no_trial_that_reached_the_horizon_is_trained_again_under_another_rule(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, "stop.after_generalization=false"), store)
    before = ledger(store).number
    for rule in ("argmin", "stable_final"):
        another = toy_grid(
            tmp_path,
            "stop.after_generalization=false",
            f"criterion={{metric: error, rule: {rule}}}",
        )
        assert run(another, store).counts == Counts(12, 12, 0, 0)
    assert ledger(store).number == before + 4, "two drivers and their launches"


def test_a_trial_that_stopped_at_its_threshold_goes_on_where_a_rule_takes_whole_curves(
    tmp_path: Path, store: str
) -> None:
    run(toy_grid(tmp_path, "steps=1000", "task.shift=0"), store)
    assert set(statuses(store).values()) == {"generalized"}
    whole = toy_grid(
        tmp_path,
        "steps=1000",
        "task.shift=0",
        "stop.after_generalization=false",
        "criterion={metric: error, rule: argmin}",
    )
    assert plan_launch(whole, ledger(store), workers=2).counts.new == 6
    run(whole, store)
    assert set(statuses(store).values()) == {"censored"}
    reference = str(tmp_path / "reference")
    run(whole, reference)
    assert rows(store).equals(rows(reference))


def test_a_metric_on_request_is_logged_from_when_it_was_asked_for(
    tmp_path: Path, store: str
) -> None:
    few, more = "task.rate=0.1,0.5", "log.metrics=[halves]"
    run(toy_grid(tmp_path, few), store)
    assert "half" not in rows(store).column_names
    done = {row["trial_id"] for row in rows(store).to_pylist()}
    asked = toy_grid(tmp_path, more, "resources.pack=1")
    assert run(asked, store).counts == Counts(12, 12, 0, 0)
    assert_whole(store, asked)

    def check() -> None:
        with open_views(ledger(store)) as views:
            found = sql.query(views, "select trial_id, half, product from metrics").to_pylist()
        assert {row["trial_id"] for row in found} > done
        for row in found:
            half = None if row["trial_id"] in done else row["product"] / 2
            assert row["half"] == half

    check()
    assert compact(ledger(store), min_parts=1) >= 5
    assert len(list(ledger(store).state.parts())) == 1
    check()
    assert run(toy_grid(tmp_path), store).counts.new == 0  # asking for less is no error either


def test_a_trials_id_does_not_depend_on_what_is_logged(tmp_path: Path) -> None:
    plain, asked = toy_grid(tmp_path), toy_grid(tmp_path, "log.metrics=[halves]")
    assert plain.table().equals(asked.table())


def test_pack_composition_does_not_depend_on_when_it_is_planned(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path, "seeds=9")
    first = plan_launch(grid, None, workers=2)
    second = plan_launch(grid, None, workers=2)
    assert {i: t.to_pylist() for i, t in first.packs.items()} == {
        i: t.to_pylist() for i, t in second.packs.items()
    }


def test_a_torn_part_is_said_and_its_trials_are_trained_again(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    expected = rows(store)
    (part, _), *_rest = ledger(store).state.parts()
    path = Path(join(store, "toy")) / part.path
    path.write_bytes(path.read_bytes()[: part.size // 2])
    plan = plan_launch(grid, ledger(store), workers=2)
    assert plan.damage == [
        f"{path}: damaged: it has {part.size // 2} bytes instead of {part.size}."
    ]
    assert plan.counts.new == 6
    outcome = run(grid, store)
    assert outcome.counts.done == 12
    assert rows(store).equals(expected)
    assert_whole(store, grid)


def test_what_went_on_from_a_damaged_pack_is_trained_again_with_it(
    tmp_path: Path, store: str
) -> None:
    short, long = toy_grid(tmp_path, "steps=90", *LONG), toy_grid(tmp_path, "steps=250", *LONG)
    run(short, store, workers=1)
    run(long, store, workers=1)
    expected = rows(store)
    first = next(iter(ledger(store).state.packs.values()))
    (Path(join(store, "toy")) / first.parts[0][1].path).unlink()
    assert run(long, store, workers=1).counts.done == 6
    assert rows(store).equals(expected)


def test_a_second_driver_is_refused_and_named(tmp_path: Path, store: str) -> None:
    grid = toy_grid(tmp_path)

    def second(tasks: Sequence[PackTask]) -> None:
        with pytest.raises(BusyError, match=r"toy: process \d+ on .* is launching this sweep"):
            run(grid, store)

    run(grid, store, launcher=second)


def test_the_lock_of_a_driver_that_was_killed_is_free_at_once(tmp_path: Path, store: str) -> None:

    files = Files.at(join(store, "toy"), create=True)
    code = (
        "import os; from sweeper.store.files import Files\n"
        "from sweeper.store.ledger import Ledger\n"
        "from sweeper.store.lease import driving\n"
        f"ledger = Ledger.create(Files.at({files.uri!r}), dict(name='toy', points_per_decade=50))\n"
        "with driving(ledger, 'x'): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    with driving(Ledger.open(files), "y"):
        pass


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    grid = toy_grid(tmp_path)
    code = f"""
import resource, signal
from pathlib import Path
from sweeper.errors import StoreFullError
from tests.sweeps import toy_grid, run
grid = toy_grid(Path({str(tmp_path)!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    run(grid, {store!r})
except StoreFullError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        "no space left. What was committed is whole: free some space and launch again."
        in done.stdout
    )
    assert run(grid, store).counts.done == 12
    reference = str(tmp_path / "reference")
    run(grid, reference)
    assert rows(store).equals(rows(reference))
    assert ended_trials(ledger(store)).num_rows == 12


def test_nothing_is_written_before_the_launch_is_agreed_to(tmp_path: Path, store: str) -> None:
    class NoError(Exception):
        pass

    def refuse(_: Plan) -> None:
        raise NoError

    with pytest.raises(NoError):
        commands.launch(toy_grid(tmp_path), store, Runner(lambda _: None, 1), announce=refuse)
    assert not Path(store).exists()


def test_an_unusable_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be created"):
        run(toy_grid(tmp_path), str(tmp_path / "file"))


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["delete", "truncate", "flip"])
@pytest.mark.parametrize("folder", ["metrics", "ends", "plans", "packs"])
def test_a_launch_mends_whatever_file_is_damaged(
    folder: str, how: str, tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    expected = rows(store)
    generalized = sum(status == "generalized" for status in statuses(store).values())
    _damage(next((Path(join(store, "toy")) / folder).iterdir()), how)
    assert run(grid, store).counts.done == 12
    assert rows(store).equals(expected)
    assert_whole(store, grid)
    with open_views(ledger(store)) as views:
        counted = sql.query(views, "select count(*) as n, count(t2) as g from delays").to_pylist()
    assert counted == [{"n": 12, "g": generalized}]


def test_a_missing_record_of_the_log_is_named_and_nothing_is_begun_anew(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    folder = Path(join(store, "toy"))
    first = folder / "log" / "000000000001.json"
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(StoreError, match=r"log/000000000001\.json: missing, though log/"):
        run(grid, store)
    first.write_bytes(content)
    (folder / "sweep.json").rename(folder / "aside")
    with pytest.raises(StoreError, match=r"sweep\.json: missing, though the sweep has a log"):
        run(grid, store)
    (folder / "aside").rename(folder / "sweep.json")
    assert run(grid, store).counts.done == 12
    (folder / "sweep.json").write_text("{}")
    with pytest.raises(StoreError, match="damaged: it must hold format, name and"):
        run(grid, store)


def test_a_smaller_horizon_leaves_longer_trials_as_long_as_they_are(
    tmp_path: Path, store: str
) -> None:
    options = ("task.pause=0.01", "task.shift=0", "stop.after_generalization=false")
    grid = toy_grid(tmp_path, *options)

    def drain(tasks: Sequence[PackTask]) -> None:
        timer = threading.Timer(
            0.6, commands.request_stop, (ledger(store).files, tasks[0].launch_id)
        )
        timer.start()
        run_inline(tasks)
        timer.join()

    run(grid, store, workers=1, launcher=drain)
    short = toy_grid(tmp_path, "steps=5", *options)
    assert run(short, store, workers=1).counts.done == 6
    with open_views(ledger(store)) as views:
        found = sql.query(
            views,
            "select t.last_step as a, d.last_step as b, max(m.step) as c, any_value(t.steps) as s "
            "from trials t join delays d using (trial_id) join metrics m using (trial_id) "
            "group by all",
        ).to_pylist()
    assert all(row["a"] == row["b"] == row["c"] <= row["s"] for row in found)
    assert all(row["a"] > 5 for row in found)


def test_a_driver_that_was_killed_is_not_at_work() -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    lease = {"host": socket.gethostname(), "pid": int(dead.stdout), "at": time.time()}
    assert not is_fresh(lease)
    assert is_fresh({**lease, "pid": os.getpid()})
    assert is_fresh({**lease, "host": "elsewhere"})
    assert not is_fresh({**lease, "host": "elsewhere", "at": time.time() - 60})


def test_a_log_that_was_emptied_is_said_and_nothing_is_begun_anew(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    run(grid, store)
    folder = Path(join(store, "toy"))
    (folder / "log").rename(folder / "aside")
    with pytest.raises(StoreError, match="log: empty, though the sweep was launched"):
        run(grid, store)
    (folder / "aside").rename(folder / "log")
    assert run(grid, store).counts.done == 12
