"""What commands print, compared as a whole: standard input, written files, one of a kind."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from sweeper.cli import shell
from sweeper.config.messages import counted
from sweeper.search.finalist import SearchProgress
from sweeper.search.report import progress_sentence
from tests.commands import sweeper
from tests.sweeps import TOY, run, toy_grid

ONE = (
    TOY.replace("[0.1, 0.5, 1.0]", "[0.5]").replace("[0, 1]", "[0]").replace("seeds: 2", "seeds: 1")
)


def test_a_number_with_its_noun() -> None:
    assert [counted(n, "pack") for n in (0, 1, 2)] == ["0 packs", "1 pack", "2 packs"]
    assert counted(2, "axis", "axes") == "2 axes"
    assert progress_sentence(SearchProgress(1, 1, 1, None, 0, ("delay",))) == (
        "1 of 1 suggestion, 1 point known before; no feasible result yet"
    )


def test_a_grid_comes_from_standard_input(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.engine.estimate.local_workers", lambda _: 1)
    words = ("--store", store)
    trusted = (*words, "--trust")
    assert sweeper("plan", "-", "seeds=1", *trusted, stdin=ONE).stdout.splitlines() == [
        "1 trial: 0 done, 1 new, 0 failed; 1 pack on 1 CPU, at most about 0.0 s",
        "1 cell x 1 seed; axes: none",
        "largest pack: 0.0 MB",
    ]
    done = sweeper("launch", "-", "--inline", *trusted, stdin=ONE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "1 trial: 0 done, 1 new, 0 failed; 1 pack on 1 CPU"
    assert done.stdout.splitlines()[-1] == "1 trial: 1 done"
    assert sweeper("ls", *words).stdout.splitlines()[1].split() == ["toy", "1", "1", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace("name: toy\n", ""), "stdin:2:1: name is missing. Add it."),
        (ONE.replace("rate", "rat"), "stdin:7:5: task has no field 'rat'. Did you mean 'rate'?"),
        (" \n", "stdin: empty. Pipe a grid file into it: cat GRID | sweeper plan -"),
        ("# " + "x" * 1_000_000, "stdin: too long. A grid file has at most 1000000 bytes."),
    ],
    ids=["nameless", "misspelt", "empty", "long"],
)
def test_mistakes_in_standard_input_are_placed_in_it(text: str, message: str, store: str) -> None:
    done = sweeper("plan", "-", "--trust", "--store", store, stdin=text)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_a_query_says_what_it_has_written(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path), store)
    for limit, rows in ((12, "12 rows"), (1, "1 row")):
        path = tmp_path / f"{limit}.csv"
        query = f"select trial_id from trials limit {limit}"
        done = sweeper("sql", "toy", query, "-o", str(path), "--store", store)
        assert (done.stdout, done.stderr) == (f"{rows} written to {path}\n", "")
        assert len(path.read_text().splitlines()) == limit + 1


@pytest.mark.parametrize(("terminal", "before"), [(True, "\n"), (False, "")])
def test_the_text_of_ctrl_c_is_on_a_line_of_its_own(
    terminal: bool, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, color_system=None, soft_wrap=True)
    monkeypatch.setattr(shell, "err", console)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    stopper = shell.Stopper()
    stopper._on_signal(signal.SIGINT, None)
    stopping = (
        f"{before}stopping: packs save a checkpoint and end. Press Ctrl-C again to kill them.\n"
    )
    assert text.getvalue() == stopping
    stopper._on_signal(signal.SIGINT, None)
    killed = f"{before}killed: all committed results are safe\n"
    assert text.getvalue().removeprefix(stopping).startswith(killed)
    assert ended == [130]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("phase", "--x", "task.rate", "--y", "task.shift"),
            "x: task.rate = 0.5 in the only cell. No axis varies.",
        ),
        (
            ("extend", "--steps", "1"),
            "--steps 1: this censored trial has 100 steps already. Choose more than 100 steps.",
        ),
    ],
    ids=["phase", "extend"],
)
def test_one_of_a_kind_is_singular(
    words: tuple[str, ...], text: str, tmp_path: Path, store: str
) -> None:
    never = "criterion={metric: error, train: 1.0e-9, test: 1.0e-9}"
    run(toy_grid(tmp_path, never, text=ONE), store)
    done = sweeper(words[0], "toy", *words[1:], "--store", store)
    assert done.stderr == f"error: {text}\n"


def test_retry_of_one_trial(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path, "task.fate=raises", text=ONE), store)
    words = ("retry", "toy", "--store", store)
    assert sweeper(*words).stdout == "1 failed trial is new again: launch to train it\n"
    assert sweeper(*words).stdout == "0 failed trials are new again: launch to train them\n"
