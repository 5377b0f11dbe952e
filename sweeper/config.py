"""What a trial means: flat, typed, range-checked values, and which of them may share a pack.

A trainable declares its config as pydantic models: a `Config` with *parts* (task, model, ...),
each part a choice among named `Section`s. The engine sees only the flat form, a mapping from
dotted path to value (``"model.depth": 2``), the one name of a value everywhere.

A field is *static* (it picks the computation) unless it is marked `BATCHED` (it enters as one
number per trial) or `DRAWN` (batched, and it shapes the random draw of the data). Forgetting
the mark costs speed, never correctness.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sweeper.errors import did_you_mean

Scalar = bool | int | float | str | tuple[float, ...] | None
"""What a leaf of a config can hold; tuples are fixed-length vectors such as Adam's betas."""

Values = Mapping[str, Scalar]
"""A flat config: dotted path to value."""


@dataclass(frozen=True, slots=True)
class Batched:
    """Marks a field that enters the computation as one number per trial.

    Attributes:
        draws: The field shapes the random draw of the data: trials that agree on all such
            fields and on the seed share their data, and stand side by side in a pack.
    """

    draws: bool = False


BATCHED = Batched()
DRAWN = Batched(draws=True)


class Section(BaseModel):
    """One choice of one part, e.g. the regularizer `l1`; subclasses add fields.

    Attributes:
        fits: Part name to the names of that part this choice goes with; an absent part
            means any.
        defaults: Only on a task: defaults of other paths that depend on the task. They
            never change, since a field equal to its default is left out of the identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, Scalar]] = {}


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition between fields that may stand in different parts.

    Attributes:
        paths: The fields it reads; it applies to configs that have all of them.
        holds: Called with their values in that order.
        remedy: Completes "a = 1, b = 2: ..."; says what would be right.
    """

    paths: tuple[str, ...]
    holds: Callable[..., bool]
    remedy: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field of a section.

    Attributes:
        path: Its path within the config, e.g. ``regularizer.terms.l1.strength``.
        adapter: Checks and converts one value.
        default: Used when absent; `required` tells whether there is none.
        mark: How the field enters a pack; None is static.
        annotation: The declared type, for the columns of the store.
    """

    path: str
    adapter: TypeAdapter[Any]
    default: Scalar
    required: bool
    mark: Batched | None
    annotation: Any

    def check(self, value: object) -> tuple[Scalar, str | None]:
        """Return the value as the field's type, or the reason why it can't be."""
        if isinstance(value, list):
            value = tuple(value)
        try:
            checked = self.adapter.validate_python(value, strict=True)
        except ValidationError as error:
            return None, error.errors()[0]["msg"].removeprefix("Input ").rstrip(".")
        if isinstance(checked, float):
            checked += 0.0  # -0.0 and 0.0 mean the same
        return typing.cast("Scalar", checked), None


@dataclass(slots=True)
class Resolved:
    """A flat config with every default filled in.

    Attributes:
        values: Path to value, every field that applies.
        dropped: Given paths that don't apply to the chosen names.
        problems: (path, message) of what is wrong; `values` is complete only without them.
    """

    values: dict[str, Scalar] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


class Config(BaseModel):
    """The scientific config of a trial; a trainable subclasses it.

    Class attributes:
        parts: Part to (name to Section), in the order in which names are chosen; the first
            part may set defaults of the others.
        names: Part to its default name, where the first part's choice doesn't say.
        constraints: Conditions between fields.
        criteria: Name of the first part's choice to the fields of its default criterion.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {}
    names: ClassVar[Mapping[str, str]] = {}
    constraints: ClassVar[tuple[Constraint, ...]] = ()
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {}


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Leaf]:
    """Return the fields of `model` by path, nested models flattened, `name` left out."""
    return dict(_leaves(model, prefix))


@cache
def _leaves(model: type[BaseModel], prefix: str) -> tuple[tuple[str, Leaf], ...]:
    found: list[tuple[str, Leaf]] = []
    for name, info in model.model_fields.items():
        if name == "name" and issubclass(model, Section):
            continue
        path = f"{prefix}{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found += _leaves(info.annotation, path + ".")
        else:
            found.append((path, _leaf(path, info)))
    return tuple(found)


