"""Every mistake of a grid file is named with its place, its value and a remedy, all together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.compile.compile import compile_grid, read_grid
from sweeper.config.fields import Config
from sweeper.errors import ConfigError, UsageError
from sweeper.grid.document import parse, read
from sweeper.grid.gridfile import GridFile
from sweeper.grid.shape import check_shape, validate
from sweeper.trainables.config import GrokkingConfig

BAD = sorted((Path(__file__).parent / "bad_grids").glob("*.yaml"))

GOOD = """
name: good
fixed: {task: {name: sparse_recovery}, steps: 100}
"""


def load(name: str) -> type[Config]:
    """Stand in for the loader of trainables: imports nothing."""
    if name != "trainables.grokking":
        raise UsageError(
            f"trainable {name!r} can't be imported: No module named {name!r}. Install it, or add "
            "its folder to PYTHONPATH."
        )
    return GrokkingConfig


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_grid(parse(text, "g.yaml"), load)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_there_are_enough_broken_grids_to_speak_of() -> None:
    assert len(BAD) >= 35


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_broken_grid_names_all_of_its_mistakes_in_order(path: Path) -> None:
    text = path.read_text()
    expected = []
    for row in text.splitlines():
        if not row.startswith("# "):
            break
        expected.append(row.removeprefix("# "))
    if path.stem.endswith("empty_file"):
        expected = expected[:1]
    assert mistakes(text) == expected


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_mistake_ends_with_a_remedy_in_plain_words(path: Path) -> None:
    for problem in mistakes(path.read_text()):
        assert problem.endswith((".", "?"))
        for jargon in ("pydantic", "validation", "Input", "String should", "NoneType", "Error"):
            assert jargon not in problem


def test_validate_reports_the_shape_alone_and_compile_grid_the_values() -> None:
    text = GOOD.replace("}, steps", ", s: -1}, steps") + "seeds: 0\n"
    with pytest.raises(ConfigError) as shape:
        validate(parse(text, "g.yaml"))
    assert [p.split(": ")[1].split(" = ")[0] for p in shape.value.problems] == ["seeds"]
    document = parse(text.replace("seeds: 0", "seeds: 1"), "g.yaml")
    with pytest.raises(ConfigError) as values:
        compile_grid(document, validate(document), GrokkingConfig)
    assert [p.split(": ")[1] for p in values.value.problems] == ["task.s = -1 must be at least 1."]


def test_what_is_left_of_a_refused_file_is_still_a_file() -> None:
    file, refusals = check_shape(
        parse(GOOD + "seeds: 0\nexclude: [5, model.depth = 1]\n", "g.yaml")
    )
    assert isinstance(file, GridFile)
    assert file.seed_list == [0]
    assert file.excludes == ["false", "model.depth = 1"]
    assert [d.node for d in refusals] == [("exclude", 0), ("seeds",)] or [
        d.node for d in refusals
    ] == [("seeds",), ("exclude", 0)]


def test_more_than_a_megabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("#" * 1_000_001)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: 1000001 bytes. A grid file has at most 1000000."


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{logspace: [1, 1000, 4]}", [1, 10, 100, 1000]),
        ("{logspace: [1.0e-3, 1.0, 4]}", [0.001, 0.01, 0.1, 1.0]),
        ("{linspace: [0, 0.6, 4]}", [0.0, 0.2, 0.4, 0.6]),
        ("{linspace: [20, 80, 4]}", [20, 40, 60, 80]),
        ("{range: [1, 4]}", [1, 2, 3]),
        ("{range: [0, 1, 0.25]}", [0.0, 0.25, 0.5, 0.75]),
        ("[3, 1]", [3, 1]),
    ],
)
def test_an_axis_holds_the_values_that_were_meant(text: str, values: list[float]) -> None:
    file = validate(parse(GOOD + f"grid: {{product: {{model.depth: {text}}}}}\n", "g.yaml"))
    axis = file.blocks[0].product["model.depth"]
    found = axis if isinstance(axis, list) else axis.values()
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


def test_one_block_needs_no_list_and_no_grid_is_a_single_cell() -> None:
    assert len(validate(parse(GOOD, "g.yaml")).blocks) == 1
    assert read_grid(parse(GOOD, "g.yaml"), load).n_trials == 1
