"""The tables of binary operations as examples for networks: two operands and a class."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.pairs import labels_of, split_of, table_of
from sweeper.trainables.networks.losses import CLASSES, Loss


@lru_cache(maxsize=512)
def _data(key: tuple[tuple[str, Any], ...], seed: int) -> Data:
    trial = Trial("", "", seed, dict(key))
    a, b, _ = table_of(trial.values)
    labels = labels_of(trial)

    def examples(pairs: Tensor) -> Examples:
        return Examples((a[pairs], b[pairs]), labels[pairs])

    train, test = split_of(trial)
    return Data(examples(train), examples(test))


def data_of(trial: Trial) -> Data:
    """Return the train and test pairs of `trial`."""
    read = (p for p in trial.values if p.startswith(("task.", "selection.")))
    return _data(tuple((path, trial.values[path]) for path in sorted(read)), trial.seed)


def loss_of(values: Any) -> Loss:  # noqa: ARG001
    """Return the cross-entropy of the result."""
    return CLASSES
