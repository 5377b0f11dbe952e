"""The regularizers: penalties that are added to the loss.

References:
    [N25] Notsawo et al., Grokking Beyond the Euclidean Norm, 2025. arXiv 2506.05718
"""

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
    """The l1 norm: strength * the sum of absolute values.

    The sum is over the entries of the recovered vector or matrix, not of its factors; for networks
    it is over all weights.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
    """

    name: Literal["l1"] = "l1"
    strength: Annotated[NonNegative, BATCHED]


class L2Squared(Section):
    """The squared l2 norm: strength / 2 * the sum of w^2 over all weights, or over all factors.

    Its gradient is strength * w.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
    """

    name: Literal["l2_sq"] = "l2_sq"
    strength: Annotated[NonNegative, BATCHED]


class L2Frobenius(Section):
    """The Frobenius norm, not squared: strength * the sum over weight tensors of ||W||_F.

    The published code of the papers uses it.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
    """

    name: Literal["l2_fro"] = "l2_fro"
    strength: Annotated[NonNegative, BATCHED]


class Nuclear(Section):
    """The nuclear norm: strength * ||A||_*, the sum of singular values.

    A is the recovered matrix, not its factors; for networks the norm is summed over the weight
    matrices. The subgradient is the polar factor of A.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": NETWORKS + MATRIX}

    name: Literal["nuclear"] = "nuclear"
    strength: Annotated[NonNegative, BATCHED]


class Group(Section):
    """Group sparsity: strength * the sum of ||w_g|| over groups g of weights.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
        size: Entries per group, at least 1; a group is a run of neighbours in the recovered
            vector. null, for networks only: each row of a weight matrix is a group.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE + NETWORKS}

    name: Literal["group"] = "group"
    strength: Annotated[NonNegative, BATCHED]
    size: Count | None = None


class Sobolev(Section):
    """The distance of the Jacobian from the teacher's: strength * ||J - J*||_F ([N25] Fig. 11).

    J holds the derivatives of all outputs by the inputs at the train examples of a step,
    ``[N, outputs, inputs]``. The derivative of ReLU at its kink is 0.

    Attributes:
        strength: Factor of the penalty, at least 0; 0: no penalty.
        squared: Whether the penalty is strength / N * ||J - J*||_F^2, as in the text of [N25];
            false: the norm itself over the whole batch, as in its code.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TEACHER, "model": ("dense",)}

    name: Literal["sobolev"] = "sobolev"
    strength: Annotated[NonNegative, BATCHED]
    squared: bool = False


class Term(BaseModel):
    """One term of a sum of regularizers.

    Attributes:
        strength: Factor of the penalty, at least 0; null: the sum does not have this term.
    """

    model_config = Section.model_config
    strength: Annotated[NonNegative | None, BATCHED] = None


class L1Term(Term):
    """The term `l1` of a sum.

    Attributes:
        strength: Factor of the l1 norm, at least 0; null: the sum does not have this term.
    """


class L2SquaredTerm(Term):
    """The term `l2_sq` of a sum.

    Attributes:
        strength: Factor of half the squared l2 norm, at least 0; null: the sum does not have this
            term.
    """


class L2FrobeniusTerm(Term):
    """The term `l2_fro` of a sum.

    Attributes:
        strength: Factor of the Frobenius norm, at least 0; null: the sum does not have this term.
    """


class NuclearTerm(Term):
    """The term `nuclear` of a sum.

    Attributes:
        strength: Factor of the nuclear norm, at least 0; null: the sum does not have this term.
            Not for vectors.
    """


class GroupTerm(Term):
    """The term `group` of a sum.

    Attributes:
        strength: Factor of the sum of the groups' norms, at least 0; null: the sum does not have
            this term. Not for matrices.
        size: As `size` of the regularizer `group`.
    """

    size: Count | None = None


class SobolevTerm(Term):
    """The term `sobolev` of a sum.

    Attributes:
        strength: Factor of the distance from the teacher's Jacobian, at least 0; null: the sum
            does not have this term. Only for `teacher_student` with the model `dense`.
        squared: As `squared` of the regularizer `sobolev`.
    """

    squared: bool = False


class Terms(BaseModel):
    """The terms that a sum can have, by the names of their regularizers.

    Attributes:
        l1: The l1 norm.
        l2_sq: Half the squared l2 norm.
        l2_fro: The Frobenius norm.
        nuclear: The nuclear norm.
        group: Group sparsity.
        sobolev: The distance from the teacher's Jacobian.
    """

    model_config = Section.model_config
    l1: L1Term = L1Term()
    l2_sq: L2SquaredTerm = L2SquaredTerm()
    l2_fro: L2FrobeniusTerm = L2FrobeniusTerm()
    nuclear: NuclearTerm = NuclearTerm()
    group: GroupTerm = GroupTerm()
    sobolev: SobolevTerm = SobolevTerm()


class Sum(Section):
    """Several regularizers at once, each with its own strength.

    Attributes:
        terms: The terms, each with the fields of the regularizer of its name. At least one term
            needs a strength.
    """

    name: Literal["sum"] = "sum"
    terms: Terms = Terms()


Regularizer = NoRegularizer | L1 | L2Squared | L2Frobenius | Nuclear | Group | Sobolev | Sum

REGULARIZERS = by_name(Regularizer)
