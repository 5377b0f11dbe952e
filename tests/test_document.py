"""YAML as plain values that remember where they stand; what is dangerous is refused unread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import ConfigError, SweeperError
from sweeper.grid.document import MAX_DEPTH, Document, parse, parse_value, read


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "g.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        ("200_000", 200_000),
        ("0.10", 0.1),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'1'", "1"),
        ("2020-01-01", "2020-01-01"),
        ("[1, a]", [1, "a"]),
        ("{a: 1}", {"a": 1}),
        ("1,2", "1,2"),
    ],
)
def test_yaml_means_what_it_says(text: str, value: object) -> None:
    found = parse_value(text, "override")
    assert found == value
    assert type(found) is type(value)


def test_every_node_knows_its_place() -> None:
    document = parse("a:\n  b: [1, {c: 2}]\n", "g.yaml")
    assert str(document.place("a", "b")) == "g.yaml:2:6"
    assert str(document.place("a", "b", key=True)) == "g.yaml:2:3"
    assert str(document.place("a", "b", 1, "c")) == "g.yaml:2:14"
    assert str(document.place("a", "b", 1, "missing")) == "g.yaml:2:10"
    assert str(document.place("nowhere")) == "g.yaml:1:1"


def test_a_document_without_places_is_called_by_its_name() -> None:
    assert str(Document("g.yaml", {}).place("a")) == "g.yaml"


def test_aliases_tags_depth_and_size_are_refused_where_they_stand() -> None:
    assert refusal("a: &x [1]\nb: *x\n").startswith("g.yaml:2:4: alias *x.")
    assert refusal("a: !!python/name:os.system x\n").startswith("g.yaml:1:4: tag ")
    assert refusal("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).startswith("g.yaml:1:21: nested")
    assert refusal("[" * 100_000).startswith("g.yaml:1:21: nested")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("fixed:\n  <<: {steps: 20}\n", "2:3"),
        ("a: [1, {b: c, <<: {d: 1}}]\n", "1:15"),
        ("<<: [{a: 1}]\n", "1:1"),
        ("a: &x {b: 1}\nc: {d: {e: [f]}, <<: *x}\n", "2:18"),
    ],
)
def test_a_merge_key_is_refused_where_it_stands(text: str, place: str) -> None:
    assert refusal(text) == (
        f"g.yaml:{place}: merge key <<. Merge keys aren't allowed: write the keys out."
    )


@pytest.mark.parametrize("text", ["{a: <<}", "[<<, <<]", "{'<<': 1}"])
def test_what_only_looks_like_a_merge_key_is_text(text: str) -> None:
    assert "<<" in str(parse_value(text, "x"))


def test_a_file_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.grid.document.MAX_NODES", 100)
    assert refusal("a: [" + "1, " * 200 + "]") == (
        "g.yaml:1:296: more than 100 values. Use linspace, logspace or range."
    )


def test_a_second_document_is_refused() -> None:
    assert "g.yaml" in refusal("a: 1\n---\nb: 2\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.yaml", None, "no such file. Grids live in grids/*.yaml."),
        ("latin.yaml", b"a: \xff", "not UTF-8 text (invalid start byte). Save it as UTF-8."),
        (".", None, "a folder. Name one of the grid files in it."),
    ],
)
def test_a_file_that_can_not_be_read_says_why(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {message}"


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("{}[]:,-&*!|>'\"#%@` \n\tab1.<", max_size=60))
def test_any_text_is_a_document_or_a_clear_error(text: str) -> None:
    message = "g.yaml"
    try:
        parse(text, "g.yaml")
    except SweeperError as error:
        message = str(error)
    assert message.startswith("g.yaml")


PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.sampled_from(["a", "b c", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(PLAIN)
def test_values_come_back_as_they_were_written(value: Any) -> None:
    assert parse_value(json.dumps(value), "x") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "name: x\n? product:\n",
            "g.yaml:2:3: a list or mapping as a key. Write a name as the key.",
        ),
        ("? [a, b]\n: 1", "g.yaml:1:3: a list or mapping as a key. Write a name as the key."),
        ("a: {? {b: 1} : 2}", "g.yaml:1:7: a list or mapping as a key. Write a name as the key."),
        ("1: a\n'1': b", "g.yaml:2:1: key '1' is set twice. Keep one of the two."),
        ('a: "\\ud800"', r"g.yaml:1:4: '\ud800' isn't Unicode text. Write the character itself."),
    ],
)
def test_a_key_or_value_that_is_no_text_is_refused_where_it_stands(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "g.yaml")
    assert caught.value.problems == [problem]
