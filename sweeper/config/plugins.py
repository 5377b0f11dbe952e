"""A user's own choices for the parts of a config, named by import path.

``task: {name: my_lab.parity:Parity}`` stands for the class `Parity` of the module
`my_lab.parity`. A grid that names such classes has a config of its own: that of its trainable
with these classes among the choices. The name is part of a trial's identity; the class's code
isn't.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Literal, Union, cast

from pydantic import Field, create_model

from sweeper.config.fields import Batched, Config, Section, all_leaves, leaves
from sweeper.config.messages import described
from sweeper.errors import UsageError

IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""How an import path looks."""

Plugin = tuple[str, str]
"""A part, and the import path of a choice for it."""


def plugins_in(config: type[Config], value: Any) -> Iterator[tuple[Plugin, tuple[str | int, ...]]]:
    """Yield every import path that a grid file's `value` names, with the path to it."""
    yield from _plugins_in(config, value, (), None)


def _plugins_in(
    config: type[Config], value: Any, path: tuple[str | int, ...], part: str | None
) -> Iterator[tuple[Plugin, tuple[str | int, ...]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            here = (*path, key)
            dotted = ".".join(str(k) for k in here)
            ours = (p for p in config.parts if dotted.endswith(f"{p}.name"))
            yield from _plugins_in(config, inner, here, next(ours, part))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _plugins_in(config, inner, (*path, i), part)
    elif part is not None and isinstance(value, str) and IMPORT_PATH.fullmatch(value):
        yield (part, value), path


def with_plugins(config: type[Config], names: Iterable[Plugin]) -> type[Config]:
    """Return `config` with the classes at `names` among its choices.

    Raises:
        UsageError: One of them can't be imported, or is no choice for its part; or two of them
            have a field of one name that means something else in each.
    """
    wanted = frozenset(
        n for n in names if IMPORT_PATH.fullmatch(n[1]) and n[1] not in config.parts[n[0]]
    )
    return _with_plugins(config, wanted) if wanted else config


@cache
def _with_plugins(config: type[Config], names: frozenset[Plugin]) -> type[Config]:
    parts = {part: dict(choices) for part, choices in config.parts.items()}
    criteria = dict(config.criteria)
    logged = dict(config.logged_metrics)
    seen: dict[str, tuple[str, tuple[str, Batched | None]]] = {}
    for part, name in sorted(names):
        section = load_plugin(config, part, name)
        for path, leaf in leaves(section, f"{part}.").items():
            owner, before = seen.setdefault(path, (name, (leaf.kind, leaf.mark)))
            if before != (leaf.kind, leaf.mark):
                raise UsageError(
                    f"{part}.name = {name!r}: {path} is {leaf.kind} here and {before[0]} in "
                    f"{owner!r}. Give one of them another name or the other's type and mark."
                )
        parts[part][name] = section
        if section.criterion is not None:
            criteria[name] = section.criterion
        if section.logged_metrics is not None:
            logged[name] = section.logged_metrics
    fields: dict[str, Any] = {
        part: (Annotated[Union[tuple(choices.values())], Field(discriminator="name")], ...)  # noqa: UP007
        for part, choices in parts.items()
        if len(choices) > len(config.parts[part])
    }
    made: type[Config] = create_model(config.__name__, __base__=config, **fields)
    made.parts, made.criteria, made.logged_metrics = parts, criteria, logged
    return made


@cache
def load_plugin(config: type[Config], part: str, name: str) -> type[Section]:
    """Return the class at the import path `name` as a choice for `part` of `config`.

    Raises:
        UsageError: It can't be imported, doesn't subclass the part's base class, or has fields that
            can't be stored or that have another meaning in another choice of the part.
    """
    base = config.bases.get(part)
    if base is None:
        parts = ", ".join(config.bases) or "none"
        raise UsageError(f"{part}.name = {name!r}: only these parts take your own: {parts}.")
    loaded = _imported(part, name)
    wanted = f"{base.__module__}.{base.__qualname__}"
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise UsageError(f"{part}.name = {name!r} is no {part}: it has to subclass {wanted}.")
    missing = [m for m in base.needed if getattr(loaded, m) is getattr(base, m)]
    if missing:
        raise UsageError(f"{part}.name = {name!r} has no method {missing[0]}: write it.")
    literal: Any = Literal[name]
    made: Any = create_model(loaded.__name__, __base__=loaded, name=(literal, name))
    before = all_leaves(config)
    try:
        ours = leaves(made, f"{part}.")
        kinds = {path: leaf.kind for path, leaf in ours.items()}
    except TypeError as error:
        raise UsageError(f"{part}.name = {name!r}: {error}.") from None
    for path, leaf in ours.items():
        other = before.get(path)
        if other is not None and (other.kind, other.mark) != (kinds[path], leaf.mark):
            raise UsageError(
                f"{part}.name = {name!r}: {path} is a field of other choices, which is stored as "
                f"{other.kind} and enters packs in another way. Give it another name."
            )
    return cast("type[Section]", made)


def _imported(part: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        raise UsageError(
            f"{part}.name = {name!r} can't be imported: {error}. Install it, or add its folder to "
            "PYTHONPATH."
        ) from error
    except AttributeError:
        raise UsageError(
            f"{part}.name = {name!r}: the module {module} has no {attribute!r}."
        ) from None
    except (Exception, SystemExit) as error:  # whatever its code does
        raise UsageError(
            f"{part}.name = {name!r} can't be imported: {described(error)}."
        ) from error
