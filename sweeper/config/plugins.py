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
from sweeper.config.messages import told
from sweeper.errors import UsageError

OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""How an import path looks."""

Named = tuple[str, str]
"""A part, and the import path of a choice for it."""


def named(config: type[Config], value: Any) -> Iterator[tuple[Named, tuple[str | int, ...]]]:
    """Yield every import path that a grid file's `value` names, with the path to it."""
    yield from _named(config, value, (), None)


def _named(
    config: type[Config], value: Any, path: tuple[str | int, ...], part: str | None
) -> Iterator[tuple[Named, tuple[str | int, ...]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            here = (*path, key)
            dotted = ".".join(str(k) for k in here)
            ours = (p for p in config.parts if dotted.endswith(f"{p}.name"))
            yield from _named(config, inner, here, next(ours, part))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _named(config, inner, (*path, i), part)
    elif part is not None and isinstance(value, str) and OWN.fullmatch(value):
        yield (part, value), path


def extended(config: type[Config], names: Iterable[Named]) -> type[Config]:
    """Return `config` with the classes at `names` among its choices.

    Raises:
        UsageError: One of them can't be imported, or is no choice for its part; or two of them
            have a field of one name that means something else in each.
    """
    wanted = frozenset(n for n in names if OWN.fullmatch(n[1]) and n[1] not in config.parts[n[0]])
    return _extended(config, wanted) if wanted else config


@cache
def _extended(config: type[Config], names: frozenset[Named]) -> type[Config]:
    parts = {part: dict(choices) for part, choices in config.parts.items()}
    criteria = dict(config.criteria)
    seen: dict[str, tuple[str, tuple[str, Batched | None]]] = {}
    for part, name in sorted(names):
        section = choice(config, part, name)
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
    fields: dict[str, Any] = {
        part: (Annotated[Union[tuple(choices.values())], Field(discriminator="name")], ...)  # noqa: UP007
        for part, choices in parts.items()
        if len(choices) > len(config.parts[part])
    }
    made: type[Config] = create_model(config.__name__, __base__=config, **fields)
    made.parts, made.criteria = parts, criteria
    return made


@cache
def choice(config: type[Config], part: str, name: str) -> type[Section]:
    """Return the class at the import path `name` as a choice for `part` of `config`.

    Raises:
        UsageError: It can't be imported, doesn't subclass what it has to, has fields that can't
            be stored, or fields that mean something else in another choice of the part.
    """
    base = config.bases.get(part)
    if base is None:
        parts = ", ".join(config.bases) or "none"
        raise UsageError(f"{part}.name = {name!r}: only these parts take your own: {parts}.")
    found = _imported(part, name)
    wanted = f"{base.__module__}.{base.__qualname__}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{part}.name = {name!r} is no {part}: it has to subclass {wanted}.")
    missing = [m for m in base.needed if getattr(found, m) is getattr(base, m)]
    if missing:
        raise UsageError(f"{part}.name = {name!r} has no method {missing[0]}: write it.")
    literal: Any = Literal[name]
    made: Any = create_model(found.__name__, __base__=found, name=(literal, name))
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
        raise UsageError(f"{part}.name = {name!r} can't be imported: {told(error)}.") from error