def _leaf(path: str, info: FieldInfo) -> Leaf:
    mark = next((m for m in info.metadata if isinstance(m, Batched)), None)
    checks = tuple(m for m in info.metadata if not isinstance(m, Batched))
    annotation = info.annotation
    checked: Any = typing.Annotated[(annotation, *checks)] if checks else annotation
    config = ConfigDict(strict=True, allow_inf_nan=False)
    required = info.is_required()
    default = None if required else info.get_default(call_default_factory=True, validated_data={})
    return Leaf(path, TypeAdapter(checked, config=config), default, required, mark, annotation)


def scalars(config: type[Config]) -> dict[str, Leaf]:
    """Return the fields of `config` that stand outside of its parts, e.g. `dtype`."""
    return {path: leaf for path, leaf in leaves(config).items() if path not in config.parts}


def all_leaves(config: type[Config]) -> dict[str, Leaf]:
    """Return every field any choice of `config` can have, by path; the first one wins."""
    found = scalars(config)
    for part, choices in config.parts.items():
        for section in choices.values():
            for path, leaf in leaves(section, f"{part}.").items():
                found.setdefault(path, leaf)
    return found


def known_paths(config: type[Config]) -> list[str]:
    """Return every path a grid file may set, names included."""
    return [*all_leaves(config), *(f"{part}.name" for part in config.parts)]


def marks(config: type[Config]) -> dict[str, Batched | None]:
    """Return how each path enters a pack: a mark, or None where it is static."""
    return {path: leaf.mark for path, leaf in all_leaves(config).items()}


def arrow_kind(annotation: Any) -> str:
    """Return the column kind of a field: bool, int, float, str or vector.

    Raises:
        TypeError: A config field of another type; fields must be plain to be stored.
    """
    args = [a for a in typing.get_args(annotation) if a is not types.NoneType]
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return "vector"
    if origin is typing.Literal:
        return type(args[0]).__name__
    if origin in (typing.Union, types.UnionType):
        kinds = {arrow_kind(a) for a in args}
        if len(kinds) == 1:
            return kinds.pop()
    if annotation in (bool, int, float, str):
        return str(annotation.__name__)
    if origin is typing.Annotated:
        return arrow_kind(args[0])
    raise TypeError(f"a config field can't be stored as a column: {annotation!r}")


def resolve(config: type[Config], given: Mapping[str, object]) -> Resolved:
    """Choose the names, fill in the defaults, check every value.

    Args:
        config: The trainable's config.
        given: Path to raw value, as the grid file has them.

    Returns:
        The flat config. A part whose name isn't given has its default name, or, where the
        given fields don't fit that, the only name that they do fit.
    """
    out = Resolved()
    task_defaults: Mapping[str, Scalar] = {}
    chosen: dict[str, str] = {}
    known = {part: {} for part in config.parts} | {"": scalars(config)}
    for position, (part, choices) in enumerate(config.parts.items()):
        name = _choose(config, part, given, chosen, task_defaults, out)
        if name is None:
            continue
        chosen[part] = name
        if position == 0:
            task_defaults = choices[name].defaults
        out.values[f"{part}.name"] = name
        known[part] = leaves(choices[name], f"{part}.")
    applicable = {path: leaf for group in known.values() for path, leaf in group.items()}
    _fill(config, given, applicable, task_defaults, chosen, out)
    return out


def _fill(
    config: type[Config],
    given: Mapping[str, object],
    applicable: Mapping[str, Leaf],
    task_defaults: Mapping[str, Scalar],
    chosen: Mapping[str, str],
    out: Resolved,
) -> None:
    for path, leaf in applicable.items():
        if path in given:
            value, problem = leaf.check(given[path])
            if problem is not None:
                out.problems.append((path, f"{path} = {given[path]!r}: {problem.lower()}."))
            out.values[path] = value
        elif path in task_defaults:
            out.values[path] = task_defaults[path]
        elif leaf.required:
            part = path.split(".")[0]
            out.problems.append(
                (path, f"{path} is missing: {chosen.get(part, part)!r} needs it. Add it.")
            )
        else:
            out.values[path] = leaf.default
    everything = known_paths(config)
    for path in given:
        if path in out.values or path in applicable or path.endswith(".name"):
            continue
        if path in everything:
            out.dropped.append(path)
        else:
            out.problems.append((path, unknown_path(config, path)))


