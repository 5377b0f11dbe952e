"""The options that several commands share: one declaration, the same everywhere."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sweeper.cli import app
from sweeper.cli.options import Training, expanded

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TRAINING = ("launch", "search", "refine", "extend", "verify")
SHARED = {
    "address": ["--address"],
    "store": ["--store"],
    "max_concurrent": ["--max-concurrent"],
    "max_failures": ["--max-failures"],
    "inline": ["--inline"],
    "as_json": ["--json"],
    "quiet": ["--quiet", "-q"],
}


def options(command: str) -> dict[str, typer.core.TyperOption]:
    return {p.name: p for p in COMMANDS[command].params if p.param_type_name == "option"}


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_h_is_help(words: list[str]) -> None:
    runner = CliRunner()
    short, long = (runner.invoke(app, [*words, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output
    assert "Usage:" in short.output


@pytest.mark.parametrize("name", TRAINING)
def test_every_command_that_trains_has_the_same_options(name: str) -> None:
    found = options(name)
    left = {"max_failures"} if name == "verify" else set()
    assert {n: found[n].opts for n in SHARED if n in found} == {
        n: flags for n, flags in SHARED.items() if n not in left
    }
    for option in SHARED.keys() - left:
        assert found[option].help == options("launch")[option].help
        assert found[option].default == getattr(Training(), option)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"schema"}))
def test_every_command_reads_the_store_from_the_environment(name: str) -> None:
    assert options(name)["store"].envvar == "SWEEPER_STORE"
    assert options(name)["store"].default == "sweeps"


def called(words: list[str], *, without: tuple[str, ...] = ()) -> tuple[str, int, Training]:
    """Return the arguments that a command with the group was called with."""
    calls = []

    def command(name: str, size: Annotated[int, typer.Option()] = 3, *, how: Training) -> None:
        calls.append((name, size, how))

    one = typer.Typer()
    one.command()(expanded(command, without=without))
    done = CliRunner().invoke(one, words)
    assert done.exit_code == 0, done.output
    (call,) = calls
    return call


def test_a_group_collects_the_options_that_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEPER_STORE", "SWEEPER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert called(["a"]) == ("a", 3, Training())
    typed = ["a", "--size", "4", "--store", "s", "--max-failures", "2", "--inline", "-q"]
    assert called(typed) == ("a", 4, Training(store="s", max_failures=2, inline=True, quiet=True))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert called(["a", "--json"])[2] == Training(address="auto", as_json=True)


def test_an_option_that_a_command_leaves_out_is_unknown_and_keeps_its_default() -> None:
    assert called(["a"], without=("max_failures",))[2].max_failures is None
    with pytest.raises(AssertionError, match="No such option"):
        called(["a", "--max-failures", "2"], without=("max_failures",))


def test_a_command_without_the_group_stays_as_it_is() -> None:
    def plain(name: str) -> None:
        """Do nothing."""

    assert expanded(plain) is plain
