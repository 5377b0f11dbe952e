"""The JSON schema of grid files, for editors: the keys, the values they take, their meaning.

It is looser than `sweeper.compile.compile`: it lists the fields of every name, but not which names
go together. Descriptions come from the "Attributes" sections of docstrings. pydantic can read only
a string below each field, and needs the source of every class for that, at every import.

References:
    JSON Schema, draft 2020-12. https://json-schema.org/draft/2020-12/schema
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel

from sweeper.config.fields import Config, Leaf, known_paths, leaves, scalars
from sweeper.criterion import Criterion
from sweeper.grid import search_section, spacing
from sweeper.grid.gridfile import CheckpointSettings, GridBlock, GridFile, Log, Resources, Stop
from sweeper.grid.search_section import Finalists, Objective, Search

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_SPACINGS = ("LogSpace", "LinSpace", "Range")

_MODELS: tuple[type[BaseModel], ...] = (
    CheckpointSettings,
    Criterion,
    Finalists,
    GridBlock,
    Log,
    Objective,
    Resources,
    Search,
    Stop,
    spacing.LogSpace,
    spacing.LinSpace,
    spacing.Range,
    *search_section.KINDS.values(),
)
"""The models of the mappings within a grid file."""


def json_schema(config: type[Config]) -> Schema:
    """Return the JSON schema of the grid files of a trainable's `config`."""
    schema = GridFile.model_json_schema()
    fields = _fields(config)
    schema["properties"]["fixed"] = _fixed(fields)
    axes = _closed_over({path: _axis(fields[path]) for path in known_paths(config)})
    block = schema["$defs"]["GridBlock"]["properties"]
    block["product"] = {"$ref": "#/$defs/Axes"}
    block["zip"] = {"type": "array", "items": {"$ref": "#/$defs/Axes"}}
    schema["$defs"]["Axes"] = axes
    search = schema["$defs"]["Search"]["properties"]
    search["space"] = _closed_over({p: _distribution(fields[p]) for p in known_paths(config)})
    search["reference"] = _closed_over({p: fields[p] for p in known_paths(config)})
    _describe(schema, GridFile)
    for model in _MODELS:
        _describe(schema["$defs"][model.__name__], model)
    names = list(config.on_request)
    meanings = "\n".join(f"{name}: {meaning}" for name, meaning in config.on_request.items())
    schema["$defs"]["Log"]["properties"]["metrics"]["items"] = {
        "enum": names,
        "description": meanings,
    }
    return {"$schema": DIALECT, **schema, "title": "A grid of sweeper"}


def _describe(schema: Schema, model: type[BaseModel]) -> None:
    """Describe a model by the first line of its docstring, and each key by its attribute."""
    schema["description"] = _summary(model)
    for key, note in attributes(model).items():
        schema["properties"][model.model_fields[key].alias or key]["description"] = note


def _fields(config: type[Config]) -> dict[str, Schema]:
    """Return the schema of each path. A field of several names takes the values of all of them."""
    schemas = {path: [_field(leaf, config)] for path, leaf in scalars(config).items()}
    for part, choices in config.parts.items():
        schemas[f"{part}.name"] = [_name(config, part)]
        for name, section in choices.items():
            for path, leaf in leaves(section, f"{part}.").items():
                field = _field(leaf, section, f"{part}.")
                field["description"] = f"{name}: {field.get('description', 'no description.')}"
                schemas.setdefault(path, []).append(field)
    return {path: _either(options) for path, options in schemas.items()}


def _either(schemas: list[Schema]) -> Schema:
    """Return the schema of the values of any of `schemas`; equal types share one description."""
    types: dict[str, tuple[Schema, list[str], list[Any]]] = {}
    for schema in schemas:
        notes = ("description", "default")
        bare = {key: value for key, value in schema.items() if key not in notes}
        _, descriptions, defaults = types.setdefault(repr(bare), (bare, [], []))
        descriptions.append(schema.get("description", ""))
        defaults += [schema["default"]] if "default" in schema else []
    merged = []
    for bare, descriptions, defaults in types.values():
        note: Schema = {"description": "\n".join(dict.fromkeys(filter(None, descriptions)))}
        same = defaults and all(d == defaults[0] for d in defaults)
        if same and len(defaults) == len(descriptions):
            note["default"] = defaults[0]
        merged.append(bare | note)
    return merged[0] if len(merged) == 1 else {"anyOf": merged}


