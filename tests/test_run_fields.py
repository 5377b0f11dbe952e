"""The fields of a user's config, from each way to declare them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel
from pydantic import Field as PydanticField

from sweeper import sql
from sweeper.analysis.views.views import PARTS, open_views
from sweeper.grid.gridfile import GridFile
from sweeper.runs import alone
from sweeper.runs.fields import RESERVED, DeclarationError, Field, declare
from sweeper.runs.own import config_of
from sweeper.store.lease import open_sweep
from tests.stores import Made, Planned

SAME = [
    Field("lr", "float", default=0.1),
    Field("depth", "int", default=2),
    Field("name_", "str", default="mlp"),
    Field("bias", "bool", default=True),
    Field("betas", "vector", default=(0.9, 0.98)),
]


@dataclass
class Plain:
    lr: float = 0.1
    depth: int = 2
    name_: str = "mlp"
    bias: bool = True
    betas: tuple[float, ...] = (0.9, 0.98)


class Model(BaseModel):
    lr: float = 0.1
    depth: int = 2
    name_: str = "mlp"
    bias: bool = True
    betas: tuple[float, ...] = (0.9, 0.98)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--lr", type=float, default="0.1")
    made.add_argument("--depth", type=int, default=2)
    made.add_argument("--name_", default="mlp")
    made.add_argument("--bias", action=argparse.BooleanOptionalAction, default=True)
    made.add_argument("--betas", type=float, nargs=2, default=[0.9, 0.98])
    made.add_argument("--version", action="version", version="1")
    return made


def values() -> dict[str, Any]:
    return {"lr": 0.1, "depth": 2, "name_": "mlp", "bias": True, "betas": [0.9, 0.98]}


@pytest.mark.parametrize("config", [values(), Plain, Plain(), Model, parser()])
def test_all_ways_declare_the_same_fields(config: Any) -> None:
    made = declare(config, {})
    assert list(made.fields) == SAME
    assert [Field.of(one.as_dict()) for one in made.fields] == SAME
    built = made.build({"lr": 0.5}, {"seed": 3})
    assert (built.lr, built.depth, tuple(built.betas)) == (0.5, 2, (0.9, 0.98))
    assert isinstance(built, Plain | Model | argparse.Namespace) or built["lr"] == 0.5


def test_keyword_arguments_are_a_mapping_of_defaults() -> None:
    config = declare(None, values()).build({}, {})
    assert {**config} == {**values(), "betas": (0.9, 0.98)}
    assert ("lr" in config, config.get("beta", 7), len(config)) == (True, 7, 5)


def test_the_seed_and_the_steps_are_filled_in_and_are_no_fields() -> None:
    made = declare(None, {"random_state": 5, "MAX_ITERS": 100, "device": "cpu", "lr": 0.1})
    assert [one.name for one in made.fields] == ["lr"]
    given = {"seed": 3, "steps": 7, "device": "cuda"}
    assert vars(made.build({}, given)) == {
        "lr": 0.1,
        "random_state": 3,
        "MAX_ITERS": 7,
        "device": "cuda",
    }
    assert made.build({}, {}).MAX_ITERS == 100


def test_types_that_only_annotations_can_say() -> None:
    @dataclass
    class Config:
        decay: float | None
        kind: Literal["l1", "l2"] = "l1"
        many: list[int] = field(default_factory=lambda: [1, 2])
        whole: float = 1

    # The annotations of a class in a function are text; give them their types.
    Config.__annotations__ = {
        "decay": float | None,
        "kind": Literal["l1", "l2"],
        "many": list[int],
        "whole": float,
    }
    assert list(declare(Config, {}).fields) == [
        Field("decay", "float", required=True, optional=True),
        Field("kind", "str", default="l1", choices=("l1", "l2")),
        Field("many", "vector", default=(1.0, 2.0)),
        Field("whole", "float", default=1.0),
    ]


class Bounded(BaseModel):
    lr: Annotated[float, PydanticField(gt=0, le=1)] = 0.1


def test_bounds_of_a_pydantic_model_hold_in_the_grid() -> None:
    (one,) = declare(Bounded, {}).fields
    assert one.bounds == {"gt": 0, "le": 1}
    config: Any = config_of({"fields": [one.as_dict()]})
    assert config(lr=0.5).lr == 0.5
    with pytest.raises(ValueError, match="less than or equal to 1"):
        config(lr=2.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lr": None}, "the config field 'lr' has the default None, which doesn't say its type"),
        ({"opt": {"lr": 0.1}}, "Pass its entries as fields of their own, e.g. opt_lr=..."),
        ({"net": object()}, "has a default of the type object. Fields are numbers, text"),
        ({"words": ["a"]}, "has a default of the type list"),
        ({"_lr": 1}, "'_lr' can't be the name of a config field"),
        ({"a-b": 1}, "'a-b' can't be the name of a config field"),
        (
            {"delay": 1},
            "the config field 'delay' has the name of a key of the grid file or of a column",
        ),
        (7, "sweeper.init can't read a config of the type int"),
    ],
)
def test_what_cannot_be_a_config_is_refused(config: Any, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(config, {})
    assert message in str(caught.value)


def test_a_config_and_keyword_arguments_together_are_refused() -> None:
    with pytest.raises(DeclarationError, match="Move lr into the config"):
        declare({"wd": 1.0}, {"lr": 0.1})


def test_a_command_line_of_subcommands_or_counts_is_refused() -> None:
    made = argparse.ArgumentParser()
    made.add_argument("-v", action="count", default=0)
    with pytest.raises(DeclarationError, match="'v' is neither true nor false by default"):
        declare(made, {})
    made = argparse.ArgumentParser()
    made.add_subparsers(dest="what")
    with pytest.raises(DeclarationError, match="a command line with subcommands"):
        declare(made, {})


def test_no_field_can_have_the_name_of_a_column_of_the_views(tmp_path: Path) -> None:
    Made.at(tmp_path).launch([Planned("a")])
    columns: set[str] = set()
    with open_views(open_sweep(str(tmp_path), "demo")) as views:
        for view in ("trials", "delays", "cells"):
            columns |= set(sql.query(views, f"describe {view}")["column_name"].to_pylist())
    assert (
        columns - {*PARTS, "seed", "steps", "dtype"} | {"task", *GridFile.model_fields} == RESERVED
    )


def test_by_hand_the_command_line_sets_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    made = declare(None, {**values(), "steps": 5})
    words = ["--lr", "0.5", "--no-bias", "--betas", "0.8", "0.9", "--seed", "4", "--steps", "3"]
    run = alone.begin(made, words)
    assert (run.config.lr, run.config.bias, list(run.config.betas)) == (0.5, False, [0.8, 0.9])
    assert (run.seed, list(run.steps(100)), run.swept) == (4, [0, 1, 2], False)
    assert (run.config.steps, alone.begin(made, []).config.steps) == (3, 5)
    with pytest.raises(SystemExit):
        alone.begin(made, ["--lr", "fast"])
    assert "argument --lr: invalid float value: 'fast'" in capsys.readouterr().err


def test_by_hand_a_parser_of_the_users_own_reads_the_command_line() -> None:
    made = parser()
    made.add_argument("--steps", type=int, default=7)
    run = alone.begin(declare(made, {}), ["--depth", "3"])
    assert (run.config.depth, run.config.steps, len(list(run.steps()))) == (3, 7, 7)
