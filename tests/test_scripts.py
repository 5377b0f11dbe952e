"""Users' scripts and functions in a sweep: rows, ends, failures, kills, changes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import sweeper as sweeper_
from sweeper.engine.commands import request_stop
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.errors import ConfigError, UsageError
from sweeper.runs import own
from sweeper.store.files import Files
from tests.commands import sweeper
from tests.dying import train_in_worker
from tests.labs import HEAD, Lab
from tests.sweeps import ledger

Launcher = Callable[[Sequence[PackTask]], None]


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    """Trains packs as a worker of Ray does."""
    return lambda tasks: train_in_worker(tasks, tmp_path / "output.txt")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user's folder, which is the working folder and on Python's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Lab(tmp_path)
    forget()


def forget() -> None:
    """Forget the imported modules of the user's."""
    for name in [name for name in sys.modules if name.startswith("lab_train")]:
        del sys.modules[name]


def either(lab: Lab, kind: str, middle: str = "pass", end: str = "") -> Lab:
    return lab.script(middle, end) if kind == "script" else lab.function(middle, end)


EXPECTED = [("censored", 19), ("censored", 19), ("generalized", 8), ("generalized", 9)]
BOTH = pytest.mark.parametrize("kind", ["script", "function"])

TRIED = pytest.mark.parametrize(
    "kind", ["script", pytest.param("function", marks=pytest.mark.long)]
)
"""For what a function shares with a script: the fast tests look at the script."""


@BOTH
def test_a_sweep_of_a_users_code(kind: str, lab: Lab) -> None:
    either(lab, kind, middle="print('step', step)")
    assert lab.launch("criterion={metric: acc, train: 0.99, test: 0.99}").exit_code == 0
    assert [(e["status"], e["last_step"]) for e in lab.ends()] == EXPECTED
    assert [e["steps"] for e in lab.ends()] == [20, 20, 8, 9]
    table = lab.rows()
    assert table.num_rows == sum(last + 1 for _, last in EXPECTED)
    first = table.filter([i == lab.ends()[3]["trial_id"] for i in table["trial_id"].to_pylist()])
    assert first["train_loss"].to_pylist() == [2 * 0.5**k for k in range(10)]
    assert first["step"].to_pylist() == list(range(10))
    assert sorted(text.count("step") for text in lab.outputs()) == [9, 10, 20, 20]
    assert lab.launch().counts.done == 4


@pytest.mark.long
def test_a_script_and_a_function_train_to_the_same_rows(lab: Lab) -> None:
    lab.script().launch()
    script = lab.rows().drop(["trial_id"])
    lab.function().launch("name=other")
    lab.text = lab.text.replace("name: lab", "name: other")
    from tests.sweeps import rows

    function = rows(lab.store, "other").drop(["trial_id"])
    order = [("train_loss", "ascending"), ("step", "ascending")]
    assert script.sort_by(order).equals(function.sort_by(order))


def test_the_config_the_seed_and_the_horizon_come_from_the_grid(lab: Lab) -> None:
    lab.script(
        middle="print(run.config, run.seed, run.horizon, run.device, run.swept, sys.argv[1:])"
    )
    lab.launch("depth=3", "lr=0.2", "seeds=[7]")
    (output,) = lab.outputs()
    assert output.splitlines()[0] == "Values(lr=0.2, depth=3) 7 20 cpu True []"


def test_a_script_is_seeded(lab: Lab) -> None:
    lab.script(
        head="import random\nimport numpy\n" + HEAD,
        middle="print(random.random(), numpy.random.rand())",
    )
    lab.launch("steps=1", "lr=0.1")
    one, two = lab.outputs()
    assert one != two
    shutil.rmtree(lab.store)
    lab.launch("steps=1", "lr=0.1")
    assert sorted(lab.outputs()) == sorted([one, two])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fixed.rl=1"], "unknown key 'rl'. Known: lr, depth."),
        (["lr=fast"], "lr = 'fast' must be a number."),
        (["depth=1.5"], "depth = 1.5 must be a whole number."),
    ],
)
def test_mistakes_in_the_grid_are_found_before_anything_starts(
    overrides: list[str], message: str, lab: Lab
) -> None:
    lab.script()
    with pytest.raises(ConfigError) as caught:
        lab.grid(*overrides)
    assert message in str(caught.value)
    assert not Path(lab.store).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('hello')", "doesn't call sweeper.init. Add `run = sweeper.init(lr=1e-3, ...)`"),
        ("import sweeper", "ended without calling sweeper.init"),
        ("import sweeper\nsweeper.init(lr=None)", "the config field 'lr' has the default None"),
        ("import sweeper\n1 / 0", "ZeroDivisionError: division by zero"),
        ("import sweeper\nimport os\nos._exit(3)", "ended with exit code 3 before it called"),
        ("import sweeper\nimport os\nos.kill(os.getpid(), 11)", "ended with signal 11 before"),
    ],
)
def test_scripts_that_cannot_be_read_are_refused(text: str, message: str, lab: Lab) -> None:
    with pytest.raises(ConfigError) as caught:
        lab.raw(text).grid()
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(lab.folder / "grid.yaml") + ":3:12: ")


