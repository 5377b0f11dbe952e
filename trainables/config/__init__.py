"""The config of `trainables.grokking`: its parts, their fields, and the constraints between them.

This package does not import torch. A new task, model, regularizer, selection or optimizer is one
class in the module of its part and one entry in the union at the end of that module. Combinations
that are not allowed are listed in `constraints`. A default never changes, because a field that
equals its default is not part of a trial's id. A field that has no effect under some values of
others, and a correction that changes the numbers of some trials, are entries in `identity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import Config, Constraint, NormalForm, Revision, Section
from sweeper.trainables.config import own
from sweeper.trainables.config.constraints import CONSTRAINTS
from sweeper.trainables.config.fields import pairs, share, symbols, table_size
from sweeper.trainables.config.identity import NORMAL_FORMS, REVISIONS
from sweeper.trainables.config.metrics import ON_REQUEST
from sweeper.trainables.config.models import (
    MLP,
    MODELS,
    Diagonal,
    Factorised,
    Matrix,
    Model,
    Product,
)
from sweeper.trainables.config.optimizers import OPTIMIZERS, Optimizer
from sweeper.trainables.config.regularizers import REGULARIZERS, Regularizer
from sweeper.trainables.config.selections import SELECTIONS, Selection
from sweeper.trainables.config.tasks import (
    OPERATIONS,
    TASKS,
    MatrixCompletion,
    MatrixSensing,
    ModularArithmetic,
    SparseRecovery,
    Task,
)

__all__ = [
    "MLP",
    "OPERATIONS",
    "Diagonal",
    "Factorised",
    "GrokkingConfig",
    "Matrix",
    "MatrixCompletion",
    "MatrixSensing",
    "ModularArithmetic",
    "Product",
    "SparseRecovery",
    "pairs",
    "share",
    "symbols",
    "table_size",
]


ERRORS, ACCURACIES = ("loss", "error"), ("loss", "acc")
"""The metrics of tasks without an accuracy, and of those without a relative error."""


class GrokkingConfig(Config):
    """The config of one trial of `trainables.grokking`.

    Attributes:
        task: The function to learn, and the data to learn it from.
        model: The weights that are trained.
        regularizer: The penalty that is added to the loss.
        selection: The data that the trial is trained on.
        optimizer: The rule of an optimizer step.
        dtype: Floating-point type of the weights and the data. The default depends on the task.
    """

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {
        "task": TASKS,
        "model": MODELS,
        "regularizer": REGULARIZERS,
        "selection": SELECTIONS,
        "optimizer": OPTIMIZERS,
    }
    bases: ClassVar[Mapping[str, type[Section]]] = own.BASES
    names: ClassVar[Mapping[str, str]] = {"regularizer": "none", "selection": "uniform"}
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sparse_recovery": {"metric": "error", "train": 1e-3, "test": 1e-3},
        "matrix_completion": {"metric": "error", "train": 1e-3, "test": 1e-3},
        "teacher_student": {"metric": "acc", "train": 0.95, "test": 0.95},
        "relu_regression": {"metric": "loss", "train": 0.01, "test": 0.1},
        "matrix_sensing": {"metric": "error", "train": 1e-3, "test": 1e-3},
        "digits": {"metric": "acc", "train": 0.95, "test": 0.8},
        "mnist": {"metric": "acc", "train": 0.95, "test": 0.8},
        "toy_addition": {"metric": "acc", "train": 0.95, "test": 0.95},
        "imdb": {"metric": "acc", "train": 0.95, "test": 0.6},
        "qm9": {"metric": "loss", "train": 0.01, "test": 0.1},
        "modular_arithmetic": {"metric": "acc", "train": 0.99, "test": 0.99},
        "symmetric_group": {"metric": "acc", "train": 0.99, "test": 0.99},
    }
    logged_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("sparse_recovery", "matrix_completion", "matrix_sensing"), ERRORS),
        **dict.fromkeys(("relu_regression", "qm9"), ERRORS),
        **dict.fromkeys(("digits", "mnist", "toy_addition", "imdb"), ACCURACIES),
        **dict.fromkeys(("modular_arithmetic", "symmetric_group"), ACCURACIES),
        "teacher_student": ("loss", "acc", "error"),
    }
    constraints: ClassVar[tuple[Constraint, ...]] = CONSTRAINTS
    normal_forms: ClassVar[tuple[NormalForm, ...]] = NORMAL_FORMS
    revisions: ClassVar[tuple[Revision, ...]] = REVISIONS
    on_request: ClassVar[Mapping[str, str]] = ON_REQUEST

    task: Task = Field(discriminator="name")
    model: Model = Field(discriminator="name")
    regularizer: Regularizer = Field(discriminator="name")
    selection: Selection = Field(discriminator="name")
    optimizer: Optimizer = Field(discriminator="name")
    dtype: Literal["float32", "float64"] = "float64"
