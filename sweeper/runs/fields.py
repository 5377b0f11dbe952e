"""The fields of a user's config, read from the argument of `sweeper.init`.

A config is declared by keyword arguments with defaults, a mapping, a dataclass, a pydantic model,
or an `argparse.ArgumentParser`. Each becomes the same list of `Field`, which is plain data, and a
function that makes the user's own object from values.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

FILLED: Mapping[str, frozenset[str]] = {
    "seed": frozenset(["seed", "random_seed", "rng_seed", "random_state"]),
    "steps": frozenset(
        [
            "steps",
            "n_steps",
            "num_steps",
            "max_steps",
            "total_steps",
            "max_iters",
            "n_iters",
            "num_iters",
            "iterations",
        ]
    ),
    "device": frozenset(["device"]),
}
"""What a sweep fills in, by the names in lower case of the fields that it fills in: the seed, the
horizon (`fixed.steps`), and the device."""

SOURCES = {"seed": "the key seeds", "steps": "fixed.steps", "device": "resources.gpu"}
"""The place in the grid file that decides each of them."""

KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}

RESERVED = frozenset(
    [
        "name",
        "trainable",
        "fixed",
        "grid",
        "exclude",
        "seeds",
        "criterion",
        "stop",
        "log",
        "checkpoint",
        "resources",
        "search",
        "trial_id",
        "cell_id",
        "status",
        "task",
        "last_step",
        "stop_reason",
        "error",
        "git_commit",
        "dirty",
        "versions",
        "host",
        "device",
        "pack_id",
        "pack_size",
        "attempt",
        "started_at",
        "wall_s",
        "t1",
        "t2",
        "delay",
        "censored",
        "phase",
        "t1_lower",
        "t2_lower",
        "t1_after",
        "t2_after",
        "estimate",
        "n_seeds",
        "n_memorized",
        "n_generalized",
        "n_diverged",
        "delay_low",
        "delay_high",
        "delay_level",
        "delay_bound",
        "t1_bound",
        "t2_bound",
        "censored_share",
        "agreement",
    ]
)
"""Names that no field can have: keys of the grid file, columns of `trials`, `delays`, `cells`."""

BOUNDS = ("gt", "ge", "lt", "le")
"""Bounds of a number, by their names in pydantic."""


class DeclarationError(Exception):
    """The declaration of a config can't be understood; the message says what to write."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a config.

    Attributes:
        name: Its name.
        kind: ``bool``, ``int``, ``float``, ``str``, or ``vector`` for several numbers.
        required: Whether it has no default.
        default: Its default.
        optional: Whether it may be None.
        choices: The allowed values; None for all.
        bounds: Name of a bound (`BOUNDS`) to its value.
    """

    name: str
    kind: str
    required: bool = False
    default: Any = None
    optional: bool = False
    choices: tuple[Any, ...] | None = None
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the field as plain values, as JSON has them."""
        plain = dataclasses.asdict(self)
        return plain | {key: list(v) for key, v in plain.items() if isinstance(v, tuple)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Field:
        """Return the field of plain values."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        return cls(**values)


class Values(SimpleNamespace):
    """A config by attributes and by keys: ``config.lr``, ``config["lr"]``, ``**config``."""

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def keys(self) -> Any:
        """Return the names of the fields."""
        return vars(self).keys()

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a field, or `default` if there is no such field."""
        return vars(self).get(name, default)


@dataclasses.dataclass(frozen=True, slots=True)
class Declaration:
    """A declared config.

    Attributes:
        fields: Its fields, without those that the grid fills in (`FILLED`).
        filled: Those of its fields that the grid fills in, with their defaults.
        make: Makes the user's object from a value for each field.
        parser: The user's own command line, if the config was declared by one.
    """

    fields: tuple[Field, ...]
    filled: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], Any]
    parser: argparse.ArgumentParser | None = None

    def build(self, values: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
        """Return the user's object.

        Args:
            values: A value for each of `fields` that is required or differs from its default.
            given: Key of `FILLED` to its value; a field that it doesn't fill in has its default.
        """
        every = {field.name: field.default for field in self.fields if not field.required}
        every |= {n: given.get(str(filled_by(n)), default) for n, default in self.filled.items()}
        return self.make(every | dict(values))


def filled_by(name: str) -> str | None:
    """Return the key of `FILLED` by which a field of this name is filled in; None if it isn't."""
    return next((key for key, names in FILLED.items() if name.lower() in names), None)


def declare(config: Any, defaults: Mapping[str, Any]) -> Declaration:
    """Return the declaration of a config.

    Args:
        config: A mapping of defaults, a dataclass or an instance of one, a pydantic model, an
            `argparse.ArgumentParser`, or None.
        defaults: Name to default, from keyword arguments.

    Raises:
        DeclarationError: It can't be understood.
    """
    if config is not None and defaults:
        raise DeclarationError(
            "sweeper.init takes either a config or keyword arguments, not both. "
            f"Move {', '.join(defaults)} into the config."
        )
    make: Callable[[Mapping[str, Any]], Any] = lambda values: Values(**values)  # noqa: E731
    parser = None
    if config is None or isinstance(config, Mapping):
        given = defaults if config is None else dict(config)
        fields = [_from_default(name, value) for name, value in given.items()]
    elif isinstance(config, argparse.ArgumentParser):
        fields, parser = list(_from_parser(config)), config
        make = lambda values: argparse.Namespace(**values)  # noqa: E731
    elif dataclasses.is_dataclass(config):
        fields, make = _from_dataclass(config)
    elif isinstance(config, type) and hasattr(config, "model_fields"):
        fields, make = list(_from_model(config)), lambda values: config(**values)
    else:
        raise DeclarationError(
            f"sweeper.init can't read a config of the type {type(config).__name__}. Pass keyword "
            "arguments, a dictionary, a dataclass, a pydantic model or an ArgumentParser."
        )
    for field in fields:
        _check_name(field.name)
    filled = {f.name: f.default for f in fields if filled_by(f.name)}
    return Declaration(tuple(f for f in fields if f.name not in filled), filled, make, parser)


def of_annotation(annotation: Any) -> Declaration:
    """Return the declaration of a config that is the annotation of a parameter.

    Raises:
        DeclarationError: It is neither a dataclass nor a pydantic model.
    """
    known = dataclasses.is_dataclass(annotation) or hasattr(annotation, "model_fields")
    if not (isinstance(annotation, type) and known):
        raise DeclarationError(
            "the annotation of its first parameter has to be a dataclass or a pydantic model with "
            "the fields of the config, e.g. `def train(config: Config, run)`."
        )
    return declare(annotation, {})


def _check_name(name: str) -> None:
    if not name.isidentifier() or name.startswith("_"):
        raise DeclarationError(
            f"{name!r} can't be the name of a config field: it must be a Python name that doesn't "
            "start with an underscore."
        )
    if name in RESERVED and not filled_by(name):
        raise DeclarationError(
            f"the config field {name!r} has the name of a key of the grid file or of a column of "
            f"the results. Rename the field, e.g. to {name}_."
        )


def _from_default(name: str, value: Any) -> Field:
    """Return the field of a name and a default value, whose type is the type of the field."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        value = value.item()
    if type(value) in KINDS:
        return Field(name, KINDS[type(value)], default=value)
    if isinstance(value, list | tuple) and value and all(_is_number(v) for v in value):
        return Field(name, "vector", default=tuple(float(v) for v in value))
    if value is None:
        raise DeclarationError(
            f"the config field {name!r} has the default None, which doesn't say its type. Pass a "
            f"dataclass: `{name}: float | None = None`."
        )
    if isinstance(value, Mapping):
        raise DeclarationError(
            f"the config field {name!r} is a mapping. Pass its entries as fields of their own, "
            f"e.g. {name}_{next(iter(value), 'lr')}=..."
        )
    raise DeclarationError(
        f"the config field {name!r} has a default of the type {type(value).__name__}. Fields are "
        "numbers, text, true or false, or lists of numbers."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _from_annotation(
    name: str, annotation: Any, default: Any, bounds: Mapping[str, float]
) -> Field:
    """Return the field of a name with a type; `default` is ``inspect.Parameter.empty`` for none."""
    required = default is inspect.Parameter.empty
    default = None if required else default
    optional = False
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        optional = len(members) < len(typing.get_args(annotation))
        annotation = members[0] if len(members) == 1 else annotation
    choices = None
    if typing.get_origin(annotation) is typing.Literal:
        choices = typing.get_args(annotation)
        annotation = type(choices[0])
    if annotation in KINDS:
        if annotation is float and type(default) is int:
            default = float(default)
        kind = KINDS[annotation]
    elif typing.get_origin(annotation) in (tuple, list):
        inner = [a for a in typing.get_args(annotation) if a is not ...]
        if not inner or not all(a in (int, float) for a in inner):
            raise DeclarationError(f"the config field {name!r} must be a list of numbers.")
        kind = "vector"
        default = tuple(float(v) for v in default) if default is not None else None
    else:
        raise DeclarationError(
            f"the config field {name!r} has the type {_shown(annotation)}. Fields are bool, int, "
            "float, str, a Literal, tuple[float, ...], or one of these or None."
        )
    return Field(name, kind, required, default, optional, choices, bounds)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _from_dataclass(config: Any) -> tuple[list[Field], Callable[[Mapping[str, Any]], Any]]:
    kind = config if isinstance(config, type) else type(config)
    try:
        hints = typing.get_type_hints(kind)
    except NameError as error:
        raise DeclarationError(f"the types of {kind.__name__} can't be read: {error}.") from None
    fields = []
    for one in dataclasses.fields(kind):
        if not one.init:
            continue
        default: Any = inspect.Parameter.empty
        if not isinstance(config, type):
            default = getattr(config, one.name)
        elif one.default is not dataclasses.MISSING:
            default = one.default
        elif one.default_factory is not dataclasses.MISSING:
            default = one.default_factory()
        fields.append(_from_annotation(one.name, hints[one.name], default, {}))
    return fields, lambda values: kind(**values)


def _from_model(model: Any) -> Iterator[Field]:
    """Yield the fields of a pydantic model."""
    for name, info in model.model_fields.items():
        default = inspect.Parameter.empty
        if not info.is_required():
            default = info.get_default(call_default_factory=True)
        bounds = {
            bound: getattr(item, bound)
            for item in info.metadata
            for bound in BOUNDS
            if getattr(item, bound, None) is not None
        }
        yield _from_annotation(name, info.annotation, default, bounds)


def _from_parser(parser: argparse.ArgumentParser) -> Iterator[Field]:
    """Yield the fields of a command line: one per option and argument."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._VersionAction):
            continue
        name, default = action.dest, action.default
        if isinstance(action, argparse._SubParsersAction):
            raise DeclarationError(
                "sweeper.init can't read a command line with subcommands. Pass the parser of one "
                "of them."
            )
        if isinstance(default, str) and action.type is not None:
            default = parser._get_value(action, default)
        if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
            if not isinstance(default, bool):
                raise DeclarationError(
                    f"the option {name!r} is neither true nor false by default. Use "
                    "action='store_true' or give it a type."
                )
            yield Field(name, "bool", default=default)
            continue
        kind = KINDS.get(typing.cast("type", action.type)) or _kind_of(default)
        several = action.nargs in ("*", "+") or isinstance(action.nargs, int)
        if several:
            kind = "vector" if kind in ("int", "float", "vector") else "texts"
        if kind == "texts":
            raise DeclarationError(f"the option {name!r} takes several texts. Let it take one.")
        required = action.required and default is None
        choices = tuple(action.choices) if action.choices is not None else None
        if kind == "vector" and default is not None:
            default = tuple(float(v) for v in default)
        yield Field(name, kind, required, default, default is None and not required, choices)


def _kind_of(default: Any) -> str:
    """Return the kind of a default; text without one, as argparse does."""
    return KINDS.get(type(default), "vector" if isinstance(default, list | tuple) else "str")