def test_a_script_that_is_late_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "DECLARE_S", 0.3)
    with pytest.raises(ConfigError, match=r"took more than 0.3 s without calling sweeper.init"):
        lab.raw("import sweeper\nimport time\ntime.sleep(60)").grid()


def test_a_script_that_is_not_there_is_refused(lab: Lab) -> None:
    with pytest.raises(
        ConfigError, match=r"there is no file .*/train.py. A path is relative to the"
    ):
        lab.grid()


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("def train():", r"it has the parameters \(\). Write `def train\(config, run\)`"),
        ("def train(config, run):", "its parameter 'config' has no type. Write a dataclass"),
        ("def train(config: dict, run):", "has to be a dataclass or a pydantic model"),
        ("def train(config: Config, run, data):", "it has the parameters"),
        ("train = 7\ndef other():", "isn't a function"),
        ("def other():", "has no 'train'"),
        ("raise OSError('no')\ndef train():", "can't be imported: OSError: no"),
        ("import lab_train_missing\ndef train():", "No module named 'lab_train_missing'"),
    ],
)
def test_functions_that_cannot_be_called_are_refused(
    signature: str, message: str, lab: Lab
) -> None:
    head = "from dataclasses import dataclass\n@dataclass\nclass Config:\n    lr: float = 1.0\n"
    Path(lab.folder, "lab_train_bad.py").write_text(f"{head}{signature}\n    pass\n")
    lab.name = "lab_train_bad:train"
    with pytest.raises(ConfigError, match=message):
        lab.grid()


BAD_TRIES = [
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("run.log(step, train_loss='x')", "the metric 'train_loss' = 'x' is of the type str"),
    ("run.log(5, a=1); run.log(5, a=1)", "step 5 was logged twice"),
    ("run.log(5, a=1); run.log(4, a=1)", "step 4 was logged after step 5"),
    ("break", "ended without logging anything"),
    ("os._exit(7)", "failed with exit code 7"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "failed with signal 11"),
]


@TRIED
@pytest.mark.parametrize(("middle", "message"), BAD_TRIES)
def test_the_first_trial_is_tried_before_anything_is_written(
    middle: str, message: str, kind: str, lab: Lab
) -> None:
    either(lab, kind, middle)
    with pytest.raises(UsageError) as caught:
        lab.launch()
    assert message in str(caught.value)
    assert "tried with lr=0.1, depth=1, seed=0" in str(caught.value)
    assert not Path(lab.store).exists()


@TRIED
def test_a_criterion_that_no_row_can_meet_is_refused(kind: str, lab: Lab) -> None:
    either(lab, kind)
    with pytest.raises(UsageError) as caught:
        lab.launch("criterion={metric: f1, train: 0.9, test: 0.9}")
    assert (
        "logs train_acc, test_acc, train_loss, but the criterion reads train_f1 and test_f1. "
        "Log train_f1 and test_f1, or name a metric M"
    ) in str(caught.value)


LATER = "step > 5 and run.seed == 1 and run.config.lr == 0.1"
"""Where a trial goes wrong: after the try, and in one of four trials."""


