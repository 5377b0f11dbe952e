"""The selections: the data that a trial is trained on.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
    [G25] Gu et al., 2025. arXiv 2504.03162
    [P22] Power et al., Grokking, 2022. arXiv 2201.02177
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from sweeper.config.fields import DRAWN, Scalar, Section
from sweeper.trainables.config.fields import (
    COMPLETION,
    MODULAR,
    SENSING,
    SPARSE,
    TABLES,
    Count,
    Unit,
    by_name,
)
from sweeper.trainables.config.indices import pinned


class Uniform(Section):
    """Draw the train data uniformly at random.

    For tables and for a user's own tasks, examples are drawn; for linear measurements, the
    measurements are Gaussian or the entries are drawn.

    Attributes:
        fraction: Share of the examples to train on, above 0 and below 1; null, for tasks whose
            field `N` sets the number of train examples. The default depends on the task.
    """

    name: Literal["uniform"] = "uniform"
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None


class Coherent(Section):
    """Align floor(tau * N) measurements with the structure of the signal ([N25] G.1.2).

    For a sparse vector, an aligned measurement reads a single entry. For a matrix A, it reads
    u_k^T A v_k, where u_k and v_k are singular vectors of A, completed to orthonormal bases; at
    most n1 of the left vectors and n2 of the right ones are singular.

    Attributes:
        tau: Share of aligned measurements, from 0 to 1; 0: the same as `uniform`.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE + SENSING}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.tau": 0.0}

    name: Literal["coherent"] = "coherent"
    tau: Annotated[Unit, DRAWN] = 0.0


class Leverage(Section):
    """Measure the floor(tau * N) entries of a matrix with the largest leverage ([N25] 3.4).

    With A* = U S V^T of rank r, the leverage of entry (i, j) is n1 / r ||U_i||^2 +
    n2 / r ||V_j||^2. The other entries are drawn uniformly from the rest.

    Attributes:
        tau: Share of the N entries that have the largest leverage, from 0 to 1; 0: the same as
            `uniform`.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": COMPLETION}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.tau": 0.0}

    name: Literal["leverage"] = "leverage"
    tau: Annotated[Unit, DRAWN] = 0.0


class Square(Section):
    """Hold the pairs with both operands at most k out of training ([G25] Table 1).

    Attributes:
        k: Largest operand of the square, at least 1; operands count from 0.
        fraction: Share of the whole table to train on, above 0 and below 1; the pairs are drawn
            from the rest of the table.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: Literal["square"] = "square"
    k: Annotated[Count, DRAWN]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Strip(Section):
    """Hold the pairs with the first operand at most k out of training ([G25] Table 1).

    Attributes:
        k: Largest first operand of the strip, at least 1; operands count from 0.
        fraction: Share of the whole table to train on, above 0 and below 1; the pairs are drawn
            from the rest of the table.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: Literal["strip"] = "strip"
    k: Annotated[Count, DRAWN]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Outliers(Section):
    """Replace k train labels by wrong ones, drawn uniformly ([P22] Fig. 6).

    Train loss and accuracy are measured with the wrong labels. The outliers of a smaller k are
    among those of a larger one.

    Attributes:
        k: Number of mislabelled train pairs, at least 0; 0: the same as `uniform`.
        fraction: Share of the whole table to train on, above 0 and below 1.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TABLES}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.k": 0}

    name: Literal["outliers"] = "outliers"
    k: Annotated[int, Field(ge=0), DRAWN] = 0
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Indices(Section):
    """Train on the pairs that a file lists, the same for every seed.

    Attributes:
        file: Path of a text file with one index per line. An index is the place of a pair in the
            table, counted from 0 and ordered by the first operand, then by the second; division
            leaves out the pairs with b = 0. A digest of the indices is appended after ``#``, so
            that a changed file makes new trials. Workers read the file too, at the same path.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TABLES}

    name: Literal["indices"] = "indices"
    file: Annotated[str, Field(min_length=1), AfterValidator(pinned)]


Selection = Uniform | Coherent | Leverage | Square | Strip | Outliers | Indices

SELECTIONS = by_name(Selection)
