"""The reference pages say the same as the code that they are made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import make_reference as reference
from sweeper.config.fields import all_leaves
from sweeper.grid.gridfile import GridFile
from sweeper.trainables.config import GrokkingConfig

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_the_one_that_the_code_gives(name: str) -> None:
    committed = (FOLDER / name).read_text()
    assert committed == PAGES[name], f"docs/reference/{name} is stale: run `make reference`"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_every_argument_and_option_has_a_meaning() -> None:
    rows = re.findall(r"^\| `.*$", PAGES["commands.md"], re.MULTILINE)
    assert len(rows) > 60
    assert not [row for row in rows if row.endswith("|  |")]


def test_every_key_and_every_field_is_on_the_page_of_the_grid_file() -> None:
    listed = set(re.findall(r"^\| `([^`]+)` \|", PAGES["grid-file.md"], re.MULTILINE))
    assert set(GridFile.model_fields) <= listed
    assert "|  |\n" not in PAGES["grid-file.md"], "a field has no meaning"
    assert {"stop.diverged", "search.space", "criterion.rule", "grid.zip"} <= listed
    names = {f"{part}.name" for part in GrokkingConfig.parts}
    assert all_leaves(GrokkingConfig).keys() - names <= listed
    for part, choices in GrokkingConfig.parts.items():
        for name in choices:
            assert f"### `{part}.name: {name}`" in PAGES["grid-file.md"]


def test_defaults_are_spelled_as_in_a_grid_file() -> None:
    page = PAGES["grid-file.md"]
    assert "| `stop.diverged` | boolean | `true` |" in page
    assert "| `optimizer.betas` | list of 2: number >= 0, < 1 | `[0.9, 0.98]` |" in page
    assert "| `regularizer.strength` | number >= 0 | required |" in page
    assert "| `search` | mapping or null | `null` |" in page


def test_every_view_lists_its_columns() -> None:
    for view in reference.VIEWS:
        section = PAGES["views.md"].partition(f"\n## {view}\n")[2].partition("\n## ")[0]
        assert re.search(r"^```text\n(trial|cell)_id +text$", section, re.MULTILINE)
        assert "Rows: one row per " in section
