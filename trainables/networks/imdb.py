"""Whether a film review praises, from the words of few reviews.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, Fig. 4
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from sweeper.config.trial import Trial
from sweeper.errors import UsageError
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.reviews import reviews_of, vocabulary, words
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.losses import Loss, binary_cross_entropy, same_sign


def data_of(trial: Trial) -> Data:
    """Return the examples of `trial`: numbers of words ``[N, length]``, and labels.

    Raises:
        UsageError: There are no reviews, or fewer than the trial wants.
    """
    v: Any = trial.values
    return _data(
        data_seed(trial),
        v["task.path"],
        v["task.N"],
        v["task.N_test"],
        v["task.words"],
        v["task.length"],
        v["task.stop_words"],
    )


@lru_cache(maxsize=128)
def _data(
    seed: int, path: str | None, N: int, N_test: int, size: int, length: int, stop_words: bool
) -> Data:
    """Draw tests and train reviews of both labels, then number their words."""
    train: list[tuple[int, list[str]]] = []
    test: list[tuple[int, list[str]]] = []
    for label, texts in enumerate(reviews_of(path).texts):
        n, n_test = (N + label) // 2, (N_test + label) // 2
        if n + n_test > len(texts):
            raise UsageError(
                f"task.N = {N}, task.N_test = {N_test}: there are {len(texts)} reviews of label "
                f"{label}, and half of all are of each. Lower one of them."
            )
        order = torch.randperm(len(texts), generator=stream(seed, "reviews", label, len(texts)))
        for chosen, part in ((train, order[n_test : n_test + n]), (test, order[:n_test])):
            chosen += [(label, words(texts[i], stop_words=stop_words)) for i in part.tolist()]
    numbers = vocabulary((text for _, text in train), size)
    return Data(_numbered(train, numbers, length), _numbered(test, numbers, length))


def _numbered(
    chosen: Sequence[tuple[int, list[str]]], numbers: Mapping[str, int], length: int
) -> Examples:
    """Return texts as the numbers of their known words, with zeros in front."""
    words = torch.zeros(len(chosen), length, dtype=torch.long)
    for row, (_, text) in enumerate(chosen):
        known = [numbers[word] for word in text if word in numbers][:length]
        if known:
            words[row, -len(known) :] = torch.tensor(known)
    return Examples((words,), torch.tensor([label for label, _ in chosen]))


def loss_of(values: Mapping[str, Any]) -> Loss:  # noqa: ARG001
    """Return the binary cross-entropy in nats; an output above 0 says that a review praises."""
    return Loss(binary_cross_entropy, same_sign)
