"""The constraints between fields of different parts, and their remedies."""

from __future__ import annotations

from math import factorial, isqrt

from sweeper.config.fields import Constraint, is_import_path
from sweeper.trainables.config.fields import (
    COMPLETION,
    LINEAR,
    MATRIX,
    SPARSE,
    TABLES,
    TEACHER,
    share,
    table_size,
)
from sweeper.trainables.config.images import CONSTRAINTS as IMAGES
from sweeper.trainables.config.indices import indices, unchanged
from sweeper.trainables.config.molecules import CONSTRAINTS as MOLECULES
from sweeper.trainables.config.regularizers import Terms
from sweeper.trainables.config.texts import CONSTRAINTS as TEXTS
from sweeper.trainables.config.toy import CONSTRAINTS as TOY


def _prime(p: int) -> bool:
    return p > 1 and all(p % q for q in range(2, int(p**0.5) + 1))


def _splits(p: int, operation: str, fraction: float | None) -> bool:
    size = table_size(operation, p)
    return fraction is not None and 0 < share(fraction, size) < size


def _leaves_enough(p: int, operation: str, selection: str, k: int, fraction: float) -> bool:
    if selection not in ("square", "strip"):
        return True
    columns = table_size(operation, p) // p
    missing = p - columns  # division has no b = 0, in the square neither
    last = min(k, p - 1)
    held = (last + 1) * (columns if selection == "strip" else last + 1 - missing)
    return share(fraction, p * columns) <= p * columns - held


def _learnable(selection: str, k: int, n_train: int) -> bool:
    return selection != "outliers" or k <= n_train


def _inside(file: str, size: int) -> bool:
    return not unchanged(file) or (indices(file)[-1] < size and len(indices(file)) < size)


def _linear_solver(optimizer: str, depth: int, sign_free: bool) -> bool:
    return optimizer not in VECTOR_SOLVERS or (depth == 1 and not sign_free)


def _grouped(task: str, size: int | None) -> bool:
    return (task in SPARSE) == (size is not None)


VECTOR_SOLVERS = ("ista", "projected", "basis_pursuit")
"""Solvers that are written for a vector itself."""

SOLVES = {
    "ista": ("none", "l1", "l2_sq", "group"),
    "svt": ("none", "nuclear", "l2_sq"),
    "projected": ("none", "l1", "l2_sq", "nuclear", "group"),
    "basis_pursuit": ("none",),
}
"""Solver of linear models to the penalties that it is written for."""

GROUPED = (
    "groups of a vector need a size, e.g. 4; those of a network are rows of its weights "
    "and have none. Set or remove it."
)

OUTLIERS = (
    "there are fewer train pairs than labels to replace. "
    "Lower selection.k or raise selection.fraction."
)

INDICES = (
    "the indices go beyond the pairs of the table, counted from 0, or leave none to test "
    "on. Remove those."
)

