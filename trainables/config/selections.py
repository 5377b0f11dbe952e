"""The selections: which data are for training.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
    [G25] Gu et al., 2025. arXiv 2504.03162
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sweeper.config import DRAWN, Scalar, Section
from trainables.config.fields import COMPLETION, MODULAR, SENSING, SPARSE, Count, Unit, by_name


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


Selection = Uniform | Coherent | Leverage | Square | Strip

SELECTIONS = by_name(Selection)
