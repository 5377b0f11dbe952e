"""Which configs are one trial, and which trials have a new id.

A field without effect has its normal form, so that no trial is trained twice under two ids. A
trial whose numbers were corrected has a line with the name of the revision in its identity.
"""

from __future__ import annotations

from collections.abc import Callable

from sweeper.config.fields import NormalForm, Revision, Scalar, Values, is_import_path
from sweeper.trainables.config.fields import TABLES
from sweeper.trainables.config.indices import unchanged
from sweeper.trainables.config.shapes import examples

SIZES = (
    "task.N",
    "task.p",
    "task.operation",
    "task.degree",
    "selection.fraction",
    "selection.file",
)
"""The fields that the number of train examples depends on."""


def train_size(values: Values) -> int | None:
    """Return the number of train examples of a network's trial; None where it is unknown.

    It is unknown for a user's own task or selection, and where a constraint is broken.
    """
    if any(is_import_path(values.get(f"{part}.name")) for part in ("task", "selection")):
        return None
    file = values.get("selection.file")
    if isinstance(file, str):
        return examples(values)[0] if unchanged(file) else None
    if values["task.name"] in TABLES and values.get("selection.fraction") is None:
        return None
    return examples(values)[0]


def default_if(idle: Callable[[Values], bool], path: str) -> Callable[[Values, Scalar], Scalar]:
    """Return the normal form of a field that is `idle`, without effect, under some values.

    A field of a user's own choice may mean anything, so it always keeps its value.
    """
    name = f"{path.partition('.')[0]}.name"

    def value(values: Values, default: Scalar) -> Scalar:
        own = is_import_path(values.get(name))
        return default if not own and idle(values) else values[path]

    return value


def _batch(values: Values, _: Scalar) -> Scalar:
    """Return the batch, at most all train examples."""
    batch, size = values["optimizer.batch"], train_size(values)
    return min(batch, size) if isinstance(batch, int) and size is not None else batch


def _whole_batches(values: Values) -> bool:
    """Return whether no example is left over at the end of an epoch."""
    batch, size = values["optimizer.batch"], train_size(values)
    return batch is None or (isinstance(batch, int) and size is not None and size % batch == 0)


def _no_sobolev(values: Values) -> bool:
    own = values["regularizer.name"] == "sobolev"
    path = "regularizer.strength" if own else "regularizer.terms.sobolev.strength"
    return not values.get(path)


IDLE: tuple[tuple[str, tuple[str, ...], Callable[[Values], bool]], ...] = (
    ("optimizer.drop_last", ("optimizer.batch", *SIZES), _whole_batches),
    ("model.last_bias", ("model.bias",), lambda v: v["model.bias"] is False),
    ("model.activation", ("model.depth",), lambda v: v["model.depth"] == 0),
    ("model.width", ("model.depth",), lambda v: v["model.depth"] == 0),
    ("task.activation", ("task.depth",), lambda v: v["task.depth"] == 0),
    ("task.noise", ("task.latent", "task.m"), lambda v: v["task.latent"] == 1 or v["task.m"] == 1),
    ("task.source", ("task.path",), lambda v: v["task.path"] is not None),
    ("task.data_seed", (), lambda v: v["selection.name"] == "indices"),
    ("regularizer.squared", ("regularizer.strength",), _no_sobolev),
    ("regularizer.terms.sobolev.squared", ("regularizer.terms.sobolev.strength",), _no_sobolev),
)
"""Field, the fields that decide, and whether it is without effect, where the model has them all.

A network without hidden layers has neither their width nor their activation. (The width of a
teacher's hidden layers is in the key of its random stream, so it always has an effect.) The first
column of R_linear has no noise, and R has no R_linear under full messiness. Train pairs that a
file lists are not drawn.
"""

NORMAL_FORMS: tuple[NormalForm, ...] = (
    NormalForm("optimizer.batch", SIZES, _batch),
    *(NormalForm(path, reads, default_if(idle, path)) for path, reads, idle in IDLE),
)


def _signed(values: Values) -> bool:
    """Return whether u^L - v^L of L > 1 is trained under a penalty that sees its sign."""
    depth = values["model.depth"]
    paths = ["regularizer.terms.l1.strength", "regularizer.terms.group.strength"]
    if values["regularizer.name"] in ("l1", "group"):
        paths = ["regularizer.strength"]
    return (
        values["model.sign_free"] is True
        and isinstance(depth, int)
        and depth > 1
        and any(values.get(path) for path in paths)
    )


REVISIONS: tuple[Revision, ...] = (
    Revision(
        "exact difference of powers",
        {"model.name": "product"},
        (
            "model.depth",
            "model.sign_free",
            "regularizer.strength",
            "regularizer.terms.l1.strength",
            "regularizer.terms.group.strength",
        ),
        _signed,
    ),
)
"""The corrections so far.

*exact difference of powers*: u^L - v^L was computed by a fused product and sum, which left the
rounding error of one power where u = v. All entries start there, and l1 and group made a step of
the whole strength of the error's sign. Now the difference is exactly 0 there.
"""