def unknown_path(config: type[Config], path: str) -> str:
    """Return the message for a path that no choice has."""
    part, _, name = path.partition(".")
    if name and part in config.parts:
        prefix = f"{part}."
        names = [p.removeprefix(prefix) for p in known_paths(config) if p.startswith(prefix)]
        return f"{part} has no field {name!r}. {did_you_mean(name, names)}"
    roots = [*config.parts, *scalars(config)]
    return f"unknown key {path!r}. {did_you_mean(part, roots)}"


def _choose(
    config: type[Config],
    part: str,
    given: Mapping[str, object],
    chosen: Mapping[str, str],
    task_defaults: Mapping[str, Scalar],
    out: Resolved,
) -> str | None:
    choices = config.parts[part]
    path = f"{part}.name"
    fitting = [n for n, section in choices.items() if _fits(section, chosen)]
    if path in given:
        name = given[path]
        if name not in choices:
            remedy = did_you_mean(str(name), fitting)
            out.problems.append((path, f"{path} = {name!r} is unknown. {remedy}"))
            return None
        if name not in fitting:
            lead = next(iter(chosen.values()))
            out.problems.append(
                (
                    path,
                    f"{path} = {name!r} doesn't go with {lead!r}. {part} can be: "
                    + ", ".join(fitting)
                    + ".",
                )
            )
            return None
        return str(name)
    default = task_defaults.get(path, config.names.get(part))
    wanted = {p for p in given if p.startswith(f"{part}.")}
    if default is not None and wanted <= set(leaves(choices[str(default)], f"{part}.")):
        return str(default)
    candidates = [n for n in fitting if wanted <= set(leaves(choices[n], f"{part}."))]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:  # each field is judged on its own, by the default choice
        return str(default) if default is not None else _missing(path, fitting, out)
    return _missing(path, candidates, out)


def _missing(path: str, candidates: Sequence[str], out: Resolved) -> None:
    out.problems.append((path, f"{path} is missing. Choose one of: {', '.join(candidates)}."))


def _fits(section: type[Section], chosen: Mapping[str, str]) -> bool:
    return all(chosen.get(part) in names for part, names in section.fits.items() if part in chosen)


def broken(config: type[Config], values: Values) -> Iterator[tuple[Constraint, str]]:
    """Yield each constraint that `values` breaks, with its message."""
    for constraint in config.constraints:
        if all(path in values for path in constraint.paths):
            read = [values[path] for path in constraint.paths]
            if not constraint.holds(*read):
                shown = ", ".join(
                    f"{p} = {v!r}" for p, v in zip(constraint.paths, read, strict=True)
                )
                yield constraint, f"{shown}: {constraint.remedy}"


def chosen_leaves(config: type[Config], values: Values) -> dict[str, Leaf]:
    """Return the fields of the choices that resolved `values` made, by path."""
    found = scalars(config)
    for part, choices in config.parts.items():
        found |= leaves(choices[str(values[f"{part}.name"])], f"{part}.")
    return found


def defaults(config: type[Config], values: Values) -> dict[str, Scalar]:
    """Return the default of each path of resolved `values` that has one, names included."""
    found: dict[str, Scalar] = {f"{part}.name": name for part, name in config.names.items()}
    found |= {p: x.default for p, x in chosen_leaves(config, values).items() if not x.required}
    lead = next(iter(config.parts), None)
    if lead is not None:
        found |= config.parts[lead][str(values[f"{lead}.name"])].defaults
    return found


def nested(config: type[Config], values: Values) -> dict[str, Any]:
    """Return the flat `values` as the nested mapping that ``config`` validates."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return {key: value for key, value in tree.items() if key in config.model_fields}


def build(config: type[Config], values: Values) -> Config:
    """Return the typed config of flat, resolved `values`."""
    return config.model_validate(nested(config, values), strict=True)
