"""The pages of `docs/reference`, made from the code: ``python -m docs.make_reference``.

Each page lists the definitions of one place: the commands, the grid file, the functions of
`sweeper.api`, the views. The texts are those of the definitions: help texts and docstrings.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import sweeper
from sweeper import api, trainable
from sweeper.cli import app
from sweeper.config.fields import LARGEST, Config, Leaf, leaves, scalars
from sweeper.criterion import Criterion
from sweeper.grid.gridfile import CheckpointSettings, GridBlock, GridFile, Log, Resources, Stop
from sweeper.grid.jsonschema import attributes, description_of
from sweeper.grid.search_section import Search

MADE = "<!-- Made from the code by `make reference`. Change the texts there. -->\n"

VIEWS = ("trials", "metrics", "delays", "cells")


def pages() -> dict[str, str]:
    """Return file name to content of every page."""
    made = {
        "commands.md": commands(),
        "grid-file.md": grid_file(trainable.load("trainables.grokking").Config),
        "python.md": python(),
        "views.md": views(),
    }
    return {name: f"{MADE}\n{text.rstrip()}\n" for name, text in made.items()}


def write(folder: Path) -> None:
    """Write every page into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(headings)]
    lines.append(["---"] * len(lines[0]))
    lines += [[" ".join(cell.replace("|", r"\|").split()) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def commands() -> str:
    """Return the page of all commands with their arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands\n\n"
        "Every command also takes `-h` or `--help`. A flag goes before its environment "
        "variable.\n\n",
        _table(
            ("command", "does"),
            (
                (f"[`sweeper {name}`](#sweeper-{name})", c.help)
                for name, c in group.commands.items()
            ),
        ),
    ]
    for name, command in group.commands.items():
        parts.append(f"\n## sweeper {name}\n\n{command.help}\n")
        if command.params:
            rows = [_parameter(one) for one in command.params]
            parts.append("\n" + _table(("argument or option", "default", "meaning"), rows))
    return "".join(parts)


def _parameter(one: Any) -> tuple[str, str, str]:
    """Return the row of an argument or option of click's."""
    argument = one.param_type_name == "argument"
    name = one.metavar or one.name.upper() if argument else ", ".join(one.opts)
    if one.required:
        default = "required"
    elif one.default in (None, False, ()):
        default = ""
    else:
        default = f"`{one.default}`"
    variables = [one.envvar] if isinstance(one.envvar, str) else list(one.envvar or ())
    note = f" Environment: {', '.join(f'`{v}`' for v in variables)}." if variables else ""
    return f"`{name}`", default, f"{one.help}{note}"


def grid_file(config: type[Config]) -> str:
    """Return the page of the grid file: its keys, then every field of every named part."""
    parts = [
        "# The grid file\n\nThe guide with examples is [The grid file](../grid-file.md). "
        "`sweeper schema` prints the same facts as a JSON schema.\n\n## Keys\n\n",
        _table(("key", "type", "default", "meaning"), _keys(GridFile)),
    ]
    sections: dict[str, type[BaseModel]] = {
        "grid": GridBlock,
        "criterion": Criterion,
        "stop": Stop,
        "log": Log,
        "checkpoint": CheckpointSettings,
        "resources": Resources,
        "search": Search,
    }
    for name, model in sections.items():
        parts.append(f"\n### {name}\n\n")
        parts.append(_table(("key", "type", "default", "meaning"), _keys(model, f"{name}.")))
    asked = ((f"`{name}`", meaning) for name, meaning in config.on_request.items())
    parts += ["\n`log.metrics` takes these names:\n\n", _table(("metric", "meaning"), asked)]
    parts.append(
        "\n## Values of a trial\n\nThese stand in `fixed`, in the axes of `grid`, in "
        "`search.space`, and in `KEY=VALUE` on the command line.\n\n"
    )
    rows = [_leaf(leaf, config) for leaf in scalars(config).values()]
    parts.append(_table(("path", "type", "default", "meaning"), rows))
    for part, choices in config.parts.items():
        parts.append(f"\n## {part}\n")
        for name, section in choices.items():
            parts.append(f"\n### `{part}.name: {name}`\n\n{_prose(section)}\n")
            found = [
                _leaf(leaf, section, f"{part}.") for leaf in leaves(section, f"{part}.").values()
            ]
            if found:
                parts.append("\n" + _table(("path", "type", "default", "meaning"), found))
    return "".join(parts)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield the row of every key of a model of the grid file."""
    notes = attributes(model)
    schema = model.model_json_schema()
    for key, field in model.model_fields.items():
        default = (
            "required"
            if field.is_required()
            else _value(field.get_default(call_default_factory=True))
        )
        yield f"`{prefix}{key}`", _type(schema["properties"][key], schema), default, notes[key]


def _leaf(leaf: Leaf, model: type[BaseModel], prefix: str = "") -> tuple[str, str, str, str]:
    """Return the row of a field of a trial's config."""
    schema = leaf.adapter.json_schema()
    meaning = description_of(model, leaf.path.removeprefix(prefix))
    assert meaning is not None, f"{leaf.path} has no description"
    default = "required" if leaf.required else _value(leaf.default)
    return f"`{leaf.path}`", _type(schema, schema), default, meaning


def _value(value: object) -> str:
    """Return a default as the grid file spells it."""
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool) or value is None:
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{value}`" if value != {} else ""


def _type(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """Return a JSON schema in words: its types, choices and bounds."""
    if "$ref" in schema:
        return _type(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(option, root) for option in schema[key]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    name = {"object": "mapping", "array": "list", "null": "null", "string": "text"}.get(
        schema.get("type", "any"), schema.get("type", "any")
    )
    if name == "list" and schema.get("items"):
        name = f"list of {_type(schema['items'], root)}"
    elif "prefixItems" in schema:
        items = [_type(item, root) for item in schema["prefixItems"]]
        name = f"list of {len(items)}: {items[0]}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_bound(schema[key])}" for key, sign in signs.items() if key in schema]
    return " ".join([name, ", ".join(bounds)]).strip()


def _bound(number: float) -> str:
    """Return a bound as text; the largest stored whole number as a power."""
    return "2^63" if number == LARGEST else f"{number:,}".removesuffix(".0")


def _prose(described: object) -> str:
    """Return a docstring up to its first section."""
    text = inspect.getdoc(described) or ""
    return re.split(r"^(?:Attributes|References|Args|Returns|Raises):$", text, flags=re.MULTILINE)[
        0
    ].strip()


def python() -> str:
    """Return the page of the Python API: signatures and docstrings."""
    at_top = ", ".join(f"`{name}`" for name in sweeper.__all__ if name in api.__all__)
    parts = [
        "# Python\n\nThe guide with an example is [From Python](../python.md). These are also "
        f"attributes of `sweeper`: {at_top}.\n"
    ]
    for name in sorted(api.__all__, key=lambda name: inspect.isclass(getattr(api, name))):
        described = getattr(api, name)
        if inspect.isclass(described):
            parts.append(f"\n## {name}\n\n```text\n{inspect.getdoc(described)}\n```\n")
            parts += _members(described)
        else:
            text = f"{_signature(name, described)}\n\n{inspect.getdoc(described)}"
            parts.append(f"\n## sweeper.api.{name}\n\n```text\n{text}\n```\n")
    text = f"{_signature('init', sweeper.init)}\n\n{inspect.getdoc(sweeper.init)}"
    parts.append(f"\n## sweeper.init\n\n```text\n{text}\n```\n")
    parts.append(f"\n## Run\n\n```text\n{inspect.getdoc(sweeper.Run)}\n```\n")
    return "".join([*parts, *_members(sweeper.Run)])


def _members(described: type) -> Iterator[str]:
    """Yield the public properties and methods of a class, in their order."""
    for name, member in vars(described).items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if isinstance(member, property):
            title = f"{name}: {inspect.signature(member.fget).return_annotation}"  # type: ignore[arg-type]
        elif inspect.isfunction(member):
            title = _signature(name, member)
        else:
            continue
        text = f"{title}\n\n{inspect.getdoc(member)}"
        yield f"\n### {described.__name__}.{name}\n\n```text\n{text}\n```\n"


def _signature(name: str, function: Any) -> str:
    """Return the call of a function, one parameter per line."""
    signature = inspect.signature(function)
    lines, keywords = [], False
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not keywords:
            lines.append("*")
            keywords = True
        default = "..." if callable(one.default) else repr(one.default)
        given = "" if one.default is one.empty else f" = {default}"
        stars = "**" if one.kind is one.VAR_KEYWORD else ""
        lines.append(f"{stars}{one.name}: {one.annotation}{given}")
    arguments = "".join(f"    {line},\n" for line in lines)
    call = f"{name}(\n{arguments})" if arguments else f"{name}()"
    return f"{call} -> {signature.return_annotation}"


def views() -> str:
    """Return the page of the views: the headers of their SQL files."""
    folder = Path(inspect.getfile(sweeper)).parent / "analysis" / "views" / "sql"
    parts = ["# Views\n\n`sweeper sql NAME` queries these views.\n"]
    for name in VIEWS:
        header = []
        for line in (folder / f"{name}.sql").read_text().splitlines():
            if not line.startswith("--"):
                break
            header.append(line.removeprefix("--").removeprefix(" "))
        text = "\n".join(header)
        about, _, columns = text.partition("\ncolumns  ")
        intro = about.partition("\nreads ")[0].strip()
        grain = re.search(r"^grain +(.*)$", about, re.MULTILINE)
        rows = f"Rows: {grain[1]}.\n\n" if grain else ""
        listed = "\n".join(line.removeprefix(" " * 9) for line in columns.splitlines())
        parts.append(f"\n## {name}\n\n{intro}\n\n{rows}```text\n{listed}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
