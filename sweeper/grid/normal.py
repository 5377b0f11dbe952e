"""The normal forms of a subgrid's fields: cells that differ in a field without effect become one.

Whether a field has an effect may depend on an axis. Then the subgrid is split along that axis, so
that each part is a product of axes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from sweeper.config.fields import Config, NormalForm, Scalar, defaults
from sweeper.grid.subgrid import Axis, Subgrid


def normal_parts(config: type[Config], subgrid: Subgrid) -> list[Subgrid]:
    """Return the cells of `subgrid` with every field at its normal form; itself where none moves.

    The parts have the values that the cells mean; cells of one part may be duplicates.
    """
    parts = [subgrid]
    for form in config.normal_forms:
        parts = [piece for part in parts for piece in _normal(config, part, form)]
    return parts


def _normal(config: type[Config], subgrid: Subgrid, form: NormalForm) -> Iterator[Subgrid]:
    reads = {form.path, *form.reads}
    involved = [i for i, axis in enumerate(subgrid.axes) if not reads.isdisjoint(axis.paths)]
    own = [i for i in involved if form.path in subgrid.axes[i].paths]
    if not own and form.path not in subgrid.constants:
        yield subgrid
        return
    default = defaults(config, subgrid.first).get(form.path)
    for part in _split(subgrid, form, default, [i for i in involved if i not in own], involved):
        yield _moved(part, form, default, own)


def _split(
    subgrid: Subgrid,
    form: NormalForm,
    default: Scalar,
    along: Sequence[int],
    involved: Sequence[int],
) -> list[Subgrid]:
    """Return parts within which the normal form depends on the field's own value alone.

    Args:
        subgrid: The cells.
        form: The normal form of a field.
        default: The default of the field.
        along: The axes to split.
        involved: All axes that the form depends on.
    """
    if not along:
        return [subgrid]
    at, *rest = along
    others = [i for i in involved if i != at]
    groups: dict[tuple[tuple[bool, Scalar], ...], list[int]] = {}
    for k, row in enumerate(subgrid.axes[at].rows):
        values = subgrid.first | dict(zip(subgrid.axes[at].paths, row, strict=True))
        normal: list[tuple[bool, Scalar]] = []
        for rows in product(*(subgrid.axes[i].rows for i in others)):
            for i, other in zip(others, rows, strict=True):
                values |= zip(subgrid.axes[i].paths, other, strict=True)
            value = form.value(values, default)
            normal.append((value != values[form.path], value))
        groups.setdefault(tuple(normal), []).append(k)
    if len(groups) == 1:
        return _split(subgrid, form, default, rest, involved)
    axis, parts, before = subgrid.axes[at], [], 0
    for members in groups.values():
        mine = replace(axis, rows=tuple(axis.rows[k] for k in members))
        after = before + len(members)
        first, last = (subgrid.written * k // len(axis.rows) for k in (before, after))
        part = replace(_with_axis(subgrid, at, mine), written=last - first)
        parts += _split(part, form, default, rest, involved)
        before = after
    return parts


def _moved(subgrid: Subgrid, form: NormalForm, default: Scalar, own: Sequence[int]) -> Subgrid:
    """Return `subgrid` with the field at its normal form."""
    first = subgrid.first
    if not own:
        value = form.value(first, default)
        if value == subgrid.constants[form.path]:
            return subgrid
        return replace(subgrid, constants={**subgrid.constants, form.path: value})
    (at,) = own
    axis = subgrid.axes[at]
    column = axis.paths.index(form.path)
    rows: list[tuple[Scalar, ...]] = []
    for row in axis.rows:
        value = form.value(first | dict(zip(axis.paths, row, strict=True)), default)
        rows.append((*row[:column], value, *row[column + 1 :]))
    if tuple(rows) == axis.rows:
        return subgrid
    return _with_axis(subgrid, at, replace(axis, rows=tuple(rows)))


def _with_axis(subgrid: Subgrid, at: int, axis: Axis) -> Subgrid:
    return replace(subgrid, axes=(*subgrid.axes[:at], axis, *subgrid.axes[at + 1 :]))