def _field(leaf: Leaf, model: type[BaseModel], prefix: str = "") -> Schema:
    schema: Schema = leaf.adapter.json_schema()
    note = description_of(model, leaf.path.removeprefix(prefix))
    if note:
        schema["description"] = note
    if not leaf.required:
        default = leaf.default
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema


def _name(config: type[Config], part: str) -> Schema:
    choices = config.parts[part]
    lines = [f"{name}: {_summary(section)}" for name, section in choices.items()]
    schema: Schema = {"enum": list(choices), "description": "\n".join(lines)}
    if part in config.names:
        schema["default"] = config.names[part]
    return schema


def _fixed(fields: dict[str, Schema]) -> Schema:
    """Return the schema of `fixed`: every path, dotted, nested, or both."""
    tree: Schema = {
        "steps": {
            "type": "number",
            "minimum": 1,
            "multipleOf": 1,
            "description": "Horizon in optimizer steps.",
        }
    }
    for path, field in fields.items():
        names = path.split(".")
        for start in range(len(names)):
            node = tree
            for name in names[:start]:
                node = node.setdefault(name, {"properties": {}})["properties"]
            node[".".join(names[start:])] = field
    return {**_closed(tree), "required": ["steps"]}


def _closed(tree: Schema) -> Schema:
    """Return the schema of a mapping with the properties of `tree` and no others."""
    properties = {
        key: _closed(node["properties"]) if set(node) == {"properties"} else node
        for key, node in tree.items()
    }
    return _closed_over(properties)


def _closed_over(properties: dict[str, Schema]) -> Schema:
    """Return the schema of a mapping that has some of `properties` and nothing else."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _distribution(field: Schema) -> Schema:
    """Return the schema of a distribution over the values of `field`."""
    numeric = any(kind in ("number", "integer") for kind in _types(field))
    kinds = ["Categorical", *(("Uniform", "LogUniform", "Int") if numeric else ())]
    note = {"description": field["description"]} if "description" in field else {}
    return {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds], **note}


def _axis(field: Schema) -> Schema:
    """Return the schema of an axis over the values of `field`."""
    several = {"type": "array", "minItems": 1, "items": field}
    numeric = any(kind in ("number", "integer") for kind in _types(field))
    spacings = [{"$ref": f"#/$defs/{name}"} for name in _SPACINGS] if numeric else []
    note = {"description": field["description"]} if "description" in field else {}
    return {"anyOf": [several, *spacings], **note}


def _types(field: Schema) -> list[str]:
    inner = [kind for option in field.get("anyOf", []) for kind in _types(option)]
    return [*inner, *([field["type"]] if "type" in field else [])]


def _summary(model: type[BaseModel]) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(model) or "").split("\n")[0]


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of each field, from the docstring of `model` or of a base class."""
    described: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel):
            described |= _attributes(base)
    return {name: text for name, text in described.items() if name in model.model_fields}


def description_of(model: type[BaseModel], path: str) -> str | None:
    """Return the description of the field of `model` at `path`, dotted below nested models."""
    name, _, rest = path.partition(".")
    field = model.model_fields.get(name)
    inner = None if field is None else field.annotation
    if rest and isinstance(inner, type) and issubclass(inner, BaseModel):
        return description_of(inner, rest)
    return attributes(model).get(name)


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    _, _, section = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    described: dict[str, str] = {}
    name = ""
    for row in section.splitlines():
        entry = re.match(r"    (\w+): (.*)", row)
        if entry:
            name = entry[1]
            described[name] = entry[2]
        elif name and row.startswith("     "):
            described[name] += " " + row.strip()
        else:
            break
    return described
