"""The config of a trial: flat, typed, range-checked values, and the marks of its fields.

A trainable declares its config as pydantic models: a `Config` with *parts* (task, model, ...),
each part a choice among named `Section`s. The engine sees only the flat form, a mapping from
dotted path to value (``"model.depth": 2``). Such a path is the name of a value everywhere.

A field is *static* (it selects the computation) unless it is marked `BATCHED` (it enters as one
number per trial) or `DRAWN` (batched, and the random draw of the data depends on it). A missing
mark costs speed, but results stay correct.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sweeper.config.messages import quoted, requirement

Scalar = bool | int | float | str | tuple[float, ...] | None
"""The type of a config's value. Tuples are fixed-length vectors such as Adam's betas."""

Values = Mapping[str, Scalar]
"""A flat config: dotted path to value."""


@dataclass(frozen=True, slots=True)
class Batched:
    """Marks a field that enters the computation as one number per trial.

    Attributes:
        draws: Whether the random draw of the data depends on the field. Trials with equal seeds
            and equal values of all such fields share their data, and are neighbours in a pack.
    """

    draws: bool = False


LARGEST = 2**63
"""Whole numbers are stored in 64 bits."""

BATCHED = Batched()
DRAWN = Batched(draws=True)


def is_import_path(name: object) -> bool:
    """Return whether the name of a choice is an import path (`sweeper.config.plugins`)."""
    return isinstance(name, str) and ":" in name


class Section(BaseModel):
    """One choice of one part, e.g. the regularizer `l1`; subclasses add fields.

    Attributes:
        fits: Part to the names of that part that this choice can be combined with; any name of
            an absent part. "own" stands for all choices by import path.
        defaults: On tasks only: defaults of other paths that depend on the task. They never
            change, because a field equal to its default is left out of the identity.
        like: Name of another choice of the same part. Every choice that fits it fits this one.
        criterion: On tasks only: the fields of the default criterion of a task that the
            config's `criteria` lacks.
        logged_metrics: On tasks only: each metric M whose columns ``train_M`` and ``test_M`` the
            task logs; None where the config's `logged_metrics` has it, or it isn't known.
        needed: Names of the methods that a subclass has to define.
        neutral: Path to the value at which this choice has no effect. The amplification of a
            cell is relative to the same cell with these values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, Scalar]] = {}
    neutral: ClassVar[Mapping[str, Scalar]] = {}
    needed: ClassVar[tuple[str, ...]] = ()
    like: ClassVar[str | None] = None
    criterion: ClassVar[Mapping[str, Any] | None] = None
    logged_metrics: ClassVar[tuple[str, ...] | None] = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition between fields that may stand in different parts.

    Attributes:
        paths: The fields that it reads. It applies to configs that have all of them.
        holds: Returns whether the condition holds; called with their values in that order.
        remedy: Completes "a = 1, b = 2: ..." with the reason and the values to write instead.
    """

    paths: tuple[str, ...]
    holds: Callable[..., bool]
    remedy: str


@dataclass(frozen=True, slots=True)
class NormalForm:
    """A field that has no effect, or no effect of its own, under some values of other fields.

    Configs that differ in it alone are then the same trial, so they get one value and one id.

    Attributes:
        path: The field. The form applies to configs that have it.
        reads: The other fields that decide; a config may lack some of them.
        value: Returns the value that the field has then; called with the resolved values and the
            default of the field. It returns the field's own value where that has an effect.
    """

    path: str
    reads: tuple[str, ...]
    value: Callable[[Values, Scalar], Scalar]


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of the numbers that some trials train to; those trials have new ids since.

    Attributes:
        name: Its name in the identity of these trials; never to change.
        where: Paths of names, and the names that such a trial has there.
        reads: The fields that decide among these trials.
        applies: Returns whether a trial of these values is one of them.
    """

    name: str
    where: Mapping[str, str]
    reads: tuple[str, ...]
    applies: Callable[[Values], bool]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field of a section.

    Attributes:
        path: Its path within the config, e.g. ``regularizer.terms.l1.strength``.
        adapter: Checks and converts one value.
        default: The value of an absent field; None if the field is `required`.
        mark: How the field enters a pack; None for a static field.
        annotation: The declared type, for the columns of the store.
    """

    path: str
    adapter: TypeAdapter[Any]
    default: Scalar
    required: bool
    mark: Batched | None
    annotation: Any

    @property
    def kind(self) -> str:
        """The kind of its column, as `arrow_kind`."""
        return arrow_kind(self.annotation)

    def check(self, value: object) -> tuple[Scalar, str | None]:
        """Return the value as the field's type, or the requirement that it doesn't meet.

        A whole number may be spelled as a float (``1e3``), a float as a whole number.

        Returns:
            (value, None), or (None, requirement), which completes "lr = -1.0 ...".
        """
        if isinstance(value, list):
            value = tuple(value)
        elif self.kind == "int" and isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST:
            return None, "must be below 2^63."
        try:
            checked = self.adapter.validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"] and first["type"] != "missing":
                item = f"item {int(first['loc'][0]) + 1} = {quoted(first['input'])}"
                return None, f"has {item}, which {requirement(first)}"
            return None, requirement(first)
        return typing.cast("Scalar", _normal(checked)), None


class Config(BaseModel):
    """The scientific config of a trial; a trainable subclasses it.

    Class attributes:
        parts: Part to (name to Section), in the order in which names are chosen; the first
            part may set defaults of the others.
        bases: Part to the class that a user's own choice for it subclasses
        (`sweeper.config.plugins`).
        names: Part to its default name, where the first part's choice doesn't say.
        constraints: Conditions between fields.
        normal_forms: Fields that have no effect under some values of other fields.
        revisions: Changes of the numbers that some trials train to.
        criteria: Name of the first part's choice to the fields of its default criterion.
        metrics: Metrics that tasks add to those of `sweeper.store.schema`: `M` stands for the
        columns
            ``train_M`` and ``test_M``.
        logged_metrics: Name of the first part's choice to each metric M whose columns ``train_M``
            and ``test_M`` it logs. A criterion on another metric is refused; a choice that isn't
            listed may log anything.
        on_request: Expensive metrics that are logged only if `log.metrics` of the grid file names
            them: name to its meaning, in one line with the columns that it adds.
        code: The description of a user's script or function (`sweeper.runs.own`), whose config this
            is and which may log any metrics; None for the config of a module.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {}
    bases: ClassVar[Mapping[str, type[Section]]] = {}
    names: ClassVar[Mapping[str, str]] = {}
    constraints: ClassVar[tuple[Constraint, ...]] = ()
    normal_forms: ClassVar[tuple[NormalForm, ...]] = ()
    revisions: ClassVar[tuple[Revision, ...]] = ()
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    metrics: ClassVar[tuple[str, ...]] = ()
    logged_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    on_request: ClassVar[Mapping[str, str]] = {}
    code: ClassVar[Mapping[str, Any] | None] = None


