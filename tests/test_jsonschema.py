"""Editors are told what a grid file can hold; the schema accepts what the compiler accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from sweeper.config.fields import leaves
from sweeper.grid.document import parse, read
from sweeper.grid.jsonschema import attributes, json_schema
from sweeper.trainables.config import GrokkingConfig, SparseRecovery
from sweeper.trainables.config.own import BASES
from sweeper.trainables.config.regularizers import Sum
from tests.strategies import GIVEN, GRIDS, Flat, grid_text
from tests.test_grid import MILLION
from tests.test_overrides import FILE, MODULAR

ROOT = Path(__file__).parent.parent
SCHEMA = json_schema(GrokkingConfig)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

EVERYTHING = """
name: depth
trainable: trainables.grokking
fixed:
  task: {name: sparse_recovery, n: 100, s: 5, N: 40}
  optimizer.name: gd
  optimizer: {lr: 0.1}
  regularizer: {name: sum, terms: {l1: {strength: 0.1}, nuclear.strength: null}}
  regularizer.terms.l2_sq.strength: 0.1
  steps: 200_000
grid:
  - product:
      model.depth: [1, 2, 3]
      regularizer.strength: {logspace: [1.0e-5, 1.0e-3, 5]}
      selection.tau: {linspace: [0, 0.6, 4]}
      task.N: {range: [10, 50, 10]}
      optimizer.betas: [[0.9, 0.98], [0.9, 0.95]]
    zip:
      - {regularizer.name: [l1, none], model.init_scale: [1.0e-6, 1.0e-2]}
  - {}
exclude: ["model.depth = 1 and regularizer.name = 'none'"]
seeds: [1, 2]
criterion: {sparse_recovery: {metric: error, train: 5.0e-2, test: 3.0e-2}}
stop: {after_generalization: true, diverged: true}
log: {points_per_decade: 50}
checkpoint: {every_s: 60, keep: all}
resources: {cpu: 1, gpu: 0.5, pack: auto}
search: {sampler: tpe, objective: amplification, n_trials: 200}
"""


def value_of(text: str) -> Any:
    return parse(text, "g.yaml").value


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [EVERYTHING, FILE, MODULAR, MILLION])
def test_valid_files_pass(text: str) -> None:
    VALIDATOR.validate(value_of(text))


@pytest.mark.parametrize("path", sorted((ROOT / "grids").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_grids_pass(path: Path) -> None:
    VALIDATOR.validate(read(path).value)


@settings(deadline=None, max_examples=30)
@given(GRIDS)
def test_what_compiles_passes(blocks: list[dict[str, list[str]]]) -> None:
    VALIDATOR.validate(value_of(grid_text(blocks)))


@settings(deadline=None, max_examples=30)
@given(GIVEN)
def test_every_config_passes(given: Flat) -> None:
    fixed = {p: list(v) if isinstance(v, tuple) else v for p, v in given.items()}
    VALIDATOR.validate({"name": "g", "fixed": {**fixed, "steps": 1}})


@pytest.mark.parametrize(
    "name",
    [
        "unknown_key",
        "path_in_name",
        "name_is_missing",
        "scalar_task",
        "unknown_task",
        "unknown_field",
        "unknown_axis",
        "wrong_types",
        "out_of_range",
        "axis_in_fixed",
        "zip_is_no_list",
        "empty_axis",
        "scalar_axis",
        "unknown_spacing",
        "no_seeds",
        "empty_seeds",
        "seeds_in_words",
        "steps_are_missing",
        "no_steps",
        "half_a_step",
        "steps_as_an_axis",
        "criterion_rule",
        "settings",
        "asha",
        "trainable_is_no_module",
    ],
)
def test_broken_files_fail(name: str) -> None:
    (path,) = (ROOT / "tests" / "bad_grids").glob(f"??_{name}.yaml")
    assert not VALIDATOR.is_valid(read(path).value)


def test_fields_come_with_their_meaning_and_default() -> None:
    task = SCHEMA["properties"]["fixed"]["properties"]["task"]["properties"]
    notes = [option["description"] for option in task["N"]["anyOf"]]  # some tasks have a most
    assert notes[0].split("\n")[:3] == [
        "sparse_recovery: Number of measurements, at least 1.",
        "matrix_completion: Number of measured entries, at most n1 * n2.",
        "matrix_sensing: Number of measurements, at least 1.",
    ]
    assert not any("default" in option for option in task["N"]["anyOf"][:1])  # the tasks differ
    assert task["s"]["default"] == 5
    assert "modular_arithmetic: Learn the table" in task["name"]["description"]
    assert task["name"]["enum"] == list(GrokkingConfig.parts["task"])


def test_an_attribute_may_take_several_lines_of_a_docstring() -> None:
    assert attributes(SparseRecovery)["n"] == "Length of a*, at least 1."
    assert set(attributes(SparseRecovery)) == set(SparseRecovery.model_fields) - {"name"}


def test_every_field_of_every_choice_is_described_in_the_schema() -> None:
    fixed = SCHEMA["properties"]["fixed"]["properties"]
    assert fixed["dtype"]["description"] == attributes(GrokkingConfig)["dtype"]
    for part, choices in GrokkingConfig.parts.items():
        for name, section in choices.items():
            for path in leaves(section, f"{part}."):
                field = fixed[path]
                notes = [option.get("description", "") for option in field.get("anyOf", [])]
                lines = "\n".join([*notes, field.get("description", "")]).split("\n")
                *parents, last = path.split(".")[1:]
                model: Any = section
                for parent in parents:
                    model = model.model_fields[parent].annotation
                note = attributes(model)[last]
                assert f"{name}: {note}" in lines, path


def test_every_term_of_a_sum_has_a_description_of_its_own() -> None:
    fixed = SCHEMA["properties"]["fixed"]["properties"]
    paths = [path for path in leaves(Sum, "regularizer.") if path.count(".") == 3]
    notes = [fixed[path]["description"] for path in paths]
    assert len(paths) == len(set(notes)) == 8
    assert notes[0] == (
        "sum: Factor of the l1 norm, at least 0; null: the sum does not have this term."
    )


def test_every_field_of_a_class_that_users_extend_is_described() -> None:
    for base in BASES.values():
        assert set(attributes(base)) == set(base.model_fields) - {"name"}


def test_every_key_of_a_grid_file_is_described() -> None:
    mappings = {"": SCHEMA, **SCHEMA["$defs"]}
    keys = {
        f"{name}.{key}": schema.get("description", "")
        for name, mapping in mappings.items()
        if name != "Axes"  # its keys are the fields of the config
        for key, schema in mapping["properties"].items()
    }
    undescribed = {key for key, text in keys.items() if not text}
    assert undescribed == {"LogSpace.logspace", "LinSpace.linspace", "Range.range"}
    assert keys["Resources.gpu"] == "GPUs of one pack; a fraction shares one GPU."
    assert keys["Uniform.uniform"] == "[low, high]."
    assert not any("Attributes:" in mapping.get("description", "") for mapping in mappings.values())
