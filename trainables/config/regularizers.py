"""The regularizers: what is penalized beside the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel

from sweeper.config.fields import BATCHED, Section
from sweeper.trainables.config.fields import (
    MATRIX,
    NETWORKS,
    SPARSE,
    TEACHER,
    Count,
    NonNegative,
    by_name,
)


class NoRegularizer(Section):
    """No penalty."""

    name: Literal["none"] = "none"


class L1(Section):
    """strength * the sum of absolute values.

    Of the entries of what is recovered, whatever its factors; for networks of all weights.
    """

    name: Literal["l1"] = "l1"
    strength: Annotated[NonNegative, BATCHED]


class L2Squared(Section):
    """strength / 2 * the sum of w^2 over all weights (factors); its gradient is strength * w."""

    name: Literal["l2_sq"] = "l2_sq"
    strength: Annotated[NonNegative, BATCHED]


class L2Frobenius(Section):
    """strength * the sum over weight tensors of ||W||_F, not squared (papers' code)."""

    name: Literal["l2_fro"] = "l2_fro"
    strength: Annotated[NonNegative, BATCHED]


class Nuclear(Section):
    """strength * ||A||_*, the sum of singular values; its subgradient is the polar factor.

    Of the recovered matrix, whatever its factors; for networks summed over weight matrices.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": NETWORKS + MATRIX}

    name: Literal["nuclear"] = "nuclear"
    strength: Annotated[NonNegative, BATCHED]


class Group(Section):
    """strength * the sum of ||w_g|| over groups g of weights: group sparsity.

    Attributes:
        size: Of a recovered vector: groups are this many neighbours. Of networks: null, a group
            is a row of a weight matrix.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE + NETWORKS}

    name: Literal["group"] = "group"
    strength: Annotated[NonNegative, BATCHED]
    size: Count | None = None


class Sobolev(Section):
    """strength * ||J - J*||_F, how far the Jacobian is from the teacher's ([N25] Fig. 11).

    J are the derivatives of all outputs by the inputs at the train examples of a step,
    ``[N, outputs, inputs]``; the kinks of ReLU count as flat.

    Attributes:
        squared: strength / N * ||J - J*||_F^2 instead, as the paper's text has it; its code takes
            the norm itself, over the whole batch.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TEACHER, "model": ("dense",)}

    name: Literal["sobolev"] = "sobolev"
    strength: Annotated[NonNegative, BATCHED]
    squared: bool = False


class Term(BaseModel):
    """One term of a sum of regularizers; absent while its strength is null."""

    model_config = Section.model_config
    strength: Annotated[NonNegative | None, BATCHED] = None


class GroupTerm(Term):
    """The term `group`, with its size."""

    size: Count | None = None


class SobolevTerm(Term):
    """The term `sobolev`, with its reading."""

    squared: bool = False


class Terms(BaseModel):
    """The terms a sum can have."""

    model_config = Section.model_config
    l1: Term = Term()
    l2_sq: Term = Term()
    l2_fro: Term = Term()
    nuclear: Term = Term()
    group: GroupTerm = GroupTerm()
    sobolev: SobolevTerm = SobolevTerm()


class Sum(Section):
    """Several regularizers at once, each with its own strength."""

    name: Literal["sum"] = "sum"
    terms: Terms = Terms()


Regularizer = NoRegularizer | L1 | L2Squared | L2Frobenius | Nuclear | Group | Sobolev | Sum

REGULARIZERS = by_name(Regularizer)
