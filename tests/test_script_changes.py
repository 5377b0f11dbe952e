"""Scripts and functions that change or end early; the spelling of their path; where commands work."""

from __future__ import annotations

import pytest

import sweeper as sweeper_
from sweeper.errors import ConfigError
from tests.commands import sweeper
from tests.labs import Lab
from tests.test_scripts import TRIED, either, forget, lab

__all__ = ["lab"]


@TRIED
def test_a_trial_that_was_continued_trains_again_as_a_whole(kind: str, lab: Lab) -> None:
    either(lab, kind)
    for steps in (20, 25, 30):
        lab.launch(f"steps={steps}", "lr=0.1", "seeds=1")
    forget()
    either(lab, kind, middle="x += 0")
    lab.launch("steps=30", "lr=0.1", "seeds=1", rerun=True)
    assert lab.rows()["step"].to_pylist() == list(range(30))
    lab.launch("steps=40", "lr=0.1", "seeds=1")
    assert lab.rows()["step"].to_pylist() == list(range(40))
    assert sweeper("doctor", "lab", "--store", lab.store).returncode == 0


@TRIED
@pytest.mark.parametrize("leave", ["break", "sys.exit(0)"])
def test_code_that_leaves_its_loop_early_fails(leave: str, kind: str, lab: Lab) -> None:
    either(lab, kind, middle=f"if step == 6 and not run._settings.check: {leave}")
    assert lab.launch("lr=0.1", "seeds=1").counts.failed == 1
    (end,) = lab.ends()
    assert (
        f"the {kind} left the loop of run.steps() after its row at step 5, before its last step: "
        "the horizon is 20 steps."
    ) in str(end["error"]) or (kind, leave) == ("function", "sys.exit(0)")
    assert lab.rows().num_rows == 6


def test_each_spelling_of_a_path_names_the_same_trials(lab: Lab) -> None:
    lab.script()
    ids = []
    for name in ("./train.py", "train.py", "sub/../train.py"):
        lab.name = name
        ids.append([trial.id for trial in lab.grid().trials()])
    assert ids[0] == ids[1] == ids[2]


def test_a_script_without_its_suffix_is_told_so(lab: Lab) -> None:
    lab.script().name = "train"
    with pytest.raises(ConfigError, match=r"to train with the script, write \./train\.py"):
        lab.grid()


def test_an_extension_says_that_it_trains_with_the_code_of_the_launch(lab: Lab) -> None:
    lab.script().launch()
    words = ("extend", "lab", "--steps", "25", "--store", lab.store, "--inline")
    lab.script(middle="x += 1")
    said = sweeper(*words).stdout
    assert "./train.py has changed since the last launch. These trials run the version" in said
    assert "--rerun" not in said
    first = lab.rows().filter(
        [i == lab.ends()[0]["trial_id"] for i in lab.rows()["trial_id"].to_pylist()]
    )
    assert first["train_loss"].to_pylist() == [pytest.approx(0.9**k) for k in range(25)]


def test_the_command_of_a_trial_works_in_any_folder(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lab.script().launch()
    trial = str(lab.ends()[0]["trial_id"])
    assert sweeper_.open(f"{lab.store}/lab").trial(trial).command.startswith("printf")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    command = sweeper_.open(f"{lab.store}/lab").trial(trial).command
    assert command.startswith(f"cd {lab.folder} && printf")
    assert f"--store {lab.store}" in command