CONSTRAINTS: tuple[Constraint, ...] = (
    *IMAGES,
    *TOY,
    *TEXTS,
    *MOLECULES,
    Constraint(
        ("task.n", "task.s"),
        lambda n, s: s <= n,
        "a vector has at most n nonzeros. Lower task.s or raise task.n.",
    ),
    Constraint(
        ("task.n", "task.s", "task.group_size"),
        lambda n, s, size: n % size == 0 and s % size == 0,
        "groups are filled whole. Choose a task.group_size that divides n and s.",
    ),
    Constraint(
        ("task.design", "task.rng"),
        lambda design, rng: design == "gaussian" or rng == "torch",
        "the published instances are Gaussian. Set task.rng: torch.",
    ),
    Constraint(
        ("task.group_size", "task.rng"),
        lambda size, rng: size == 1 or rng == "torch",
        "the published instances have no groups. Set task.rng: torch.",
    ),
    Constraint(
        ("task.n1", "task.n2", "task.rank"),
        lambda n1, n2, rank: rank <= min(n1, n2),
        "a matrix has at most rank min(n1, n2). Lower task.rank.",
    ),
    Constraint(
        ("task.name", "task.n1", "task.n2", "task.N"),
        lambda task, n1, n2, N: task not in COMPLETION or n1 * n2 >= N,
        "a matrix has n1 * n2 entries. Lower task.N.",
    ),
    Constraint(("task.p",), _prime, "p must be a prime, e.g. 23, 59, 97 or 113."),
    Constraint(
        ("task.name", "selection.name", "selection.fraction"),
        lambda task, name, f: (
            task in TABLES or is_import_path(task) or name != "uniform" or f is None
        ),
        "fraction applies to tasks with a table. Remove it, or sweep task.N.",
    ),
    Constraint(
        ("task.p", "task.operation", "selection.fraction"),
        _splits,
        "that leaves no pair to train on, or none to test on. "
        "Choose selection.fraction between 0 and 1, e.g. 0.6.",
    ),
    Constraint(
        ("task.p", "task.operation", "selection.name", "selection.k", "selection.fraction"),
        _leaves_enough,
        "the fraction counts pairs of the whole table, and the hold-out leaves fewer. "
        "Lower selection.fraction or selection.k.",
    ),
    Constraint(
        ("task.degree", "selection.fraction"),
        lambda degree, f: _splits(factorial(degree), "xy", f),
        "that leaves no pair to train on, or none to test on. "
        "Choose selection.fraction between 0 and 1, e.g. 0.6.",
    ),
    Constraint(
        ("task.p", "task.operation", "selection.name", "selection.k", "selection.fraction"),
        lambda p, operation, selection, k, f: (
            f is None or _learnable(selection, k, share(f, table_size(operation, p)))
        ),
        OUTLIERS,
    ),
    Constraint(
        ("task.degree", "selection.name", "selection.k", "selection.fraction"),
        lambda degree, selection, k, f: (
            f is None or _learnable(selection, k, share(f, factorial(degree) ** 2))
        ),
        OUTLIERS,
    ),
    Constraint(
        ("selection.file",),
        unchanged,
        "the file is missing, or its indices have another digest. "
        "Remove #... from the path to take the file's present indices.",
    ),
    Constraint(
        ("task.p", "task.operation", "selection.file"),
        lambda p, operation, file: _inside(file, table_size(operation, p)),
        INDICES,
    ),
    Constraint(
        ("task.degree", "selection.file"),
        lambda degree, file: _inside(file, factorial(degree) ** 2),
        INDICES,
    ),
    Constraint(
        ("model.d", "model.heads"),
        lambda d, heads: d % heads == 0,
        "heads share the width. Choose a model.d that model.heads divides.",
    ),
    Constraint(
        ("model.embedding", "model.d"),
        lambda embedding, d: embedding != "matrix" or isqrt(d) ** 2 == d,
        "embeddings that are multiplied as matrices have a square number of entries. "
        "Choose model.d: 64, e.g.",
    ),
    Constraint(
        ("task.name", "regularizer.terms.nuclear.strength"),
        lambda task, strength: task not in SPARSE or strength is None,
        "a vector has no nuclear norm. Remove this term.",
    ),
    Constraint(
        ("task.name", "regularizer.terms.group.strength"),
        lambda task, strength: task not in MATRIX or strength is None,
        "groups are those of vectors and networks. Remove this term.",
    ),
    Constraint(
        ("task.name", "model.name", "regularizer.terms.sobolev.strength"),
        lambda task, model, strength: strength is None or (task in TEACHER and model == "dense"),
        "the Jacobian is compared with that of a teacher. Remove this term.",
    ),
    Constraint(
        tuple(f"regularizer.terms.{t}.strength" for t in Terms.model_fields),
        lambda *strengths: any(s is not None for s in strengths),
        "a sum needs a term. Set one of them, or regularizer.name: none.",
    ),
    Constraint(
        ("model.depth", "model.sign_free", "optimizer.name"),
        lambda depth, free, name: _linear_solver(name, depth, free),
        "ista, projected and basis_pursuit need a linear model. "
        "Set model.depth: 1 and model.sign_free: false, or optimizer.name: gd.",
    ),
    Constraint(
        ("model.name", "optimizer.name"),
        lambda model, solver: model != "diagonal" or solver not in VECTOR_SOLVERS,
        "ista, projected and basis_pursuit need a linear model. "
        "Set model.name: product, or optimizer.name: gd.",
    ),
    Constraint(
        ("model.name", "optimizer.name"),
        lambda model, solver: model != "factorised" or solver not in SOLVES,
        "svt and projected need a linear model. Set model.name: matrix, or optimizer.name: gd.",
    ),
    Constraint(
        ("optimizer.name", "regularizer.name"),
        lambda solver, penalty: solver == "svt" or penalty in SOLVES.get(solver, (penalty,)),
        "ista and projected are written for the penalties none, l1, l2_sq and group, "
        "projected for nuclear, basis_pursuit for none. Choose one of them, or "
        "optimizer.name: gd.",
    ),
    Constraint(
        ("optimizer.name", "task.snr", "task.n", "task.N"),
        lambda solver, snr, n, N: solver != "basis_pursuit" or snr is None or n >= N,
        "more measurements with noise than unknowns have no exact solution. "
        "Lower task.N, or remove task.snr.",
    ),
    Constraint(("task.name", "regularizer.size"), _grouped, GROUPED),
    Constraint(
        ("task.name", "regularizer.terms.group.strength", "regularizer.terms.group.size"),
        lambda task, strength, size: _grouped(task, size) if strength is not None else size is None,
        GROUPED,
    ),
    Constraint(
        ("optimizer.name", "regularizer.name"),
        lambda solver, penalty: solver != "svt" or penalty in SOLVES["svt"],
        "svt is written for the penalties none, nuclear and l2_sq. "
        "Choose one of them, or optimizer.name: gd.",
    ),
    Constraint(
        ("task.name", "optimizer.batch"),
        lambda task, batch: task not in LINEAR or batch is None,
        "this task is trained on all measurements. Remove optimizer.batch.",
    ),
)