@BOTH
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("raise ValueError('too steep')", "ValueError: too steep"),
        ("sys.exit('I give up')", "I give up"),
        ("run.log(0, train_loss=1)", "step 0 was logged after step 5"),
    ],
)
def test_a_trial_that_fails_does_so_alone_with_its_traceback(
    harm: str, said: str, kind: str, lab: Lab, launcher: Launcher
) -> None:
    either(lab, kind, middle=f"if run.swept and not run._settings.check and {LATER}: {harm}")
    outcome = lab.launch(launcher=launcher)
    assert (outcome.counts.done, outcome.counts.failed, outcome.exit_code) == (3, 1, 3)
    failed = lab.ends()[1]
    assert (failed["status"], failed["last_step"]) == ("failed", 5)
    assert said in str(failed["error"])
    if "raise" in harm:
        assert "train.py" in str(failed["error"])
        assert "sweeper/engine" not in str(failed["error"])
    assert lab.launch().counts.failed == 1


@pytest.mark.long
@BOTH
@pytest.mark.parametrize(
    ("harm", "said"), [("os._exit(7)", "exit code 7"), ("os.kill(os.getpid(), 11)", "signal 11")]
)
def test_a_trial_that_ends_its_process_fails_alone(
    harm: str, said: str, kind: str, lab: Lab, launcher: Launcher
) -> None:
    either(lab, kind, middle=f"if not run._settings.check and {LATER}: print('bye'); {harm}")
    outcome = lab.launch(launcher=launcher)
    assert (outcome.counts.done, outcome.counts.failed) == (3, 1)
    assert said in str(lab.ends()[1]["error"])


@TRIED
def test_a_trial_that_is_killed_continues_from_its_checkpoint(
    kind: str, lab: Lab, launcher: Launcher
) -> None:
    once = (
        "Path(f'killed{run.seed}{run.config.lr}')"
        if kind == "script"
        else ("Path(f'killed{run.seed}{config.lr}')")
    )
    kill = f"if step == 6 and not run._settings.check and not {once}.exists(): {once}.touch(); os.kill(os.getpid(), 9)"
    either(lab, kind, middle=kill).launch(launcher=launcher)
    killed = lab.rows()
    assert len(list(lab.folder.glob("killed*"))) == 4
    assert [(e["status"], e["last_step"]) for e in lab.ends()] == EXPECTED
    resumed = [p.attempts[-1].resumed_at for p in ledger(lab.store, "lab").state.packs.values()]
    assert resumed == [5] * 4
    shutil.rmtree(lab.store)
    forget()
    either(lab, kind).launch()
    assert killed.equals(lab.rows())


@pytest.mark.long
def test_a_trial_that_is_killed_every_time_fails_alone(lab: Lab, launcher: Launcher) -> None:
    lab.script(middle=f"if not run._settings.check and {LATER}: os.kill(os.getpid(), 9)")
    outcome = lab.launch(launcher=launcher)
    assert (outcome.counts.done, outcome.counts.failed) == (3, 1)
    assert "signal 9" in str(lab.ends()[1]["error"])


@pytest.mark.long
@BOTH
def test_code_without_checkpoints_starts_over(kind: str, lab: Lab, launcher: Launcher) -> None:
    name = "run.config.lr" if kind == "script" else "config.lr"
    kill = f"if step == 6 and not run._settings.check and not Path(f'killed{{run.seed}}{{{name}}}').exists(): Path(f'killed{{run.seed}}{{{name}}}').touch(); os.kill(os.getpid(), 9)"
    either(lab, kind, middle=kill)
    file = lab.folder / ("train.py" if kind == "script" else "lab_train.py")
    text = (
        file.read_text()
        .replace("run.restore()", "None")
        .replace('run.checkpoint({"x": x})', "pass")
    )
    file.write_text(text)
    lab.launch(launcher=launcher)
    assert [(e["status"], e["last_step"]) for e in lab.ends()] == EXPECTED
    assert lab.rows().num_rows == sum(last + 1 for _, last in EXPECTED)


@TRIED
def test_a_sweep_that_stops_saves_and_goes_on(kind: str, lab: Lab) -> None:
    either(lab, kind, middle="time.sleep(0.02)")

    def stopping(tasks: Sequence[PackTask]) -> None:
        request_stop(Files.at(tasks[0].sweep), tasks[0].launch_id)
        run_inline(tasks)

    outcome = lab.launch(launcher=stopping)
    assert (outcome.counts.done, outcome.stopped) == (0, True)
    lab.launch()
    assert [(e["status"], e["last_step"]) for e in lab.ends()] == EXPECTED
    assert lab.rows().num_rows == sum(last + 1 for _, last in EXPECTED)


