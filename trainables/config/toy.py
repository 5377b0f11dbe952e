"""The toy addition of Omnigrok: a representation of given quality, and a decoder.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, Fig. 6 and Table 1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import DRAWN, Constraint, Scalar, Section
from sweeper.trainables.config.fields import Count, Positive, Seed, Unit


class ToyAddition(Section):
    """Decode the sum of two symbols' representations to the target of i + j ([L23] Fig. 6).

    Symbols 0 to p - 1 are represented by the rows of R = m R_random + (1 - m) R_linear, which
    isn't trained. The input of the decoder is R_i + R_j. R_linear goes from -1 to 1 in its first
    column, and R_random is uniform in [-1, 1]. The N train pairs are drawn from the p (p + 1) / 2
    unordered pairs. The test pairs are the others, or all pairs if no other is left.

    Attributes:
        symbols: Number of symbols p, from 2 to 100.
        N: Number of train pairs, at most p (p + 1) / 2.
        latent: Number of columns of R: 1 in the text of [L23], 2 in its code.
        noise: Bound of the other columns of R_linear, above 0: they are uniform in
            [-noise, noise].
        labels: The label that a target belongs to: `sum`, i + j; `remainder`, i + j modulo p, as in
            the code of [L23].
        outputs: Length of a target; targets are drawn from N(0, I).
        m: Messiness of the representation, from 0 to 1; 0: representations add up as symbols do.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "dense",
        "model.width": 200,
        "optimizer.name": "adam",
        "optimizer.lr": 1e-3,
        "dtype": "float32",
    }

    name: Literal["toy_addition"] = "toy_addition"
    symbols: Annotated[int, Field(ge=2, le=100)] = 10
    N: Count = 45
    latent: Count = 1
    noise: Annotated[Positive, DRAWN] = 0.3
    labels: Literal["sum", "remainder"] = "sum"
    outputs: Count = 30
    m: Annotated[Unit, DRAWN] = 0.0
    data_seed: Annotated[Seed | None, DRAWN] = None


def toy_pairs(p: int) -> int:
    """Return the unordered pairs of `p` symbols."""
    return p * (p + 1) // 2


def toy_examples(p: int, N: int) -> tuple[int, int]:
    """Return the numbers of train and test pairs."""
    return N, toy_pairs(p) - N or N


CONSTRAINTS = (
    Constraint(
        ("task.name", "task.symbols", "task.N"),
        lambda task, p, N: task != "toy_addition" or toy_pairs(p) >= N,
        "there are p (p + 1) / 2 pairs. Lower task.N or raise task.symbols.",
    ),
)
"""Constraints of this task; see `sweeper.trainables.config.constraints`."""
