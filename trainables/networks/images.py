"""Classes of images of digits, from few of them.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, section 3 and Fig. 8
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from sweeper.config.trial import Trial
from sweeper.errors import UsageError
from sweeper.trainables.data.examples import Data, Examples, Rows
from sweeper.trainables.data.pixels import pixels_of
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.losses import CLASSES, ONE_HOT, Loss

GRAYS = torch.linspace(-0.5, 0.5, 10, dtype=torch.float64)
"""Class to the value of all its pixels in the clean representation ([L23] Fig. 8, its code)."""


def data_of(trial: Trial) -> Data:
    """Return the examples of `trial`: pixels from 0 to 1, and classes.

    Raises:
        UsageError: There are no such images, or fewer than the trial wants.
    """
    v: Any = trial.values
    return _data(
        data_seed(trial),
        v["task.name"],
        v.get("task.path"),
        v["task.N"],
        v["task.N_test"],
        v["task.messiness"],
    )


@lru_cache(maxsize=512)
def _data(seed: int, task: str, path: str | None, N: int, N_test: int, messiness: float) -> Data:
    """Draw train and test examples without repetition.

    They are the ends of one random order of a set that is not split, or the beginnings of one
    order per part. So trials of one seed have the same tests, and a trial with fewer train images
    has a subset of those of a trial with more.
    """
    pixels = pixels_of(task, path)
    total = len(pixels.labels)
    sizes = (total,) if pixels.train is None else (pixels.train, total - pixels.train)
    wanted = (N + N_test,) if pixels.train is None else (N, N_test)
    for name, size, want in zip(("train", "test"), sizes, wanted, strict=False):
        if want > size:
            kind = "" if pixels.train is None else f"{name} "
            raise UsageError(
                f"task.N = {N}, task.N_test = {N_test}: there are {size} {kind}images. "
                "Lower one of them."
            )
    orders = [torch.randperm(size, generator=stream(seed, "images", size)) for size in sizes]
    chosen = (orders[0][:N], orders[0][total - N_test :])
    if pixels.train is not None:
        chosen = (orders[0][:N], pixels.train + orders[1][:N_test])
    examples = []
    for index in chosen:
        labels = pixels.labels[index]
        shift = None if messiness == 1 else (1 - messiness) * GRAYS[labels]
        rows = Rows(pixels.images, index, messiness / pixels.largest, shift)
        examples.append(Examples((rows,), labels))
    return Data(*examples)


def loss_of(values: Any) -> Loss:
    """Return the loss: squared errors from one-hot classes, or the cross-entropy."""
    return ONE_HOT if values["task.loss"] == "mse" else CLASSES
