"""The selections: which data are for training.

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
    """What is measured is drawn without a preference.

    Of a table, `fraction` of the pairs is drawn for training; measurements are Gaussian.
    """

    name: Literal["uniform"] = "uniform"
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None


class Coherent(Section):
    """floor(tau * N) measurements see the structure of the signal alone ([N25] G.1.2).

    Of a sparse vector they are single entries. Of a matrix they are u_k^T A v_k with its k-th
    singular vectors, completed to orthonormal bases; n1 (n2) at most, as many as those have.

    Attributes:
        tau: Share of such rows; 0 is `uniform`.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE + SENSING}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.tau": 0.0}

    name: Literal["coherent"] = "coherent"
    tau: Annotated[Unit, DRAWN] = 0.0


class Leverage(Section):
    """The floor(tau * N) entries of a matrix with the largest leverage are measured ([N25] 3.4).

    With A* = U S V^T of rank r, the leverage of entry (i, j) is n1 / r ||U_i||^2 +
    n2 / r ||V_j||^2. The other entries are drawn without a preference from the rest.

    Attributes:
        tau: Share of such entries; 0 is `uniform`.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": COMPLETION}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.tau": 0.0}

    name: Literal["leverage"] = "leverage"
    tau: Annotated[Unit, DRAWN] = 0.0


class Square(Section):
    """The pairs with both operands at most k are held out of training ([G25] Table 1).

    Attributes:
        k: Largest operand of the square, counted from 0.
        fraction: Train share of the whole table, drawn from the rest.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: Literal["square"] = "square"
    k: Annotated[Count, DRAWN]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Strip(Section):
    """The pairs with the first operand at most k are held out of training ([G25] Table 1).

    Attributes:
        k: Largest first operand of the strip, counted from 0.
        fraction: Train share of the whole table, drawn from the rest.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: Literal["strip"] = "strip"
    k: Annotated[Count, DRAWN]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Outliers(Section):
    """k train labels are replaced by wrong ones, drawn without a preference ([P22] Fig. 6).

    They count as the labels of training: train accuracy is measured on what is trained on. The
    outliers of a smaller k are among those of a larger one.

    Attributes:
        k: Mislabelled train pairs; 0 is `uniform`.
        fraction: Train share of the whole table.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TABLES}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.k": 0}

    name: Literal["outliers"] = "outliers"
    k: Annotated[int, Field(ge=0), DRAWN] = 0
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Indices(Section):
    """The train pairs are those that a file names, for every seed.

    Attributes:
        file: Path of a text file with one index a line: the place of a pair in the table, a first
            and b second, counted from 0; division leaves out the pairs with b = 0. The digest of
            what the file says is added behind ``#``, so that a changed file makes new trials.
            Workers read the file too.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TABLES}

    name: Literal["indices"] = "indices"
    file: Annotated[str, Field(min_length=1), AfterValidator(pinned)]


Selection = Uniform | Coherent | Leverage | Square | Strip | Outliers | Indices

SELECTIONS = by_name(Selection)