@TRIED
def test_a_larger_horizon_continues_the_censored_trials(kind: str, lab: Lab) -> None:
    either(lab, kind).launch()
    before = lab.rows()
    lab.launch("steps=30")
    assert [(e["status"], e["last_step"]) for e in lab.ends()][:2] == [("censored", 29)] * 2
    after = lab.rows()
    assert after.num_rows == before.num_rows + 20
    assert after.filter([s < 20 for s in after["step"].to_pylist()]).equals(before)


def test_a_larger_horizon_trains_anew_where_no_state_was_saved(lab: Lab) -> None:
    lab.script()
    file = lab.folder / "train.py"
    file.write_text(file.read_text().replace('    run.checkpoint({"x": x})', ""))
    lab.launch()
    assert lab.launch("steps=30").counts.done == 4
    assert [(e["status"], e["last_step"]) for e in lab.ends()][:2] == [("censored", 29)] * 2
    table = lab.rows()
    keys = list(zip(table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys)) == 2 * 30 + 9 + 10


def test_other_code_is_said_and_trains_again_on_request(lab: Lab) -> None:
    grid = lab.folder / "grid.yaml"
    lab.script().launch()
    lab.script(middle="x += 0")
    assert "run another version" not in sweeper("plan", str(grid)).stdout
    said = sweeper("launch", str(grid), "--inline").stdout.splitlines()
    assert said == [
        "4 trials: 4 done, 0 new, 0 failed; nothing to do",
        "4 trials of the store ran another version of ./train.py. Add --rerun to train them again.",
        "4 trials: 4 done",
    ]
    assert lab.launch(rerun=True).counts.done == 4
    assert lab.rows().num_rows == sum(last + 1 for _, last in EXPECTED)
    assert len(sweeper("launch", str(grid), "--inline").stdout.splitlines()) == 2


def test_the_code_of_a_launch_travels_through_the_store(lab: Lab) -> None:
    (lab.folder / "nets.py").write_text("RATE = 1\n")
    lab.script(head="import nets\n" + HEAD, middle="x *= nets.RATE")

    def elsewhere(tasks: Sequence[PackTask]) -> None:
        (lab.folder / "nets.py").write_text("raise RuntimeError('an edit')\n")
        (lab.folder / "train.py").unlink()
        run_inline(tasks)

    assert lab.launch(launcher=elsewhere).counts.done == 4
    record = next(iter(ledger(lab.store, "lab").state.launches.values()))
    assert set(record["code"]["files"]) == {"train.py", "nets.py"}


def test_rows_of_different_metrics_share_a_table(lab: Lab) -> None:
    lab.raw(
        """
        import sweeper
        run = sweeper.init(lr=0.1)
        for step in run.steps(20):
            run.log(step, train_acc=0, test_acc=0, **({"margin": step} if step % 2 else {}))
        """
    )
    lab.launch("seeds=1", "lr=0.1")
    assert lab.rows()["margin"].to_pylist()[:4] == [None, 1.0, None, 3.0]


def test_a_long_output_is_kept_in_part(lab: Lab) -> None:
    lab.script(middle="print('x' * 9999, step)")
    lab.launch("seeds=1", "lr=0.1")
    (text,) = lab.outputs()
    assert 60_000 < len(text) < 70_000
    assert "bytes left out" in text
    assert text.rstrip().endswith("19")


def test_the_weights_of_a_trial_are_those_of_its_last_state(lab: Lab) -> None:
    lab.script()
    file = lab.folder / "train.py"
    text = file.read_text().replace('{"x": x}', '{"x": x, "model": {"w": numpy.array([x])}}')
    file.write_text("import numpy\n" + text)
    lab.launch()
    sweep = sweeper_.open(f"{lab.store}/lab")
    weights = sweep.trial(str(lab.ends()[0]["trial_id"])).weights()
    assert weights.keys() == {"w"}
    assert weights["w"].tolist() == [pytest.approx(0.9**20)]
    file.write_text(text.replace("run.checkpoint", "str").replace("numpy.array", "list"))
    lab.launch(rerun=True)
    sweep = sweeper_.open(f"{lab.store}/lab")
    with pytest.raises(UsageError, match="its training saved no state"):
        sweep.trial(str(lab.ends()[0]["trial_id"])).weights()