def _normal(value: Any) -> Any:
    """Return `value` with -0.0, which means the same, as 0.0."""
    if isinstance(value, tuple):
        return tuple(_normal(v) for v in value)
    return value + 0.0 if isinstance(value, float) else value


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Leaf]:
    """Return the fields of `model` by path, nested models flattened, `name` left out."""
    return dict(_leaves(model, prefix))


@cache
def _leaves(model: type[BaseModel], prefix: str) -> tuple[tuple[str, Leaf], ...]:
    every: list[tuple[str, Leaf]] = []
    for name, info in model.model_fields.items():
        if name == "name" and issubclass(model, Section):
            continue
        path = f"{prefix}{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            every += _leaves(info.annotation, path + ".")
        else:
            every.append((path, _leaf(path, info)))
    return tuple(every)


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
    """Return every field of every choice of `config` by path, of equal paths the first."""
    every = scalars(config)
    for part, choices in config.parts.items():
        for section in choices.values():
            for path, leaf in leaves(section, f"{part}.").items():
                every.setdefault(path, leaf)
    return every


def known_paths(config: type[Config]) -> list[str]:
    """Return every path a grid file may set, names included."""
    return [*all_leaves(config), *(f"{part}.name" for part in config.parts)]


@cache
def marks(config: type[Config]) -> Mapping[str, Batched | None]:
    """Return how each path enters a pack: a mark, or None where it is static."""
    return types.MappingProxyType({p: leaf.mark for p, leaf in all_leaves(config).items()})


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


def chosen_leaves(config: type[Config], values: Values) -> dict[str, Leaf]:
    """Return the fields of the choices that resolved `values` made, by path."""
    chosen = scalars(config)
    for part, choices in config.parts.items():
        if f"{part}.name" in values:
            chosen |= leaves(choices[str(values[f"{part}.name"])], f"{part}.")
    return chosen


def defaults(config: type[Config], values: Values) -> dict[str, Scalar]:
    """Return the default of each path of resolved `values` that has one, names included."""
    usual: dict[str, Scalar] = {f"{part}.name": name for part, name in config.names.items()}
    usual |= {p: x.default for p, x in chosen_leaves(config, values).items() if not x.required}
    lead = next(iter(config.parts), None)
    if lead is not None:
        usual |= config.parts[lead][str(values[f"{lead}.name"])].defaults
    return usual


def normalized(config: type[Config], values: Values) -> dict[str, Scalar]:
    """Return resolved `values` with every field without effect at its normal form."""
    result = dict(values)
    usual = defaults(config, values) if config.normal_forms else {}
    for form in config.normal_forms:
        if form.path in result:
            result[form.path] = form.value(result, usual.get(form.path))
    return result


def revisions(config: type[Config], values: Values) -> tuple[str, ...]:
    """Return the names of the revisions that apply to resolved `values`, in their order."""
    return tuple(
        revision.name
        for revision in config.revisions
        if revision.where.items() <= values.items() and revision.applies(values)
    )


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
